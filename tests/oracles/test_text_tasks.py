"""Tags and answers whose truth is planted: what comes out is in the words of the text."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vitrail.errors import ConfigError
from vitrail.samples import Batch, Words
from vitrail.tasks.answer import AnswerQuestions
from vitrail.tasks.tag import Tag, split_words
from vitrail.tokenizing import train_word_pieces

FILLER = "one fine day after another went by and nobody said a word of it "
TEXT = f"Anna Smith lives in Oslo. {FILLER * 3} Where is Paris?"
PIECES = train_word_pieces([TEXT] * 3, size=400, lower_case=False, max_tokens=40)


class Knows(nn.Module):
    """Gives each piece the logits that somebody has chosen, and all others none."""

    def __init__(self, outputs: int, chosen: dict[str, list[float]], pieces=PIECES) -> None:
        super().__init__()
        self.table = torch.zeros(pieces.size, outputs)
        for piece, logits in chosen.items():
            self.table[pieces.id_of(piece)] = torch.tensor(logits)

    def forward(self, ids, valid=None, segments=None):
        return self.table[ids]


class TestTag:
    task = Tag(classes=("B-LOC", "B-PER", "I-PER", "O"))
    model = Knows(4, {"Anna": [0, 5, 0, 0], "Smith": [0, 0, 5, 0], "Oslo": [5, 0, 0, 0], "in": [0, 0, 0, 5]})

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_each_word_has_its_tag_whatever_stands_beside_it(self, side):
        reads = replace(PIECES, padding=side)
        results = self.task.predict(self.model, self.task.words(reads, ["Anna Smith, in Oslo", "in Oslo!"]))
        first, second = ({word.word: word.tag for word in result.words} for result in results)
        assert {"Anna": "B-PER", "Smith": "I-PER", "in": "O", "Oslo": "B-LOC"}.items() <= first.items()
        assert list(first) == ["Anna", "Smith", ",", "in", "Oslo"]
        assert second["Oslo"] == "B-LOC"
        assert results[1].summary().startswith("in Oslo/B-LOC")
        assert results[1].record()["words"][1]["tag"] == "B-LOC"

    def test_marks_within_a_word_belong_to_it(self):
        assert split_words("(Anna's e-mail, 3.5 km.)") == ["(", "Anna's", "e-mail", ",", "3.5", "km", ".", ")"]

    def test_a_text_without_words_or_too_long_is_refused(self):
        with pytest.raises(ConfigError, match="no word to tag"):
            self.task.words(PIECES, ["   "])
        with pytest.raises(ConfigError, match="reads 40 at once"):
            self.task.words(PIECES, ["in " * 39])
        with pytest.raises(ConfigError, match="at least one tag"):
            Tag(classes=())

    def test_names_are_judged_whole_and_other_tags_by_the_word(self):
        assert self.task.best == ("f1", "max")
        assert Tag(classes=("noun", "verb")).best == ("accuracy", "max")

    def test_the_loss_is_the_mean_over_the_words_that_have_a_tag(self):
        words = self.task.words(PIECES, ["Anna Smith", "in"]).words
        target = torch.full_like(words.ids, -100)
        target[0, 1], target[1, 1] = 1, 3
        batch = Batch(words, target, torch.arange(2))
        sure = -torch.tensor([0.0, 5, 0, 0]).log_softmax(0)[1]
        assert self.task.loss(self.model, batch).total.item() == pytest.approx(sure.item())


class TestAnswer:
    task = AnswerQuestions()

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_an_answer_is_found_in_whichever_window_it_is(self, side):
        reads = replace(PIECES, padding=side)
        model = Knows(2, {"Anna": [4, 0], "Smith": [0, 4], "Paris": [9, 9]})
        near, far = self.task.within(["Where is it?"], TEXT.replace("Paris", "it"))[0], f"Where is it?\t{TEXT}"
        asked = self.task.words(reads, [near, far])
        assert len(asked.windows) == 6, "three for each, which overlap by half"
        who, where = self.task.predict(model, asked)
        assert (who.text, where.text) == ("Anna Smith", "Paris")
        assert TEXT[where.start : where.end] == "Paris"
        [moved, _] = self.task.predict(model, self.task.words(reads, [f"Where is it?\t  {TEXT}", far]))
        assert (moved.text, moved.start) == ("Paris", where.start + 2), "counted in the text as it was given"

    def test_padding_is_never_the_answer(self):
        asked = self.task.words(PIECES, ["Where?\tOslo", f"Where?\t{FILLER}"])
        model = Knows(2, {"[PAD]": [50, 50], "Oslo": [1, 1]})
        assert self.task.predict(model, asked)[0].text == "Oslo"
        places = torch.tensor([[3, 3], [0, 0]])
        batch = Batch(asked.words, places, torch.arange(2), asked.windows)
        quiet = Knows(2, {"Oslo": [1, 1]})
        assert self.task.loss(model, batch).total.equal(self.task.loss(quiet, batch).total)
        scores = self.task.judge(model, batch)[0]
        assert scores.start[~asked.words.valid[0]].max() < -1e30

    def test_the_loss_is_what_the_beginning_and_the_end_cost_on_average(self):
        model = Knows(2, {"Anna": [3, 0], "Oslo": [0, 2]})
        words = PIECES(["Anna in Oslo"])
        words = Words(words.ids, words.valid, words.segments)
        first, last = (
            words.ids[0].tolist().index(PIECES.id_of("Anna")),
            words.ids[0].tolist().index(PIECES.id_of("Oslo")),
        )
        logits = model(words.ids)[0]
        expected = -(logits[:, 0].log_softmax(0)[first] + logits[:, 1].log_softmax(0)[last]) / 2
        batch = Batch(words, torch.tensor([[first, last]]), torch.arange(1))
        assert self.task.loss(model, batch).total.item() == pytest.approx(expected.item())

    @pytest.mark.parametrize("text", ["Where?", "\tOslo", "Where?\t ", ""])
    def test_a_question_wants_a_text_and_a_text_a_question(self, text):
        with pytest.raises(ConfigError, match="--context"):
            self.task.words(PIECES, [text])

    def test_a_question_that_would_be_cut_is_refused(self):
        with pytest.raises(
            ConfigError, match=r"The question has 40 tokens, and this model reads 10 of one: 'Where Where"
        ):
            self.task.words(PIECES, [f"{'Where ' * 40}\tOslo"])
