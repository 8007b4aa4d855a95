"""What heads do, where attention is set by hand and the answer is known."""

import copy
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitrail.core.attention import Attention
from vitrail.core.kernels import plain
from vitrail.core.tokens import Tokens
from vitrail.errors import ExplanationError
from vitrail.explain import looks as module
from vitrail.explain.heads import AblatingKernel, Heads, StackHeads, examine_heads, without_heads
from vitrail.explain.looks import Line, Looks, Patches, looking, may_look
from vitrail.explain.recording import recording
from vitrail.models.vit import ViT, ViTConfig
from vitrail.samples import Batch
from vitrail.tasks.classify import Classify

TASK = Classify(classes=("a", "b", "c"))
SMALL = {"image": (16, 32), "patch": (4, 8), "dim": 12, "depth": 2, "heads": 3, "mlp_dim": 16, "classes": 3}


def tiny(**changes) -> ViT:
    torch.manual_seed(0)
    model = ViT(ViTConfig(**{**SMALL, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def pictures(count: int = 4) -> Batch:
    chance = torch.Generator().manual_seed(1)
    return Batch(torch.rand(count, 3, 16, 32, generator=chance), torch.arange(count) % 3, torch.arange(count))


def placed(rows: int, columns: int, prefix: int, size: tuple[int, int]) -> Patches:
    return Patches.of(Tokens(torch.zeros(1, prefix + rows * columns, 4), (rows, columns), prefix), size)


def both_measured(weights: torch.Tensor, place: Patches | Line, mask: torch.Tensor | None = None) -> list[list[float]]:
    """Distance, entropy and diagonal of one head whose attention is given, and of one that looks evenly."""
    looks, count = Looks(1), len(weights)
    allowed = may_look(mask, 1, count, count)
    looks.add(weights[None, None], allowed, allowed.diagonal(dim1=-2, dim2=-1), 0, place)
    return torch.stack(looks.means()).T.tolist()


def measured(weights: torch.Tensor, place: Patches) -> list[float]:
    """Distance, entropy and diagonal of one head whose attention is given."""
    return both_measured(weights, place)[0]


def examined(model: nn.Module, batches: list[Batch]) -> StackHeads:
    """What the heads of a model of pictures do."""
    [stack] = examine_heads(model, TASK, batches).stacks
    return stack


@torch.no_grad()
def task_loss(model: nn.Module, batch: Batch) -> float:
    return float(TASK.loss(model, batch).total)


def test_a_token_that_looks_at_itself_alone_looks_nowhere_else():
    assert measured(torch.eye(13), placed(3, 4, 1, (24, 64))) == [0, 0, 1]


def test_attention_that_is_spread_evenly_has_all_the_entropy_there_is():
    place = placed(3, 4, 2, (24, 64))
    (distance, entropy, diagonal), even = both_measured(torch.full((14, 14), 1 / 14), place)
    centres = [(8 * row, 16 * column) for row in range(3) for column in range(4)]
    assert distance == pytest.approx(np.mean([math.dist(one, other) for one in centres for other in centres]))
    assert even == pytest.approx([distance, entropy, diagonal])
    assert entropy == pytest.approx(1)
    assert diagonal == pytest.approx(1 / 14)


def test_distance_is_in_pixels_of_the_input_whichever_way_a_head_looks():
    right, below = torch.eye(12).roll(1, 1), torch.eye(12).roll(4, 1)  # of 3 rows and 4 columns, round the edges
    place = placed(3, 4, 0, (24, 64))
    far_back = math.dist((0, 0), (8, 48)), math.dist((0, 48), (16, 0))  # to the next line; to the very first
    assert measured(right, place)[0] == pytest.approx((9 * 16 + 2 * far_back[0] + far_back[1]) / 12)
    assert measured(below, place)[0] == pytest.approx((8 * 8 + 4 * 16) / 12)


def test_what_goes_to_the_class_token_does_not_count_as_distance():
    place = placed(1, 2, 1, (8, 16))
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.05, 0.05], [1.0, 0.0, 0.0]])  # the last sees no patch at all
    assert measured(weights, place)[0] == pytest.approx(4)  # half of what it gives to patches goes 8 pixels far


def test_a_picture_of_one_token_has_no_entropy():
    assert measured(torch.ones(1, 1), placed(1, 1, 0, (8, 8))) == [0, 0, 1]


