"""Text files whose content is known: pairs, lines, labels, tags and questions, opened and split."""

import gzip
import json

import pytest

from vitrail.data.datasets import folder
from vitrail.data.open import format_of, open_dataset, open_splits
from vitrail.data.text import labelled, lines, pairs, questions, tagged
from vitrail.data.text.dataset import Passage
from vitrail.data.text.reading import LONGEST_LINE
from vitrail.errors import DataError

GERMAN = ["Ein Hund rennt.", "Zwei Männer schlafen.", "Eine Frau liest."]
ENGLISH = ["A dog is running.", "Two men are sleeping.", "A woman is reading."]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def all_of(texts):
    return [texts[index] for index in range(len(texts))]


@pytest.fixture
def captions(tmp_path):
    """Three pairs to learn from and one to be judged by, gzipped or not, with a third language."""
    write(tmp_path / "train.de.gz", "\n".join(GERMAN) + "\n")
    write(tmp_path / "train.en", "\r\n".join(ENGLISH))
    write(tmp_path / "train.fr.gz", "Un chien.\nDeux hommes.\nUne femme.\n")
    write(tmp_path / "val.de", "Ein Ball.\n")
    write(tmp_path / "val.en", "A ball.\n")
    write(tmp_path / "test_2016_flickr.de", "Ein Baum.\n")
    write(tmp_path / "test_2016_flickr.en", "A tree.\n")
    write(tmp_path / "README.md", "about it")
    return tmp_path


# pairs


def test_pairs_stand_line_by_line_in_two_files(captions):
    (captions / "train.fr.gz").unlink()
    splits = open_splits(captions)
    assert format_of(captions)[0] is pairs
    assert [(pair.source, pair.target) for pair in all_of(splits.train)] == list(zip(GERMAN, ENGLISH, strict=True))
    assert splits.train.classes == splits.val.classes == ("de", "en")
    assert splits.train[1].name.endswith("train.de.gz:2")
    assert "the other way" in splits.notes[0]
    assert open_dataset(captions, "test")[0].target == "A tree."
    assert pairs.parts(captions) == ("train", "val", "test")


def test_three_languages_want_a_way_and_get_one(captions):
    with pytest.raises(DataError, match=r"has 3 languages: de, en, fr. Say which way: .*:de-en"):
        open_splits(captions)
    splits = open_splits(f"{captions}:en-de")
    assert (splits.train[0].source, splits.train[0].target) == ("A dog is running.", "Ein Hund rennt.")
    assert splits.val.classes == ("en", "de")
    assert [note.rpartition(" has ")[2] for note in splits.notes] == [
        "a part called test, which neither learns nor chooses anything here. `vitrail evaluate` with --split test "
        "judges by it."
    ]
    with pytest.raises(DataError, match="no language called 'nl'"):
        open_dataset(f"{captions}:en-nl", "train")


def test_files_of_different_lengths_are_no_pairs(captions):
    write(captions / "train.de.gz", "\n".join(GERMAN[:2]))
    with pytest.raises(DataError, match=r"train.de.gz: it has 2 lines and .*train.en 3: they are no pairs"):
        open_dataset(f"{captions}:de-en", "train")


def test_pairs_with_an_empty_side_are_left_out_and_said(captions):
    write(captions / "train.de.gz", "Ein Hund rennt.\n\n  \n")
    texts = open_dataset(f"{captions}:de-en", "train")
    assert len(texts) == 1
    assert texts.notes[-1].endswith("2 pairs with an empty side are left out.")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.tsv", "de\ten\nEin Hund.\tA dog, brown.\nZwei.\tTwo.\n"),
        ("p.csv", 'source,target\nEin Hund.,"A dog, brown."\nZwei.,Two.\n'),
        ("p.jsonl", '{"translation": {"de": "Ein Hund.", "en": "A dog, brown."}}\n\n{"de": "Zwei.", "en": "Two."}\n'),
        ("p.csv", 'id;de;en;split\n1;Ein Hund.;A dog, brown.;\n2;Zwei.;"Two.";\n'),
    ],
)
def test_pairs_stand_in_the_columns_of_a_table(tmp_path, name, text):
    texts = open_dataset(write(tmp_path / name, text))
    assert [(pair.source, pair.target) for pair in all_of(texts)] == [("Ein Hund.", "A dog, brown."), ("Zwei.", "Two.")]


