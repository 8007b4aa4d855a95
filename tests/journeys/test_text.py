"""Models of texts from the first command to the last, each on a corpus that a second is enough to learn from."""

import html
import json
import random
import re
import shlex
from pathlib import Path

import pytest
import torch
import transformers

from vitrail import catalog
from vitrail.cli.main import main
from vitrail.data.open import open_splits
from vitrail.loading import from_pretrained
from vitrail.samples import Words
from vitrail.train import observers

GERMAN = ["ein", "hund", "mann", "rennt", "sitzt", "auf", "der", "bank", "frau", "und"]
ENGLISH = ["a", "dog", "man", "runs", "sits", "on", "the", "bench", "woman", "and"]
PEOPLE, PLACES = ("Anna", "Berta", "Carl", "Emil"), ("Berlin", "Paris", "Rome", "Oslo")
CODER = [f"model.{stack}_{size}" for stack in ("encoder", "decoder") for size in ("depth=1", "heads=2", "mlp_dim=32")]
BERT = ["model.dim=16", "model.depth=1", "model.heads=2", "model.mlp_dim=32", "model.max_tokens=48"]


def write_pairs(folder: Path, draw: random.Random) -> str:
    """Sentences and their translation word by word."""
    for part, count in (("train", 120), ("val", 12)):
        rows = [[draw.randrange(10) for _ in range(draw.randint(2, 6))] for _ in range(count)]
        for ending, words in (("de", GERMAN), ("en", ENGLISH)):
            lines = [" ".join(words[word] for word in row) for row in rows]
            (folder / f"{part}.{ending}").write_text("\n".join(lines) + "\n")
    return f"{folder}:de-en"


def write_lines(folder: Path, draw: random.Random) -> str:
    """Running text in paragraphs."""
    lines = [
        f"{draw.choice(PEOPLE)} likes {draw.choice(PLACES)} and the old {draw.choice(ENGLISH)}." for _ in range(600)
    ]
    paragraphs = ["\n".join(lines[first : first + 20]) for first in range(0, len(lines), 20)]
    (folder / "corpus.txt").write_text("\n\n".join(paragraphs) + "\n")
    return str(folder / "corpus.txt")


def write_reviews(folder: Path, draw: random.Random) -> str:
    """Sentences with a label."""
    words = {"good": ["fine", "lovely", "great", "warm"], "bad": ["awful", "cold", "poor", "dull"]}
    rows = [(label, draw.choice(words[label]), draw.choice(PLACES)) for label in ("good", "bad") * 60]
    text = "".join(f"{place} was {word} number {number},{label}\n" for number, (label, word, place) in enumerate(rows))
    (folder / "reviews.csv").write_text(f"text,label\n{text}")
    return str(folder / "reviews.csv")


def write_names(folder: Path, draw: random.Random) -> str:
    """Sentences whose names are marked."""
    rows = [(draw.choice(PEOPLE), draw.choice(PLACES), number) for number in range(120)]
    text = "\n".join(f"{who} B-PER\nsaw O\n{where} B-LOC\nin O\n{number} O\n" for who, where, number in rows)
    (folder / "names.conll").write_text(text)
    return str(folder / "names.conll")


def write_questions(folder: Path, draw: random.Random) -> str:
    """Questions whose answer is a place."""
    paragraphs = []
    for number in range(80):
        who, where = draw.choice(PEOPLE), draw.choice(PLACES)
        context = f"{who} lives in {where} at number {number}."
        answer = {"text": where, "answer_start": context.index(where)}
        asked = {"id": str(number), "question": f"Where does {who} live?", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [asked]})
    (folder / "squad.json").write_text(json.dumps({"data": [{"title": "people", "paragraphs": paragraphs}]}))
    return str(folder / "squad.json")


class Journey:
    """What is trained on what, what is asked, and what transformers calls it.

    Args:
        write: makes the corpus and gives its name.
        model: what is trained.
        settings: of the recipe, so that a second is enough.
        epochs: for how long.
        asked: what is typed after `vitrail predict RUN`.
        said: words of which the answer must hold one.
        score: what it is judged by, and the least (or, of a perplexity, most) that it must reach.
        foreign: what transformers calls it; empty where it does not have it.
    """

    def __init__(self, write, model, settings, epochs, asked, said, score, foreign="") -> None:
        self.write, self.model, self.settings, self.epochs = write, model, settings, epochs
        self.asked, self.said, self.score, self.foreign = asked, said, score, foreign


