"""What models of texts looked at: translations whose alignment is planted, and the attention others report."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from oracles.planted import CORPUS, SENTENCE, of_texts, planted, planted_at_once, translating
from parity.references import disturbed, load, saved
from vitrail.cli.main import main
from vitrail.decoding.parallel import mask_predict
from vitrail.errors import ConfigError, ExplanationError
from vitrail.explain.drawing import Caption
from vitrail.explain.figures import wrapped
from vitrail.explain.kinds import kinds
from vitrail.explain.pieces import Piece, find_word, merged, pieces_read, pieces_written, words
from vitrail.explain.positions import PLACES, PlaceTable, positions_of
from vitrail.explain.recording import recording
from vitrail.explain.text_drawing import LINES, ROWS, Layout, TextPanel, Window, darkest, draw_arcs, marks
from vitrail.explain.texts import Alignment, Arcs, Asking, SelfAttention, refined
from vitrail.loading import save_pretrained
from vitrail.predict import predictor
from vitrail.tokenizing import train_byte_pairs, train_joint, train_word_pieces

CAPTION = Caption("title", "question", (), "share")


def ask(model: nn.Module, text: str = "The animal did not cross the street, because it was too tired", **how):
    return predictor(model).explain(text, **how)


def test_an_alignment_is_what_was_planted():
    found = ask(planted(), SENTENCE)
    assert isinstance(found, Alignment)
    assert found.asks == ("a", "dog", "sleeps", "here", "</s>")
    assert found.seen == ("hier", "schläft", "ein", "hund", "</s>")
    assert found.map.argmax(dim=1).tolist() == [2, 3, 1, 0, 4]
    assert found.map.amax(dim=1).min() > 0.99
    assert found.answer == "The model's answer: a dog sleeps here"


@pytest.mark.parametrize(("depth", "layer"), [(1, 0), (2, 0), (3, 1)])
def test_an_alignment_is_drawn_of_the_layer_before_the_last_and_says_so(depth, layer):
    found = ask(translating(depth, heads=3), SENTENCE)
    assert (found.layers, found.depth, found.head) == ((layer,), depth, "mean")
    assert f"layer {layer + 1} of {depth}, mean of 3 heads" in found.caption().title


@pytest.mark.parametrize("of", ["cross", "encoder", "decoder"])
@pytest.mark.parametrize("whole", [False, True])
def test_rows_sum_to_one_and_nobody_looks_at_padding_or_at_what_is_not_written_yet(of, whole):
    found = ask(translating(2, heads=3), SENTENCE, of=of, layer="*", head="all", whole=whole)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, 3, len(found.asks), dtype=torch.float64))
    assert "<pad>" not in found.seen
    if of == "decoder":
        assert found.seen[0] == "<s>"
        assert found.weights.triu(1).abs().max() == 0


@pytest.mark.parametrize("kind", ["bert", "gpt", "translation"])
def test_looking_changes_no_answer(kind):
    model = translating(3, heads=3) if kind == "translation" else of_texts(kind)
    ids = torch.randint(3, 10, (2, 7))
    given = (ids, ids[:, :5]) if kind == "translation" else (ids,)
    twin, records = recording(model)
    with torch.inference_mode():
        assert torch.equal(twin(*given), model(*given))
    assert all(len(record.maps) == 1 for record in records.values())


def test_the_weights_are_those_that_transformers_reports(tmp_path):
    sizes = {"vocab_size": 37, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 20}
    theirs = disturbed(transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, attn_implementation="eager")))
    ours, ids = load(saved(theirs, tmp_path)), torch.randint(37, (1, 9))
    twin, records = recording(ours)
    with torch.inference_mode():
        twin(ids)
        expected = theirs(ids, output_attentions=True).attentions
    for record, weights in zip(records.values(), expected, strict=True):
        torch.testing.assert_close(record.maps[0], weights, rtol=1e-5, atol=1e-6)


def test_the_cross_attention_is_that_which_transformers_reports(tmp_path):
    sizes = {
        "vocab_size": 33, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 32, "max_position_embeddings": 48,
        "pad_token_id": 20, "decoder_start_token_id": 20, "eos_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.MarianMTModel(transformers.MarianConfig(**sizes, attn_implementation="eager")).eval()
    ours, source, target = load(saved(theirs, tmp_path)), torch.randint(19, (1, 9)), torch.randint(19, (1, 7))
    twin, records = recording(ours, "*.cross_attention")
    with torch.inference_mode():
        twin(source, target)
        answer = theirs(input_ids=source, decoder_input_ids=target, output_attentions=True)
    assert list(records) == kinds(ours)["cross"]
    for record, weights in zip(records.values(), answer.cross_attentions, strict=True):
        torch.testing.assert_close(record.maps[0], weights, rtol=1e-5, atol=1e-6)


def test_words_get_the_sum_of_their_pieces_and_ask_with_their_mean():
    pieces = (Piece("un", 0), Piece("known", 0), Piece("word", 1))
    weights = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.0, 0.4], [0.1, 0.1, 0.8]])
    torch.testing.assert_close(
        merged(weights, pieces, pieces),
        torch.tensor([[0.55, 0.45], [0.2, 0.8]], dtype=torch.float64),
        rtol=0,
        atol=1e-7,
    )


def test_pieces_are_shown_in_the_letters_of_the_text_and_make_up_its_words():
    bert = train_word_pieces(CORPUS, size=60)
    text = "The Animal was XY-tired, in a café."
    pieces = pieces_read(bert, text, bert.encode(text).ids)
    assert words(pieces) == ["[CLS]", "The", "Animal", "was", "XY", "-", "tired", ",", "in", "a", "café", ".", "[SEP]"]
    assert [piece.text for piece in pieces if piece.special] == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize("train", [train_byte_pairs, train_joint])
def test_what_was_written_has_the_words_of_its_text(train):
    preprocessing = train(CORPUS, size=290)
    text = "the café, it was tired"
    assert words(pieces_written(preprocessing, preprocessing.encode_all([text], around=False)[0]))[-3:] == [
        "it", "was", "tired",
    ]  # fmt: skip


def test_half_a_letter_is_part_of_its_word():
    preprocessing = train_byte_pairs(CORPUS[:1] * 30, size=270)  # no é, so that it is two bytes
    ids = preprocessing.encode_all(["a café é"], around=False)[0]
    assert words(pieces_written(preprocessing, ids)) == ["a", "café", "é"]


def test_scripts_without_spaces_have_a_word_for_each_piece():
    preprocessing = train_word_pieces(["東京都に住む"] * 5, size=60)
    text = "東京に住む"
    assert words(pieces_read(preprocessing, text, preprocessing.encode(text).ids))[1:-1] == list("東京に住む")


SAID = ["The", "cat", ",", "the", "dog", ".", "Don't"]


@pytest.mark.parametrize(
    ("word", "place"),
    [("cat", 1), ("CAT", 1), ("cat,", 1), (" cat ", 1), ("'dog'", 4), (",", 2), ("the", 3), ("THE:2", 3), ("don't", 6)],
)
def test_a_word_is_found_as_it_is_written_or_nearly_so(word, place):
    assert find_word(word, SAID) == place


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("THE", "'THE' stands 2 times in the text. Say which: THE:1 is the first, THE:2 the last."),
        ("THE:3", "There is no THE:3: 'THE' stands 2 times in the text."),
        ("cow", "There is no word 'cow' among those that can be asked about: The cat , the dog . Don't"),
        ("the dog", "'the dog' is 2 words, and one is asked at a time."),
        ("", "There is no word '' among"),
        ("?", "There is no word '?' among"),
    ],
)
def test_a_word_that_is_not_there_or_not_alone_is_one_sentence(word, sentence):
    with pytest.raises(ExplanationError) as caught:
        find_word(word, SAID)
    assert str(caught.value).startswith(sentence)


def test_one_word_costs_its_rows_and_says_what_the_matrix_says():
    model = of_texts("bert")
    every = ask(model, whole=True, layer=1, head="all")
    found = ask(model, word="tired", layer=1)
    assert isinstance(found, Arcs)
    assert (found.asks, found.seen) == (("tired",), every.seen)
    torch.testing.assert_close(found.weights[0, :, 0], every.weights[0, :, every.asks.index("tired")])


def test_a_word_of_the_text_asks_the_encoder_and_one_of_the_translation_the_alignment():
    read, written = (ask(planted(), SENTENCE, word=word) for word in ("hund", "dog"))
    assert (read.of, written.of) == ("encoder", "cross")
    assert written.seen[int(written.map[0].argmax())] == "hund"
    with pytest.raises(ExplanationError, match="There is no word 'cow'"):
        ask(planted(), SENTENCE, word="cow")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"of": "encoder"}, "of='encoder' is for models that translate, and this Bert reads one text: leave it out."),
        ({"layer": 3}, "There is no layer 3. This model has layers 0 to 2"),
        ({"head": 4}, "There is no head 4"),
    ],
)
def test_what_a_model_does_not_have_is_one_sentence(how, sentence):
    with pytest.raises(ExplanationError) as caught:
        ask(of_texts("bert"), **how)
    assert str(caught.value).startswith(sentence)


def test_an_alignment_of_what_is_written_at_once_is_what_was_planted():
    found = ask(planted_at_once(), SENTENCE)
    assert isinstance(found, Alignment)
    assert found.asks == ("a", "dog", "sleeps", "here")
    assert found.seen == ("hier", "schläft", "ein", "hund", "</s>")
    assert found.map.argmax(dim=1).tolist() == [2, 3, 1, 0]
    assert found.map.amax(dim=1).min() > 0.99
    assert found.answer == "The model's answer: a dog sleeps here"
    assert found.note in found.caption().notes


def test_what_is_written_at_once_sees_all_its_places_and_its_encoder_the_token_of_the_length():
    written, read = (ask(planted_at_once(), SENTENCE, of=of) for of in ("decoder", "encoder"))
    assert isinstance(written, SelfAttention)
    assert written.asks == written.seen == ("a", "dog", "sleeps", "here")
    assert read.seen == ("[length]", "hier", "schläft", "ein", "hund", "</s>")
    for found, places in ((written, 4), (read, 6)):  # nothing was planted there, so that all look evenly
        torch.testing.assert_close(found.weights, torch.full((1, 1, places, places), 1 / places, dtype=torch.float64))
    word = ask(planted_at_once(), SENTENCE, word="hund")
    assert (word.of, word.asks, word.seen[round(word.at)]) == ("encoder", ("hund",), "hund")


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (1, "4 times in all: this is number 1, the last at which any was hidden: all were."),
        (3, "this is number 3, the last at which any was hidden: \u201c"),
        (4, "this is number 4, the last at which any was hidden: \u201c"),
    ],
)
def test_it_is_said_which_refinement_is_shown_and_what_was_hidden(length, said):
    assert said in ask(planted_at_once(length), SENTENCE).note


def test_a_card_says_how_often_is_asked():
    model = planted_at_once()
    model.card = replace(model.card, answering={"steps": 2, "lengths": 1})
    assert "2 times in all: this is number 2" in ask(model, SENTENCE).note


def test_hidden_words_are_named_once_and_not_all():
    pieces = [Piece(text, word) for word, text in enumerate("abcdefghij")]
    said = refined(pieces, [True, False] * 5, 2, 4).translate({0x201C: "'", 0x201D: "'"})
    assert said.endswith("number 2, the last at which any was hidden: 'a', 'c', 'e', 'g' and 'i'.")
    assert refined(pieces, [True] * 9 + [False], 2, 4).endswith("\u201cf\u201d and 3 more.")
    twice = (Piece("man", 0), Piece("on", 1), Piece("man", 2))
    assert refined(twice, [False, False, True], 4, 4).endswith(": \u201cman:2\u201d.")
    halves = (Piece("do", 0), Piece("g", 0), Piece("s", 1))
    assert refined(halves, [True, True, False], 1, 1).endswith(": \u201cdog\u201d.")


def test_the_attention_is_that_of_the_model_when_it_was_last_asked_while_it_wrote():
    model = disturbed(planted_at_once())
    inputs = model.card.preprocessing([SENTENCE])
    twin, records = recording(model)
    with torch.inference_mode():
        answer = mask_predict(twin, inputs.ids, inputs.valid, steps=4, lengths=3)
        asking = Asking(model)
        mask_predict(asking, inputs.ids, inputs.valid, steps=4, lengths=3)
    length = answer.ids.shape[1]
    time, _ = asking.last(length)
    row = asking.questions[0].valid.sum(dim=1).tolist().index(length)
    for of, names in kinds(model).items():
        maps = records[names[0]].maps
        expected = maps[0][0] if of == "encoder" else maps[time - 1][row, :, :length]
        expected = expected[:, :, :length] if of == "decoder" else expected
        found = ask(model, SENTENCE, of=of, head="all")
        torch.testing.assert_close(found.weights[0], expected.double(), rtol=1e-5, atol=1e-6)


def test_an_empty_text_is_refused():
    with pytest.raises(ConfigError, match="The text is empty"):
        ask(of_texts("gpt"), " ")


def test_a_text_that_is_too_long_is_refused_before_anything_is_drawn():
    with pytest.raises(ConfigError, match="reads 64 at once"):
        ask(of_texts("gpt"), "a café in the old town " * 40)


@pytest.mark.parametrize(
    ("kind", "how", "panels"),
    [
        ("bert", {}, ["layer 1\nmean", "layer 1\nhead 1"]),
        ("bert", {"word": "it"}, ["mean", "head 1"]),
        ("bert", {"layer": 1, "head": 2}, [""]),
        ("gpt", {"head": "mean"}, ["layer 1", "layer 2"]),
    ],
)
def test_a_drawing_has_a_panel_for_each_layer_and_head_and_its_numbers_beside(kind, how, panels, tmp_path):
    found = ask(of_texts(kind), **how)
    assert [panel.title for panel in found.panels()][:2] == panels
    place = found.save(tmp_path / "look.png")
    with np.load(place.with_suffix(".npz")) as kept:
        assert kept["weights"].shape == (len(found.layers), len(found.heads), len(kept["asks"]), len(kept["seen"]))
        np.testing.assert_allclose(kept["weights"].sum(-1), 1, atol=1e-6)
    said = [text.get_text() for text in found.figure().texts]
    assert any("share of the attention" in line for line in said)
    assert found.caption().title in said


def test_the_verb_draws_a_text_and_refuses_what_is_for_pictures(tmp_path, capsys):
    model, out = str(tmp_path / "model"), tmp_path / "look.png"
    save_pretrained(of_texts("bert"), model)
    text = "it was tired. " * 30  # longer than a name of a file may be
    assert main(["explain", model, text, "--word", "was:3", "--layers", "2", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "Self-attention, layer 2 of 3, each head." in told
    assert "The model's answer: " in told
    assert "was looks most at " in told
    assert out.is_file()
    for typed, sentence in {
        "--at 1 2": "--at is for pictures, and this model reads texts: leave it out.",
        "--query 2 --threshold 0.5": "--query and --threshold are for pictures",
        "--of decoder": "--of is for models that translate, and this Bert does not: leave it out.",
        "--layers 4": "--layers 4: this model has layers 1 to 3",
    }.items():
        assert main(["explain", model, text, *typed.split()]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["explain", model, str(out)]) == 2
    assert "is a file, and one text is explained" in capsys.readouterr().err
    assert main(["explain", model, "--positions", "--out", str(tmp_path / "places.png")]) == 0
    assert set(np.load(tmp_path / "places.npz")) == {"table", "sinusoid", "similarity", "rows", "columns"}


@pytest.mark.parametrize(("kind", "said"), [("bert", "a learned table"), ("gpt", "a learned table")])
def test_the_places_of_a_text_are_those_that_are_added_to_its_words(kind, said):
    model = of_texts(kind)
    found = positions_of(model)
    assert isinstance(found, PlaceTable)
    assert found.kind == said
    assert found.table.data_ptr() != model.place_table.data_ptr(), "no further training changes it"
    first, last = F.normalize(found.table, dim=1)[[0, -1]]
    canvas = found.canvas()
    assert canvas.shape == (min(len(found.table), PLACES),) * 2
    assert canvas[0, -1] == pytest.approx(float(first @ last), abs=1e-6)
    assert np.diag(canvas) == pytest.approx(np.ones(len(canvas)), abs=1e-6)
    assert len(found.figure().axes) == 6


@pytest.mark.parametrize("model", [translating(), planted_at_once()], ids=["in order", "at once"])
def test_the_places_of_a_translator_are_its_sinusoids(model):
    found = positions_of(model)
    assert found.kind == "a fixed sinusoid"
    torch.testing.assert_close(found.table, model.place_table)


def test_of_many_places_some_are_compared():
    table = torch.randn(1000, 8)
    found = PlaceTable(kind="a learned table", grid=(1, 1000), prefix=0, table=table)
    assert found.canvas().shape == (256, 256)
    assert found.canvas()[0, -1] == pytest.approx(float(F.cosine_similarity(table[0], table[-1], dim=0)), abs=1e-6)
    assert "256 of 1000 places, evenly chosen" in found.notes()[0]


def test_a_classifier_says_its_answer_on_the_drawing_and_a_gpt_none():
    assert ask(of_texts("bert")).answer.startswith("The model's answer: ")
    assert ask(of_texts("gpt")).answer == ""


def test_a_long_text_is_cut_in_words():
    found = ask(of_texts("bert"), "it was tired. " * 40)
    figure = found.figure()
    assert any(f"rows the first {LINES} are drawn" in text.get_text() for text in figure.texts)
    arcs = ask(of_texts("bert"), "it was tired. " * 40, word="was:20")
    assert any(f"words the {ROWS} around are drawn" in text.get_text() for text in arcs.figure().texts)


@pytest.mark.parametrize("at", [0, 5, 50, 99])
def test_what_is_left_out_of_a_long_text_is_drawn_as_one(at):
    values = torch.rand(1, 100, dtype=torch.float64)
    window = Window.of([str(place) for place in range(100)], [TextPanel("", values)], at)
    torch.testing.assert_close(window.values[0].sum(), values.sum())
    assert window.words[round(window.at)] == str(at)
    assert len(window.words) == len(window.values[0]) <= ROWS + 2
    figure = draw_arcs([TextPanel("", values)], str(at), [str(place) for place in range(100)], at, CAPTION, 0.01)
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert all(f": {window.values[0][place]:.0%}" in drawn[1 + place] for place in window.many)
    assert len(window.many) == sum(word.startswith("...") for word in window.words) > 0


@pytest.mark.parametrize("word", ["Mann", "WWWWWWWW", "iiii"])
def test_a_word_by_an_arc_stays_within_its_place(word):
    figure = draw_arcs([TextPanel("", torch.ones(1, 2) / 2)], word, [word, "a"], 0, CAPTION, 0.5)
    page = FigureCanvasAgg(figure).get_renderer()
    asking, looked_at, _ = (text.get_window_extent(page) for text in figure.axes[0].texts)
    assert asking.x0 >= figure.axes[0].get_window_extent(page).x0 - 1
    assert looked_at.x1 <= figure.axes[0].get_window_extent(page).x1


def test_what_does_not_fit_into_a_caption_leaves_a_mark():
    said = "one " + "a-word-so-long-that-it-needs-a-line " * 6 + "end"
    lines = wrapped(said, 2.5, 10)
    assert len(lines) == 4
    assert lines[-1].endswith("\u2026")
    assert wrapped("a few words", 2.5, 10) == ["a few words"]


def test_even_attention_looks_even():
    panel = TextPanel("", torch.full((8, 8), 1 / 8))
    assert darkest([panel], 1 / 8) == 0.5
    assert darkest([TextPanel("", torch.eye(8))], 1 / 8) == 1


@pytest.mark.parametrize("top", [0.0312, 0.1, 0.47, 1.0])
def test_the_bar_of_colours_says_what_its_end_means(top):
    shares = marks(top)
    assert (shares[0], shares[-1]) == (0, top)
    assert shares == sorted(set(shares))
    assert 3 <= len(shares) <= 6


def test_a_long_title_is_set_in_smaller_letters_before_it_is_cut():
    found = ask(planted_at_once(), SENTENCE, of="decoder", head="all", word="dog")
    [title] = [text for text in found.figure().texts if text.get_fontweight() == "bold"]
    assert title.get_text() == "Self-attention of the decoder, layer 1 of 1, each head"
    assert 10 <= title.get_fontsize() < 13


@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize("panels", [1, 9])
def test_the_words_of_five_and_of_forty_pieces_can_be_read(count, panels):
    layout = Layout.of(panels, None, ["letters"] * count, ["letters"] * count)
    assert layout.letters >= 5


def test_a_row_of_heads_is_broader_where_its_words_can_so_be_read():
    assert Layout.of(27, 9, ["letters"] * 14, ["letters"] * 14).letters >= 5
    assert Layout.of(27, 9, ["letters"] * 40, ["letters"] * 40).letters == 0