def test_a_table_says_in_which_part_a_pair_is(tmp_path):
    path = write(tmp_path / "p.tsv", "de\ten\tsplit\na\tb\ttrain\nc\td\tdev\ne\tf\ttrain\n")
    splits = open_splits(path)
    assert [pair.source for pair in all_of(splits.train)] == ["a", "e"]
    assert [pair.source for pair in all_of(splits.val)] == ["c"]


# running text


def test_running_text_is_kept_to_the_letter_in_passages_of_whole_lines(tmp_path):
    text = "\n".join(f"Line {n} of the play.\n" if n % 7 else "" for n in range(900)) + "end\n"
    texts = open_dataset(write(tmp_path / "play.txt", text))
    assert "".join(passage.text for passage in all_of(texts)) == text
    assert [passage.place for passage in all_of(texts)] == list(range(len(texts)))
    assert all(lines.PASSAGE <= len(passage.text) <= 3 * lines.PASSAGE for passage in all_of(texts)[:-1])
    assert len(texts) > 2


def test_each_file_of_a_folder_is_a_document(tmp_path):
    write(tmp_path / "b.txt", "second\n")
    write(tmp_path / "a.txt.gz", "first\n")
    write(tmp_path / "README.txt", "about\n")
    texts = open_dataset(tmp_path)
    assert [(passage.text, passage.document) for passage in all_of(texts)] == [("first\n", 0), ("second\n", 1)]
    write(tmp_path / "train.txt", "to learn\n")
    write(tmp_path / "valid.txt", "to judge\n")
    splits = open_splits(tmp_path)
    assert [splits.train[0].text, splits.val[0].text] == ["to learn\n", "to judge\n"]


def test_notes_beside_folders_of_pictures_are_no_text(tmp_path):
    write(tmp_path / "classes.txt", "daisy\nrose\n")
    (tmp_path / "daisy").mkdir()
    assert format_of(tmp_path)[0] is folder


def test_text_without_a_validation_part_is_split_by_its_content(tmp_path):
    paragraphs = [f"{n} " + "word " * 1000 + "\n\n" for n in range(60)]
    path = write(tmp_path / "book.txt", "".join(paragraphs))
    splits = open_splits(path)
    kept = [passage.text for part in (splits.train, splits.val) for passage in all_of(part)]
    assert sorted(kept) == sorted(passage.text for passage in all_of(open_dataset(path)))
    assert 1 <= len(splits.val) <= 15
    assert "set aside as one, chosen by a hash of their content" in splits.notes[-1]
    aside = {passage.text for passage in all_of(splits.val)}
    more = write(
        tmp_path / "more.txt", "".join([*paragraphs, *(f"new {n} " + "word " * 1000 + "\n\n" for n in range(9))])
    )
    again = {passage.text for passage in all_of(open_splits(more).val)}
    assert aside <= again, "a text stays on its side when others come"
    assert all_of(open_dataset(path, "val")) == all_of(splits.val)


def test_the_play_is_read_whole(shared):
    folder = shared / "data" / "text" / "tinyshakespeare"
    texts = open_dataset(folder)
    assert "".join(passage.text for passage in all_of(texts)) == (folder / "input.txt").read_text()
    assert isinstance(texts[0], Passage)


@pytest.mark.slow
def test_real_captions_are_pairs(shared):
    splits = open_splits(f"{shared / 'data' / 'text' / 'multi30k'}:de-en")
    assert (len(splits.train), len(splits.val)) == (29_000, 1_014)
    assert splits.train[0].source == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."


# labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", 'text,label\n"good, really",pos\nbad,neg\n'),
        ("r.tsv", "label\tsentence\npos\tgood, really\nneg\tbad\n"),
        ("r.jsonl", '{"review": "good, really", "sentiment": "pos"}\n{"review": "bad", "sentiment": "neg"}\n'),
        ("r.csv", 'review,sentiment\n"good, really",pos\nbad,neg\n'),
    ],
)
def test_labels_are_numbered_by_name(tmp_path, name, text):
    path = write(tmp_path / name, text)
    assert format_of(path)[0] is labelled
    texts = open_dataset(path)
    assert [(sample.text, sample.label) for sample in all_of(texts)] == [("good, really", 1), ("bad", 0)]
    assert (texts.classes, texts.multi_label, texts.labels()) == (("neg", "pos"), False, [1, 0])
    assert open_dataset(path, classes=("pos", "neg")).labels() == [0, 1]
    with pytest.raises(DataError, match="not among the 1 expected: neg"):
        open_dataset(path, classes=("pos",))