RATE = "optimiser.rate=1e-2"
PAIRS = [
    *CODER,
    "model.dim=32",
    "model.dropout=0",
    "schedule.warmup_steps=20",
    "data.tokens=300",
    "data.vocabulary=300",
]
MARIAN = [
    *("model.norm=after", "model.activation=silu", "model.sinusoids=halves", "model.places=columns", "model.eps=1e-5"),
    *("model.output_bias=true", "data.tokens=80", "optimiser.rate=5e-3", "average_last=2", "ema=none"),
]
JOURNEYS = {
    "translate": Journey(
        write_pairs, "transformer-tiny", [*PAIRS, *MARIAN], 6,
        ["ein hund rennt", "--beam", "2"], ENGLISH, ("chrf", 2.0), "MarianMTModel",
    ),
    "translate-parallel": Journey(
        write_pairs, "parallel-transformer-tiny", [*PAIRS, RATE], 5, ["ein hund rennt"], ENGLISH, ("chrf", 5.0)
    ),
    "causal-lm": Journey(
        write_lines, "gpt-mini", [*BERT, RATE, "model.dropout=0", "data.vocabulary=400"], 4,
        ["--prompt", "Anna likes", "--tokens", "6", "--temperature", "0.5", "--seed", "0"],
        PLACES, ("perplexity", 60.0), "GPT2LMHeadModel",
    ),
    "masked-lm": Journey(
        write_lines, "bert-mini", [*BERT, RATE, "data.length=20"], 8, ["anna [MASK] paris and the old dog."],
        ("likes",), ("perplexity", 200.0), "BertForMaskedLM",
    ),
    "classify": Journey(
        write_reviews, "bert-mini", [*BERT, RATE], 6, ["Rome was lovely number 7"], ("good",), ("top1", 0.9),
        "BertForSequenceClassification",
    ),
    "tag": Journey(
        write_names, "bert-mini", [*BERT, RATE], 6, ["Emil saw Oslo in 7"], ("Oslo/B-LOC",), ("f1", 0.9),
        "BertForTokenClassification",
    ),
    "answer": Journey(
        write_questions, "bert-mini", [*BERT, RATE], 12,
        ["Where does Emil live?", "--context", "Emil lives in Oslo at number 7."], PLACES, ("f1", 0.3),
        "BertForQuestionAnswering",
    ),
}  # fmt: skip


NEXT = {
    "causal-lm": "--prompt 'TEXT'",
    "masked-lm": "'TEXT WITH [MASK]' ...",
    "answer": "'QUESTION' --context 'TEXT' ...",
}


def typed(*words: str) -> None:
    """Do what was typed; it must end well."""
    assert main(list(words)) == 0


@pytest.mark.parametrize("name", JOURNEYS)
def test_from_a_corpus_to_a_model_that_others_read(name, tmp_path, monkeypatch, capsys):
    journey = JOURNEYS[name]
    (tmp_path / "data").mkdir()
    data = journey.write(tmp_path / "data", random.Random(0))
    monkeypatch.chdir(tmp_path)
    order = ["--epochs", str(journey.epochs), "--device", "cpu", "--seed", "1"]
    order += [word for setting in journey.settings for word in ("--set", setting)]

    typed("train", journey.model, "--data", data, *order, "--out", "whole")
    said = capsys.readouterr().out
    assert "Next: vitrail predict whole " + NEXT.get(name, "'TEXT' ...") + "\n" in said
    assert ("Counted by sacrebleu: BLEU as nrefs:1|" in said) == name.startswith("translate")
    stop_after(monkeypatch, 0.6)
    assert main(["train", journey.model, "--data", data, *order, "--out", "halves"]) == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    typed("resume", "halves")
    whole, halves = (tmp_path / run / "model.safetensors" for run in ("whole", "halves"))
    assert whole.read_bytes() == halves.read_bytes()
    capsys.readouterr()

    typed("evaluate", "whole", "--data", data, "--json")
    report = json.loads(capsys.readouterr().out)
    score, bound = journey.score
    reached = report["scores"][score]
    assert reached < bound if score == "perplexity" else reached > bound, reached
    known = json.loads((tmp_path / "whole/run.json").read_text())["scores"]
    assert {name: report["scores"][name] for name in known} == pytest.approx(known, rel=1e-4)  # of the same rows
    page = (tmp_path / "whole/report.html").read_text(encoding="utf-8")
    assert ("and what the model says" in page) == (name != "masked-lm")
    assert name not in ("tag", "answer") or any(
        f'<td class="words">{place}' in page or f"{place}/B-LOC" in page for place in PLACES
    )

    [example] = re.findall(r"vitrail predict whole (.*)", html.unescape(page))
    typed("predict", "whole", *shlex.split(example))  # what the report suggests can be typed
    capsys.readouterr()
    if name.startswith("translate"):
        assert "<dt>Languages</dt><dd>2: de, en</dd>" in page
        assert "Counted by sacrebleu: BLEU as nrefs:1|" in page
        assert (tmp_path / "whole/examples.csv").read_text().startswith("source,written,reference\n")

    typed("info", "whole", "--json")
    told = json.loads(capsys.readouterr().out)
    assert "word pieces; special: " in told["card"]["preprocessing"]["tokenizer"]

    if name == "answer":
        typed("explain", "whole", *journey.asked, "--out", "arcs.png")
        assert (tmp_path / "arcs.png").stat().st_size > 1000

    typed("predict", "whole", *journey.asked)
    answer = capsys.readouterr().out
    assert any(word in answer for word in journey.said)

    if journey.foreign:
        typed("convert", "whole", "theirs", "--to", "transformers")
        agrees_with_transformers(journey.foreign, tmp_path)


