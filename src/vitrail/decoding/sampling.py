"""Choosing the next word. Where it is drawn, the fewer words are let in, the safer and the duller the text."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.core.highest import highest
from vitrail.core.shortlist import Judge
from vitrail.decoding.writers import Wanted
from vitrail.errors import ConfigError
from vitrail.generation import Generation


def with_top_k(scores: Float[Tensor, "batch vocabulary"], count: int) -> Float[Tensor, "batch vocabulary"]:
    """Only the likeliest words, and those as likely as the last of them.

    Source: Fan et al., "Hierarchical Neural Story Generation", ACL 2018.
    """
    last = highest(scores, count)[0][:, -1:]
    return scores.masked_fill(scores < last, -torch.inf)


def with_top_p(scores: Float[Tensor, "batch vocabulary"], share: float) -> Float[Tensor, "batch vocabulary"]:
    """Only the likeliest words that have this share of the probability together.

    The word with which the share is reached is let in, as in transformers; OpenAI's GPT-2 leaves it out.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020.
    """
    ascending, words = scores.sort()
    unlikely = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - share
    unlikely[:, -1] = False
    return scores.masked_fill(unlikely.scatter(1, words, unlikely), -torch.inf)


def wanted(generation: Generation, judge: Judge) -> Wanted | None:
    """What choosing the next word wants of scores that are judged so; `None` where it wants them all."""
    count = generation.top_k if generation.sample else 1
    return Wanted(count, judge) if count and generation.repetition_penalty >= 1 else None


def choose(
    scores: Float[Tensor, "batch vocabulary"], generation: Generation, generator: torch.Generator | None
) -> Int[Tensor, "batch"]:
    """The next word of each row: the likeliest, or one that is drawn."""
    return draw(scores, generation, generator) if generation.sample else scores.argmax(dim=-1)


def draw(
    scores: Float[Tensor, "batch vocabulary"], generation: Generation, generator: torch.Generator | None
) -> Int[Tensor, "batch"]:
    """One word for each row, after temperature, top-k and top-p in this order, as in transformers.

    Raises:
        ConfigError: nothing may come.
    """
    if generation.temperature != 1.0:
        scores = scores / generation.temperature
    if generation.top_k:
        scores = with_top_k(scores, generation.top_k)
    if generation.top_p < 1.0:
        scores = with_top_p(scores, generation.top_p)
    if (scores == -torch.inf).all(dim=1).any():
        raise ConfigError("Every word is forbidden here by the generation settings. Allow some (forbidden, no_repeat).")
    return torch.multinomial(scores.softmax(dim=-1), 1, generator=generator).squeeze(1)
