"""Word vectors on the command line: from a text to the words nearest to a word."""

import json
import re

import numpy as np
import pytest

from needs import GENSIM
from vitrail.cli.main import main
from vitrail.words import WordVectors, write_vectors

RUN = ["--set", "dim=8", "sample=1", "--epochs", "20"]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Lines of a court, and lines of a yard, which share no word."""
    draw, themes = np.random.default_rng(0), (["king", "queen", "rules", "reigns"], ["cat", "dog", "runs", "jumps"])
    lines = [" ".join(draw.choice(themes[number % 2], size=6)) for number in range(600)]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "corpus.txt"


@GENSIM
def test_from_a_text_to_the_nearest_words(corpus, capsys):
    assert main(["train", "word2vec", "--data", "corpus.txt", *RUN]) == 0
    folder = corpus.parent / "runs/word2vec/corpus"
    assert {path.name for path in folder.iterdir()} == {"vectors.txt", "card.json", "recipe.json"}
    words = ["king", "queen", "rules", "reigns", "cat", "dog", "runs", "jumps"]
    first, second = capsys.readouterr().out.split("Next: ")[1].splitlines()
    assert first.removeprefix("vitrail predict runs/word2vec/corpus ") in words
    assert set(second.split("--analogy ")[1].split()) < set(words), "only words that have a vector are suggested"

    assert main(["predict", "runs/word2vec/corpus", "king", "Cat", "--top", "2", "--json"]) == 0
    king, cat = map(json.loads, capsys.readouterr().out.splitlines())
    assert [len(answer["near"]) for answer in (king, cat)] == [2, 2]
    assert {near["word"] for near in king["near"]} < {"queen", "rules", "reigns"}
    assert {near["word"] for near in cat["near"]} < {"dog", "runs", "jumps"}

    assert main(["train", "runs/word2vec/corpus/recipe.json", "--data", "corpus.txt", "--out", "again"]) == 0
    assert (corpus.parent / "again/vectors.txt").read_bytes() == (folder / "vectors.txt").read_bytes()


def test_a_file_of_vectors_is_asked_as_a_run_is(tmp_path, capsys):
    royal = WordVectors(
        ("man", "woman", "king", "queen"),
        np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=np.float32),
    )
    write_vectors(royal, tmp_path / "royal.txt")
    assert main(["predict", str(tmp_path / "royal.txt"), "--analogy", "king", "man", "woman", "--top", "1"]) == 0
    assert "queen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["predict", "RUN", "kingg"], "no word among these vectors called 'kingg'. Did you mean king?"),
        (["predict", "RUN", "--analogy", "king", "man", "xyz"], "called 'man'"),
        (["predict", "RUN", "king", "--beam", "4"], "--analogy A B C"),
        (["predict", "RUN", "king", "--features"], "--analogy A B C"),
        (["evaluate", "RUN", "--data", "corpus.txt"], "is not four words"),
        (["evaluate", "RUN", "--data", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["evaluate", "RUN", "--data", "questions.txt", "--out", "page"], "Leave out --out"),
        (["explain", "RUN", "king"], "word vectors and no network"),
        (["resume", "RUN"], "nothing to go on with"),
        (["train", "word2vec", "--data", "corpus.txt", "--batch", "3"], "--batch is for networks"),
        (["train", "word2vec", "--data", "corpus.txt", "--set", "windw=3"], "Did you mean window"),
        (["train", "word2vec", "--data", "corpus.txt", "--set", "dim=0"], "dim=0 must be at least 1"),
        pytest.param(
            ["train", "word2vec", "--data", "corpus.txt", "--set", "least=1000"],
            "--set least=1",
            marks=GENSIM,
        ),
        (["train", "word2vec", "--data", "corpus.txt", "--out", "RUN"], "already holds a run"),
        (["train", "word2vec", "--data", "nowhere.txt"], "no data set at nowhere.txt"),
    ],
)
def test_each_mistake_is_a_sentence(typed, said, corpus, capsys):
    run = corpus.parent / "run"
    run.mkdir()
    write_vectors(WordVectors(("king", "queen", "cat"), np.eye(3, dtype=np.float32)), run / "vectors.txt")
    (run / "recipe.json").write_text("{}")
    assert main([str(run) if word == "RUN" else word for word in typed]) in (1, 2)
    assert said in capsys.readouterr().err


def test_word_vectors_are_judged_by_analogies_and_by_what_people_say(tmp_path, capsys):
    words = ("man", "king", "woman", "queen", "cat")
    directions = [[1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, 1, 0], [0, 0, 1]]
    write_vectors(WordVectors(words, np.array(directions, dtype=np.float32)), tmp_path / "royal.txt")
    (tmp_path / "asked.txt").write_text(
        ": rank\nMan King Woman Queen\nman king woman cat\n: pets\ncat dog king lion\n", encoding="utf-8"
    )
    (tmp_path / "said.tsv").write_text(
        "# people\nman\tking\t9\nman\twoman\t1\nman\tcat\t3\nman\tdog\t5\n", encoding="utf-8"
    )
    vectors = str(tmp_path / "royal.txt")

    assert main(["evaluate", vectors, "--data", str(tmp_path / "asked.txt"), "--json"]) == 0
    sections = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["name"], one["right"], one["asked"], one["unknown"]) for one in sections] == [
        ("rank", 1, 2, 0), ("pets", 0, 0, 1), ("all", 1, 2, 1),
    ]  # fmt: skip
    assert main(["evaluate", vectors, "--data", str(tmp_path / "asked.txt")]) == 0
    assert "50.0%" in capsys.readouterr().out
    assert main(["evaluate", vectors, "--data", str(tmp_path / "said.tsv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"spearman": pytest.approx(1.0), "pairs": 3, "unknown": 1}


def test_an_analogy_is_for_word_vectors(tmp_path, capsys):
    from vitrail.loading import create_model, save_pretrained

    tiny = {"image": 16, "patch": 8, "dim": 8, "depth": 1, "heads": 1, "mlp_dim": 8, "classes": 2}
    save_pretrained(create_model("vit-tiny-16", **tiny), tmp_path / "vit", announce=lambda sentence: None)
    assert main(["predict", str(tmp_path / "vit"), "--analogy", "king", "man", "woman"]) == 2
    assert "holds none" in capsys.readouterr().err


def test_a_binary_file_of_word2vec_is_asked_whatever_its_name(tmp_path, capsys):
    rows = [(b"king", (1.0, 0.1)), (b"man", (0.9, 0.2)), (b"rose", (-1.0, 0.5))]
    content = b"".join(word + b" " + np.array(row, "<f4").tobytes() + b"\n" for word, row in rows)
    (tmp_path / "vectors.bin").write_bytes(b"3 2\n" + content)
    assert main(["predict", str(tmp_path / "vectors.bin"), "king"]) == 0
    assert "man 0.99" in capsys.readouterr().out


@GENSIM
@pytest.mark.parametrize("model", ["bert-mini", "gpt-mini"])
def test_a_model_begins_with_word_vectors(model, corpus, capsys):
    assert main(["train", "word2vec", "--data", "corpus.txt", *RUN, "--out", "vectors"]) == 0
    network = ["dim=8", "depth=1", "heads=1", "mlp_dim=8", "max_tokens=32"]
    order = ["--data", "corpus.txt", "--epochs", "1", *(f"--set=model.{one}" for one in network)]
    assert main(["train", model, *order, "--set", "model.words=vectors", "--out", "begun"]) == 0
    assert "8 of " in capsys.readouterr().out
    assert json.loads((corpus.parent / "begun/recipe.json").read_text())["model"]["words"] == str(
        corpus.parent / "vectors"
    )
    assert main(["train", model, *order, "--set", "model.words=nowhere"]) == 1
    assert "There are no word vectors at nowhere." in capsys.readouterr().err
    assert main(["train", model, *order, "--init", "begun", "--set", "model.words=vectors"]) == 1
    assert "has a word embedding. Leave one out." in capsys.readouterr().err
    assert main(["train", model, *order, "--set", "model.dim=16", "--set", "model.words=vectors"]) == 1
    assert "Train vectors with dim=16." in capsys.readouterr().err


def test_a_model_of_pictures_has_no_words_to_begin_with(corpus, capsys):
    order = [
        "--data",
        "scenes:40,size=32x32",
        "--set",
        "model.image=32",
        "--set",
        "model.words=vectors.txt",
        "--epochs",
        "1",
    ]
    assert main(["train", "vit-tiny-16", *order]) == 1
    assert "is for models that read words" in capsys.readouterr().err


def test_a_word_that_is_not_known_stops_no_others(tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 0\ncat 0.9 0.1\nbus 0 1\n")
    assert main(["predict", str(path), "dog", "xyzzy", "cat", "--top", "1"]) == 1
    told = capsys.readouterr()
    assert re.search(r"dog +cat 0\.99\nxyzzy +not read: There is no word .* called 'xyzzy'.*\ncat +dog 0\.99", told.out)
    assert "1 row has no answer, and says why." in told.err
    assert main(["predict", str(path), "xyzzy"]) == 1
    assert capsys.readouterr().out == ""
