"""MarianMTModel of transformers, read and written."""

import json

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.errors import CheckpointError, ConfigError
from vitrail.generation import Generation
from vitrail.loading import create_model, from_pretrained, save_pretrained

SIZES = {
    "vocab_size": 33, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 32, "max_position_embeddings": 48,
    "pad_token_id": 20, "decoder_start_token_id": 20, "eos_token_id": 0, "forced_eos_token_id": 0,
    "activation_function": "swish", "scale_embedding": True,
}  # fmt: skip
SHAPES = {
    "shared": {},
    "separate": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 27, "activation_function": "relu"},
    "untied": {"tie_word_embeddings": False, "scale_embedding": False, "activation_function": "gelu"},
    "nothing in common": {
        "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 29, "tie_word_embeddings": False,
    },
}  # fmt: skip
ALL = pytest.mark.parametrize("shape", SHAPES)
PRECISE = pytest.mark.parametrize("precise", [True, False], ids=["float64", "float32"])


def marian(**changes) -> transformers.MarianMTModel:
    torch.manual_seed(0)
    model = transformers.MarianMTModel(transformers.MarianConfig(**{**SIZES, **changes}))
    tables = [part.embed_positions.weight.clone() for part in (model.model.encoder, model.model.decoder)]
    disturbed(model)
    for part, table in zip((model.model.encoder, model.model.decoder), tables, strict=True):
        part.embed_positions.weight.data.copy_(table)  # sinusoids are not learned, and not saved
    return model


def sentences(vocabulary: int = 27) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    source, target = (torch.randint(0, vocabulary, size, generator=generator) for size in ((4, 9), (4, 7)))
    return source, target


def padding(lengths: list[int], most: int, side: str) -> torch.Tensor:
    places, lengths = torch.arange(most)[None], torch.tensor(lengths)[:, None]
    return places < lengths if side == "right" else places >= most - lengths


@ALL
@PRECISE
@pytest.mark.parametrize("side", ["left", "right"])
def test_it_answers_as_transformers_does(tmp_path, shape, precise, side):
    theirs = marian(**SHAPES[shape])
    ours = load(saved(theirs, tmp_path))
    if precise:
        theirs, ours = theirs.double(), ours.double()
    source, target = sentences()
    source_valid, target_valid = padding([9, 4, 7, 1], 9, side), padding([7, 7, 3, 5], 7, side)
    with torch.no_grad():
        expected = theirs(
            input_ids=source,
            attention_mask=source_valid.long(),
            decoder_input_ids=target,
            decoder_attention_mask=target_valid.long(),
        )
        logits = ours(source, target, source_valid, target_valid)
    agree(logits[target_valid], expected.logits[target_valid], precise)


@PRECISE
def test_its_loss_and_gradients_are_those_of_transformers(tmp_path, precise):
    theirs = marian(dropout=0.0)
    ours = load(saved(theirs, tmp_path), dropout=0.0)
    if precise:
        theirs, ours = theirs.double(), ours.double()
    source, target = sentences()
    valid = padding([9, 4, 7, 1], 9, "right")
    expected = theirs(input_ids=source, attention_mask=valid.long(), labels=target).loss
    start = torch.full((4, 1), SIZES["decoder_start_token_id"])
    logits = ours(source, torch.cat([start, target[:, :-1]], dim=1), valid)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
    agree(loss.detach(), expected.detach(), precise)
    expected.backward()
    loss.backward()
    for mine, other in (
        (ours.output.weight, theirs.model.shared.weight),
        (ours.encoder[0].attention.query.weight, theirs.model.encoder.layers[0].self_attn.q_proj.weight),
        (ours.decoder[2].cross_attention.value.bias, theirs.model.decoder.layers[2].encoder_attn.v_proj.bias),
    ):
        gradient = other.grad.clone()
        if mine is ours.output.weight:  # there, the row of padding gets no gradient from the embedding
            gradient, found = gradient[: SIZES["pad_token_id"]], mine.grad[: SIZES["pad_token_id"]]
            agree(found, gradient, precise)
        else:
            agree(mine.grad, gradient, precise)


@ALL
def test_what_is_written_is_read_by_transformers(tmp_path, shape):
    theirs = marian(**SHAPES[shape])
    ours = load(saved(theirs, tmp_path / "theirs"))
    save_pretrained(ours, tmp_path / "back", "transformers", announce=quiet)
    again = transformers.MarianMTModel.from_pretrained(tmp_path / "back").eval()
    source, target = sentences()
    with torch.no_grad():
        expected = theirs(input_ids=source, decoder_input_ids=target).logits
        torch.testing.assert_close(again(input_ids=source, decoder_input_ids=target).logits, expected, rtol=0, atol=0)
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("theirs", "back"))
    assert {name: second[name] for name in SIZES if name in first} == {
        name: {"swish": "silu"}.get(first[name], first[name]) for name in SIZES if name in first
    }
    settings = [json.loads((tmp_path / name / "generation_config.json").read_text()) for name in ("theirs", "back")]
    for name in ("decoder_start_token_id", "eos_token_id", "forced_eos_token_id", "pad_token_id"):
        assert settings[0][name] == settings[1][name]


