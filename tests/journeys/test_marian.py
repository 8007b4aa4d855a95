"""A published Marian, as transformers saves it: judged, explained, taught further and taken out again."""

import json
import random

import pytest
import torch
import transformers

from journeys.test_text import write_lines, write_pairs
from parity.marian_files import marian_files
from parity.references import disturbed
from vitrail.cli.main import main
from vitrail.loading import from_pretrained

SIZES = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "max_position_embeddings": 64, "activation_function": "swish",
    "eos_token_id": 0, "forced_eos_token_id": 0, "num_beams": 1, "max_length": 12,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Where there are a Marian and sentence pairs."""
    (tmp_path / "pairs").mkdir()
    write_pairs(tmp_path / "pairs", random.Random(0))
    marian = tmp_path / "marian"
    marian.mkdir()
    marian_files(marian)
    padding = json.loads((marian / "vocab.json").read_text())["<pad>"]
    told = {"vocab_size": padding + 1, "pad_token_id": padding, "decoder_start_token_id": padding}
    torch.manual_seed(0)
    disturbed(transformers.MarianMTModel(transformers.MarianConfig(**SIZES, **told))).save_pretrained(marian)
    return tmp_path


def test_a_published_model_is_judged_and_goes_the_wrong_way_to_nobody(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "marian", "--data", "pairs:de-en", "--out", "judged", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["seen"] == 12
    assert main(["explain", "marian", "--heads", "--data", "pairs:de-en"]) == 0
    assert "loss without it" in capsys.readouterr().out
    assert main(["evaluate", "marian", "--data", "pairs:en-de", "--out", "judged"]) == 1
    assert "de-en is wanted" in capsys.readouterr().err
    assert main(["benchmark", "wmt14", "--model", "marian", "--data", "pairs:en-de"]) == 1
    assert "goes from de to en, and not as WMT 2014" in capsys.readouterr().err
    (folder / "pairs/test.de").write_text("ein hund\n")
    (folder / "pairs/test.en").write_text("a dog\n")
    settings = folder / "marian/tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"source_lang": "eng", "target_lang": "deu"}))
    assert main(["benchmark", "wmt14", "--model", "marian", "--data", "pairs:en-de"]) == 0
    assert "computed here on 1 sentence pair, sacrebleu" in capsys.readouterr().out


def test_a_published_model_learns_further_as_it_is_made(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    told = ["--init", "marian", "--data", "pairs:de-en", "--epochs", "2", "--out", "run"]
    assert main(["train", "transformer-base", *told]) == 0
    ours = from_pretrained("run")
    assert (ours.config.norm, ours.config.max_tokens, ours.config.dim) == ("after", 64, 16)
    assert main(["evaluate", "run", "--data", "pairs:en-de"]) == 1
    assert "de-en is wanted" in capsys.readouterr().err
    assert main(["predict", "run", "ein hund", "--beam", "1", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["text"]
    assert main(["convert", "run", "--to", "transformers", "out"]) == 0
    assert json.loads((folder / "out/config.json").read_text())["bos_token_id"] is None
    theirs, words = (kind.from_pretrained("out") for kind in (transformers.MarianMTModel, transformers.MarianTokenizer))
    assert (words.source_lang, words.target_lang) == ("de", "en")
    ids = theirs.generate(**words(["ein hund"], return_tensors="pt"), num_beams=1)
    assert words.batch_decode(ids, skip_special_tokens=True) == [written]


@pytest.mark.parametrize(
    ("model", "said"), [("parallel-transformer-tiny", "a transformer"), ("gpt-mini", "a transformer")]
)
def test_weights_of_another_family_are_refused(folder, monkeypatch, capsys, model, said):
    monkeypatch.chdir(folder)
    lines = write_lines(folder, random.Random(0))
    data = lines if model == "gpt-mini" else "pairs:de-en"
    assert main(["train", model, "--init", "marian", "--data", data]) == 1
    assert f"marian holds {said}, which {model} cannot start from." in capsys.readouterr().err