def test_a_model_that_asks_nothing_looks_evenly():
    model = tiny(registers=2)
    for block in model.blocks:
        nn.init.zeros_(block.attention.query.weight)
        nn.init.zeros_(block.attention.query.bias)
    found = examined(model, [pictures()])
    np.testing.assert_allclose(found.entropy, np.ones((2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.diagonal, np.full((2, 3), 1 / 19), rtol=1e-6)
    np.testing.assert_allclose(found.distance, np.full((2, 3), found.even_distance), rtol=1e-6)


def test_a_model_whose_bias_forbids_all_but_itself_looks_at_itself():
    model = tiny(position="relative", class_token=False, pool="mean")
    with torch.no_grad():
        for block in model.blocks:
            block.bias.table.fill_(-1e4)
            block.bias.table[block.bias.places[0, 0]] = 0
    found = examined(model, [pictures()])
    np.testing.assert_allclose(found.distance, np.zeros((2, 3)), atol=1e-6)
    np.testing.assert_allclose(found.entropy, np.zeros((2, 3)), atol=1e-6)
    np.testing.assert_allclose(found.diagonal, np.ones((2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{}, {"registers": 3}, {"class_token": False, "pool": "mean"}, {"position": "relative"}, {"norm": "after"}],
    ids=str,
)
@pytest.mark.parametrize("together", [2**24, 700, 1])
def test_measures_are_those_of_the_recorded_maps_however_many_queries_are_weighed_at_once(
    changes, together, monkeypatch
):
    monkeypatch.setattr(module, "WEIGHED", together)
    model, batch = tiny(**changes), pictures()
    found = examined(model, [batch])

    twin, records = recording(model)
    twin(batch.inputs)
    prefix = model.config.prefix
    place = placed(4, 4, prefix, (16, 32))
    for layer, record in enumerate(records.values()):
        weights = record.maps[0].double()
        among = weights[:, :, prefix:, prefix:]
        far = (among / among.sum(-1, keepdim=True) * place.apart(0, 16)).sum(-1).mean((0, 2))
        entropy = -(weights * weights.log()).sum(-1).mean((0, 2)) / math.log(place.count)
        np.testing.assert_allclose(found.distance[layer], far, rtol=1e-5)
        np.testing.assert_allclose(found.entropy[layer], entropy, rtol=1e-5)
        np.testing.assert_allclose(found.diagonal[layer], weights.diagonal(0, -2, -1).mean((0, 2)), rtol=1e-5)


def test_a_head_without_output_is_missed_by_nobody():
    model = tiny()
    with torch.no_grad():
        model.blocks[1].attention.out.weight[:, 4:8] = 0  # what the second head says is not heard
    found = examined(model, [pictures()])
    assert found.loss[1, 1] == 0
    assert (np.delete(found.loss.flatten(), 4) != 0).all()


def test_removing_a_head_costs_what_not_hearing_it_costs():
    model, batch = tiny(), pictures()
    found = examine_heads(model, TASK, [batch])
    assert found.base_loss == pytest.approx(task_loss(model, batch), rel=1e-6)
    for layer, head in np.ndindex(2, 3):
        deaf = copy.deepcopy(model)
        with torch.no_grad():
            deaf.blocks[layer].attention.out.weight[:, 4 * head : 4 * head + 4] = 0
        assert found.stacks[0].loss[layer, head] == pytest.approx(task_loss(deaf, batch) - found.base_loss, abs=1e-6)


def test_each_picture_counts_alike_in_whatever_batches_they_come():
    model, whole = tiny(), pictures(5)
    parts = [Batch(whole.inputs[some], whole.target[some], whole.index[some]) for some in (slice(4), slice(4, None))]
    said = []
    one, two = examine_heads(model, TASK, [whole]), examine_heads(model, TASK, parts, said.append)
    assert (one.count, two.count) == (5, 5)
    assert said == [f"{count} pictures shown to the model, and to it without each of 6 heads." for count in (4, 5)]
    for name, values in one.arrays().items():
        np.testing.assert_allclose(two.arrays()[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_removing_no_head_and_measuring_change_no_bit(dtype):
    model, batch = tiny(registers=1).to(dtype), pictures()
    pixels, place = batch.inputs.to(dtype), placed(4, 4, 2, (16, 32))
    silenced = without_heads(model, [])
    for block in silenced.blocks:
        block.attention.kernel = AblatingKernel(block.attention.kernel, ())
    assert torch.equal(silenced(pixels), model(pixels))
    assert torch.equal(looking(model, place, [Looks(3), Looks(3)])(pixels), model(pixels))
    assert not torch.equal(without_heads(model, [(0, 2)])(pixels), model(pixels))


def test_several_heads_can_be_removed_and_all_of_a_layer_leave_its_bias():
    model = tiny()
    attention = without_heads(model, [(1, 0), (1, 1), (1, 2)]).blocks[1].attention
    x = torch.rand(2, 5, 12)
    torch.testing.assert_close(attention(x, x, x), attention.out.bias.expand(2, 5, 12))


def test_the_model_is_left_as_it_was():
    model = tiny(drop_path=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kernel = model.blocks[0].attention.kernel
    examine_heads(model, TASK, [pictures()])
    assert model.training
    assert model.blocks[0].attention.kernel is kernel
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Windows(nn.Module):
    """Attends within halves of its tokens, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(12, 3, kernel=plain)

    def encode(self, images: torch.Tensor) -> Tokens:
        x = images.flatten(1)[:, :192].reshape(-1, 8, 12)  # two windows of each picture
        return Tokens(self.attention(x, x, x).reshape(-1, 16, 12), (4, 4), 0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encode(images).x.mean(dim=1)[:, :3]


def test_windows_are_refused_with_a_sentence():
    with pytest.raises(ExplanationError, match="attention attends from 8 tokens to 8, and the picture becomes 16"):
        examine_heads(Windows(), TASK, [pictures()])


def test_what_cannot_be_examined_is_refused_with_a_sentence():
    model = tiny()
    with pytest.raises(ExplanationError, match="There are no pictures and no texts"):
        examine_heads(model, TASK, [])
    with pytest.raises(ExplanationError, match="no attention to show"):
        examine_heads(nn.Linear(2, 2), TASK, [pictures()])
    model.blocks[1].attention.heads = 2
    with pytest.raises(ExplanationError, match=r"different numbers of heads \(2, 3\)"):
        examine_heads(model, TASK, [pictures()])
    with pytest.raises(ExplanationError, match="There is no layer 2: ViT has layers 0 to 1"):
        without_heads(model, [(2, 0)])
    with pytest.raises(ExplanationError, match=r"There is no head 3: blocks.0.attention has heads 0 to 2"):
        without_heads(model, [(0, 3)])


def example(layers: int = 2, heads: int = 3, base_loss: float = 0.5, **changes) -> Heads:
    values = np.arange(layers * heads, dtype=float).reshape(layers, heads)
    given = {
        "distance": 10 + values,
        "entropy": values / values.size,
        "diagonal": values / 100,
        "loss": values / 10 - 0.1,
        "even_distance": 12.0,
        "even_diagonal": 1 / 17,
    }
    stack = StackHeads(**{**given, **changes})
    return Heads(stacks=(stack,), base_loss=base_loss, count=64, ground=placed(4, 4, 1, (16, 32)))


def test_sentences_and_table_count_from_one():
    said = example().sentences()
    assert "Most local: head 1 of layer 1, whose patches look 10 pixels" in said[0]
    assert "most global: head 3 of layer 2, with 15 (evenly spread: 12)" in said[0]
    assert said[1:] == (
        "Removing head 3 of layer 2 costs most: the loss rises by 0.4, from 0.5 to 0.9 over 64 pictures.",
        "Removing head 1 of layer 1 helps most: the loss falls by 0.1.",
        "2 of 6 heads can go, one at a time, without the loss rising by 1% of it.",
    )
    rows = example().table()
    assert [(row["layer"], row["head"]) for row in rows] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert rows[5]["distance"] == 15


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 3), (12, 12), (30, 20)])
def test_a_figure_of_any_model_is_drawn_with_its_numbers_beside(layers, heads, tmp_path):
    found = example(layers, heads)
    path = found.save(tmp_path / "new" / "heads.png")
    with Image.open(path) as image:
        assert image.width > 1000
    kept = np.load(path.with_suffix(".npz"))
    assert {*kept} == {"distance", "entropy", "diagonal", "loss", "base_loss", "pictures"}
    np.testing.assert_array_equal(kept["loss"], found.stacks[0].loss)


def test_a_figure_has_four_maps_and_loss_is_white_at_zero():
    maps = [axes for axes in example().figure().axes if axes.images]
    assert [axes.get_title("left") for axes in maps] == [
        "How far it looks",
        "How widely it looks",
        "How much at itself",
        "What is lost without it",
    ]
    low, high = maps[3].images[0].get_clim()
    assert low == -high == pytest.approx(-0.4)
    assert len(example(loss=np.zeros((2, 3))).figure().axes) == 8  # nothing is lost: no scale of zero width


def texts_on(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_a_head_that_changes_next_to_nothing_stays_pale():
    loss = np.array([[0.005, -0.004, 0.0], [0.001, 0.0, 0.002]])  # of 2.5: two thousandths at most
    [*_, lost] = [axes for axes in example(loss=loss, base_loss=2.5).figure().axes if axes.images]
    assert lost.images[0].get_clim() == (-0.25, 0.25)
    colours = lost.images[0].to_rgba(lost.images[0].get_array())[..., :3]
    assert colours.min() > 0.9
    large = example(loss=np.full((2, 3), 1.5), base_loss=2.5)
    assert large.maps(large.stacks[0])[3].limits == (-1.5, 1.5)
    assert "deepest: 60%" in large.maps(large.stacks[0])[3].unit


def test_nothing_is_written_with_a_sign_before_zeros_alone():
    loss = np.array([[0.2, -0.0001, 0.0001], [0.1, -0.004, -0.0]])
    [*_, lost] = [axes for axes in example(loss=loss).figure().axes if axes.images]
    assert texts_on(lost) == ["+0.20", "0", "0", "+0.10", "0", "0"]


def test_a_loss_that_changes_is_said_with_digits_that_differ():
    [_, said, *_] = example(loss=np.full((2, 3), 0.004), base_loss=2.291).sentences()
    assert "the loss rises by 0.004, from 2.291 to 2.295 over 64 pictures" in said
    [_, said, *_] = example(loss=np.zeros((2, 3)), base_loss=2.291).sentences()
    assert "costs most: the loss stays, over 64 pictures." in said
