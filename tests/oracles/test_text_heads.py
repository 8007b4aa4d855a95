"""What the heads of models of texts do, where it is known which of them matters, and what padding may not change."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from oracles.planted import SENTENCE, each_a_piece, of_texts, planted, planted_at_once, translating
from parity.references import disturbed
from vitrail.cli.main import main
from vitrail.errors import ExplanationError
from vitrail.explain import looks as module
from vitrail.explain.few import FEW, PIECES, Some, spread_texts
from vitrail.explain.heads import Heads, examine_heads, one_by_one
from vitrail.explain.kinds import kinds
from vitrail.explain.looks import Line, Looks, may_look
from vitrail.explain.recording import recording
from vitrail.explain.seam import attentions
from vitrail.loading import save_pretrained
from vitrail.predict import predictor
from vitrail.samples import Batch, Words
from vitrail.tasks.text_scores import IGNORED
from vitrail.tasks.translate import Translate
from vitrail.tasks.translate_parallel import TranslateParallel

TRUTH = "a dog sleeps here"
PAIRS = [
    (SENTENCE, TRUTH),
    ("ein hund schläft", "a dog sleeps"),
    ("hier schläft ein hund hier", "a dog here"),
    ("ein", "a"),
]


def pairs(some: list[tuple[str, str]] = PAIRS) -> Batch:
    """Sentences and their translations, with padding on the right."""
    preprocessing = each_a_piece()
    sources = preprocessing([source for source, _ in some])
    targets = preprocessing([f"<s> {target}" for _, target in some])
    return Batch(sources, targets, torch.arange(len(some)))


def numbers(count: int = 5, classes: int = 2) -> Batch:
    """Texts of different lengths with a class."""
    chance = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 40, (count, 9), generator=chance)
    valid = torch.arange(9) < torch.tensor([9, 4, 7, 2, 1])[:count, None]
    return Batch(Words(ids.masked_fill(~valid, 0), valid), torch.arange(count) % classes, torch.arange(count))


def foretold() -> Batch:
    """The same with the next piece as the target."""
    whole = numbers()
    after = whole.inputs.ids.roll(-1, 1).masked_fill(~whole.inputs.valid, IGNORED)
    return whole._replace(target=after)


def example(kind: str) -> tuple[nn.Module, object, Batch]:
    """A random model, its task, and texts to show it."""
    if kind == "translate":
        model = disturbed(translating(2, heads=3)).eval()
        return model, predictor(model).task, pairs()
    if kind == "translate-parallel":
        model = disturbed(planted_at_once()).eval()
        return model, predictor(model).task, pairs()
    model = of_texts(kind)
    return model, predictor(model).task, foretold() if kind == "gpt" else numbers()


def plain_loss(model: nn.Module, kind: str, batch: Batch) -> float:
    """The loss as one would write it down."""
    with torch.no_grad():
        if kind == "translate":
            source, target = batch.inputs, batch.target
            logits = model(source.ids, target.ids[:, :-1], source.valid, target.valid[:, :-1])
            asked = target.valid[:, 1:]
            return float(F.cross_entropy(logits[asked], target.ids[:, 1:][asked]))
        logits = model(*(part for part in batch.inputs if part is not None))
        if kind == "gpt":
            return float(F.cross_entropy(logits.flatten(0, 1), batch.target.flatten(), ignore_index=IGNORED))
        return float(F.cross_entropy(logits, batch.target))


def test_the_head_that_was_planted_is_the_only_one_that_matters():
    model = planted()
    found = examine_heads(model, predictor(model).task, [pairs([(SENTENCE, TRUTH)])])
    encoder, decoder, cross = found.stacks
    assert (encoder.of, decoder.of, cross.of) == ("encoder", "decoder", "cross")
    assert encoder.loss.item() == decoder.loss.item() == 0
    assert found.base_loss < 0.5  # of a vocabulary of 12 words, where chance alone has 2.5
    assert cross.loss.item() > 1
    assert cross.entropy.item() < 0.05
    for even in (encoder, decoder):  # nothing was planted in them, so that they look evenly at all they may
        assert even.entropy.item() == pytest.approx(1, rel=1e-6)
        assert even.distance.item() == pytest.approx(even.even_distance, rel=1e-6)
        assert even.diagonal.item() == pytest.approx(even.even_diagonal, rel=1e-6)
    assert encoder.even_diagonal == pytest.approx(1 / 5)
    assert decoder.even_diagonal == pytest.approx(np.mean([1 / count for count in range(1, 6)]))
    said = " ".join(found.sentences())
    assert "Removing head 1 of layer 1 of the cross-attention costs most" in said
    assert "each piece of the true translation" in said


def test_the_head_that_was_planted_matters_where_all_words_are_written_at_once_too():
    model = planted_at_once()
    encoder, decoder, cross = examine_heads(model, TranslateParallel(), [pairs([(SENTENCE, TRUTH)])]).stacks
    assert encoder.loss.item() == decoder.loss.item() == 0
    assert cross.loss.item() > 1


@pytest.mark.parametrize("kind", [pytest.param("translate", marks=pytest.mark.slow), "bert", "gpt"])
def test_removing_a_head_costs_what_zeroing_its_columns_costs(kind):
    model, task, batch = example(kind)
    found = examine_heads(model, task, [batch])
    assert found.base_loss == pytest.approx(plain_loss(model, kind, batch), rel=1e-5)
    rises = {}
    for stack in found.stacks:
        for layer, name in enumerate(kinds(model)[stack.of]):
            for head in range(stack.loss.shape[1]):
                rises[name, head] = stack.loss[layer, head]
    assert len(rises) == found.losses.size == sum(part.heads for part in attentions(model).values())
    for (name, head), rise in rises.items():
        deaf = copy.deepcopy(model)
        part = attentions(deaf)[name]
        width = part.out.weight.shape[1] // part.heads
        with torch.no_grad():
            part.out.weight[:, head * width : (head + 1) * width] = 0
        assert rise == pytest.approx(plain_loss(deaf, kind, batch) - found.base_loss, abs=1e-5), (name, head)


@pytest.mark.parametrize("kind", ["translate", "translate-parallel", "bert", "gpt"])
@pytest.mark.parametrize("together", [2**24, 1])
def test_padding_is_not_measured(kind, together, monkeypatch):
    """The measures of a padded batch are those of the recorded attention of its texts, one by one."""
    monkeypatch.setattr(module, "WEIGHED", together)
    model, task, batch = example(kind)
    found = examine_heads(model, task, [batch])
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in attentions(model)}
    for row in range(len(batch.index)):
        inputs = Words(batch.inputs.ids[row][batch.inputs.valid[row]][None], batch.inputs.valid[row][None].any(0)[None])
        given = [inputs.ids]
        if kind.startswith("translate"):
            target = batch.target.ids[row][batch.target.valid[row]][None]
            given += [target[:, :-1]] if kind == "translate" else [target[:, 1:-1], target[:, 1:-1] >= 0]
        twin, records = recording(model)
        with torch.inference_mode():
            twin(*given)
        for name, record in records.items():
            kept[name].append(record.maps[0][0].double())
    for stack in found.stacks:
        if kind == "translate-parallel" and stack.of != "encoder":
            continue  # which words are hidden there is drawn by chance
        for layer, name in enumerate(kinds(model)[stack.of]):
            far, wide, own = [], [], []
            for weights in kept[name]:
                queries, keys = weights.shape[1:]
                apart = (torch.arange(queries)[:, None] - torch.arange(keys)).abs()
                far.append((weights * apart).sum(-1))
                own.append(weights.diagonal(0, -2, -1) if queries == keys else weights[..., 0])
                choices = (weights > 0).any(0).sum(-1)
                share = torch.special.entr(weights).sum(-1) / choices.log().clamp(min=1e-9)
                wide.append(share[:, choices > 1])
            np.testing.assert_allclose(stack.entropy[layer], torch.cat(wide, dim=1).mean(1), rtol=1e-4)
            if stack.of == "cross":
                assert not stack.placed
                continue
            np.testing.assert_allclose(stack.distance[layer], torch.cat(far, dim=1).mean(1), rtol=1e-4)
            np.testing.assert_allclose(stack.diagonal[layer], torch.cat(own, dim=1).mean(1), rtol=1e-4)


@pytest.mark.parametrize("kind", ["translate", "gpt"])
def test_each_word_counts_alike_in_whatever_batches_texts_come(kind):
    model, task, whole = example(kind)
    parts = []
    for some in (slice(0, 3), slice(3, None)):
        inputs = Words(whole.inputs.ids[some], whole.inputs.valid[some])
        target = whole.target
        target = target[some] if isinstance(target, torch.Tensor) else Words(target.ids[some], target.valid[some])
        parts.append(Batch(inputs, target, whole.index[some]))
    one, two = examine_heads(model, task, [whole]), examine_heads(model, task, parts)
    assert one.count == two.count == len(whole.index)
    for name, values in one.arrays().items():
        np.testing.assert_allclose(two.arrays()[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_texts_are_shown_one_by_one_without_what_stands_behind_them():
    words = Words(torch.arange(6).reshape(2, 3), torch.tensor([[True, True, True], [False, True, False]]))
    targets = {
        "pieces": (torch.arange(6).reshape(2, 3), [[[0, 1, 2]], [[3, 4]]]),
        "labels": (torch.eye(3)[:2], [[[1, 0, 0]], [[0, 1, 0]]]),  # as many as there are pieces
        "classes": (torch.tensor([7, 8]), [[7], [8]]),
    }
    for name, (target, expected) in targets.items():
        parts = list(one_by_one(Batch(words, target, torch.arange(2))))
        assert [part.inputs.ids.tolist() for part in parts] == [[[0, 1, 2]], [[3, 4]]]
        assert [part.target.tolist() for part in parts] == expected, name
        assert [part.index.tolist() for part in parts] == [[0], [1]]
    empty = Words(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.bool))
    [part] = one_by_one(Batch(empty, torch.tensor([0]), torch.arange(1)))
    assert part.inputs.ids.shape == (1, 1)


def test_labels_are_not_smoothed_where_heads_are_examined():
    model, _, batch = example("translate")
    [rough, smooth] = [examine_heads(model, Translate(smoothing=share), [batch]).base_loss for share in (0.0, 0.3)]
    assert rough == smooth


def test_what_comes_first_in_a_text_has_no_choice_and_counts_not_as_narrow():
    weights, causal = torch.ones(3, 3).tril() / torch.arange(1, 4)[:, None], torch.ones(3, 3, dtype=torch.bool).tril()
    looks, allowed = Looks(1), may_look(causal, 1, 3, 3)
    looks.add(weights[None, None], allowed, allowed.diagonal(dim1=-2, dim2=-1), 0, Line(torch.arange(3.0)))
    distance, entropy, diagonal = (values[0].item() for values in looks.means())
    assert entropy == pytest.approx(1)
    assert distance == pytest.approx((0 + 1 / 2 + 3 / 3) / 3)
    assert diagonal == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_a_mask_that_adds_forbids_only_what_it_takes_wholly():
    bias = torch.tensor([[0.0, -torch.inf], [-3.0, 0.0]])
    assert may_look(bias, 1, 2, 2).tolist() == [[[True, False], [True, True]]]
    assert may_look(torch.stack([bias, bias.T])[None], 1, 2, 2).all()  # one of the heads may
    assert may_look(None, 2, 3, 4).shape == (2, 3, 4)


def test_heads_of_one_kind_must_be_as_many_and_of_two_kinds_need_not():
    model, task, batch = example("translate")
    attentions(model)["encoder.0.attention"].heads = attentions(model)["encoder.1.attention"].heads = 2
    encoder, decoder, cross = examine_heads(model, task, [batch]).stacks
    assert (encoder.loss.shape, decoder.loss.shape, cross.loss.shape) == ((2, 2), (2, 3), (2, 3))
    attentions(model)["encoder.0.attention"].heads = 1
    with pytest.raises(ExplanationError, match=r"different numbers of heads \(1, 2\)"):
        examine_heads(model, task, [batch])


@pytest.mark.parametrize("kind", ["translate", "bert"])
def test_a_drawing_has_a_line_of_maps_for_each_stack_and_its_numbers_beside(kind, tmp_path):
    model, task, batch = example(kind)
    found: Heads = examine_heads(model, task, [batch])
    path = found.save(tmp_path / "heads.png")
    with Image.open(path) as image:
        assert image.width > 1000
    maps = [axes.get_title("left") for axes in found.figure().axes if axes.images and axes.get_title("left")]
    said = [text.get_text() for text in found.figure().texts]
    with np.load(path.with_suffix(".npz")) as kept:
        names = set(kept)
    if kind == "bert":
        assert maps.count("What is lost without it") == maps.count("How far it looks") == 1
        assert names == {"distance", "entropy", "diagonal", "loss", "base_loss", "texts"}
        assert any("at the label of each text, in nats" in line for line in said)
    else:
        assert maps.count("What is lost without it") == maps.count("How widely it looks") == 3
        assert maps.count("How far it looks") == maps.count("How much at itself") == 2
        assert names == {
            *(f"{of}_{name}" for of in ("encoder", "decoder") for name in ("distance", "entropy", "diagonal", "loss")),
            *("cross_entropy", "cross_loss", "base_loss", "texts"),
        }
        assert {"Self-attention of the encoder", "Self-attention of the decoder", "Cross-attention"} <= {*said}


def test_few_texts_are_spread_evenly_and_have_not_too_many_pieces():
    assert spread_texts(np.full(640, 20)) == list(range(0, 640, 10))
    assert len(spread_texts(np.full(640, 20))) == FEW
    long = spread_texts(np.full(640, 1024))
    assert len(long) == PIECES // 1024
    assert max(long) >= 640 // 2
    assert spread_texts(np.array([PIECES * 2, 5])) == [0]
    assert spread_texts(np.array([3])) == [0]


def test_some_of_what_is_prepared_are_those_that_were_chosen():
    class Counted:
        lengths = np.arange(10)
        lost = "Two are cut."

        def batch(self, indices, seed, epoch):
            return Batch(None, None, torch.from_numpy(indices))

        def describe(self, index):
            return f"number {index}"

    some = Some(Counted(), np.array([2, 5, 9]))
    assert some.lengths.tolist() == [2, 5, 9]
    assert some.batch(np.array([2, 0]), 0, 0).index.tolist() == [9, 2]
    assert some.describe(1) == "number 5"
    assert some.lost == "Two are cut."


def test_the_verb_measures_the_heads_of_a_translator_and_of_a_classifier(tmp_path, capsys):
    model, out = str(tmp_path / "model"), tmp_path / "heads.png"
    save_pretrained(planted(), model)
    for part in ("train", "val"):
        for place, ending in enumerate(("de", "en")):
            (tmp_path / f"{part}.{ending}").write_text("\n".join(pair[place] for pair in PAIRS) + "\n")
    assert main(["explain", model, "--heads", "--data", f"{tmp_path}:de-en", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "pieces away" in told
    assert "judged by its part val" in told
    assert "Removing head 1 of layer 1 of the cross-attention costs most" in told
    assert math.isclose(float(np.load(out.with_suffix(".npz"))["texts"]), len(PAIRS))

    assert main(["explain", model, "--heads"]) == 2
    assert f"measured on texts: vitrail explain {model} --heads --data PATH." in capsys.readouterr().err
    assert main(["explain", model, "--heads", "--of", "cross"]) == 2
    assert "--of would say nothing beside it" in capsys.readouterr().err
    assert main(["explain", model, SENTENCE, "--data", str(tmp_path)]) == 2
    assert "--data is for --heads alone" in capsys.readouterr().err

    reviews = tmp_path / "reviews.csv"
    reviews.write_text("text,label\n" + "it was tired,bad\nthe old town,good\n" * 20)
    assert main(["explain", model, "--heads", "--data", str(reviews)]) == 1
    assert "is data to classify texts, and this model needs data to translate." in capsys.readouterr().err
    pictures = tmp_path / "pictures"
    for name in ("bad", "good"):
        (pictures / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(pictures / name / "1.png")
    assert main(["explain", model, "--heads", "--data", str(pictures)]) == 1
    error = capsys.readouterr().err
    assert "mistake, not yours" not in error