def test_texts_can_have_several_labels_and_a_second_text(tmp_path):
    path = write(tmp_path / "r.csv", "text,labels\nshort film,short|kind\nlong film,\n")
    texts = open_dataset(path)
    assert (texts.multi_label, texts.labels()) == (True, [(0, 1), ()])
    path = write(tmp_path / "n.tsv", "premise\thypothesis\tlabel\nA dog runs.\tAn animal moves.\tyes\n")
    assert open_dataset(path)[0].second == "An animal moves."


def test_a_folder_of_tables_has_parts(tmp_path):
    write(tmp_path / "train.csv", "text,label\na,x\nb,y\n")
    write(tmp_path / "val.csv", "text,label\nc,y\n")
    splits = open_splits(tmp_path)
    assert (splits.train.labels(), splits.val.labels(), splits.val.classes) == ([0, 1], [1], ("x", "y"))


# tags


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# NN B-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


@pytest.mark.parametrize("name", ["train.conll", "eng.txt", "words.tsv"])
def test_tags_stand_behind_their_words(tmp_path, name):
    path = write(tmp_path / name, CONLL)
    assert format_of(path)[0] is tagged
    texts = open_dataset(path)
    assert [sample.words for sample in all_of(texts)] == [("EU", "rejects", "#"), ("Peter", "Blackburn")]
    assert texts.classes == ("B-ORG", "B-PER", "I-PER", "O")
    assert texts[1].tags == (1, 2)
    assert texts[1].name.endswith(":7")


def test_a_play_is_not_taken_for_tags(tmp_path):
    assert format_of(write(tmp_path / "a.txt", "To be or not to be O\nthat is the question\n"))[0] is lines


# questions


