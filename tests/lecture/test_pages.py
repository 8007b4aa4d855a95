"""The lecture runs: each page from top to bottom, also with its numbers changed, and its text says what comes out."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from needs import GENSIM

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a warning would be printed on the page
LECTURE = Path(__file__).parents[2] / "docs" / "lecture"
PAGES = sorted(page.stem for page in LECTURE.glob("*.md") if page.stem != "index")
FIGURES = {"attention": 5, "blocks": 8, "cnn": 4, "detection": 4, "language": 6, "masks": 6, "positions": 8}
FIGURES |= {"transformer": 8, "vit": 4}
LONG_PAGES = ("blocks", "transformer", "vit")  # which take ten seconds even with the smaller numbers below
EXERCISES = {  # by page: what its last section asks for, as old and new text
    "attention": [
        ("asked = 80", "asked = 90"),
        ("keys, queries = 64, 256", "keys, queries = 64, 64"),
        ("key, value = torch.randn(1, 1, keys, width), ", "key, value = query.detach(), "),
        (
            "torch.randn(channels, channels, 3, 3)\n",
            "sum(torch.einsum('ab,cd->abcd', torch.randn(4, 4), torch.randn(3, 3)) for _ in range(2))\n",
        ),
        ("(32, 16, 8, 4, 1)", "(32, 16, 8, 4, 2, 1)"),
    ],
    "masks": [
        ("light falls through glass", "late light falls through old green glass"),
        (".triu(1)  # -inf above the diagonal, 0 below it", ".triu(0)"),
        ("last = len(sentences) - 1", "last = 2"),
        ("* -1e9,\n", "* -1.0,\n"),
    ],
    "positions": [
        ("sinusoidal(length, dim), sinusoidal(length", "sinusoidal(length, dim, base=100.0), sinusoidal(length"),
        ('layout="halves")\n', 'layout="halves", base=100.0)\n'),
        ("sinusoidal_2d(rows, columns, 32)", 'sinusoidal_2d(rows, columns, 32, first="rows")'),
        ("bias.table[:, 0] = -distance", "bias.table[:, 0] = distance"),
        ("EncoderBlock(Attention(dim, heads)", "EncoderBlock(Attention(dim, heads, scale=5.0)"),
    ],
    "blocks": [
        ("dim, heads, depth = 64, 4, 24", "dim, heads, depth = 64, 4, 48"),
        ("peak, depth = 3e-3, 12", "peak, depth = 1e-3, 12"),
        ("batch[~valid] = 0.0", "batch[~valid] = 100.0"),
        ("dim, hidden = 512, 2048", "dim, hidden = 768, 3072"),
    ],
    "cnn": [
        ("margin = list(range(17)), 5", "margin = list(range(17)), 2"),
        ('position="sinusoidal"', 'position="learned"'),
        ("layers=(2, 2, 2, 2), widths=(8", "layers=(2, 2, 6, 2), widths=(8"),
        ("image=224, patch=16", "image=224, patch=32"),
        (
            "16.0 * torch.cartesian_prod(torch.arange(14.0), torch.arange(14.0))",
            "32.0 * torch.cartesian_prod(torch.arange(7.0), torch.arange(7.0))",
        ),
    ],
    "detection": [
        ("near = [1, 0, 1, 2]", "near = [1, 1, 1, 2]"),
        ("[0.2, 0.85, 0.25, 0.2]", "[0.5, 0.5, 0.9, 0.9]"),
        ("side, most = 64, 3", "side, most = 64, 4"),
        ("torch.manual_seed(0)\nmodel = DETR", "torch.manual_seed(1)\nmodel = DETR"),
    ],
    "language": [
        ("sample(learned, 128)", "sample(learned, 32)"),
        ('"lamp", "child")', '"lamp", "sheep")'),
        ('"lamps", "children")', '"lamps", "sheep")'),
        ("the old [MASK] by the roses sings", "the old [MASK] by the roses sing"),
        ("(-2, -1, 1, 2)", "(-1, 1)"),
        ('"crown throne palace jewels"', '"cart field hut plough"'),
    ],
    "transformer": [
        ("german(pairs, chance.choice(orders))", "german(pairs, orders[0])"),
        ('{"the": 0.6, "a": 0.4}', '{"the": 0.8, "a": 0.2}'),
        ("(1, 2, 4, 6, 8, 12, 16, 24)", "(1, 2, 3, 4)"),
        ("Translate(smoothing=0.1), 3e-3, 64", "Translate(smoothing=0.1), 1e-2, 64"),
        ("fresh(norm, 0), Cosine", "fresh(norm, 1), Cosine"),
    ],
    "vit": [
        ("patch=8, dim=64", "patch=4, dim=64"),
        ("torch.randint(-3, 4, (2,)", "torch.randint(-1, 2, (2,)"),
        ("CLASSES[0::2], CLASSES[1::2]", "CLASSES[1::2], CLASSES[0::2]"),
        ("steps, seeds = 12,", "steps, seeds = 16,"),
    ],
}
QUICK = {  # by page: smaller numbers for its trainings, so that the ordinary tests take seconds; as old and new text
    "blocks": [("steps, seeds = 100, (0, 1)", "steps, seeds = 40, (0,)"), ("draws=8", "draws=4")],
    "detection": [("learned_from, judged_on, steps = 1000, 100, 1200", "learned_from, judged_on, steps = 32, 16, 6")],
    "language": [
        ("drawn = 700, 1100, 300", "drawn = 60, 20, 12"),
        ("np.arange(3000)", "np.arange(300)"),
        ("poems[:1000]]", "poems[:300]]"),
        ("unseen[:100]", "unseen[:10]"),
        ("unseen[:150]", "unseen[:10]"),
    ],
    "transformer": [
        ("recall_steps = 300, 500, 300", "recall_steps = 12, 8, 8"),
        ("warmups = 80, (3e-3, 1e-2, 3e-2, 1e-1), (0.0, 1 / 3", "warmups = 3, (1e-2, 1e-1), (0.0"),
        ("list(drawn.values())[:300]", "list(drawn.values())[:60]"),
        ("(16, 64, 256, 1024)", "(16, 64)"),
        ("draws=8", "draws=2"),
    ],
    "vit": [
        ("counts = (30, 120, 480)", "counts = (20, 80)"),
        ("pretrained_on, judged_on = 1600, 400", "pretrained_on, judged_on = 80, 80"),
        ("steps, seeds = 200, (0, 1)", "steps, seeds = 12, (0, 1)"),
    ],
}
SIZES = [  # page, and other sizes than its own, as old and new text
    pytest.param(
        "attention",
        [
            ("factors = (0.5, 4.0, 40.0)", "factors = (0.5, 1.0, 2.0, 4.0, 40.0)"),
            ("in range(13)]", "in range(2, 7)]"),
            ("heads = 4\nseveral", "heads = 8\nseveral"),
        ],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "attention",
        [
            ("(0.5, 4.0, 40.0)", "(4.0,)"),
            ("tokens, dim = 6, 24", "tokens, dim = 6, 36"),
            ("heads = 4\nseveral", "heads = 6\nseveral"),
        ],
        marks=pytest.mark.slow,
    ),
    ("masks", [('sentences = ["light falls through glass", "the window shows a red bird", ', "sentences = [")]),
    pytest.param(
        "masks",
        [
            ('"look at it", ', '"look at it", "what is it", "it", '),
            ("without a frame", "is as old as the red glass of this window"),
            ("queries, keys = 2, 5", "queries, keys = 7, 7"),
        ],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "positions",
        [
            ("length, dim = 100, 128", "length, dim = 5, 6"),
            ("places, width = 8", "places, width = 5"),
            ("side, heads = 3", "side, heads = 4"),
        ],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "blocks",
        [
            ("steps, seeds = 100, (0, 1)", "steps, seeds = 4, (0,)"),
            ("draws=8", "draws=1"),
            ("words, width = (6, 4, 3), 8", "words, width = (4, 2), 3"),
            ("grid = (4, 5)", "grid = (2, 3)"),
            ('["<start>", "a", "red", "bird", "sings"]', '["<start>", "birds"]'),
        ],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "vit",
        [
            *QUICK["vit"][:2],
            ("steps, seeds = 200, (0, 1)", "steps, seeds = 4, (0, 1, 2)"),
            ("patch=8, dim=64", "patch=4, dim=64"),
        ],
        marks=pytest.mark.slow,
    ),
]


def cells(text: str) -> list[str]:
    """The programs in a page."""
    return re.findall(r"^```\{code-cell\}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(text: str) -> tuple[dict[str, Any], int]:
    """The names that a page leaves behind, and how many figures it drew."""
    names: dict[str, Any] = {}
    figures = 0
    for number, cell in enumerate(cells(text)):
        body = ast.parse(cell).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            figures += hasattr(value, "_repr_png_") and value._repr_png_().startswith(b"\x89PNG")
    return names, figures


@pytest.fixture(autouse=True)
def where_the_pages_run(monkeypatch):
    monkeypatch.syspath_prepend(LECTURE)


def read(page: str) -> str:
    return (LECTURE / f"{page}.md").read_text()


def test_the_index_lists_every_page():
    [listed] = re.findall(r"^```\{toctree\}\n:maxdepth: 1\n\n(.*?)```", read("index"), flags=re.MULTILINE | re.DOTALL)
    assert sorted(listed.split()) == PAGES == sorted(EXERCISES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_sources_notes_on_the_slides_and_numbers_to_change(page):
    text = read(page)
    assert "20" in "".join(re.findall(r"^\$\$\n(.*?)^\$\$", text, flags=re.MULTILINE | re.DOTALL))
    assert "{admonition} What the slides say" in text
    assert "## Change a number" in text


def test_attention_says_what_it_computes(capsys):
    page, figures = run(read("attention"))
    said = capsys.readouterr().out
    assert figures == FIGURES["attention"]
    root, nothing, whole = page["measured"].values()
    assert (root[0] / root[-1]).log2().abs().max() < 1, "level in all three panels"
    assert nothing[-1, 0] < 0.01
    assert nothing[-1, 1] < 1e-6
    assert nothing[-1, 2] < 1e-3 < 1 < nothing[:, 2].max(), "swells, then dies"
    assert whole[-1, 0] > 0.999
    assert whole[-1, 2] < 0.05 * whole[0, 2]
    torch.testing.assert_close(page["ours"], page["theirs"], rtol=1e-4, atol=1e-4)
    needed = [next(heads for heads, part in enumerate(missed) if part < 1e-3) for missed in page["missed"].values()]
    assert needed == [9, 2, 1]
    assert abs(page["own"].mean() - 1) < 0.05 < 2 < page["tied"].mean()
    assert page["moved"] < 1e-12 < 0.05 < page["placed"]
    assert page["pooled"] < 1e-12
    assert "65,536   4,294,967,296" in said
    assert "weights: [1.0, 0.0]" in said


def test_masks_say_what_they_compute():
    page, figures = run(read("masks"))
    assert figures == FIGURES["masks"]
    boolean, large, infinite, multiplied = (masked.softmax(dim=-1) for masked in page["ways"].values())
    assert torch.equal(boolean, large)
    assert torch.equal(boolean, infinite)
    assert multiplied[:-1].isnan().all()
    torch.testing.assert_close(multiplied[-1], torch.full((5,), 0.2))
    textbook, even, half, *ours = (row.flatten() for row in page["rows"].values())
    assert textbook.isnan().all()
    assert half.isnan().all()
    torch.testing.assert_close(even, torch.full((6,), 1 / 6))
    assert all(not row.any() for row in ours)
    torch.testing.assert_close(page["agreed"][page["valid"]], page["answers"][page["valid"]])
    assert page["broken"].tolist() == [False, True, False, False]
    torch.testing.assert_close(page["one_by_one"], page["at_once"])


def test_positions_say_what_they_compute(capsys):
    page, figures = run(read("positions"))
    said = capsys.readouterr().out
    assert figures == FIGURES["positions"]
    assert page["unlike"] < 1e-12
    assert "the same numbers in another order: True" in said
    assert "product equal to look-up: True" in said
    assert "mat1 and mat2 shapes cannot be multiplied" in said
    both, no_mlp, no_attention, none = page["scores"].values()
    assert both[-1] > 0.95 * both[0] > 0.7
    assert no_attention[1] < 0.05
    assert none[1] < 0.05
    assert 0.1 < no_mlp[-1] < both[-1] - 0.2


def changed(text: str, changes: list[tuple[str, str]]) -> str:
    """A page with other numbers, each of which it has once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def check_blocks(page: dict[str, Any], said: str) -> None:
    """What the page says that does not depend on how long it trains."""
    arrived = {name: (apart[-1] / apart[0], back[0] / back[-1]) for name, (apart, back) in page["sent"].items()}
    assert all(0.5 < part < 2 for part in arrived["path and norm"])
    assert all(1e-2 < part < 0.11 for part in arrived["norm, no path"])
    assert all(part < 1e-15 for part in arrived["neither"])
    assert abs(page["many"].mean() - 1) < 0.02
    after, before, branch = page["last"].values()
    assert min(after) > 0.8 * after[0]
    for falling in (before, branch):
        assert falling == sorted(falling, reverse=True)
        assert falling[-1] < 0.6 * falling[0]
    torch.testing.assert_close(page["per_token"], page["by_hand"], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(page["per_sentence"], page["per_token"], atol=0.5)
    assert all(still == 0 for still, _ in page["padded"] + page["company"])
    assert page["padded"][-1][1] > 0.5 > 0.05 > page["padded"][0][1]
    assert page["company"][0][1] > 3 * page["company"][-1][1] > 0.1
    torch.testing.assert_close(page["convolved"], page["at_once"], rtol=1e-4, atol=1e-5)
    assert page["reached"].nonzero().tolist() == [[7]]
    assert "66.6% of the block" in said
    assert "Expected more than 1 value per channel" in said
    assert page["shares"]["MLP"][page["counts"].index(2048)] == page["shares"]["scores and mixtures"][7]
    assert "patch 9, padding changes: nothing" in said
    assert "'red' changes: red, bird, sings" in said
    assert "patch 3 changes: <start>, a, red, bird, sings" in said


def test_blocks_say_what_they_compute(capsys):
    page, figures = run(changed(read("blocks"), QUICK["blocks"]))
    assert figures == FIGURES["blocks"]
    check_blocks(page, capsys.readouterr().out)
    assert page["ends"][0.0]["after (2017)"] > page["ends"][0.0]["before (ViT)"] + 0.2


@pytest.mark.slow
def test_a_network_of_2017_needs_its_warm_up(capsys):
    page, _ = run(read("blocks"))
    check_blocks(page, capsys.readouterr().out)
    (stuck, *others), (late, *same) = (each.values() for each in page["ends"].values())
    assert stuck.min() > 2.25, "guessing"
    assert late.max() < 2.15
    assert all(loss.max() < late.min() for loss in (*others, *same))


def check_transformer(page: dict[str, Any]) -> None:
    """What the page says that does not depend on how long it trains."""
    encoder, decoder, cross = page["kept"]
    real = page["real"]
    assert real < encoder.shape[1], "there is padding"
    assert not encoder[:, real:].any()
    assert not cross[:, real:].any()
    assert not decoder.triu(1).any()
    assert page["same"] == len(page["single"])
    assert page["searches"] == {
        "greedy": (("the", "bird", "</s>"), pytest.approx(0.1155)),
        "beam of 2": (("a", "bird", "</s>"), pytest.approx(0.198)),
        "beam of 2, per word": (("a", "bird", "sings", "</s>"), pytest.approx(0.162)),
    }
    by_name = {stage.name: stage for stage in page["flow"].stages}
    read, said = len(page["flow"].read), len(page["flow"].written)
    assert {(1, said, 64), (1, read, 64)} == set(by_name["decoder.0.cross_attention"].taken)
    after, before = (torch.tensor(each) for each in page["gradients"].values())
    assert (after[4:].diff() > 0).all()
    assert after[7] > 2 * after[4]
    assert before[3] < before[0]
    assert before[7] < before[4]
    assert before.max() < 2 * before.min()


@pytest.mark.slow
def test_waiting_for_the_word_before_matters_where_two_translations_are_right():
    page, _ = run(read("transformer"))
    check_transformer(page)
    one, two = page["quality"].values()
    waits_one, waits_two = page["waiting"].values()
    assert min(one) > 0.95
    assert min(waits_one, waits_two) > 0.85
    assert two[0] < 0.3 < two[-1] < 0.8
    own, noun = (sum(column) for column in zip(*page["found"]["article"], strict=True))
    assert noun > 5 * own
    lstm, attention = page["remembered"].values()
    assert lstm[0] > 0.95 > 0.3 > lstm[-1]
    assert min(attention) > 0.95
    after, before = page["shares"].values()
    gone_after, gone_before = page["diverged"].values()
    assert gone_after[:2, 2:].all(), "large steps from early on"
    assert not gone_before.any()
    assert (after[gone_after] < page["commonest"] + 0.01).all()
    assert (before > after + 0.05).all()
    assert before[:, 1:3].max() == before.max() > after.max() + 0.15
    assert (before[2, 2:] > before[0, 2:] + 0.05).all()


def check_language(page: dict[str, Any]) -> None:
    """What the page says that does not depend on how long it trains."""
    surprises = torch.tensor(page["surprises"])
    assert abs(float(surprises.mean()) - page["entropy"]) < 4 * float(surprises.std()) / len(surprises) ** 0.5
    assert page["best"] == pytest.approx(2.718281828 ** (page["entropy"] / page["length"]), rel=0.02)
    chosen, masked, same = page["chosen"], page["masked"], page["same"]
    assert float(chosen.sum() / page["ordinary"]) == pytest.approx(0.15, abs=0.01)
    assert float(masked[chosen].float().mean()) == pytest.approx(0.8, abs=0.06)
    assert float(same.sum() / chosen.sum()) == pytest.approx(0.1, abs=0.05)
    assert page["probability"]("the bird sings in the night , the birds sing by the light .") > 0
    assert page["probability"]("the bird by the roses sing in the night , the birds sing by the light .") == 0
    assert page["probability"]("the bird sings in the night , the birds sing by the stone .") == 0
    assert min(page["neighbours"]["skip-gram"], page["neighbours"]["counted and factorised"]) == 1
    assert all(page["solved"])
    assert page["plural"] == len(page["answers"]) == 12
    assert sum(answer == wanted for answer, wanted in page["answers"]) < 8, "a guess is right in 4"


@pytest.mark.parametrize(
    ("name", "check"),
    [("transformer", check_transformer), pytest.param("language", check_language, marks=GENSIM)],
)
def test_a_page_about_texts_says_what_it_computes(name, check):
    page, figures = run(changed(read(name), QUICK[name]))
    assert figures == FIGURES[name]
    check(page)


@GENSIM
@pytest.mark.slow
def test_a_gpt_comes_close_to_the_grammar_and_a_bert_knows_what_is_missing():
    page, _ = run(read("language"))
    check_language(page)
    assert page["best"] < page["perplexity"](page["gpt"], page["unseen"]) < 1.02 * page["best"]
    assert sum(abs(each / page["no_rhyme"] - 1) < 0.03 for each in page["followed"]) > 1, "it halts, then it notices"
    assert [good for good, *_ in page["by_temperature"]][-1] < 0.4
    assert min(good for good, *_ in page["by_share"][:-2]) > 0.97
    assert sum(page["off"]) / len(page["off"]) < 0.2
    assert min(page["neighbours"].values()) > 0.6


def check_vit(page: dict[str, Any], said: str) -> None:
    """What the page says that does not depend on how long it trains."""
    torch.testing.assert_close(page["convolved"], page["mapped"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(page["tokens_by_hand"], page["embedded"].x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(page["logits"], page["straight"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(page["shuffled"], page["mapped"], rtol=1e-4, atol=1e-5)
    assert "bit by bit: True" in said
    assert "   16  14 x 14     197      38,809            86,567,656                  17.6" in said
    assert "a token sees  64 pixels" in said
    assert "a token sees 225 pixels" in said


def test_the_vit_says_what_it_computes(capsys):
    page, figures = run(changed(read("vit"), QUICK["vit"]))
    assert figures == FIGURES["vit"]
    check_vit(page, capsys.readouterr().out)
    assert all(0 <= share <= 1 for scores in page["reached"].values() for share in scores.flatten())


@pytest.mark.slow
def test_a_stem_and_another_past_help_where_pictures_are_few(capsys):
    page, _ = run(read("vit"))
    check_vit(page, capsys.readouterr().out)
    vit, stem, tuned, probe = (scores.mean(dim=0) for scores in page["reached"].values())
    assert (tuned > vit + 0.08).all()
    assert (stem[1:] > vit[1:] + 0.15).all()
    assert tuned[0] > stem[0]
    assert stem[-1] > tuned[-1]
    assert (probe > 0.3).all()


def test_a_cnn_beside_a_transformer_says_what_it_computes(capsys):
    page, figures = run(read("cnn"))
    said = capsys.readouterr().out
    assert figures == FIGURES["cnn"]
    scenes, shuffled = page["correlation"].values()
    assert scenes[0] > 0.95
    assert abs(scenes[page["distances"].index(32)]) < 0.15
    assert scenes == sorted(scenes, reverse=True)
    assert max(map(abs, shuffled)) < 0.02
    assert "3 x 3 convolution                       1,792 weights" in said
    resnet, free, placed, far = page["errors"].values()
    for whole in (8, 16):
        assert far[whole] < 0.01
        assert free[whole] < 1e-5
        assert min(resnet[whole], placed[whole]) > 0.2
    assert min(far[4], free[4]) > 0.1, "between the cells"
    assert page["places"]["ResNet"][:, 6:13].max() == 0
    assert page["places"]["ViT, positions"].min() > 0.05
    assert page["touched"] == page["formula"]
    assert page["formula"][-1] == 435
    assert 0.25 < page["effective"][-1] / page["formula"][-1] < 0.4
    assert all(abs(each - page["anywhere"]) < 3 for each in page["looked"])
    torch.testing.assert_close(page["by_hand"], page["shipped"])
    assert all(torch.equal(answer, page["answers"][1]) for answer in page["answers"].values())
    norm, convolution = page["learns"].values()
    assert norm.norm() > 0.01
    assert not convolution.any()


def check_detection(page: dict[str, Any], said: str) -> None:
    """What the page says that does not depend on how long it trains."""
    torch.testing.assert_close(page["table"], page["costs"], rtol=1e-4, atol=1e-5)
    assert [page["chosen"][item] for item in range(3)] == list(page["cheapest"]) == [1, 2, 3]
    assert page["costs"][0].argmin() == page["costs"][2].argmin() == 1, "two answers are close to one object"
    plain, *others = page["losses"].values()
    for loss in others:
        torch.testing.assert_close(loss.total, plain.total, rtol=1e-5, atol=0)
    for name, value in page["hand"].items():
        torch.testing.assert_close(plain.parts[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(page["total"], plain.total, rtol=1e-4, atol=1e-5)
    quieter = float(re.search(r"keeps quiet: ([\d.]+)", said)[1])
    assert quieter < float(plain.total)
    assert all(more > fewer for more, fewer in zip(page["every"][:-1], page["last"][:-1], strict=True))
    assert page["every"][-1] == pytest.approx(page["last"][-1], rel=1e-3)
    assert page["moved"].abs().max() < 1e-5
    assert page["apart"]["exact"].max() < 1e-5
    assert page["apart"]["original"].max() > 3 * page["apart"]["exact"].max()
    torch.testing.assert_close(page["together"], page["joint"])
    assert float(page["joint"].sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(page["apiece"].sum(dim=(1, 2)), torch.ones(4))


def test_detection_says_what_it_computes(capsys):
    page, figures = run(changed(read("detection"), QUICK["detection"]))
    assert figures == FIGURES["detection"]
    check_detection(page, capsys.readouterr().out)


@pytest.mark.slow
def test_a_small_detector_learns_and_its_queries_share_the_work(capsys):
    page, _ = run(read("detection"))
    check_detection(page, capsys.readouterr().out)
    always, *layers = (score["ap50"] for score in page["scores"].values())
    assert always < 0.05
    assert layers[0] > 0.2
    assert layers[-1] > max(layers[0], 0.35)
    for values in (page["curves"][name] for name in ("boxes", "giou")):
        assert values[-50:].mean() < 0.5 * values[:10].mean()
    assert page["apart"]["original"].max() > 1e-2, "padding bleeds"
    atlas = page["atlas"]
    used = atlas.uses.sort(descending=True).values
    assert used[:3].sum() > 0.6 * used.sum(), "a few do most of the work"
    assert (atlas.uses < 3).any(), "some have nothing to do"
    assert len(atlas.image_wide) <= 1
    assert sum(pair.twice for pair in atlas.duplicates) > 10, "two still answer for one object"
    heads = page["joint"].sum(dim=(1, 2))
    assert heads.max() > 1.5 * heads.min(), "heads are loud or silent"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page in LONG_PAGES) + [GENSIM] * (page == "language"))
        for page in PAGES
    ],
)
def test_numbers_of_a_page_can_be_changed(page):
    text = changed(read(page), QUICK.get(page, []))
    assert run(changed(text, EXERCISES[page]))[1] == FIGURES[page]


@pytest.mark.parametrize(("page", "sizes"), SIZES)
def test_a_page_has_room_for_more_and_for_less(page, sizes):
    assert run(changed(read(page), sizes))[1] == FIGURES[page]
