"""Explanations of answers: known answers for each method, and for each question about their truth."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.references import disturbed
from vitrail.data.images import PictureArray
from vitrail.errors import ExplanationError
from vitrail.explain import faithfulness
from vitrail.explain.attribution import Added, AttributedLinear, attributed
from vitrail.explain.evidence import evidence, find_class, trusted
from vitrail.explain.faithfulness import (
    Curve,
    Trust,
    as_read,
    curves,
    hidden,
    ordered,
    pointing,
    rank_correlation,
    scores,
    shuffled,
    stops,
    trust,
)
from vitrail.explain.methods import METHODS
from vitrail.explain.relevance import traced
from vitrail.geometry.placement import Placement
from vitrail.loading import create_model
from vitrail.preprocessing import Preprocessing

READ = Preprocessing(size=(32, 48), resize=(32, 48), mean=(0.5,) * 3, std=(0.5,) * 3)


def tiny(**changes) -> nn.Module:
    torch.manual_seed(0)
    small = {"dim": 24, "heads": 3, "mlp_dim": 36, "depth": 3, "image": (32, 48), "patch": 8, "classes": 4}
    return disturbed(create_model("vit-tiny-16", **(small | changes)))


class Spotter(nn.Module):
    """Answers with the mean of one cell in each corner: what it looks at is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), (4, 4))[:, 0]
        corners = [cells[:, 0, 0], cells[:, 0, 3], cells[:, 3, 0], cells[:, 3, 3]]
        return 8 * self.weight * torch.stack(corners, dim=1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pool": "mean", "class_token": False},
        {"registers": 2},
        {"distillation_token": True, "distillation_head": True},
        {"position": "relative"},
        {"pool": "class+mean", "positions_for": "class"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_every_kind_of_vit(method, changes):
    model = tiny(**changes)
    images, targets = torch.randn(2, 3, 32, 48), torch.tensor([1, 3])
    before = [parameter.clone() for parameter in model.parameters()]
    maps = METHODS[method].maps(model, images, targets)
    assert maps.shape == ((2, 32, 48) if method == "gradient" else (2, 4, 6))
    assert (maps >= 0).all()
    assert maps.std() > 0
    alone = METHODS[method].maps(model, images[1:], targets[1:])
    torch.testing.assert_close(maps[1:], alone, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("frozen", [False, True])
def test_tracing_changes_no_bit_of_the_answer(frozen):
    model, images = tiny().requires_grad_(not frozen), torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        expected = model(images)
    heard = []
    traced(model, images, lambda outputs: heard.append(outputs.detach().clone()) or outputs[:, 0])
    assert torch.equal(heard[0], expected)


def test_a_gradient_is_that_of_finite_differences():
    model, images = tiny().double(), torch.randn(1, 3, 32, 48, dtype=torch.float64)
    [map] = METHODS["gradient"].maps(model, images, torch.tensor([2]))
    step = 1e-5
    for row, column in ((0, 0), (17, 31)):
        slopes = []
        for channel in range(3):
            moved = images.clone()
            moved[0, channel, row, column] += step
            slopes.append(abs(float((model(moved) - model(images)).detach()[0, 2])) / step)
        assert float(map[row, column]) == pytest.approx(max(slopes), rel=1e-3)


def test_another_class_has_another_relevance_and_the_same_rollout():
    model, images = tiny(), torch.randn(1, 3, 32, 48)
    for method in METHODS:
        one, other = (METHODS[method].maps(model, images, torch.tensor([target])) for target in (0, 1))
        assert torch.equal(one, other) is not METHODS[method].asks


def test_an_answer_that_is_handed_back_is_neither_more_nor_less():
    one, other = (torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    relevance = torch.rand(2, 5, 8, dtype=torch.float64)
    parts = torch.autograd.grad(Added.apply(one, other), (one, other), relevance)
    assert torch.equal(Added.apply(one, other), one + other)
    torch.testing.assert_close(sum(part.sum(dim=(1, 2)) for part in parts), relevance.sum(dim=(1, 2)))

    linear = AttributedLinear(8, 6, dtype=torch.float64)
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.equal(linear(x), torch.nn.functional.linear(x, linear.weight, linear.bias))
    relevance = torch.rand(4, 6, dtype=torch.float64)
    [part] = torch.autograd.grad(linear(x), x, relevance)
    assert (part >= 0).all()
    torch.testing.assert_close(part.sum(dim=1), relevance.sum(dim=1), rtol=1e-6, atol=0)


def test_handing_back_changes_no_answer_and_no_sample_knows_of_another():
    model, images = tiny(layer_scale=0.5), torch.randn(3, 3, 32, 48)
    before = copy.deepcopy(model.state_dict())
    together = attributed(model, images, lambda logits: logits[:, 2])
    assert torch.equal(together.answer, model(images).detach()[:, 2])
    for number in range(3):
        alone = attributed(model, images[number : number + 1], lambda logits: logits[:, 2])
        for map, one in zip(together.maps, alone.maps, strict=True):
            torch.testing.assert_close(map[number], one[0], rtol=1e-3, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_part_without_a_rule_is_named():
    with pytest.raises(ExplanationError, match=r"no rule for GatedMLP.*--method relevance"):
        METHODS["attribution"].maps(tiny(gated=True), torch.randn(1, 3, 32, 48), torch.tensor([0]))


def test_a_model_that_does_not_attend_has_only_its_gradient():
    model, picture = Spotter(), PictureArray(torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8))
    found = evidence(model, READ, picture, method="gradient", target=1)
    assert found.map[:8, 36:].min() > 0
    assert found.map[8:].max() == found.map[:, :36].max() == 0
    for method in ("attention", "rollout", "relevance", "attribution"):
        with pytest.raises(ExplanationError, match=r"does not say where its tokens lie|has no attention"):
            evidence(model, READ, picture, method=method)


def test_what_a_map_hides_first_decides_how_the_answer_falls():
    pixels = torch.zeros(3, 32, 32)
    pixels[:, :8, :8] = 1.0
    false = torch.arange(16.0).reshape(4, 4)  # the only part that matters comes last
    true = -false
    grey = torch.zeros_like(pixels)
    (gone, come), (lost, late) = (curves(Spotter(), pixels, grey, map, 0) for map in (true, false))
    assert gone.area < min(gone.random_areas) < max(gone.random_areas) < lost.area
    assert gone.chosen[0] > 0.99
    assert gone.chosen[-1] == pytest.approx(0.25)
    assert come.area > max(come.random_areas) > min(come.random_areas) > late.area


def test_curves_are_what_a_model_says_of_pictures_changed_cell_by_cell():
    model, shown, map = tiny().double(), torch.randn(3, 32, 48).double(), torch.rand(4, 6)
    blurred, (deletion, insertion) = torch.zeros_like(shown), curves(model, shown, shown * 0, map, 2)
    for place, share in enumerate(deletion.shares.tolist()):
        first = (ordered(map) < round(share * 24)).repeat_interleave(8, 0).repeat_interleave(8, 1)
        for one, picture in (
            (deletion, torch.where(first, blurred, shown)),
            (insertion, torch.where(first, shown, blurred)),
        ):
            expected = model(picture[None]).softmax(dim=1)[0, 2]
            assert float(one.chosen[place]) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("cells", [1, 2, 9, 16, 49, 196, 400])
def test_as_many_cells_are_shown_as_are_hidden_when_an_order_is_reversed(cells):
    counts = stops(cells)
    assert counts.tolist() == (cells - counts).flip(0).tolist()
    assert (counts[0], counts[-1]) == (0, cells)
    assert len(counts) <= 23


def test_a_model_is_asked_about_no_picture_twice(monkeypatch):
    asked = []

    def once(model, pictures, hides, target, **how):
        asked.extend(hides)
        return scores(model, pictures, hides, target, **how)

    monkeypatch.setattr(faithfulness, "scores", once)
    map = torch.rand(14, 14)
    curves(Spotter(), torch.rand(3, 28, 28), torch.zeros(3, 28, 28), map, 0)
    assert len(asked) == 2 + (2 + faithfulness.ORDERS) * (len(stops(196)) - 2) <= 200
    assert len({mask.numpy().tobytes() for mask in asked}) == len(asked)


def test_a_label_among_several_is_scored_by_itself():
    shown, map = torch.rand(3, 32, 32), torch.rand(4, 4)
    alone, among = (curves(Spotter(), shown, shown * 0, map, 0, several=several)[0] for several in (True, False))
    logit = float(Spotter()(shown[None]).detach()[0, 0])
    assert float(alone.chosen[0]) == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)
    assert float(among.chosen[-1]) == pytest.approx(0.25)


def test_who_waits_is_told_how_far_it_is(monkeypatch):
    said = []
    trust(tiny(), torch.randn(3, 32, 48), "relevance", 1, say=said.append)
    assert not said  # it was over at once
    monkeypatch.setattr(faithfulness, "SILENT", 0.0)
    trust(tiny(), torch.randn(3, 32, 48), "relevance", 1, say=said.append)
    assert said[0].startswith("8 of 192 changed pictures asked about, about ")
    assert said[-1].startswith("4 of 5 models of shuffled weights asked, about ")


def test_a_hidden_picture_keeps_its_light_and_loses_its_parts():
    pixels = torch.rand(3, 64, 96)
    blurred = hidden(pixels, (8, 12))
    assert blurred.shape == pixels.shape
    assert float(blurred.mean()) == pytest.approx(float(pixels.mean()), abs=0.02)
    assert blurred.std() < 0.2 * pixels.std()


def test_shuffled_weights_are_the_same_numbers_and_another_model():
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    other = shuffled(model, seed=3)
    for name, weight in other.named_parameters():
        assert torch.equal(weight.flatten().sort().values, before[name].flatten().sort().values)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    images = torch.randn(1, 3, 32, 48)
    assert not torch.allclose(other(images), model(images))


def test_rank_correlation_is_spearmans():
    one = torch.tensor([[3.0, 1.0], [2.0, 5.0]])
    assert rank_correlation(one, 7 * one + 2) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert abs(rank_correlation(torch.rand(40, 40), torch.rand(40, 40))) < 0.1
    assert rank_correlation(one, torch.zeros(2, 2)) == 0


def test_equal_cells_are_ordered_by_nobody():
    """Relevance is nowhere below zero: two maps that are zero nearly everywhere must not agree on that account."""
    one, other = torch.zeros(10, 10), torch.zeros(10, 10)
    one[2, 3], other[7, 8] = 1.0, 1.0
    assert rank_correlation(one, other) == pytest.approx(-1 / 99)


def example(cells: int = 16, correlations: tuple[float, ...] = (-0.71, 0.47, 0.0)) -> Trust:
    shares, orders = torch.linspace(0, 1, 3), torch.tensor([[1.0, 0.4, 0.0], [1.0, 0.8, 0.0]])
    curve = Curve(shares, torch.tensor([1.0, 0.1, 0.0]), orders)
    return Trust(curve, curve, correlations, cells)


def test_what_is_said_of_trust_names_the_class_and_how_far_chance_would_stray():
    assert example().sentences("star") == (
        "In short: better than chance one way only.",
        "Hiding its strongest parts first leaves the score of star at 30.0% on average (random parts: 55.0%, from "
        "45.0% to 65.0% in 2 orders; lower is better).",
        "Showing them first brings it to 30.0% on average (random parts: 55.0%, from 45.0% to 65.0% in 2 orders; "
        "higher is better).",
        "Rank correlation with the maps of 3 models of shuffled weights, over 16 cells: -0.08, from -0.71 to +0.47 (0 "
        "is right; chance alone strays from it by 0.26 or more).",
    )


@pytest.mark.parametrize(
    ("chosen", "correlations", "said"),
    [
        ([1.0, 0.1, 0.0], (0.0,), "better than chance, both ways."),
        ([1.0, 0.6, 0.0], (0.0,), "no better than chance."),
        ([1.0, 0.1, 0.0], (0.7, 0.9), "both ways, and models that have learned nothing have maps much like it."),
        ([0.4, 0.1, 0.35], (0.0,), "this says little, as the score of star is 40.0% when all is there and 35.0% when"),
    ],
)
def test_what_trust_comes_to_is_said_in_short(chosen, correlations, said):
    shares, orders = torch.linspace(0, 1, 3), torch.tensor([[1.0, 0.4, 0.0], [1.0, 0.8, 0.0]])
    deletion = Curve(shares, torch.tensor(chosen), orders)
    insertion = Curve(shares, 1 - deletion.chosen, 1 - orders)
    assert said in Trust(deletion, insertion, correlations, 16).verdict("star")


def test_chance_strays_as_far_as_is_said():
    torch.manual_seed(0)
    found = [rank_correlation(torch.rand(4, 4), torch.rand(4, 4)) for _ in range(600)]
    assert float(torch.tensor(found).std()) == pytest.approx(example(16).chance, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_trust_is_between_its_limits_and_the_same_again(method):
    pixels = torch.randn(3, 32, 48)
    found, again = (trust(tiny(), pixels, method, target=1) for _ in range(2))
    assert 0 <= found.deletion.area <= 1
    assert -1 <= found.unlearned <= 1
    assert found.sentences("a") == again.sentences("a")
    assert found.cells == (14 * 14 if method == "gradient" else 24)
    assert len(found.correlations) == faithfulness.TWINS


@pytest.mark.parametrize("size", [(32, 48), (16, 160), (200, 20)])
def test_the_curves_are_drawn_and_taken_on_as_they_were_measured(tmp_path, size):
    picture = PictureArray(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
    found = evidence(tiny(), READ, picture, target=1, labels=("cat", "dog", "owl"), faithful=True)
    assert found.trust is not None
    figure = found.figure()
    drawn = [axes for axes in figure.axes if axes.get_legend()]
    for axes, one, name in zip(drawn, found.trust[:2], ("Deletion", "Insertion"), strict=True):
        assert axes.get_title(loc="left") == f"{name}: probability of dog"
        for line, values in zip(axes.lines, (one.random, one.chosen), strict=True):
            assert line.get_ydata().tolist() == pytest.approx(values.double().tolist())
            assert line.get_xdata().tolist() == one.shares.double().tolist()
    places = [axes.get_position() for axes in figure.axes]
    assert not any(one.overlaps(other) for number, one in enumerate(places) for other in places[:number])
    kept = np.load(found.save(tmp_path / "drawn.png").with_suffix(".npz"))
    assert kept["target_name"] == found.target_name == "dog"
    (rows, columns), there = found.covered.size, found.covered.forward(torch.from_numpy(kept["corners"]))
    torch.testing.assert_close(there, torch.tensor([[0, 0], [columns, 0], [columns, rows], [0, rows]]).double())
    assert kept["deletion"].tolist() == found.trust.deletion.chosen.tolist()
    assert kept["insertion_random"].tolist() == found.trust.insertion.orders.tolist()
    assert tuple(kept["unlearned"]) == found.trust.correlations
    plain = replace(found, trust=None)
    assert len(plain.figure().axes) == len(figure.axes) - 2
    assert set(plain.arrays()) == {"map", "target", "target_name", "corners"}


def test_the_pointing_game_counts_what_is_pointed_at():
    def scene(corner: tuple[slice, slice]) -> tuple[Tensor, int, Tensor]:
        mask = torch.zeros(32, 32, dtype=torch.bool)
        mask[corner] = True
        return torch.rand(3, 32, 32), 0, mask

    looked_at, opposite = (slice(0, 8), slice(0, 8)), (slice(24, 32), slice(24, 32))
    found = pointing(Spotter(), [scene(looked_at), scene(opposite), scene(looked_at)], "gradient")
    assert (found.hits, found.centres, found.pictures) == (2, 2, 3)
    said = "the strongest cell touches the object in 2 of 3 (67%; blindly 6%), and its middle lies on it in 2."
    assert found.sentence() == f"In other scenes, each explained for its own class, {said}"
    assert found.sentence(asks=False) == f"In other scenes {said}"
    assert found.blind == pytest.approx(64 / 1024)


def test_a_mask_follows_the_pixels_that_a_model_reads():
    mask = torch.zeros(40, 80, dtype=torch.bool)
    mask[:, 40:] = True
    assert torch.equal(as_read(mask, Placement.resize((40, 80), (20, 40))), mask[::2, ::2])


@pytest.mark.parametrize(
    ("wanted", "number"), [("tabby, cat", 0), ("tabby", 0), ("HOUND", 2), (1, 1), ("1", 1), ("dog", 1)]
)
def test_a_class_is_found_by_its_name_or_part_of_it_or_its_number(wanted, number):
    assert find_class(wanted, ("tabby, cat", "dog", "hound dog")) == number


def test_one_of_the_names_of_a_class_comes_before_a_part_of_another():
    assert find_class("Tiger", ("tiger cat", "tiger, Panthera tigris", "tiger shark, Galeocerdo cuvieri")) == 1


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("bird", "no class called 'bird'"),
        ("og", "is in the name of 2 classes"),
        (9, "There is no class 9: this model has 0 to 2"),
        ("9", "There is no class 9: this model has 0 to 2"),
    ],
)
def test_a_class_that_there_is_not_is_a_sentence(wanted, sentence):
    with pytest.raises(ExplanationError, match=sentence):
        find_class(wanted, ("tabby, cat", "dog", "hound dog"))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"method": "magic"}, "no method called 'magic'"),
        ({"method": "rollout", "target": 1}, "rollout does not depend on a class: leave out the target"),
        ({"method": "relevance", "target": 99}, "There is no class 99: this model has 0 to 3"),
    ],
)
def test_evidence_that_cannot_be_had_is_a_sentence(how, sentence):
    picture = PictureArray(torch.zeros(3, 32, 48, dtype=torch.uint8))
    with pytest.raises(ExplanationError, match=sentence):
        evidence(tiny(), READ, picture, **how)