def squad(context="The dog barks.", answer="dog", start=4, **changes):
    record = {"id": "q1", "question": "Who barks?", "answers": [{"text": answer, "answer_start": start}], **changes}
    return json.dumps(
        {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": [record]}]}]}
    )


def test_questions_know_where_their_answers_stand(tmp_path):
    write(tmp_path / "train-v1.1.json", squad())
    write(tmp_path / "dev-v1.1.json", squad("A cat sleeps.", "cat", 2))
    splits = open_splits(tmp_path)
    assert format_of(tmp_path)[0] is questions
    assert (splits.train[0].answers, splits.train[0].starts, splits.train[0].id) == (("dog",), (4,), "q1")
    assert splits.val[0].context == "A cat sleeps."


def test_questions_about_one_text_stay_on_one_side(shared):
    splits = open_splits(shared / "data" / "text" / "xquad")
    sides = [{sample.context for sample in all_of(part)} for part in (splits.train, splits.val)]
    assert not sides[0] & sides[1]
    assert len(splits.train) + len(splits.val) == 1190


# what is wrong is said in one sentence, with its place


def test_quotes_of_csv_may_hold_lines_and_stray_ones_stand_for_themselves(tmp_path):
    rows = '"two\nlines, and ""more""",x\nnice "one",y\n5" pipe,x\n"he said "hi" ok",y\nplain,x\n"and\nlater" ,y\n'
    (tmp_path / "texts.csv").write_text("text,label\n" + rows)
    read = open_dataset(tmp_path / "texts.csv")
    assert [read[index].text for index in range(len(read))] == [
        'two\nlines, and "more"', 'nice "one"', '5" pipe', 'he said hi" ok"', "plain", "and\nlater",
    ]  # fmt: skip
    assert [read[index].name.rpartition(":")[2] for index in range(len(read))] == ["2", "4", "5", "6", "7", "8"]


BAD = {
    "empty.txt": (b"", "is empty"),
    "blank.txt": (b"\n \n\n", "is empty"),
    "latin.txt": ("Stra\xdfe\n".encode("latin-1"), r"latin.txt:1: this line is not UTF-8"),
    "wide.txt": ("hello\n".encode("utf-16"), "is UTF-16. Save it as UTF-8"),
    "broken.txt.gz": (gzip.compress(b"hello world\n" * 50)[:-12], "damaged gzip"),
    "none.txt.gz": (b"hello\n", "damaged gzip"),
    "line.txt": (b"a" * (LONGEST_LINE + 1), r"line.txt:1: this line has more than 1,048,576 characters"),
    "empty.conll": (b"", "no tagged sentences|is empty"),
    "untagged.conll": (b"dog O\ncat\n", r"untagged.conll:2: 'cat' has no tag behind it"),
    "no_label.csv": (b"text,score\na,1\n", "Texts have text and label"),
    "columns.csv": (b"text,label\na,b,c\n", r"columns.csv:2: 3 columns where the first line names 2"),
    "quote.csv": (b'text,label\na,x\n"b,y\nc,x\n"d",y\n', r"quote.csv:3: a quote opens here and is not closed"),
    "late.csv": (b'text,label\n"he said "hi" ok",x\n"b,y\n' + b"some text,x\n" * 30_000, "late.csv:3: a quote opens"),
    "inner.csv": (b'text,label\n"b,y\nnice "word" here,x\n', r"inner.csv:2: a quote opens here and is not closed"),
    "return.csv": (b"text,label\na\rb,x\n", r"return.csv:2: cannot be read from here on"),
    "last.tsv": (b'text\tlabel\na\tx\n"b\ty', r"last.tsv:3: a quote opens here and is not closed"),
    "empty.csv": (b"text,label\n", "is empty"),
    "blank.csv": (b"text,label\n,x\n", r"blank.csv:2: the text is empty"),
    "nolabel.csv": (b"text,label\na,\n", r"nolabel.csv:2: the label is empty"),
    "half.jsonl": (b'{"text": "a\\ud800", "label": "x"}\n', r"half.jsonl:1: half a character .* stands at 1"),
    "half.json": (squad("a \ud800 dog", "dog", 4).encode(), "half a character"),
    "number.jsonl": (b'{"text": 3, "label": "x"}\n', r"number.jsonl:1: text should hold a text, and holds 3"),
    "late.jsonl": (b'{"text": "a", "label": "x"}\n{"text": "b"}\n', r"late.jsonl:2: there is no column called label"),
    "bad.jsonl": (b'{"text": "a", "label": "x"}\n{"text": \n', r"bad.jsonl:2: this line is not JSON"),
    "part.csv": (b"text,label,split\na,b,nowhere\n", r"part.csv:2: 'nowhere' is not a part"),
    "late_pair.jsonl": (b'{"de": "a", "en": "x"}\n{"de": "b"}\n', r"late_pair.jsonl:2: there is no column called en"),
    "moved.json": (squad(start=5).encode(), r"article 1, paragraph 1 \(q1\): the answer 'dog' does not stand at 5"),
    "behind.json": (squad(start=900).encode(), "does not stand at 900"),
    "negative.json": (squad(start=-10).encode(), "does not stand at -10"),
    "unanswered.json": (squad(answers=[]).encode(), r"no answer. SQuAD v1.1 has one for each"),
    "cut.json": (squad().encode()[:-5], "is not JSON"),
    "shape.json": (b'{"data": [{"paragraphs": 3}]}', "paragraphs should be a list, and is 3"),
    "id.json": (squad(id=4).encode(), "id should be a text, and is 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_fault_is_one_sentence_that_names_its_place(tmp_path, name):
    content, words = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as raised:
        open_dataset(path)
    assert name in str(raised.value)
    assert len(str(raised.value)) < 600


def test_what_is_no_text_and_what_is_not_there_are_said(tmp_path):
    with pytest.raises(DataError, match="There is no data set at"):
        format_of(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no\.bin is not a data set.*or texts: sentence pairs"):
        format_of(write(tmp_path / "no.bin", "bytes"))
    path = write(tmp_path / "one.txt", "only this\n")
    with pytest.raises(DataError, match="too few texts"):
        open_splits(path)
    with pytest.raises(DataError, match="no part called 'test'"):
        open_dataset(path, "test")
    write(tmp_path / "parts" / "train.txt", "a\n")
    write(tmp_path / "parts" / "val.txt", "b\n")
    with pytest.raises(DataError, match=r"is in parts: train, val. Name one of them"):
        open_dataset(tmp_path / "parts")
