"""`vitrail check` finds in texts what was planted in them, and nothing else."""

import gzip
import json
from pathlib import Path

import pytest

from vitrail.cli.main import main
from vitrail.data.check import check
from vitrail.data.checks.faults import SEVERITIES
from vitrail.data.text.reading import LONGEST_LINE


def words(count: int) -> str:
    return " ".join(f"word{number}" for number in range(count))


def pairs(folder, train, val):
    for part, rows in (("train", train), ("val", val)):
        (folder / f"{part}.de").write_text("".join(f"{one}\n" for one, _ in rows))
        (folder / f"{part}.en").write_text("".join(f"{other}\n" for _, other in rows))
    return folder


SOUND = [("ein Hund", "a dog"), ("eine Katze", "a cat")], [("ein Haus", "a house")]


@pytest.mark.parametrize(
    ("train", "val", "codes"),
    [
        (*SOUND, []),
        ([*SOUND[0], ("ein Bett", words(20))], SOUND[1], ["uneven-pair"]),
        ([*SOUND[0], ("not translated", "not translated")], SOUND[1], ["same-text"]),
        (SOUND[0], [("ein Hund", "the dog")], ["text-across-parts"]),
        (SOUND[0], [], ["empty"]),
    ],
)
def test_what_is_planted_in_pairs_is_found(train, val, codes, tmp_path):
    assert [found.code for found in check(pairs(tmp_path, train, val))] == codes


LATIN, MOJIBAKE = "Straße".encode("latin-1"), "Straße".encode().decode("cp1252")
DE_EN = {
    "train.de": "ein Hund\neine Katze\n",
    "train.en": "a dog\na cat\n",
    "val.de": "ein Haus\n",
    "val.en": "a house\n",
}
REVIEWS = {
    "train.csv": "text,label\ngood,yes\nfine,yes\nbad,no\nsad,no\n",
    "val.csv": "text,label\nnice,yes\nugly,no\n",
}
NAMES = {
    "train.conll": "Anna NN B-PER\nruns VB O\n\nin IN O\nOslo NN B-LOC\n",
    "val.conll": "Bob NN B-PER\nin IN O\nRome NN B-LOC\n",
}


def asked(context="The dog barks.", answer="dog", start=4, name="q1"):
    record = {"id": name, "question": "Who barks?", "answers": [{"text": answer, "answer_start": start}]}
    return {"context": context, "qas": [record]}


def squad(*paragraphs):
    return json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]})


SQUAD = {"train.json": squad(asked()), "val.json": squad(asked("A cat barks.", "cat", 2, "q2"))}
PLAY = {"train.txt": "To be\nor not to be\n", "val.txt": "That is the question\n"}
DAMAGED = [  # what it is, what is written instead, the code, and where it is found
    (DE_EN, {"val.en": "a house\nanother\n"}, "count-mismatch", "val.de"),
    (DE_EN, {"train.en": b"a dog\n" + LATIN + b"\n"}, "encoding", "train.en:2"),
    (DE_EN, {"train.en": "a dog\na cat\n".encode("utf-16")}, "encoding", "train.en"),
    (DE_EN, {"train.en": "a dog\n\n"}, "empty-side", "train.de:2"),
    (DE_EN, {"train.de": "\ufeffein Hund\neine Katze\n"}, "bom", "train.de"),
    (DE_EN, {"train.de": "ein Hund\n" + "x" * (LONGEST_LINE + 1)}, "long-line", "train.de:2"),
    (DE_EN, {"train.de": f"ein Hund\neine {MOJIBAKE}\n"}, "mis-decoded", "train.de:2"),
    (DE_EN, {"train.de": "ein Hund\neine Stra\ufffde\n"}, "lost-character", "train.de:2"),
    (DE_EN, {"train.en": "a dog\na\0cat\n"}, "control-character", "train.de:2"),
    (DE_EN, {"train.de": "ein Hund\nein Hund\n", "train.en": "a dog\na dog\n"}, "duplicate-text", "train.de:2"),
    (DE_EN, {"test.de": "ein Baum\n"}, "missing-file", "test.de"),
    (DE_EN, {"train.fr": "un chien\nun chat\n"}, "which-way", ""),
    (DE_EN, {"val.de": "", "val.en": ""}, "empty", ""),
    ({"p.jsonl": '{"de": "a", "en": "b"}\n{"de": "c", "en": "d"}\n'}, {}, None, ""),
    ({}, {"p.jsonl": '{"de": "a", "en": "b"}\n{"de": "c"}\n'}, "missing-column", "p.jsonl:2"),
    ({}, {"p.jsonl": '{"de": "a", "en": "b"}\n{"de": 3, "en": "d"}\n'}, "not-a-text", "p.jsonl:2"),
    ({}, {"p.jsonl": '{"de": "a", "en": "b"}\n{"de": \n'}, "bad-json", "p.jsonl:2"),
    ({}, {"p.jsonl": '{"de": "a", "en": "b"}\n{"de": "c\\ud800", "en": "d"}\n'}, "encoding", "p.jsonl:2"),
    ({}, {"p.tsv": "de\ten\nein Hund\ta dog\n"}, "no-data", "p.tsv"),
    (REVIEWS, {"train.csv": REVIEWS["train.csv"] + "lost,\n"}, "empty-label", "train.csv:6"),
    (REVIEWS, {"train.csv": REVIEWS["train.csv"] + ",yes\n"}, "empty-text", "train.csv:6"),
    (REVIEWS, {"train.csv": REVIEWS["train.csv"] + "well, well,yes\n"}, "wrong-columns", "train.csv:6"),
    (REVIEWS, {"train.csv": REVIEWS["train.csv"] + "bad,yes\n"}, "two-labels", "train.csv:6"),
    (REVIEWS, {"train.csv": REVIEWS["train.csv"] + "bad,no\n"}, "duplicate-text", "train.csv:6"),
    (REVIEWS, {"val.csv": REVIEWS["val.csv"] + "so so,maybe\n"}, "class-not-in-train", ""),
    (REVIEWS, {"val.csv": REVIEWS["val.csv"] + "good,yes\n"}, "text-across-parts", "val.csv:4"),
    (
        {},
        {"r.csv": "text,label,split\na,x,train\nb,x,train\nc,y,train\nd,y,train\ne,x,up\n"},
        "unknown-split",
        "r.csv:6",
    ),
    (NAMES, {"train.conll": NAMES["train.conll"] + "Eve\n"}, "missing-tag", "train.conll:6"),
    (NAMES, {"train.conll": NAMES["train.conll"] + "Eve B-PER\n"}, "uneven-columns", "train.conll:6"),
    (NAMES, {"train.conll": NAMES["train.conll"] + "\nEve NN B_PER\n"}, "odd-tag", "train.conll:7"),
    (NAMES, {"val.conll": "Bob NN B-PER\nGolf NN B-ORG\n"}, "class-not-in-train", ""),
    (SQUAD, {"train.json": squad(asked(start=5))}, "answer-not-there", "train.json, article 1, paragraph 1 (q1)"),
    (SQUAD, {"train.json": squad({"context": "x"})}, "wrong-field", "train.json, article 1, paragraph 1"),
    (SQUAD, {"train.json": SQUAD["train.json"][:-9]}, "bad-json", "train.json"),
    (
        SQUAD,
        {"train.json": squad(asked(), {"context": "x", "qas": [{"id": "q3", "question": "?", "answers": []}]})},
        "no-answer",
        "train.json, article 1, paragraph 2 (q3)",
    ),
    (
        SQUAD,
        {"train.json": squad(asked(), asked("Our dog barks."))},
        "duplicate-id",
        "train.json, article 1, paragraph 2 (q1)",
    ),
    (PLAY, {"train.txt": b"To be\nor not\n" + LATIN}, "encoding", "train.txt:3"),
    (PLAY, {"train.txt": b"To be\nor\x07 not\n"}, "control-character", "train.txt:2"),
    (PLAY, {"train.txt.gz": gzip.compress(b"To be\n" * 50)[:-12], "train.txt": None}, "damaged", "train.txt.gz"),
    ({}, {"a.txt": "To be\n" * 2000, "b.txt": "or not\n", "c.txt": "\n"}, "empty-document", "c.txt"),
]