def test_a_model_without_classes_has_no_answer_to_explain():
    picture = PictureArray(torch.zeros(3, 32, 48, dtype=torch.uint8))
    assert evidence(tiny(classes=0), READ, picture, method="rollout").map.shape == (4, 6)


@pytest.mark.parametrize(
    ("method", "title", "question"),
    [
        ("attention", "Attention in the last layer", "Where the tokens that the answer is read from look, in x.png"),
        ("rollout", "through all layers", "What has reached the tokens that the answer is read from, in x.png"),
        ("relevance", "Relevance for {odd} $dog$", "What speaks for {odd} $dog$, in x.png"),
        ("attribution", "Attribution of {odd} $dog$", "What speaks for {odd} $dog$, in x.png"),
        ("gradient", "Gradient of {odd} $dog$", "Where a change would change the score of {odd} $dog$ most, in x.png"),
    ],
)
def test_a_drawing_claims_no_more_than_its_method_and_names_the_class(method, title, question):
    picture = PictureArray(torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8), "folder/x.png")
    target, labels = (1 if METHODS[method].asks else None), ("cat", "{odd} $dog$", "owl", "emu")
    found = evidence(tiny(), READ, picture, method=method, target=target, labels=labels)
    assert title in found.caption().title
    assert found.caption().question == question
    found.figure().canvas.draw()


