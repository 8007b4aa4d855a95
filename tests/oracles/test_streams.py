"""Relevance and rollout through an encoder and a decoder, and of the words of a text."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from oracles.planted import CORPUS, SENTENCE, of_texts, planted, planted_at_once, translating
from parity.references import agree, disturbed, load, saved
from vitrail.cli.main import main
from vitrail.errors import ConfigError, ExplanationError
from vitrail.explain.relevance import evened, relevance, relevance_across, relevance_of, spoke, traced, traced_each
from vitrail.explain.rollout import rollout, rollout_across
from vitrail.explain.said import Said
from vitrail.explain.streams import Step
from vitrail.explain.text_trust import probabilities
from vitrail.explain.texts import read
from vitrail.explain.word_shares import Explained
from vitrail.loading import save_pretrained
from vitrail.models.bert import Bert, BertConfig
from vitrail.predict import predictor
from vitrail.tokenizing import train_word_pieces
from vitrail.weights.card import Card


def attending(rows: int, columns: int, seed: int) -> Tensor:
    """Some attention: rows that sum to one."""
    return torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


def decoder_steps(depth: int, written: int, looked_at: int) -> list[Step]:
    return [
        Step(across, attending(written, looked_at if across else written, 7 * layer + across))
        for layer in range(depth)
        for across in (False, True)
    ]


@pytest.mark.parametrize("before", [0, 1], ids=["all of the encoder is looked at", "all but its first token"])
def test_relevance_across_is_what_the_equations_say(before):
    read, written = 5, 4
    encoder = relevance([attending(read, read, 50 + layer) for layer in range(2)])
    steps = decoder_steps(3, written, read - before)

    def bar(r: np.ndarray) -> np.ndarray:  # equations 8 and 9
        hat = r - np.eye(len(r))
        total = hat.sum(axis=1, keepdims=True)
        return np.divide(hat, total, out=np.zeros_like(hat), where=total != 0) + np.eye(len(r))

    rii, rqq, rqi = encoder[0].numpy(), np.eye(written), np.zeros((written, read))
    for across, mixed in steps:
        a = mixed[0].numpy()
        if across:
            rqi = rqi + bar(rqq).T @ a @ bar(rii)[before:]  # 10
        else:
            rqq, rqi = rqq + a @ rqq, rqi + a @ rqi  # 6 and 7
    found = relevance_across(encoder, steps)
    np.testing.assert_allclose(found.own[0].numpy(), rqq, rtol=1e-12)
    np.testing.assert_allclose(found.reached[0].numpy(), rqi, rtol=1e-12)


def test_a_token_that_nothing_spoke_for_spreads_no_nan():
    found = evened(torch.tensor([[[1.0, 0.0], [0.5, 1.5]]]))
    assert torch.equal(found, torch.tensor([[[1.0, 0.0], [0.5, 1.5]]]))


@pytest.mark.parametrize("before", [0, 1])
def test_rollout_across_is_that_of_one_stack_of_all_tokens(before):
    """A decoder over the tokens that were read, which stay as they are, and those that were written."""
    read, written = 5, 4
    encoder = rollout([attending(read, read, 90 + layer) for layer in range(2)])
    steps, whole = decoder_steps(2, written, read - before), torch.eye(read + written, dtype=torch.float64)
    flow = whole.clone()
    flow[:read, :read] = encoder[0]
    for across, mixed in steps:
        layer = whole.clone()
        layer[read:] /= 2
        place = slice(before, read) if across else slice(read, None)
        layer[read:, place] += mixed[0] / 2
        flow = layer @ flow
    found = rollout_across(encoder, steps)
    torch.testing.assert_close(found.reached[0], flow[read:, :read])
    torch.testing.assert_close(found.own[0], flow[read:, read:])
    torch.testing.assert_close(found.own.sum(-1) + found.reached.sum(-1), torch.ones(1, written, dtype=torch.float64))


def of_theirs(attentions: tuple[Tensor, ...], answer: Tensor) -> list[Tensor]:
    """What spoke for an answer in the attention that transformers reports."""
    gradients = torch.autograd.grad(answer, attentions, retain_graph=True)
    return [spoke(one.detach(), gradient) for one, gradient in zip(attentions, gradients, strict=True)]


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
def test_relevance_of_a_text_is_that_of_the_attention_which_transformers_reports(tmp_path, precise):
    sizes = {
        "vocab_size": 41, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
        "max_position_embeddings": 20, "num_labels": 5, "attn_implementation": "eager",
    }  # fmt: skip
    theirs = disturbed(transformers.BertForSequenceClassification(transformers.BertConfig(**sizes)))
    ours, ids = load(saved(theirs, tmp_path)), torch.randint(41, (1, 9))
    if precise:
        theirs, ours = theirs.double(), ours.double()
    answer = theirs(ids, output_attentions=True)
    expected = torch.eye(9, dtype=answer.logits.dtype)[None]
    for one in of_theirs(answer.attentions, answer.logits[0, 3]):
        expected = expected + one @ expected
    seen = traced(ours, ids, lambda logits: logits[:, 3])
    agree(seen.answer, answer.logits[:, 3].detach(), precise=precise)
    agree(relevance_of(ours, seen).own, expected, precise=precise)
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_relevance_of_a_written_word_is_that_of_the_attention_which_transformers_reports(tmp_path):
    sizes = {
        "vocab_size": 33, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 32, "max_position_embeddings": 48,
        "pad_token_id": 20, "decoder_start_token_id": 20, "eos_token_id": 0, "attn_implementation": "eager",
    }  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.MarianMTModel(transformers.MarianConfig(**sizes)).eval()
    ours, source, target = load(saved(theirs, tmp_path)), torch.randint(19, (1, 9)), torch.randint(19, (1, 7))
    answer = theirs(input_ids=source, decoder_input_ids=target, output_attentions=True)
    kinds = (answer.encoder_attentions, answer.decoder_attentions, answer.cross_attentions)
    read, own, across = (of_theirs(one, answer.logits[0, 4, 11]) for one in kinds)
    encoder = torch.eye(9)[None]
    for one in read:
        encoder = encoder + one @ encoder
    steps = [Step(*step) for pair in zip(own, across, strict=True) for step in zip((False, True), pair, strict=True)]
    expected = relevance_across(encoder, steps)
    found = relevance_of(ours, traced(ours, (source, target), lambda logits: logits[:, 4, 11]))
    agree(found.own, expected.own, precise=False)
    agree(found.reached, expected.reached, precise=False)


@pytest.mark.parametrize("at_once", [False, True], ids=["word by word", "all at once"])
def test_through_all_layers_a_written_word_looks_at_the_word_that_was_planted_for_it(at_once):
    found = predictor(planted_at_once() if at_once else planted()).evidence(SENTENCE, "rollout")
    wanted = ["ein", "hund", "schläft", "hier"]
    best = [found.seen[place] for place in found.weights.argmax(dim=1).tolist()]
    assert found.names[:4] == ("a", "dog", "sleeps", "here")
    assert best[:4] == wanted
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(len(found.names), dtype=torch.float64))


def test_nothing_that_is_still_to_be_written_speaks_for_a_word():
    model = translating(2, heads=3)
    model.card = replace(model.card, generation=replace(model.card.generation, min_tokens=5))
    found = predictor(model).evidence(SENTENCE, of="decoder")
    assert found.weights.shape == (6, 6)
    assert found.seen[0] == "<s>"
    assert found.weights.triu(1).abs().max() == 0
    assert found.weights.sum() > 1


def reading(head: str, *classes: str) -> Bert:
    """A small BERT with a head, and a tokenizer of its own."""
    torch.manual_seed(0)
    words = train_word_pieces(CORPUS, size=80)
    sizes = {"dim": 16, "depth": 2, "heads": 2, "mlp_dim": 20, "max_tokens": 40, "dropout": 0.0}
    model = Bert(BertConfig(vocabulary=words.size, head=head, classes=len(classes), **sizes)).eval()  # pyright: ignore
    task = {"masked-lm": "masked-lm", "none": "classify"}.get(head, head)
    model.card = Card(model="bert", preprocessing=words, task=task, labels=classes)  # pyright: ignore
    return model


TEXT = "the animal did not cross the street"
QUESTION = "where did it cross\tthe animal did not cross the old street in the town"


@pytest.mark.parametrize(
    ("head", "classes", "text", "how", "names"),
    [
        ("classify", ("good", "bad"), TEXT, {"target": "good"}, ["good"]),
        ("classify", ("good", "bad"), TEXT, {"target": "bad"}, ["bad"]),
        ("tag", ("O", "X"), TEXT, {"word": "animal", "target": "X"}, ["animal/X"]),
        ("tag", ("O", "X"), TEXT, {"word": "the:2", "target": "O"}, ["the/O"]),
        ("masked-lm", (), "the animal did [MASK] cross the street", {"target": "old"}, ["“old”"]),
        ("masked-lm", (), "the [MASK] did [MASK] cross", {"target": "old"}, ["“old” at mask 1", "“old” at mask 2"]),
    ],
)
def test_every_kind_of_answer_is_explained_and_the_target_decides_which(head, classes, text, how, names):
    found = predictor(reading(head, *classes)).evidence(text, **how)
    assert list(found.names) == names
    assert found.weights.shape == (len(names), len(found.seen))
    assert found.weights.min() >= 0
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(len(names), dtype=torch.float64))
    assert {"[CLS]", "[SEP]"} <= set(found.seen)


def test_every_word_of_a_tagger_is_explained_and_an_answer_by_its_two_ends():
    every = predictor(reading("tag", "O", "X")).evidence(TEXT)
    assert [name.partition("/")[0] for name in every.names] == TEXT.split()
    assert every.caption().title == "Relevance for each tag"
    one = predictor(reading("tag", "O", "X")).evidence(TEXT, word="did")
    torch.testing.assert_close(one.weights[0], every.weights[2])
    answered = predictor(reading("answer")).evidence(QUESTION)
    [result] = predictor(reading("answer"))([QUESTION])
    assert result.text
    assert answered.names[0].removeprefix("the answer ").strip("“”") in result.text  # which has whole words


def test_what_comes_next_is_explained_from_the_last_word_and_can_be_chosen():
    ask = predictor(of_texts("gpt"))
    usual, other = ask.evidence("the animal did"), ask.evidence("the animal did", target="the")
    assert usual.caption().title.endswith("as what comes next")
    assert other.names == ("“the” as what comes next",)
    assert not torch.allclose(usual.weights, other.weights)
    assert len(usual.seen) == 3


def test_features_have_rollout_and_no_relevance():
    ask = predictor(reading("none"))
    assert float(ask.evidence(TEXT, "rollout").weights.sum()) == pytest.approx(1)
    with pytest.raises(ExplanationError, match="has no classes: it gives features"):
        ask.evidence(TEXT)


@pytest.mark.parametrize(
    ("model", "text", "how", "said"),
    [
        (("classify", "good", "bad"), TEXT, {"method": "gradient"}, "does not follow words through a model"),
        (("classify", "good", "bad"), TEXT, {"method": "magic"}, "There is no method called 'magic'"),
        (("classify", "good", "bad"), TEXT, {"method": "rollout", "target": "bad"}, "does not depend on the answer"),
        (("classify", "good", "bad"), TEXT, {"target": "ugly"}, "There is no class called 'ugly'"),
        (("classify", "good", "bad"), TEXT, {"word": "animal"}, "a class of the whole text: leave out --word"),
        (("classify", "good", "bad"), TEXT, {"of": "cross"}, "for models that translate"),
        (("tag", "O", "X"), TEXT, {"target": "X"}, "Which word has that tag"),
        (("tag", "O", "X"), TEXT, {"word": "dog"}, "There is no word 'dog'"),
        (("answer",), QUESTION, {"target": "town"}, "a part of the text: leave out --target"),
        (("answer",), QUESTION, {"word": "town"}, "a part of the text: leave out --word"),
        (("masked-lm",), TEXT, {}, r"No word is hidden: write \[MASK\]"),
        (("masked-lm",), "the [MASK]", {"target": "streetanimal"}, "is .* pieces to this model"),
    ],
)
def test_what_cannot_be_explained_of_a_text_is_said(model, text, how, said):
    with pytest.raises(ExplanationError, match=said):
        predictor(reading(*model)).evidence(text, **how)


@pytest.mark.parametrize(
    ("how", "said"),
    [({"target": "a"}, "word by word: leave out --target"), ({"of": "encoder"}, "not by the encoder alone")],
)
def test_what_cannot_be_explained_of_a_translation_is_said(how, said):
    with pytest.raises(ExplanationError, match=said):
        predictor(planted()).evidence(SENTENCE, **how)


def test_a_word_that_is_left_out_stands_as_if_it_had_never_been_there():
    model = reading("classify", "good", "bad")
    text = model.card.preprocessing([TEXT])
    found = read(model, text, TEXT)
    hides = torch.zeros(2, text.ids.shape[1], dtype=torch.bool)
    hides[1, [2, 5]] = True
    explained = Explained(model, "relevance", found, [Said(about=0, name="bad", row=0, place=(1,))], "self")
    asked = probabilities(explained, hides)
    for left_out, probability in zip(hides, asked, strict=True):
        shorter = text.ids[:, ~left_out]
        expected = model(shorter).softmax(dim=1)[0, 1]
        torch.testing.assert_close(probability, expected.detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("at_once", [False, True], ids=["word by word", "all at once"])
def test_what_is_true_of_a_translation_can_be_trusted(at_once):
    model = planted_at_once() if at_once else planted()
    found = predictor(model).evidence(SENTENCE, "rollout", word="dog", faithful=True)
    trust = found.trust
    assert trust.cells == 4
    assert trust.deletion.area < trust.deletion.random_area - 0.1
    assert trust.insertion.area > trust.insertion.random_area + 0.1
    assert found.found[1].startswith("Leaving out its strongest parts first leaves the score of dog at ")
    assert "over 4 words" in found.found[3]
    assert {"deletion", "insertion_random", "unlearned"} <= set(found.arrays())
    assert len(found.figure().axes) == 4  # the words, two curves, and the bar


def test_of_several_labels_each_is_asked_by_itself():
    model = reading("classify", "good", "bad")
    model.card = replace(model.card, multi_label=True)
    found = predictor(model).evidence(TEXT, target="bad", faithful=True)
    whole = model(model.card.preprocessing([TEXT]).ids).sigmoid()[0, 1]
    assert float(found.trust.deletion.chosen[0]) == pytest.approx(float(whole.detach()), rel=1e-5)


def test_the_words_that_an_answer_is_read_from_stay():
    answered = predictor(reading("answer")).evidence(QUESTION, faithful=True)
    assert answered.trust.cells < len(answered.seen) - 3
    tagged = predictor(reading("tag", "O", "X")).evidence(TEXT, word="did", faithful=True)
    assert tagged.trust.cells == len(TEXT.split()) - 1
    assert predictor(of_texts("gpt")).evidence("the animal did not cross", faithful=True).trust.cells == 4


@pytest.mark.parametrize(
    ("model", "text", "how", "said"),
    [
        (("tag", "O", "X"), TEXT, {}, r"one answer at a time\. Add --word"),
        (("masked-lm",), "the [MASK] did [MASK] cross the street", {}, r"one answer at a time\. Hide one word alone"),
        (("none",), TEXT, {"method": "rollout"}, "gives features and no answer"),
        (
            ("classify", "good", "bad"),
            "the old animal",
            {},
            "there are 3 of them, where orders of fewer than 4 tell nothing",
        ),
    ],
)
def test_trust_that_cannot_be_asked_is_a_sentence(model, text, how, said):
    with pytest.raises(ExplanationError, match=said):
        predictor(reading(*model)).evidence(text, faithful=True, **how)


def test_the_words_of_a_tagger_are_its_own():
    text = "the re-crossed animal's street"
    found = predictor(reading("tag", "O", "X")).evidence(text)
    assert [name.rpartition("/")[0] for name in found.names] == text.split()
    one = predictor(reading("tag", "O", "X")).evidence(text, word="re-crossed")
    torch.testing.assert_close(one.weights[0], found.weights[1])
    with pytest.raises(ExplanationError, match="There is no word"):
        predictor(reading("tag", "O", "X")).evidence(text, word="[CLS]")


def test_a_word_written_at_once_is_explained_by_what_was_asked_when_it_was_hidden_last():
    ask = predictor(planted_at_once())
    model = ask.model
    text = model.card.preprocessing([SENTENCE])
    found = read(model, text, SENTENCE)
    assert len(found.hidden) == len(found.written)
    for row, time in enumerate(found.hidden):
        arguments = found.asked_for(row)
        assert arguments is found.earlier[time]
        assert bool(arguments[2][0, row]), "hidden then"
        assert not any(bool(later[2][0, row]) for later in found.earlier[time + 1 :]), "and not again"
        with torch.inference_mode():
            assert int(model(*arguments)[0][0, row].argmax()) == found.ids[row], "so that is where it was read"
    assert set(map(len, found.earlier)) == {5}
    assert "when it was last asked for" in ask.evidence(SENTENCE, "rollout").note


def test_many_answers_take_no_more_memory_than_one():
    seen = []

    def keep(number: int, traced_once) -> int:
        seen.append([weakref.ref(one) for one in traced_once.gradients])
        assert all(one() is None for earlier in seen[:-1] for one in earlier), "those before are gone"
        return number

    model = reading("tag", "O", "X")
    ids = model.card.preprocessing([TEXT]).ids
    assert traced_each(model, ids, lambda logits: [logits[:, row, 0] for row in range(5)], keep) == [0, 1, 2, 3, 4]


def test_letters_without_a_shape_are_drawn(tmp_path):
    for text in ("co\u00ad operate and \u200b go", "\U0001f469\u200d\U0001f467 loves the old town"):
        found = predictor(of_texts("gpt")).evidence(text)
        assert found.save(tmp_path / "drawn.png").stat().st_size > 1000
        assert "\ufffd\ufffd" not in "".join(found.seen)


def test_trust_is_not_asked_of_what_was_written():
    with pytest.raises(ExplanationError, match="leave out --of decoder"):
        predictor(planted()).evidence(SENTENCE, "rollout", word="dog", of="decoder", faithful=True)


def test_an_empty_text_has_nothing_to_explain():
    with pytest.raises(ConfigError, match="there is nothing to explain"):
        predictor(planted()).evidence(" ")


def test_what_is_typed_is_drawn_with_its_numbers(tmp_path, capsys):
    save_pretrained(reading("classify", "good", "bad"), tmp_path / "reviews")
    save_pretrained(planted(), tmp_path / "german")

    def typed(run: str, *rest: str) -> int:
        return main(["explain", str(tmp_path / run), *rest, "--out", str(tmp_path / "drawn.png")])

    assert typed("reviews", TEXT, "--target", "bad", "--method", "relevance") == 0
    told = capsys.readouterr().out
    assert "Relevance for bad." in told
    assert "Most: " in told
    numbers = np.load(tmp_path / "drawn.npz")
    assert numbers["seen"].tolist()[0] == "[CLS]"
    assert numbers["weights"].sum() == pytest.approx(1)
    assert typed("german", SENTENCE, "--method", "rollout", "--word", "dog") == 0
    assert "hund" in capsys.readouterr().out.split("Most: ")[1].split(",")[0]
    assert typed("reviews", TEXT, "--method", "attribution") == 1
    assert "does not follow words" in capsys.readouterr().err
    assert typed("reviews", TEXT, "--method", "relevance", "--faithful") == 0
    assert "Adding them first brings it to" in capsys.readouterr().out
    assert typed("reviews", TEXT, "--faithful") == 1
    assert "Use --method relevance or rollout" in capsys.readouterr().err
    assert typed("reviews", TEXT, "--method", "relevance", "--layers", "1") == 2
    assert "--at, --layers and --heads ask single tokens" in capsys.readouterr().err


def test_a_long_text_flows_over_several_lines(tmp_path):
    found = predictor(reading("classify", "good", "bad")).evidence("the old town " * 12)
    figure = found.figure()
    words = figure.axes[0]
    heights = {round(text.get_position()[1], 3) for text in words.texts}
    assert len(heights) > 1
    assert [text.get_text() for text in words.texts] == list(found.seen)
    edge = words.get_xlim()[1]
    assert all(patch.get_x() >= 0 and patch.get_x() + patch.get_width() <= edge for patch in words.patches)
