"""How a model writes, in transformers' words: what is read from its folders means the same here, and back again."""

import json
from dataclasses import replace

import pytest
import torch
import transformers

from vitrail import from_pretrained, save_pretrained
from vitrail.decoding.write import complete, translate
from vitrail.errors import ConfigError
from vitrail.generation import Generation, from_transformers, to_transformers

PAD, END, PLACES = 32, 0, 48
ENDS = tuple(range(12))  # so many that a sentence is short unless it must not be


def quiet(_):
    pass


def marian(folder, seed=0):
    """A folder with a tiny random Marian."""
    torch.manual_seed(seed)
    config = transformers.MarianConfig(
        vocab_size=33, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, eos_token_id=END,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=PLACES,
        pad_token_id=PAD, decoder_start_token_id=PAD, forced_eos_token_id=None,
    )  # fmt: skip
    return noisy(transformers.MarianMTModel(config), folder)


def gpt(folder, seed=0):
    """A folder with a tiny random GPT-2."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=33, n_positions=PLACES, n_embd=16, n_layer=1, n_head=2, bos_token_id=END, eos_token_id=END
    )
    return noisy(transformers.GPT2LMHeadModel(config), folder)


def noisy(model, folder):
    """So that no two words are nearly as likely."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    return folder


def written_there(folder, ids):
    """What transformers writes with all that a folder says."""
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM if "gpt" in folder.name else transformers.MarianMTModel
    return model.from_pretrained(folder).generate(input_ids=ids, attention_mask=torch.ones_like(ids))[0]


def written_back(folder, generation, back):
    """Our model of a folder with a way of writing, and its folder for transformers; and what was said on the way."""
    model, notes = from_pretrained(folder, announce=quiet), []
    model.card = replace(model.card, generation=generation)
    save_pretrained(model, back, "transformers", announce=notes.append)
    return model, notes


@pytest.mark.parametrize(
    "said",
    [
        {"min_length": 12, "max_tokens": 20},
        {"min_length": 12, "min_tokens": 3, "max_tokens": 20},
        {"min_tokens": 9, "max_tokens": 20, "max_length": 15},
        {"max_tokens": 100, "no_repeat": 2},
        {"max_tokens": 100, "max_length": 500, "forced_end": (END,)},
        {"max_tokens": None, "max_length": 30, "repetition_penalty": 1.3, "beams": 3, "length_penalty": 0.5},
    ],
)
def test_translations_by_our_settings_are_the_same_there(tmp_path, said):
    generation = Generation(start=PAD, end=ENDS, padding=PAD, **said)
    for seed in range(3):
        folder = marian(tmp_path / f"theirs{seed}", seed)
        model, notes = written_back(folder, generation, tmp_path / f"back{seed}")
        source = torch.randint(1, 32, (1, 5), generator=torch.Generator().manual_seed(seed))
        expected = written_there(tmp_path / f"back{seed}", source)[1:]
        assert translate(model, source, generation).ids[0].tolist() == expected.tolist()
        assert not any("max_tokens" in note for note in notes), notes


@pytest.mark.parametrize(
    "said",
    [
        {"max_tokens": 100, "max_length": PLACES},
        {"max_tokens": 100},
        {"max_tokens": 20, "min_length": 16},
        {"max_tokens": None, "max_length": 30, "min_length": 16},
    ],
)
def test_texts_go_on_by_our_settings_as_there_and_never_beyond_the_model(tmp_path, said):
    generation = Generation(end=ENDS, padding=END, **said)
    for seed in range(3):
        model, _ = written_back(gpt(tmp_path / f"theirs{seed}", seed), generation, tmp_path / f"gpt-back{seed}")
        prompt = torch.randint(1, 32, (1, 5), generator=torch.Generator().manual_seed(seed))
        expected = written_there(tmp_path / f"gpt-back{seed}", prompt)[5:]
        assert complete(model, prompt, generation).ids[0].tolist() == expected.tolist()


def test_of_two_greatest_lengths_the_one_that_keeps_within_the_model_is_written():
    both = Generation(end=(END,), max_tokens=20, max_length=500)
    assert to_transformers(both, PLACES) == (
        {"max_length": PLACES, "eos_token_id": END},
        [
            f"at most 20 tokens are written and a text has at most {PLACES} in all (max_tokens, max_length); it takes "
            "one limit, and the second was written"
        ],
    )  # fmt: skip
    assert to_transformers(replace(both, start=PAD), PLACES)[0]["max_new_tokens"] == 20
    assert to_transformers(replace(both, max_tokens=500), PLACES) == ({"max_length": PLACES, "eos_token_id": END}, [])


def test_settings_that_change_nothing_are_not_written():
    assert to_transformers(Generation()) == ({"max_new_tokens": 128}, [])
    assert to_transformers(Generation(sample=True))[0]["top_k"] == 0  # where they draw among 50 unless told


def test_a_config_beside_a_generation_config_is_not_asked(tmp_path):
    """As there, where its words for writing are not looked at either."""
    folder = marian(tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"num_beams": 6, "max_length": 40, "bad_words_ids": [[7]], "forced_eos_token_id": END})
    )
    (folder / "generation_config.json").write_text(
        json.dumps({"decoder_start_token_id": PAD, "eos_token_id": END, "pad_token_id": PAD})
    )
    model = from_pretrained(folder, announce=quiet)
    assert model.card.generation == Generation(start=PAD, end=(END,), padding=PAD, max_tokens=20)
    source = torch.randint(1, 32, (1, 5), generator=torch.Generator().manual_seed(0))
    expected = written_there(folder, source)[1:]
    assert translate(model, source, model.card.generation).ids[0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("name", "value", "neutral"),
    [
        ("stop_strings", ["\n"], []),
        ("dola_layers", "high", None),
        ("token_healing", True, False),
        ("max_time", 2.5, None),
        ("num_return_sequences", 3, 1),
        ("min_p", 0.1, 0.0),
    ],
)
def test_settings_that_are_not_followed_are_told(name, value, neutral):
    lost = from_transformers({}, {name: value}).lost
    assert lost == [f"{name}={value!r}"]
    assert from_transformers({}, {name: neutral}).lost == []


def test_of_two_least_lengths_the_one_of_new_words_is_read():
    assert from_transformers({}, {"min_length": 9, "min_new_tokens": 0}).generation.min_length == 0
    read = from_transformers({}, {"min_length": 9, "min_new_tokens": 2}).generation
    assert (read.min_tokens, read.min_length) == (2, 0)


def test_forbidden_words_that_are_no_lists_are_named_as_the_file_names_them():
    with pytest.raises(ConfigError, match=r"bad_words_ids=\[3\] is not a list of lists of numbers"):
        from_transformers({}, {"bad_words_ids": [3]})
