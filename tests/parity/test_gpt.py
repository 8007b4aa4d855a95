"""GPT answers as transformers' GPT-2 does, from the folders that transformers writes and back into them.

Where padding stands before a text, transformers' `forward` goes on counting positions through it, and its `generate`
does not. Here padding never changes an answer; so in those tests transformers is told the positions, as by `generate`.
"""

import json
import re

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.core.words import places
from vitrail.decoding.write import complete
from vitrail.errors import CheckpointError, ConfigError, VitrailError
from vitrail.generation import Generation
from vitrail.loading import create_model, from_pretrained, save_pretrained

SIZES = {"vocab_size": 37, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 20}
ODD = [
    {},
    {"n_head": 1, "n_layer": 1, "n_inner": 10, "layer_norm_epsilon": 1e-3},
    {"n_head": 12, "activation_function": "gelu", "vocab_size": 5},
    {"n_inner": 97, "activation_function": "relu", "n_positions": 9},
    {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    {"scale_attn_weights": False},
]
PRECISE = pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])


def reference(kind: str = "GPT2LMHeadModel", **config) -> torch.nn.Module:
    """A tiny random GPT-2 of transformers."""
    return disturbed(getattr(transformers, kind)(transformers.GPT2Config(**(SIZES | config))))


def padded(config: transformers.PretrainedConfig, side: str = "right") -> dict[str, torch.Tensor]:
    """Texts of 9, 4 and 1 word pieces beside each other, in transformers' words."""
    ids = torch.randint(config.vocab_size, (3, 9), generator=torch.Generator().manual_seed(1))
    valid = torch.arange(9) < torch.tensor([[9], [4], [1]])
    if side == "left":
        valid = valid.flip(1)
    if side == "both":
        valid = torch.stack([torch.ones(9), torch.eye(9)[4], torch.eye(9)[3:6].sum(0)]).bool()
    return {"input_ids": ids, "attention_mask": valid.long(), "position_ids": places(valid)}


@PRECISE
@pytest.mark.parametrize("side", ["right", "left", "both"])
@pytest.mark.parametrize("config", ODD, ids=str)
def test_a_gpt_answers_as_transformers_does(tmp_path, config, side, precise):
    theirs = reference(**config)
    theirs = theirs.double() if precise else theirs
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config, side)
    valid = inputs["attention_mask"].bool()

    with torch.no_grad():
        agree(ours(inputs["input_ids"], valid)[valid], theirs(**inputs).logits[valid], precise)
        agree(ours(inputs["input_ids"]), theirs(input_ids=inputs["input_ids"]).logits, precise)


@PRECISE
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_loss_of_the_next_word_agrees(tmp_path, side, precise):
    theirs = reference().double() if precise else reference()
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config, side)
    valid = inputs["attention_mask"].bool()
    labels = inputs["input_ids"].masked_fill(~valid, -100)
    labels[:, 1:][~valid[:, :-1]] = -100  # the first word follows nothing

    with torch.no_grad():
        scores = ours(inputs["input_ids"], valid)[:, :-1].flatten(0, 1)
        loss = F.cross_entropy(scores, labels[:, 1:].flatten(), ignore_index=-100)
        there = theirs(**inputs, labels=labels)  # its loss is computed in float32
        agree(loss.to(there.loss.dtype), there.loss, precise=False)
        if precise:
            scores = there.logits[:, :-1].flatten(0, 1)
            agree(loss, F.cross_entropy(scores, labels[:, 1:].flatten(), ignore_index=-100), precise)


@PRECISE
@pytest.mark.parametrize("side", ["right", "left"])
def test_steps_from_a_past_agree_with_reading_all_at_once(tmp_path, side, precise):
    theirs = reference().double() if precise else reference()
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config, side)
    ids, valid = inputs["input_ids"], inputs["attention_mask"].bool()

    with torch.no_grad():
        past, steps = ours.cache(batch=3, capacity=12), []
        for start, end in ((0, 4), (4, 5), (5, 6), (6, 9)):
            steps.append(ours(ids[:, start:end], valid[:, :end], past))
        agree(torch.cat(steps, dim=1)[valid], theirs(**inputs).logits[valid], precise)
        plain, past = [], ours.cache(batch=3, capacity=9)
        for place in range(9):
            plain.append(ours(ids[:, place : place + 1], past=past))
        agree(torch.cat(plain, dim=1), theirs(input_ids=ids).logits, precise)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_a_gpt_goes_on_as_generate_does(tmp_path, seed, beams):
    """Prompts of different lengths side by side, in float64 and far from ties."""
    torch.manual_seed(seed)
    theirs = disturbed(transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES)).double(), seed)
    ours = load(saved(theirs, tmp_path))
    ids = torch.randint(1, 37, (3, 5), generator=torch.Generator().manual_seed(seed))
    valid = torch.arange(5) >= torch.tensor([[0], [2], [4]])
    told = {"max_new_tokens": 9, "num_beams": beams, "do_sample": False, "eos_token_id": 3, "pad_token_id": 36}

    there = theirs.generate(ids, attention_mask=valid.long(), **told)[:, 5:]
    written = complete(ours, ids, Generation(end=(3,), padding=36, beams=beams, max_tokens=9), valid)

    assert torch.equal(written.ids, there)


