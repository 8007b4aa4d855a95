"""Words that are guessed and found right at once: the same text in fewer steps, and never another one."""

from typing import TypeVar

import pytest
import torch
from torch import nn

from vitrail.decoding.guessing import MOST, sequel
from vitrail.decoding.write import complete, translate
from vitrail.decoding.writers import Continuation, Reviser, Translation
from vitrail.generation import Generation
from vitrail.models.gpt import GPT, GPTConfig
from vitrail.models.transformer import Transformer, TransformerConfig

Decoder = TypeVar("Decoder", bound=nn.Module)

CONFIG = GPTConfig(vocabulary=23, max_tokens=64, dim=16, depth=2, heads=2, mlp_dim=32)
SETTINGS = {
    "greedy": {},
    "an end": {"end": (3, 5)},
    "an end not yet": {"end": (3, 5), "min_tokens": 9},
    "less of the same": {"repetition_penalty": 1.2},
    "no run of five twice": {"no_repeat": 5},
    "a word that may not come": {"forbidden": ((4,), (6, 7))},
    "a last word": {"end": (3,), "forced_end": (3,)},
    "drawn": {"sample": True, "temperature": 0.2},
    "drawn among few": {"sample": True, "top_k": 2, "temperature": 0.3},
}


def shaken(model: Decoder) -> Decoder:
    """The model in float64, with weights by which it writes more than one word."""
    model = model.double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def model(seed: int) -> GPT:
    torch.manual_seed(seed)
    return shaken(GPT(CONFIG))


def translator(seed: int) -> Transformer:
    torch.manual_seed(seed)
    stacks = {f"{stack}_{name}": 2 for stack in ("encoder", "decoder") for name in ("depth", "heads")}
    widths = {"dim": 16, "encoder_mlp_dim": 32, "decoder_mlp_dim": 32, "max_tokens": 64}
    return shaken(Transformer(TransformerConfig(source_vocabulary=23, target_vocabulary=23, **stacks, **widths)))


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """How many words the model was asked about, each time it was asked."""
    asked = list[int]()

    def counting(read):
        def counted(self, ids):
            asked.append(ids.shape[1])
            return read(self, ids)

        return counted

    for writer in (Continuation, Translation):
        monkeypatch.setattr(writer, "read", counting(writer.read))
    return asked


@pytest.mark.parametrize("said", SETTINGS.values(), ids=list(SETTINGS))
@pytest.mark.parametrize("padded", [False, True], ids=["", "padded"])
def test_a_text_is_the_same_with_guesses_and_without(said, padded, steps):
    """In float64, where a product of several rows decides as that of one."""
    fewer = 0
    for seed in range(5):
        gpt, generation = model(seed), Generation(**{"max_tokens": 40, **said})
        prompt = torch.randint(0, CONFIG.vocabulary, (1, 1 + 2 * seed))
        valid = torch.arange(1 + 2 * seed)[None] >= seed if padded else None
        alone, together = (
            complete(gpt, prompt, generation, valid, torch.Generator().manual_seed(seed), guesses=most)
            for most in (0, MOST)
        )
        assert torch.equal(alone.ids, together.ids)
        assert torch.equal(alone.valid, together.valid)
        of_these = steps[alone.ids.shape[1] :]
        assert len(of_these) <= alone.ids.shape[1]
        assert max(of_these[1:], default=1) <= MOST + 1
        fewer += alone.ids.shape[1] - len(of_these)
        steps.clear()
    assert fewer > 0


@pytest.mark.parametrize("said", SETTINGS.values(), ids=list(SETTINGS))
@pytest.mark.parametrize("padded", [False, True], ids=["", "padded"])
def test_a_translation_is_the_same_with_guesses_and_without(said, padded, steps):
    fewer = 0
    for seed in range(3):
        generation = Generation(**{"start": 1, "max_tokens": 30, **said})
        source = torch.randint(0, 23, (1, 2 + 2 * seed))
        valid = torch.arange(2 + 2 * seed)[None] >= seed if padded else None
        alone, together = (
            translate(translator(seed), source, generation, valid, torch.Generator().manual_seed(seed), guesses=most)
            for most in (0, MOST)
        )
        assert torch.equal(alone.ids, together.ids)
        fewer += alone.ids.shape[1] - len(steps[alone.ids.shape[1] :])
        steps.clear()
    assert fewer > 0


def a_text() -> Reviser:
    return Continuation(model(0), None, 1, 16)


def a_translation() -> Reviser:
    return Translation(translator(0), torch.arange(5)[None], None, 16)


@pytest.mark.parametrize("written", [a_text, a_translation])
def test_what_was_guessed_wrong_leaves_nothing_behind(written):
    """The next step sees what it would have seen without the guess: all logits, and not only the likeliest word."""
    words = torch.randint(0, CONFIG.vocabulary, (1, 9))
    with torch.inference_mode():
        writer, plain = written(), written()
        writer.steps(torch.cat([words[:, :5], torch.full((1, 3), 7)], dim=1))
        writer.forget(3)
        plain.step(words[:, :5])
        torch.testing.assert_close(writer.steps(words[:, 5:])[:, -1], plain.step(words[:, 5:]), rtol=0, atol=1e-12)
        kept = [getattr(block, "tokens", block).length for block in writer.past]
        assert kept == [9] * CONFIG.depth


def test_in_half_precision_nothing_is_guessed(steps):
    complete(model(1).bfloat16(), torch.tensor([[2, 2, 2, 2, 2]]), Generation(max_tokens=20))
    assert steps[1:] == [1] * 19


def test_several_texts_are_written_word_by_word(steps):
    complete(model(1), torch.full((2, 5), 2), Generation(max_tokens=20))
    assert steps[1:] == [1] * 19


@pytest.mark.parametrize(
    ("words", "most", "follows"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, [4, 5]),
        ([1, 2, 3, 4, 5, 1, 2, 3], 7, [4, 5, 1, 2, 3, 4, 5]),  # beyond what is there it repeats itself
        ([9, 8, 8, 8, 8], 3, [8, 8, 8]),
        ([1, 2, 3, 6, 1, 2, 3, 7, 1, 2, 3], 1, [7]),  # as the last time
        ([1, 2, 3, 4, 2, 3], 4, []),
        ([1, 2, 3], 4, []),
        ([1], 4, []),
        ([8, 8, 8, 8], 0, []),
    ],
)
def test_a_sequel_is_what_came_after_the_same_words(words, most, follows):
    assert sequel(words, most) == follows
