"""Sentences, written as transformers' `generate` writes them, and as the recorded searches of the fixtures did."""

import json
import random
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file

from parity.translators import annotated, torchs
from vitrail.decoding.beam import beam_search
from vitrail.decoding.write import Written, complete, translate
from vitrail.decoding.writers import NOTHING, Translation, aligned
from vitrail.errors import ConfigError
from vitrail.generation import Generation, from_transformers
from vitrail.models import gpt_formats, transformer_formats
from vitrail.models.gpt import GPT, GPTConfig
from vitrail.models.transformer import Transformer, TransformerConfig

PAD, END = 32, 0
SIZES = {
    "vocab_size": 33, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 48,
    "pad_token_id": PAD, "decoder_start_token_id": PAD, "eos_token_id": END, "forced_eos_token_id": None,
    "activation_function": "swish", "scale_embedding": True,
}  # fmt: skip
QUIET = transformers.logging.set_verbosity_error


def far_from_ties(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The same model in float64 with so much noise that no two words are nearly as likely."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            if "embed_positions" not in name and tensor.is_floating_point():
                tensor.add_(0.4 * torch.randn(tensor.shape, generator=generator))
    return model.double().eval()


def marian(seed: int) -> tuple[transformers.MarianMTModel, Transformer]:
    """A tiny random Marian, and ours with its numbers."""
    torch.manual_seed(seed)
    theirs = far_from_ties(transformers.MarianMTModel(transformers.MarianConfig(**SIZES)), seed)
    format = transformer_formats.FAMILY.formats[0]
    foreign = {name: one for name, one in theirs.state_dict().items() if format.keymap.claims(name)}
    shapes = {name: tuple(one.shape) for name, one in foreign.items()}
    assert format.read_config is not None
    ours = Transformer(TransformerConfig(**format.read_config(theirs.config.to_dict(), shapes))).double().eval()
    ours.load_state_dict(format.keymap.read(foreign))
    return theirs, ours


def padded(chance: random.Random, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some sentences of words from `first` to `last`, filled up on either side."""
    batch, most = chance.randint(1, 3), chance.randint(1, 8)
    ids = torch.tensor([[chance.randint(first, last) for _ in range(most)] for _ in range(batch)])
    lengths = torch.tensor([most, *(chance.randint(1, most) for _ in range(batch - 1))])[:, None]
    places = torch.arange(most)[None]
    return ids, places < lengths if chance.random() < 0.5 else places >= most - lengths


def settings(chance: random.Random) -> dict:
    """How sentences are written, in transformers' words."""
    said = {
        "num_beams": chance.choice([1, 1, 2, 3, 4, 5]),
        "max_length": chance.randint(4, 16),
        "min_length": chance.choice([0, 0, 3, 6]),
        "no_repeat_ngram_size": chance.choice([0, 0, 1, 2, 3]),
        "repetition_penalty": chance.choice([1.0, 1.0, 1.3]),
        "forced_eos_token_id": chance.choice([None, END]),
        "forced_bos_token_id": chance.choice([None, None, 5]),
        "eos_token_id": chance.choice([END, END, END, [END, 3]]),
    }
    if said["num_beams"] > 1:
        said["length_penalty"] = chance.choice([1.0, 0.6, 0.0, -0.5, 2.0])
        said["early_stopping"] = chance.choice([True, False, "never"])
    if chance.random() < 0.4:
        pairs = [[chance.randint(1, 31), chance.randint(1, 31)] for _ in range(20)]
        said["bad_words_ids"] = [[chance.randint(1, 31)], [PAD], [END], *pairs]
    return said


def ours_of(said: dict, **more) -> Generation:
    """The same settings in our words."""
    config = {"is_encoder_decoder": True, "decoder_start_token_id": PAD, "pad_token_id": PAD}
    return replace(from_transformers(config, {**config, **said}).generation, **more)


def same(ours: Written, theirs: torch.Tensor, ends: tuple[int, ...]) -> bool:
    """Whether the words are the same, up to the end; what comes after it is padding."""
    for mine, other in zip(ours.ids, theirs, strict=True):
        words = other.tolist()
        at = next((place for place, word in enumerate(words) if word in ends), len(words) - 1)
        wanted = words[: at + 1]
        if mine.tolist() != (wanted + [PAD] * len(mine))[: max(len(mine), len(wanted))]:
            return False
    return True


LATER = [1, 2, 3, *(pytest.param(some, marks=pytest.mark.slow) for some in range(4, 8))]


@pytest.mark.parametrize("some", [0, *LATER])
def test_translations_are_transformers_word_for_word(some):
    """On 200 random models with as many random settings, an eighth at a time."""
    QUIET()
    for seed in range(25 * some, 25 * some + 25):
        chance, (theirs, ours) = random.Random(seed), marian(seed)
        source, valid = padded(chance, 1, 31)
        said = settings(chance)
        expected = theirs.generate(input_ids=source, attention_mask=valid.long(), **said)[:, 1:]
        generation = ours_of(said)
        assert same(translate(ours, source, generation, valid), expected, generation.end), (seed, said)


def test_words_are_drawn_as_transformers_draws_them():
    QUIET()
    for seed in range(12):
        chance, (theirs, ours) = random.Random(seed), marian(seed)
        source, valid = padded(chance, 1, 31)
        said = {
            "do_sample": True, "temperature": chance.choice([0.7, 1.0, 1.5]), "top_k": chance.choice([0, 1, 5, 50]),
            "top_p": chance.choice([1.0, 0.9, 0.3]), "max_new_tokens": 15, "repetition_penalty": 1.2,
        }  # fmt: skip
        torch.manual_seed(seed)
        expected = theirs.generate(input_ids=source, attention_mask=valid.long(), **said)[:, 1:]
        generation = ours_of(said, end=(END,))
        drawn = translate(ours, source, generation, valid, torch.Generator().manual_seed(seed))
        assert same(drawn, expected, generation.end), (seed, said)


def gpt2(seed: int) -> tuple[transformers.GPT2LMHeadModel, GPT]:
    """A tiny random GPT-2, and ours with its numbers."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(vocab_size=33, n_positions=48, n_embd=16, n_layer=1, n_head=2)
    theirs = far_from_ties(transformers.GPT2LMHeadModel(config), seed)
    format = next(one for one in gpt_formats.FAMILY.formats if "GPT2LMHeadModel" in one.architectures)
    foreign = {name: one for name, one in theirs.state_dict().items() if format.keymap.claims(name)}
    assert format.read_config is not None
    ours = GPT(GPTConfig(**format.read_config(config.to_dict(), {n: tuple(t.shape) for n, t in foreign.items()})))
    ours.double().eval().load_state_dict(format.keymap.read(foreign))
    return theirs, ours


@pytest.mark.parametrize("some", range(2))
def test_texts_go_on_as_in_transformers_word_for_word(some):
    """There, padding must stand before the prompts; here it may stand on either side."""
    QUIET()
    for seed in range(20 * some, 20 * some + 20):
        chance, (theirs, ours) = random.Random(seed), gpt2(seed)
        prompt, valid = padded(chance, 1, 31)
        said = {
            "num_beams": chance.choice([1, 2, 4]), "max_new_tokens": chance.randint(1, 12), "eos_token_id": END,
            "min_new_tokens": chance.choice([0, 3]), "no_repeat_ngram_size": chance.choice([0, 2, 3]),
            "forced_eos_token_id": chance.choice([None, END]), "pad_token_id": END,
        }  # fmt: skip
        left, left_valid = aligned(prompt, valid)
        left = left.masked_fill(~left_valid, PAD)  # a word that is in no prompt, as there padding counts as a word
        expected = theirs.generate(input_ids=left, attention_mask=left_valid.long(), **said)[:, left.shape[1] :]
        generation = replace(from_transformers({}, said).generation, padding=PAD)
        assert same(complete(ours, prompt, generation, valid), expected, generation.end), (seed, said)


def test_the_annotated_transformers_greedy_words(shared):
    folder = shared / "golden/transformer"
    model, tensors = annotated(folder), load_file(folder / "annotated_transformer.safetensors")
    source = tensors["input.src"]
    written = translate(model, source, Generation(start=1, max_tokens=7), source != 0)
    assert written.ids.tolist() == tensors["output.greedy"][:, 1:].tolist()


@pytest.mark.parametrize("name", ["torch_postln", "torch_postln_finalnorm_tied", "torch_preln_gelu"])
def test_the_recorded_searches_are_found_again(shared, name):
    """Those of tensor2tensor's definition, with its own penalty; greedy words with either."""
    folder = shared / "golden/transformer"
    model, sources = torchs(folder, name), load_file(folder / f"{name}.safetensors")["input.src"]
    said = json.loads((folder / f"{name}.json").read_text())
    for source, recorded in zip(sources, said["decoding"], strict=True):
        source = source[source != 0][None]
        greedy = Generation(start=1, end=(2,), max_tokens=5, forbidden=((0,),))
        written = translate(model, source, greedy)
        assert [1, *written.ids[0].tolist()] == recorded["greedy"]
        for key, found in recorded.items():
            if not key.startswith("beam.gnmt."):
                continue
            generation = replace(
                greedy, beams=said["config"]["beam"], penalty="gnmt", early_stopping="never",
                length_penalty=float(key.removeprefix("beam.gnmt.alpha")),
            )  # fmt: skip
            writer = Translation(model, source, None, generation.most(1))
            beams = beam_search(writer, torch.tensor([[1]]), generation)
            wanted = found["finished"] or found["alive_at_end"]
            for place, sentence in enumerate(wanted):
                words = beams.ids[0, place]
                assert words[words != NOTHING].tolist() == sentence["tokens"]
                assert beams.scores[0, place].item() == pytest.approx(sentence["score"], abs=1e-5)


def test_whatever_stands_beside_a_sentence_its_translation_is_the_same():
    _, model = marian(3)
    model = Transformer(replace(model.config, places="tokens")).double().eval()
    far_from_ties(model, 3)
    chance = random.Random(0)
    sentences = [[chance.randint(1, 31) for _ in range(length)] for length in (7, 1, 4, 9)]
    for beams in (1, 3):
        generation = Generation(start=PAD, end=(END,), padding=PAD, beams=beams, max_tokens=12)
        alone = [translate(model, torch.tensor([one]), generation) for one in sentences]
        for side in ("left", "right"):
            ids, valid = torch.full((4, 9), 17), torch.zeros(4, 9, dtype=torch.bool)
            for row, one in enumerate(sentences):
                where = slice(0, len(one)) if side == "right" else slice(9 - len(one), 9)
                ids[row, where], valid[row, where] = torch.tensor(one), True
            together = translate(model, ids, generation, valid)
            for row, one in enumerate(alone):
                assert together.ids[row][together.valid[row]].tolist() == one.ids[0][one.valid[0]].tolist()


@pytest.mark.parametrize(
    "said",
    [
        {"beams": 1, "max_tokens": 40},  # more than the longest leaves room for
        {"beams": 1, "max_tokens": 40, "max_length": 20, "forced_end": (END,)},
        pytest.param({"beams": 1, "max_tokens": 40, "min_length": 16, "forced_start": 5}, marks=pytest.mark.slow),
        pytest.param(
            {"beams": 3, "max_tokens": 40, "early_stopping": True, "forced_end": (END,)}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"beams": 3, "max_tokens": 40, "min_length": 16, "early_stopping": "never", "length_penalty": 2.0},
            marks=pytest.mark.slow,
        ),
        {"beams": 3, "max_tokens": 40, "max_length": 20, "penalty": "gnmt", "end": ()},
        pytest.param(
            {"beams": 2, "max_tokens": 40, "penalty": "gnmt", "early_stopping": "never", "no_repeat": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_whatever_stands_beside_a_text_it_goes_on_the_same(said):
    """And as far: what a text has room for is its own affair, also where its neighbour has filled the model."""
    for seed in range(6):
        _, model = gpt2(seed)
        chance = random.Random(seed)
        texts = [[chance.randint(1, 31) for _ in range(length)] for length in (2, 15, 1, 7)]
        texts += [] if "max_length" in said else [[chance.randint(1, 31) for _ in range(46)]]
        generation = Generation(**{"end": (END,), "padding": PAD, **said})
        alone = [complete(model, torch.tensor([one]), generation) for one in texts]
        most = max(map(len, texts))
        for side in ("left", "right"):
            ids, valid = torch.full((len(texts), most), 17), torch.zeros(len(texts), most, dtype=torch.bool)
            for row, one in enumerate(texts):
                where = slice(0, len(one)) if side == "right" else slice(most - len(one), most)
                ids[row, where], valid[row, where] = torch.tensor(one), True
            together = complete(model, ids, generation, valid)
            for row, one in enumerate(alone):
                assert together.ids[row][together.valid[row]].tolist() == one.ids[0][one.valid[0]].tolist(), seed


def test_a_text_in_company_is_as_long_as_it_may_be():
    _, model = gpt2(0)
    prompt, valid = torch.ones(2, 46, dtype=torch.long), torch.arange(46) < torch.tensor([[2], [46]])
    for beams in (1, 2):
        written = complete(model, prompt, Generation(max_tokens=30, beams=beams), valid)
        assert written.valid.sum(dim=1).tolist() == [30, 2]  # the model has 48 places
        written = complete(model, prompt, Generation(max_tokens=100, beams=beams), valid)
        assert written.valid.sum(dim=1).tolist() == [46, 2]
        written = complete(model, prompt[:1, :9], Generation(max_tokens=100, max_length=12, beams=beams), valid[:1, :9])
        assert written.valid.sum(dim=1).tolist() == [10]


def test_of_two_least_lengths_the_one_of_new_words_holds_as_there():
    QUIET()
    for seed in range(8):
        theirs, ours = marian(seed)
        source = torch.randint(1, 32, (2, 5), generator=torch.Generator().manual_seed(seed))
        for new in (0, 2):
            said = {"max_length": 12, "min_length": 9, "min_new_tokens": new}
            expected = theirs.generate(input_ids=source, attention_mask=torch.ones_like(source), **said)[:, 1:]
            generation = ours_of({**said, "eos_token_id": END})
            assert same(translate(ours, source, generation), expected, (END,)), (seed, new)
    assert Generation(min_length=9, min_tokens=2).least(1) == 3


def test_a_source_of_padding_alone_is_translated_to_something():
    _, model = marian(0)
    written = translate(
        model, torch.full((2, 4), 7), Generation(start=PAD, end=(END,), max_tokens=5, beams=2),
        torch.tensor([[False] * 4, [True] * 4]),
    )  # fmt: skip
    assert written.valid.any(dim=1).all()


def test_a_model_writes_no_more_than_it_has_places_for():
    _, model = marian(0)
    source = torch.ones(1, 3, dtype=torch.long)
    assert translate(model, source, Generation(start=PAD, max_tokens=100)).ids.shape == (1, 47)  # and the start


def test_what_cannot_be_written_is_refused():
    _, model = marian(0)
    source = torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(ConfigError, match="Set start in the generation settings"):
        translate(model, source, Generation(end=(END,)))
    with pytest.raises(ConfigError, match="leaves no room for a word"):
        translate(model, source, Generation(start=PAD, max_tokens=None, max_length=1))
    with pytest.raises(ConfigError, match="10,000 word pieces, and the model reads at most 48"):
        translate(model, source.expand(1, 3).repeat(1, 3334)[:, :10_000], Generation(start=PAD))
    with pytest.raises(ConfigError, match="sample=True"):
        Generation(sample=True, beams=2)
    with pytest.raises(ConfigError, match="nothing would end a sentence"):
        Generation(max_tokens=None)
    with pytest.raises(ConfigError, match="The prompt is empty"):
        complete(model, source[:, :0], Generation())


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("forbidden", {"forbidden": ((9999,),)}),
        ("forbidden", {"forbidden": ((3, 33),)}),
        ("forbidden", {"forbidden": ((2, -1),)}),
        ("forced_start", {"forced_start": 9999}),
        ("forced_end", {"forced_end": (33,)}),
        ("end", {"end": (5000,), "min_tokens": 3}),
    ],
)
def test_words_that_the_model_does_not_have_are_refused(name, said, beams):
    _, model = marian(0)
    with pytest.raises(ConfigError, match=f"^{name} in the generation settings speaks of word piece .* model has 33, "):
        translate(model, torch.ones(1, 3, dtype=torch.long), Generation(start=PAD, beams=beams, **said))


@pytest.mark.parametrize("said", [{}, {"beams": 2}, {"sample": True}])
def test_no_sentences_are_written_for_none(said):
    (_, translator), (_, gpt) = marian(0), gpt2(0)
    none = torch.ones(0, 3, dtype=torch.long)
    translated = translate(translator, none, Generation(start=PAD, **said))
    for written in (translated, complete(gpt, none, Generation(**said))):
        assert written.ids.shape == written.valid.shape == (0, 0)