def laid(folder, files):
    """A data set of these files; where there is only one, the file itself."""
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder if len(files) > 1 else folder / next(iter(files))


@pytest.mark.parametrize(("sound", "damage", "code", "place"), DAMAGED)
def test_one_fault_is_found_where_it_is_and_brings_no_others(sound, damage, code, place, tmp_path):
    if sound:
        (tmp_path / "sound").mkdir()
        assert check(laid(tmp_path / "sound", sound)) == []
    (tmp_path / "set").mkdir()
    path = laid(tmp_path / "set", sound | damage)
    found = check(path)
    if code is None:
        return
    assert [fault.code for fault in found] == [code]
    expected = tmp_path / "set" / place if place else path
    assert (found[0].path, found[0].severity) == (str(expected), SEVERITIES[code])
    assert found[0].reason.endswith(".")
    assert str(path) not in found[0].reason.removesuffix(".").split()[0], "a file is named once"


def test_all_faults_are_told_not_only_the_first(tmp_path):
    rows = "text,label\ngood,\n,no\nbad,no,more\nfine,yes\nsad,no\nbad,no\nbad,yes\n"
    (tmp_path / "train.csv").write_bytes(rows.encode() + LATIN + b",no\n")
    (tmp_path / "val.csv").write_text("text,label\nnice,maybe\n\n,no\nfine,yes\n")
    found = check(tmp_path)
    errors = ["class-not-in-train", "empty-label", "empty-text", "empty-text", "encoding", "wrong-columns"]
    warnings = ["class-only-in-train", "text-across-parts", "two-labels"]
    assert [fault.code for fault in found if fault.severity == "error"] == errors
    assert [fault.code for fault in found if fault.severity == "warning"] == warnings
    assert {Path(fault.path).name for fault in found if fault.code == "empty-text"} == {"train.csv:3", "val.csv:4"}


def test_labels_that_tell_nothing_apart_are_found(tmp_path):
    table = tmp_path / "reviews.csv"
    table.write_text("text,label\n" + "".join(f"{words(number)},good\n" for number in range(1, 9)))
    assert [found.code for found in check(table)] == ["one-class"]


def test_the_command_says_what_there_is(tmp_path, capsys):
    assert main(["check", "--data", str(pairs(tmp_path, *SOUND))]) == 0
    said = capsys.readouterr().out
    assert "3 texts, 2 to learn from and 1 to be judged by." in said
    assert "ready to train on" in said


def test_labels_that_a_person_takes_for_the_same_or_for_several_are_found(tmp_path):
    rows = [
        ("one", "good"),
        ("two", "bad"),
        ("three", "Good"),
        ("four", "good"),
        ("five", "bad"),
        ("six", '"good, bad"'),
    ]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    found = {one.code: one.reason for one in check(tmp_path / "reviews.csv")}
    assert "There are the classes good and Good. Write both alike." in found["class-case-clash"]
    assert "'good, bad' is taken for one label. Put ; between several." in found["comma-in-label"]
