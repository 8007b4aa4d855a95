"""Asking models of texts: what is answered the same each time, and what a person is told who asks something odd."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

import vitrail
from vitrail.cli.main import main
from vitrail.data.material import going_on, translating
from vitrail.decoding.write import Written
from vitrail.errors import ConfigError
from vitrail.loading import create_model
from vitrail.predict import predictor
from vitrail.predict_texts import check_asked, content_of
from vitrail.tasks.translate import Sentence, sentences
from vitrail.tokenizing import train_byte_pairs, train_joint, train_word_pieces

LINES = ["a dog runs on the bench", "a man sits and a woman runs", "ein hund rennt auf der bank"] * 20
CODERS = {f"{stack}_{size}": 1 for stack in ("encoder", "decoder") for size in ("depth", "heads")}


def saved(folder, model, **card):
    torch.manual_seed(1)
    model.card = replace(model.card, **card)
    vitrail.save_pretrained(model, folder)
    return str(folder)


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    reads = train_joint(LINES, size=300, max_tokens=32)
    model = create_model(
        "transformer-tiny", source_vocabulary=reads.size, target_vocabulary=reads.size, max_tokens=32, dim=16, **CODERS
    )
    card = {"preprocessing": reads, "generation": translating(reads), "task": "translate"}
    return saved(tmp_path_factory.mktemp("models") / "translator", model, **card)


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    reads = train_joint(LINES, size=300, max_tokens=32)
    model = create_model(
        "parallel-transformer-tiny",
        source_vocabulary=reads.size,
        target_vocabulary=reads.size,
        max_tokens=32,
        dim=16,
        **CODERS,
    )
    card = {"preprocessing": reads, "task": "translate-parallel", "answering": {"steps": 2, "lengths": 1}}
    return saved(tmp_path_factory.mktemp("models") / "parallel", model, **card)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    reads = train_byte_pairs(LINES, size=300, max_tokens=32)
    model = create_model("gpt-mini", vocabulary=reads.size, max_tokens=32, dim=16, depth=1, heads=2, mlp_dim=32)
    card = {"preprocessing": reads, "generation": going_on(reads), "task": "causal-lm"}
    return saved(tmp_path_factory.mktemp("models") / "writer", model, **card)


def bert_for(task, folder):
    """A tiny BERT with the head of a task, which has the same name."""
    reads = train_word_pieces(LINES, size=120, max_tokens=32)
    sizes = {"vocabulary": reads.size, "max_tokens": 32, "dim": 16, "depth": 1, "heads": 2, "mlp_dim": 32}
    return saved(folder, create_model("bert-mini", **sizes, head=task), preprocessing=reads, task=task)


@pytest.fixture(scope="module")
def guesser(tmp_path_factory):
    return bert_for("masked-lm", tmp_path_factory.mktemp("models") / "guesser")


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    return bert_for("answer", tmp_path_factory.mktemp("models") / "answerer")


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    """A classifier of transformers whose labels nobody has named."""
    folder = tmp_path_factory.mktemp("models") / "nameless"
    reads = train_word_pieces(LINES, size=120, max_tokens=32)
    config = transformers.BertConfig(
        vocab_size=reads.size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, num_labels=3,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    pieces = sorted(reads.vocabulary, key=reads.vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    return str(folder)


def said(capsys, *words):
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_a_seed_draws_the_same_translation_again(translator, capsys):
    asked = ("predict", translator, "a dog runs", "--temperature", "1.5", "--seed")
    assert said(capsys, *asked, "0") == said(capsys, *asked, "0")
    assert len({said(capsys, *asked, seed) for seed in range(4)}) > 1
    assert said(capsys, *asked, 2**70) == said(capsys, *asked, 0)


def test_a_text_without_a_hidden_word_has_no_answer(guesser, capsys):
    assert said(capsys, "predict", guesser, "a [MASK] runs").count("%") == 3
    assert main(["predict", guesser, "a dog runs", "a [MASK] runs"]) == 1
    told = capsys.readouterr()
    assert "no word is hidden: write [MASK] where one should be guessed" in told.out
    assert told.out.count("%") == 3, "the others are answered"
    assert "1 row has no answer, and says why." in told.err


def test_half_a_character_is_left_out_at_the_end(writer):
    model = vitrail.from_pretrained(writer, announce=lambda sentence: None)
    [ids] = model.card.preprocessing.encode_all(["a caf\xe9"], around=False)  # its last letter is two bytes

    def written(pieces):
        rows = torch.tensor([pieces])
        return sentences(model, Written(rows, torch.ones_like(rows, dtype=torch.bool)))

    assert written(ids) == [Sentence("a caf\xe9", len(ids))]
    assert written(ids[:-1]) == [Sentence("a caf", len(ids) - 1)]


def test_classes_of_texts_without_names_are_numbers(nameless, capsys):
    [line] = said(capsys, "predict", nameless, "a dog", "--json").splitlines()
    assert {guess["label"] for guess in json.loads(line)["guesses"]} == {"0", "1", "2"}


def test_lines_that_another_program_hands_over_are_texts(nameless, capsys, monkeypatch):
    def come_in(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    come_in("\ufeffein Hund\r\n\nnowhere.txt\nGrö\u2028ße\n".encode())
    lines = said(capsys, "predict", nameless, "a dog", "-", "--json").split("\n")[:-1]
    assert [json.loads(line)["input"] for line in lines] == ["a dog", "ein Hund", "nowhere.txt", "Grö\u2028ße"]
    for content, words in (
        (b"\n \n", "Nothing came in for -"),
        (b"a \xff", "What came in for - is not UTF-8 (byte 2)"),
    ):
        come_in(content)
        assert main(["predict", nameless, "-"]) == 1
        assert words in capsys.readouterr().err


def test_a_model_that_writes_all_at_once_answers_as_its_card_says(parallel, capsys):
    ask = vitrail.predictor(parallel)
    assert (ask.task.steps, ask.task.lengths) == (2, 1)
    assert ask.task_with({"steps": 7}).steps == 7
    flow = said(capsys, "info", parallel, "--flow", "a dog")
    assert "reads " in flow
    assert "decoder.0.attention" in flow or "decoder.0" in flow


@pytest.mark.parametrize(
    ("model", "typed", "words"),
    [
        ("translator", ["   "], "A text is empty"),
        ("parallel", [" "], "A text is empty"),
        ("nameless", [" "], "A text is empty"),
        ("translator", ["nowhere.txt"], "There is no file nowhere.txt"),
        ("nameless", ["--prompt", "a dog"], "--prompt is for a model that goes on with texts"),
        ("nameless", ["a dog", "--seed", "3"], "draws nothing"),
        ("nameless", ["a dog", "--beam", "3"], "--beam (beams)"),
        ("parallel", ["a dog", "--beam", "3"], "does not"),
        ("translator", ["ein", "--temperature", "0"], "For the likeliest word each time type --beam 1."),
    ],
)
def test_what_makes_no_sense_is_answered_in_a_sentence(model, typed, words, request, capsys):
    assert main(["predict", request.getfixturevalue(model), *typed]) in (1, 2)
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_two_texts_are_compared_as_transformers_compares_them(nameless, tmp_path, capsys):
    theirs = transformers.BertForSequenceClassification.from_pretrained(nameless).eval()
    for parameter in theirs.parameters():
        parameter.data *= 8  # so that its answers differ
    theirs.save_pretrained(tmp_path / "loud")
    shutil.copy(f"{nameless}/vocab.txt", tmp_path / "loud")
    tokenizer = transformers.BertTokenizer(f"{nameless}/vocab.txt")
    ask = predictor(tmp_path / "loud")
    with torch.no_grad():
        for first, second in (("a dog runs", "a man sits"), ("a man", "a dog runs a man sits")):
            logits = theirs(**tokenizer(first, second, return_tensors="pt")).logits
            [ours] = ask.answers([f"{first}\t{second}"])
            assert torch.allclose(ours.scores, logits.softmax(-1)[0], atol=1e-6)
            assert not torch.allclose(ours.scores, ask.answers([f"{first} {second}"])[0].scores, atol=1e-3)
    (tmp_path / "pairs.csv").write_text('text,second\n"a dog\truns",a man sits\na man,\n')
    assert main(["predict", nameless, str(tmp_path / "pairs.csv"), "--json"]) == 0
    table = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["predict", nameless, "a dog runs\ta man sits", "a man", "--json"]) == 0
    typed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["guesses"] for row in table] == [row["guesses"] for row in typed]


def test_a_text_that_cannot_be_read_stops_no_others(nameless, capsys):
    long = " ".join(["dog"] * 400)
    assert main(["predict", nameless, "a dog runs", long, "a man sits", "--json"]) == 1
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert (second["error"], second["input"]) == ("unfit", long)
    assert "400" in second["reason"] or "402" in second["reason"]
    assert main(["predict", nameless, "a dog runs", "a man sits", "--json"]) == 0
    assert [first, third] == [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["predict", nameless, long]) == 1
    assert capsys.readouterr().out == ""
    assert main(["predict", nameless, long, "", long]) == 2  # an empty name is a slip of the shell


def test_a_question_that_is_too_long_stops_no_others(answerer, capsys):
    typed = ["who runs", " ".join(["dog"] * 40), "who sits", "--context", "a man sits and a woman runs", "--json"]
    assert main(["predict", answerer, *typed]) == 1
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert second["error"] == "unfit"
    assert "The question has 40 tokens" in second["reason"]
    assert "error" not in first | third


def test_a_text_of_which_nothing_is_known_is_answered_with_a_note(nameless, translator, writer, capsys):
    assert main(["predict", translator, "漢 字", "--tokens", "3"]) == 0  # of which the spaces are known
    assert "Nothing of '漢 字' is in this model's vocabulary" in capsys.readouterr().err
    assert main(["predict", nameless, "жж щ"]) == 0
    assert "Nothing of 'жж щ' is in this model's vocabulary" in capsys.readouterr().err
    assert main(["predict", nameless, "жж щ", "a dog жж", "漢字", "--json"]) == 0
    assert "Nothing of 2 of 3 texts, such as 'жж щ', is in this model's" in capsys.readouterr().err
    assert main(["predict", nameless, "a dog жж"]) == 0
    assert main(["predict", writer, "жж щ"]) == 0  # bytes are always known
    assert "vocabulary" not in capsys.readouterr().err


def test_errors_of_texts_are_kept_where_somebody_asks_for_it(nameless):
    ask, long = predictor(nameless, announce=lambda sentence: None), " ".join(["dog"] * 400)
    texts = ["a dog runs", long, "  ", "a man sits"]
    with pytest.raises(ConfigError, match="A text is empty"):
        ask(texts)
    for batch in (1, 2, 32):
        first, second, third, fourth = ask(texts, batch=batch, on_error="keep")
        assert isinstance(second, ConfigError)
        assert "A text is empty" in str(third)
        assert [first.record(1), fourth.record(1)] == [one.record(1) for one in ask(["a dog runs", "a man sits"])]
    assert all(isinstance(one, ConfigError) for one in ask([long, long], on_error="keep"))
    with pytest.raises(ConfigError, match="Did you mean keep"):
        check_asked(1, "Keep")


def test_in_python_too_what_is_no_text_is_answered_in_a_sentence(nameless):
    program = f"import vitrail\nask = vitrail.predictor({str(nameless)!r}, announce=lambda said: None)\n" + (
        "for asked in ((['a', 5],), (5,), ('a', 'b')):\n"
        "    try: ask(*asked)\n"
        "    except vitrail.VitrailError as error: print(error)\n"
    )  # in a process of its own, as the tests check types before vitrail can
    lines = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert [line.split(".")[0] for line in lines.splitlines()] == [
        "int is no text", "int is no text", "batch='b' is not a whole number",
    ]  # fmt: skip


def test_a_method_is_no_setting(translator):
    with pytest.raises(vitrail.VitrailError, match="no setting of writing called 'most'"):
        vitrail.predictor(translator)("a dog", most=3)


def test_a_folder_is_no_context(nameless, tmp_path):
    with pytest.raises(vitrail.VitrailError, match="is a folder"):
        content_of(str(tmp_path))
    (tmp_path / "text").write_bytes("\ufeffOne.\r\nTwo.".encode())
    assert content_of(str(tmp_path / "text")) == "One.\nTwo."
    assert content_of("A long text.\n" * 2000) == "A long text.\n" * 2000


def test_lines_of_a_file_end_where_lines_end(writer, tmp_path, capsys):
    for name in ("asked.txt", "ASKED.TXT"):
        (tmp_path / name).write_bytes("\ufeffa dog\u2028runs\r\n\r\na man\x0bsits\n".encode())
    told = said(capsys, "predict", writer, tmp_path / "asked.txt", "--tokens", "2", "--seed", "0", "--json")
    shouted = said(capsys, "predict", writer, tmp_path / "ASKED.TXT", "--tokens", "2", "--seed", "0", "--json")
    assert shouted == told
    read = [json.loads(line)["input"] for line in told.strip("\n").split("\n")]
    assert read == ["a dog\u2028runs", "a man\x0bsits"]


@pytest.mark.parametrize(("model", "field"), [("gpt-mini", "length=16"), ("bert-mini-mlm", "tokens=64")])
def test_settings_of_the_data_are_taken_for_every_model_of_texts(model, field, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("\n".join(LINES * 10))
    sizes = [f"model.{size}" for size in ("dim=16", "depth=1", "heads=2", "mlp_dim=32", "max_tokens=32")]
    settings = [word for one in (*sizes, f"data.{field}", "data.vocabulary=400") for word in ("--set", one)]
    assert main(["train", model, "--data", "corpus.txt", "--dry-run", "--device", "cpu", *settings]) == 0
    assert "all worked" in capsys.readouterr().out


def test_half_a_character_in_a_label_is_a_fault_of_its_line(tmp_path, capsys):
    rows = [json.dumps({"text": f"text {number}", "label": "ab"[number % 2]}) for number in range(8)]
    (tmp_path / "labels.jsonl").write_text("\n".join([*rows, '{"text": "x", "label": "\\ud800"}']))
    assert main(["check", "--data", str(tmp_path / "labels.jsonl")]) == 1
    assert "labels.jsonl:9: error: half a character" in capsys.readouterr().out


def test_a_bert_that_answers_one_number_is_refused(tmp_path):
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "number")
    with pytest.raises(vitrail.VitrailError, match="answer a number"):
        vitrail.from_pretrained(str(tmp_path / "number"))


def test_a_run_of_word_vectors_is_called_so(tmp_path, capsys):
    (tmp_path / "vectors.txt").write_text("\ufeffking 1 0\nqueen 0 1\n", encoding="utf-8")
    assert json.loads(said(capsys, "predict", tmp_path, "king", "--json"))["near"][0]["word"] == "queen"
    assert main(["info", str(tmp_path)]) == 1
    assert "holds word vectors and no network" in capsys.readouterr().err


def test_pairs_that_are_too_long_to_be_judged_are_said(translator, tmp_path, capsys):
    (tmp_path / "val.de").write_text("ein hund\n" + "ein hund " * 40 + "\n")
    (tmp_path / "val.en").write_text("a dog\n" + "a dog " * 40 + "\n")
    out = tmp_path / "page"
    assert main(["evaluate", translator, "--data", f"{tmp_path}:de-en", "--out", str(out)]) == 0
    sentence = "1 of 2 sentence pairs are left out: longer than the 32 tokens of this model."
    assert sentence in "".join(capsys.readouterr())
    page = (out / "report.html").read_text(encoding="utf-8")
    assert sentence in page
    assert "1 text judged" in page
    assert json.loads((out / "scores.json").read_text(encoding="utf-8"))["seen"] == 1


def test_somebody_may_name_the_part_that_judges(translator, tmp_path, capsys):
    for part, pairs in (("train", 9), ("val", 2), ("test", 3)):
        (tmp_path / f"{part}.de").write_text("".join(f"ein hund {number}\n" for number in range(pairs)))
        (tmp_path / f"{part}.en").write_text("".join(f"a dog {number}\n" for number in range(pairs)))
    for typed, seen in ((["--split", "test"], 3), (["--split", "train"], 9), ([], 2)):
        assert main(["evaluate", translator, "--data", f"{tmp_path}:de-en", "--json", *typed]) == 0
        assert json.loads(capsys.readouterr().out)["seen"] == seen
    reports = {folder.name for folder in Path(translator).glob("evaluated-*")}
    assert reports == {f"evaluated-{tmp_path.name}-de-en{end}" for end in ("", "-test", "-train")}
    assert main(["evaluate", translator, "--data", f"{tmp_path}:de-en", "--split", "tst"]) == 1
    assert "has no part called 'tst'. It has train, val, test." in capsys.readouterr().err
    for language in ("de", "en"):
        (tmp_path / f"val.{language}").unlink()
    assert main(["evaluate", translator, "--data", f"{tmp_path}:de-en", "--split", "train"]) == 0
    assert "judged by what training learns from" in "".join(capsys.readouterr())
    assert main(["evaluate", translator, "--data", f"{tmp_path}:de-en", "--split", "val"]) == 0
    assert "judged by what training sets aside" in "".join(capsys.readouterr())


@pytest.mark.parametrize("flag", ["--beam", "--tokens"])
def test_nobody_asks_for_no_sentence(translator, flag, capsys):
    assert main(["predict", translator, "ein", flag, "0"]) == 2
    assert f"{flag} 0 would write nothing. Type {flag} 1 or more." in capsys.readouterr().err


def test_a_context_is_for_questions(nameless, tmp_path, capsys):
    assert main(["explain", nameless, "a dog", "--context", "a bench", "--out", str(tmp_path / "a.png")]) == 1
    assert "A context is for a model that answers questions" in capsys.readouterr().err


def test_a_prompt_may_stand_in_a_file(writer, tmp_path, capsys):
    (tmp_path / "begin.txt").write_text("a dog\nruns")
    order = ["--tokens", "4", "--seed", "0"]
    assert main(["predict", writer, "--prompt", str(tmp_path / "begin.txt"), *order]) == 0
    from_file = capsys.readouterr().out
    assert from_file.startswith("a dog\nruns")
    assert main(["predict", writer, "--prompt", "a dog\nruns", *order]) == 0
    assert capsys.readouterr().out == from_file


def test_a_file_that_holds_no_lines_of_text_is_not_taken_for_a_text(guesser, tmp_path, capsys):
    (tmp_path / "page.html").write_text("a [MASK] runs")
    assert main(["predict", guesser, str(tmp_path / "page.html")]) == 1
    assert "page.html is a file, and only those that end with .txt are read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", 'label,text\ngood,a [MASK] runs\nbad,"a dog, a\n[MASK]"\n'),
        ("rows.TSV", 'Sentence\na [MASK] runs\n"a dog, a\n[MASK]"\n'),
        ("rows.jsonl", '{"text": "a [MASK] runs", "label": 3}\n{"text": "a dog, a\\n[MASK]"}\n'),
    ],
)
def test_the_texts_of_a_table_are_read_with_or_without_labels(name, content, guesser, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    assert main(["predict", guesser, str(tmp_path / name), "--json"]) == 0
    inputs = [json.loads(line)["input"] for line in capsys.readouterr().out.splitlines()]
    assert inputs == ["a [MASK] runs", "a dog, a\n[MASK]"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("de,en\nein,a\n", "rows.csv:2: there is no column called text, only de, en."),
        ("text,second\na,b\n", "rows.csv:2: text and second are compared, and"),
        ("text\n", "rows.csv holds no text."),
        ("", "rows.csv: it is empty."),
        (None, "There is no file"),
    ],
)
def test_a_table_without_texts_is_no_list_of_them(content, words, guesser, tmp_path, capsys):
    if content is not None:
        (tmp_path / "rows.csv").write_text(content)
    assert main(["predict", guesser, str(tmp_path / "rows.csv")]) == 1
    assert words in capsys.readouterr().err


def test_a_line_of_a_file_is_a_text_whatever_it_is_called(guesser, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text("a [MASK] runs\n[MASK].txt\n")
    assert main(["predict", guesser, "lines.txt", "--json"]) == 0
    assert [json.loads(line)["input"] for line in capsys.readouterr().out.splitlines()] == [
        "a [MASK] runs",
        "[MASK].txt",
    ]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--top", "2"], "--top 2 is for models that guess, and this gpt-mini writes one text. Leave it out."),
        (["--tokens", "33"], "this gpt-mini has room for 32 in one text. Type --tokens 32 or less."),
    ],
)
def test_what_a_writer_cannot_do_is_said(writer, asked, words, capsys):
    assert main(["predict", writer, "--prompt", "a dog", *asked]) == 2
    assert words in capsys.readouterr().err


def test_guesses_of_hidden_words_are_rows_of_a_table(guesser, capsys):
    assert main(["predict", guesser, "a [MASK] runs", "a [MASK] sits", "--csv", "--top", "2"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    columns = [f"guesses.1.{number}.{name}" for number in (1, 2) for name in ("piece", "score")]
    assert header == ",".join(["input", "text", *columns])
    assert len(rows) == 2