def test_a_map_of_no_class_is_trusted_by_what_the_model_answers():
    model, picture = tiny(), PictureArray(torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8))
    found = evidence(model, READ, picture, method="rollout", labels=("cat", "dog", "owl", "emu"))
    assert (found.target, found.target_name) == (None, "")
    images = READ(picture).pixels[None]
    said = trusted(found, model, images, ("cat", "dog", "owl", "emu"))
    assert said.target == int(model(images).argmax())
    assert f"the score of {said.target_name} at" in said.found[1]
    assert (
        said.found
        == evidence(model, READ, picture, method="rollout", labels=("cat", "dog", "owl", "emu"), faithful=True).found
    )


@pytest.mark.parametrize(
    ("changes", "prefix", "parts"),
    [
        ({}, 1, [[0]]),
        ({"pool": "mean", "class_token": False}, 0, [range(24)]),
        ({"pool": "mean", "registers": 2}, 3, [range(3, 27)]),
        ({"pool": "class+mean"}, 1, [[0], range(1, 25)]),
        ({"distillation_token": True, "distillation_head": True}, 2, [[0], [1]]),
    ],
    ids=str,
)
def test_relevance_is_that_of_all_tokens_which_the_head_reads_and_not_of_their_being_there(changes, prefix, parts):
    model, images, targets = tiny(**changes).double(), torch.randn(2, 3, 32, 48).double(), torch.tensor([1, 3])
    found = METHODS["relevance"].maps(model, images, targets)
    seen = traced(model, images, lambda outputs: outputs.gather(1, targets[:, None])[:, 0])
    whole = torch.eye(prefix + 24, dtype=torch.float64)
    carried = whole.expand(2, -1, -1)
    for attention, gradient in zip(seen.maps, seen.gradients, strict=True):
        carried = carried + torch.einsum("bhij,bjk->bik", (attention * gradient).clamp(min=0) / 3, carried)
    rows = torch.stack([(carried - whole)[:, list(part)].mean(dim=1) for part in parts]).mean(dim=0)
    torch.testing.assert_close(found, rows[:, prefix:].unflatten(1, (4, 6)))
    assert (found.amax(dim=(1, 2)) > 1.2 * found.mean(dim=(1, 2))).all(), "not drowned"


@pytest.mark.parametrize(
    "asked", [{"method": "relevance"}, {"method": "gradient"}, {"method": "rollout", "faithful": True}]
)
def test_features_are_no_answer_to_be_explained(asked):
    picture = PictureArray(np.zeros((32, 48, 3), dtype=np.uint8))
    with pytest.raises(ExplanationError, match="This model has no classes"):
        evidence(tiny(classes=0), READ, picture, **asked)
    assert evidence(tiny(classes=0), READ, picture, method="rollout").map.shape == (4, 6)