def stop_after(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Let somebody press Ctrl-C when so much of a run is done."""
    stepped = observers.Saving.stepped

    def interrupted(self, run, taken) -> None:
        stepped(self, run, taken)
        if run.step == round(share * run.steps):
            run.stopping.asked = 2  # SIGINT

    monkeypatch.setattr(observers.Saving, "stepped", interrupted)


@torch.inference_mode()
def agrees_with_transformers(foreign: str, folder: Path) -> None:
    """Their class reads what was converted, and gives the logits that the run gives."""
    theirs = getattr(transformers, foreign).from_pretrained(folder / "theirs").eval()
    ours = from_pretrained(folder / "whole", announce=lambda sentence: None)
    back = from_pretrained(folder / "theirs", announce=lambda sentence: None)
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    words = Words(ids, torch.ones_like(ids, dtype=torch.bool))
    if foreign == "MarianMTModel":
        told = theirs(input_ids=ids, decoder_input_ids=ids[:, :4]).logits
        said = [model.eval()(ids, ids[:, :4]) for model in (ours, back)]
    else:
        told = theirs(input_ids=words.ids)
        told = torch.stack([told.start_logits, told.end_logits], dim=2) if "start_logits" in told else told.logits
        said = [model.eval()(*words) for model in (ours, back)]
    for logits in said:
        torch.testing.assert_close(logits, told, rtol=1e-4, atol=1e-5)


WRITTEN = {
    "translate": write_pairs,
    "language": write_lines,
    "classify-text": write_reviews,
    "tag": write_names,
    "answer": write_questions,
}
OTHERS = [
    (recipe, task)
    for recipe, entry in catalog.RECIPES.items()
    if entry.data
    for task in WRITTEN.keys() - set(entry.data)
]


@pytest.mark.parametrize(("recipe", "task"), sorted(OTHERS))
def test_a_recipe_for_other_data_names_one_for_this(recipe, task, tmp_path, monkeypatch, capsys):
    data = WRITTEN[task](tmp_path, random.Random(0))
    assert open_splits(data).train.task == task
    monkeypatch.chdir(tmp_path)
    assert main(["train", recipe, "--data", data, "--dry-run"]) == 1
    said = capsys.readouterr().err
    if recipe == "word2vec":
        assert "Give running text (.txt)." in said
        return
    [other] = re.findall(r"`vitrail train (\S+) --data", said)
    assert task in catalog.RECIPES[other].data


def test_several_labels_are_asked_only_of_models_that_give_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reviews = write_reviews(tmp_path, random.Random(0))
    rows = [
        f"{place} is nice,{labels}"
        for number in range(30)
        for place, labels in (("Rome", "good"), ("Oslo", "good;bad"))
    ]
    Path("several.csv").write_text("text,labels\n" + "".join(f"{number} {row}\n" for number, row in enumerate(rows)))
    order = ["--epochs", "1", *(word for setting in BERT for word in ("--set", setting))]
    typed("train", "bert-mini", "--data", reviews, *order, "--set", "task.multi_label=true", "--out", "any")
    typed("evaluate", "any", "--data", reviews, "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]["map"] > 0
    typed("train", "bert-mini", "--data", "several.csv", *order, "--out", "several")
    typed("evaluate", "several", "--data", reviews)
    typed("train", "bert-mini", "--data", reviews, *order, "--out", "one")
    assert main(["evaluate", "one", "--data", "several.csv"]) == 1
    assert "several labels for each" in capsys.readouterr().err
    assert main(["evaluate", "one", "--data", "scenes:8,size=16x16"]) == 1
    assert "scenes:8,size=16x16 holds pictures, and this bert-mini reads texts." in capsys.readouterr().err
    assert main(["train", "bert-mini", "--data", "several.csv", *order, "--set", "task.multi_label=false"]) == 1
    assert "Leave it out." in capsys.readouterr().err


def test_a_run_of_texts_that_diverges_names_the_passages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_lines(tmp_path, random.Random(0))
    order = [*BERT, "optimiser.rate=100", "clip=none", "schedule.warmup=0", "data.vocabulary=300", "steps=30"]
    assert main(["train", "gpt-mini", "--data", data, *(word for one in order for word in ("--set", one))]) == 1
    said = capsys.readouterr().err
    assert "corpus.txt" in said
    assert "The weights were not touched" in said


@pytest.mark.parametrize(
    ("label", "said"), [("good", "There is only one class, good"), ("", "has no label in any row")]
)
def test_check_refuses_what_training_refuses(label, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    column = "label" if label else "labels"
    Path("one.csv").write_text(f"text,{column}\n" + "".join(f"text {number},{label}\n" for number in range(20)))
    assert main(["train", "bert-mini", "--data", "one.csv", "--dry-run"]) == 1
    assert said in capsys.readouterr().err
    assert main(["check", "--data", "one.csv"]) == 1
    assert "must be put right before training" in capsys.readouterr().err