@ALL
def test_it_comes_back_from_our_folder(tmp_path, shape):
    ours = load(saved(marian(**SHAPES[shape]), tmp_path / "theirs"))
    save_pretrained(ours, tmp_path / "ours", announce=quiet)
    again = load(tmp_path / "ours")
    assert again.config == ours.config
    assert again.card.generation == ours.card.generation
    source, target = sentences()
    assert torch.equal(again(source, target), ours(source, target))


def test_files_that_hold_copies_and_sinusoids_are_read(tmp_path):
    theirs = marian()
    folder = saved(theirs, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    ours, (source, target) = load(folder), sentences()
    with torch.no_grad():
        agree(ours(source, target), theirs(input_ids=source, decoder_input_ids=target).logits, False)
    other = {**theirs.state_dict(), "lm_head.weight": theirs.lm_head.weight + 1}
    torch.save(other, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="are one tensor in this model, and differ"):
        load(folder)


OPUS = {  # as opus-mt checkpoints have it, all in the config
    "bad_words_ids": [[20]], "num_beams": 6, "max_length": 40, "normalize_before": False, "add_final_layer_norm": False,
    "normalize_embedding": False, "static_position_embeddings": True, "bos_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (None, "the weights have no output.weight, as a transformer has"),
        (torch.zeros(0, 33), r"final_logits_bias has shape \(0, 33\); expected axes 1 vocabulary"),
        (torch.zeros(33), r"final_logits_bias has shape \(33,\); expected axes 1 vocabulary"),
    ],
    ids=["an output that is not there", "biases of nothing", "a bias for each word"],
)
def test_weights_that_are_not_those_of_the_config_are_a_sentence(tmp_path, tensor, sentence):
    folder = saved(marian(), tmp_path)
    if tensor is None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    else:
        tensors = load_file(folder / "model.safetensors") | {"final_logits_bias": tensor}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=sentence):
        load(folder)


def test_the_settings_of_older_folders_are_kept(tmp_path):
    folder = saved(marian(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "generation_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | OPUS))
    assert load(folder).card.generation == Generation(
        start=20, end=(0,), padding=20, beams=6, max_tokens=None, max_length=40, forbidden=((20,),), forced_end=(0,)
    )
    (folder / "config.json").write_text(json.dumps(config | OPUS | {"normalize_before": True}))
    with pytest.raises(ConfigError, match="normalize_before=True is not supported"):
        load(folder)


def test_settings_come_back_as_they_were(tmp_path):
    folder = saved(marian(), tmp_path / "theirs")
    said = {
        "num_beams": 4, "length_penalty": 0.7, "early_stopping": "never", "max_new_tokens": 9, "min_length": 3,
        "no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "bad_words_ids": [[3], [4, 5]], "eos_token_id": [0, 7],
        "decoder_start_token_id": 20, "pad_token_id": 20, "forced_eos_token_id": 0, "typical_p": 0.9,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(said))
    notes = []
    ours = from_pretrained(folder, announce=notes.append)
    assert ours.card.generation == Generation(
        start=20, end=(0, 7), padding=20, beams=4, length_penalty=0.7, early_stopping="never", max_tokens=9,
        min_length=3, no_repeat=2, repetition_penalty=1.2, forbidden=((3,), (4, 5)), forced_end=(0,),
    )  # fmt: skip
    assert any("typical_p=0.9" in note for note in notes)
    save_pretrained(ours, tmp_path / "back", "transformers", announce=quiet)
    back = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    assert {name: back[name] for name in said if name != "typical_p"} == {
        name: value for name, value in said.items() if name != "typical_p"
    }
    assert load(tmp_path / "back").card.generation == ours.card.generation


def test_the_papers_model_is_not_a_marian(tmp_path):
    model = create_model("transformer-tiny", dim=16, encoder_depth=1, decoder_depth=1)
    with pytest.raises(ConfigError, match="sinusoids='interleaved'"):
        save_pretrained(model, tmp_path, "transformers", announce=quiet)
    save_pretrained(model, tmp_path / "ours", announce=quiet)
    assert load(tmp_path / "ours").config == model.config