@pytest.mark.parametrize("config", ODD, ids=str)
def test_a_folder_written_back_holds_the_same_bytes_and_loads_in_transformers(tmp_path, config):
    theirs = reference(**config)
    before = saved(theirs, tmp_path / "before")

    save_pretrained(load(before), tmp_path / "after", format="transformers", announce=quiet)

    one, other = (load_file(folder / "model.safetensors") for folder in (before, tmp_path / "after"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    again, told = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "after", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    inputs = padded(theirs.config)
    agree(again.eval()(**inputs).logits, theirs(**inputs).logits, precise=False)


def test_an_encoder_without_head_is_read(tmp_path):
    theirs = reference("GPT2Model").double()
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config)
    valid = inputs["attention_mask"].bool()
    with torch.no_grad():
        there = theirs(**inputs).last_hidden_state
        agree(ours.encode(inputs["input_ids"], valid)[valid], there[valid], precise=True)


@pytest.mark.parametrize("named", [True, False], ids=["architecture", "model type alone"])
def test_a_file_of_2019_is_read(tmp_path, named):
    """As openai-community/gpt2: no prefix, the causal mask of every block, and, from some versions, the head again."""
    theirs = reference()
    path = saved(theirs, tmp_path) / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    for block in range(3):
        tensors[f"h.{block}.attn.bias"] = torch.ones(1, 1, 20, 20).tril()
        tensors[f"h.{block}.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    save_file(tensors, path, {"format": "pt"})
    if not named:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": None}))
    heard = []

    ours = from_pretrained(tmp_path, announce=heard.append)

    inputs = padded(theirs.config)
    agree(ours(inputs["input_ids"]), theirs(inputs["input_ids"]).logits, precise=False)
    masks = "h.0.attn.bias, h.1.attn.bias, h.2.attn.bias"
    assert f"Left out {masks}: the causal mask is computed, here and in transformers." in heard


def test_an_output_that_is_not_the_words_is_refused(tmp_path):
    path = saved(reference(), tmp_path) / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1}, path, {"format": "pt"})

    with pytest.raises(CheckpointError, match="are one tensor in this model, and differ"):
        load(tmp_path)


def test_a_bare_file_takes_from_its_size_what_it_does_not_tell(tmp_path):
    theirs = reference()
    torch.save(theirs.state_dict(), tmp_path / "gpt.pt")

    ours = load(tmp_path / "gpt.pt", format="transformers", model="gpt2", heads=4)

    ids = padded(theirs.config)["input_ids"]
    agree(ours(ids), theirs(ids).logits, precise=False)


def test_a_model_of_ours_opens_in_transformers_with_the_same_answers(tmp_path):
    ours = disturbed(create_model("gpt-mini", vocabulary=40, depth=2, mlp_dim=50))
    save_pretrained(ours, tmp_path, format="transformers", announce=quiet)

    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()

    ids = torch.randint(40, (2, 11))
    agree(ours(ids), theirs(ids).logits, precise=False)


def test_scores_in_float32_are_those_of_the_reference(tmp_path):
    """With weights of half the precision; transformers computes only scores so, and the mixture in the weights' own."""
    config = transformers.GPT2Config(**SIZES, reorder_and_upcast_attn=True, attn_implementation="eager")
    theirs = disturbed(transformers.GPT2LMHeadModel(config))
    ours = load(saved(theirs, tmp_path), dtype=torch.bfloat16)
    ids = padded(config)["input_ids"]

    with torch.no_grad():
        there = theirs.to(torch.bfloat16)(ids).logits
        assert (ours(ids) - there).abs().max() <= 0.02 * there.abs().max()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("add_cross_attention", True, "add_cross_attention=True is not supported. Supported: False"),
        ("tie_word_embeddings", False, "tie_word_embeddings=False is not supported. Supported: True"),
        ("pruned_heads", {"0": [1]}, "pruned_heads={'0': [1]} is not supported"),
        ("activation_function", "tanh", "activation_function='tanh' is not supported. Supported: gelu"),
        ("n_embd", 48, "it says dim=48, and the weights have 24"),
        ("n_inner", 48, "it says mlp_dim=48, and the weights have 96"),
        ("n_positions", 64, "it says max_tokens=64, and the weights have 20"),
        ("vocab_size", 99, "it says vocabulary=99, and the weights have 37"),
        ("n_head", 5, "does not divide into heads=5"),
        ("n_layer", 2, "it says depth=2, and the weights have 3"),
        ("n_inner", "many", "mlp_dim='many' is not a whole number"),
    ],
)
def test_a_config_that_would_answer_otherwise_is_a_sentence(tmp_path, field, value, sentence):
    folder = saved(reference(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))

    with pytest.raises(VitrailError, match=re.escape(sentence)):
        load(folder)


def test_what_a_gpt_cannot_read_is_a_sentence():
    model = create_model("gpt-mini", vocabulary=50, depth=1, max_tokens=8).eval()
    with pytest.raises(ConfigError, match="The text has 9 word pieces, and the model reads at most 8"):
        model(torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(ConfigError, match="There is no word piece 50: this model has 50, numbered from 0"):
        model(torch.tensor([[1, 50]]))
    with pytest.raises(ConfigError, match="The text has 9 word pieces"):
        model(torch.zeros(1, 10, dtype=torch.long), torch.arange(10)[None] > 0)
    model(torch.zeros(1, 10, dtype=torch.long), torch.arange(10)[None] > 1)  # padding takes no position
    past = model.cache(batch=1, capacity=9)
    model(torch.zeros(1, 8, dtype=torch.long), past=past)
    with pytest.raises(ConfigError, match="The text has 9 word pieces"):
        model(torch.zeros(1, 1, dtype=torch.long), past=past)
    past = model.cache(batch=1, capacity=8)
    model(torch.zeros(1, 3, dtype=torch.long), past=past)
    with pytest.raises(ConfigError, match="valid is 1 word pieces long, and there are 4: 3 of the past and 1 new"):
        model(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1).bool(), past)
