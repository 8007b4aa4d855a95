"""Text from a model, greedily, drawn, or by beam search: `translate` for encoder-decoders, `complete` for decoders."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vitrail.core.words import check_length
from vitrail.decoding.beam import beam_search, is_any
from vitrail.decoding.guessing import MOST, with_guesses
from vitrail.decoding.rules import Rules, lengths
from vitrail.decoding.sampling import choose, wanted
from vitrail.decoding.writers import NOTHING, Continuation, Reviser, Selective, Translation, Writer, aligned
from vitrail.errors import ConfigError
from vitrail.generation import Generation


class Written(NamedTuple):
    """Sentences side by side, without what they began with.

    Attributes:
        ids: their words, the end included where one was reached.
        valid: `False` for padding after the end.
    """

    ids: Int[Tensor, "batch tokens"]
    valid: Bool[Tensor, "batch tokens"]


def one_by_one(
    writer: Writer,
    prompt: Int[Tensor, "batch prompt"],
    generation: Generation,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch tokens"]:
    """Greedy decoding or sampling: a word at each step, until every sentence has ended or filled its room.

    Args:
        writer: has a row for each sentence, and has not been told the prompt.
        prompt: what the sentences begin with; `NOTHING` where there is padding, which the writer knows.
        generation: how they are written.
        generator: chance, where words are drawn.

    Returns:
        All words from the prompt on; `NOTHING` after the end.
    """
    logits = writer.step(prompt)
    selective = writer if isinstance(writer, Selective) else None
    rules = Rules(generation, prompt, logits.shape[-1])
    ids = torch.cat([prompt, prompt.new_full((prompt.shape[0], max(rules.rooms)), NOTHING)], dim=1)
    ended = torch.zeros(prompt.shape[0], dtype=torch.bool, device=prompt.device)
    for place in range(prompt.shape[1], ids.shape[1]):
        scores = rules(ids[:, :place], logits.float())
        words = choose(scores, generation, generator)
        ids[:, place] = words.masked_fill(ended, NOTHING)
        ended |= is_any(words, generation.end) | (rules.room == place + 1 - prompt.shape[1])
        if ended.all():
            break
        newest, choice = ids[:, place : place + 1], wanted(generation, partial(rules, ids[:, : place + 1]))
        logits = selective.likeliest(newest, choice)[:, -1] if selective and choice else writer.step(newest)
    return ids


def write(
    writer: Writer,
    prompt: Int[Tensor, "batch prompt"],
    generation: Generation,
    generator: torch.Generator | None = None,
    guesses: int = MOST,
) -> Written:
    """Write with a writer that has not been told the prompt yet; see `one_by_one`, `with_guesses` and `beam_search`.

    Raises:
        ConfigError: a prompt that leaves no room for a word.
    """
    if not prompt.shape[0]:
        return Written(prompt[:, :0], prompt[:, :0] != NOTHING)
    longest = max(lengths(prompt))
    if generation.most(longest) <= longest:
        raise ConfigError(
            f"The prompt has {longest} tokens, and max_length={generation.max_length} leaves no room for a word. Set "
            f"max_tokens, or a larger max_length."
        )
    if generation.beams > 1:
        ids = beam_search(writer, prompt, generation).ids[:, 0]
    elif prompt.shape[0] == 1 and guesses and isinstance(writer, Reviser):
        ids = with_guesses(writer, prompt, generation, generator, guesses)
    else:
        ids = one_by_one(writer, prompt, generation, generator)
    new = ids[:, prompt.shape[1] :]
    valid = new != NOTHING
    written = int(valid.sum(dim=1).max())
    new, valid = new[:, :written], valid[:, :written]
    padding = generation.padding if generation.padding is not None else next(iter(generation.end), 0)
    return Written(new.masked_fill(~valid, padding), valid)


def fitting(generation: Generation, most: int) -> Generation:
    """The same settings for a model that writes at most so many words, whatever they allow."""
    return replace(generation, max_length=min(most, generation.max_length or most))


@torch.inference_mode()
def translate(
    model: Any,
    source: Int[Tensor, "batch source"],
    generation: Generation,
    valid: Bool[Tensor, "batch source"] | None = None,
    generator: torch.Generator | None = None,
    guesses: int = MOST,
) -> Written:
    """What an encoder-decoder writes for each sentence that it reads.

    Args:
        model: see `Translation`.
        source: the sentences, with padding on either side.
        generation: how the answers are written; its `start` is what they begin with.
        valid: `True` where a word of the source is real; `None` when all are.
        generator: chance, where words are drawn.
        guesses: words that one translation, written without beams, is taken to repeat of itself in a step, which
            changes nothing but the time; 0 for none.

    Raises:
        ConfigError: no start symbol, or a longer sentence than the model reads.
    """
    generation = fitting(generation, model.config.max_tokens)
    if generation.start is None:
        raise ConfigError("Nothing says with which symbol a translation starts. Set start in the generation settings.")
    prompt = torch.full((source.shape[0], 1), generation.start, dtype=torch.long, device=source.device)
    writer = Translation(model, source, valid, generation.most(1))
    return write(writer, prompt, generation, generator, guesses)


@torch.inference_mode()
def complete(
    model: Any,
    prompt: Int[Tensor, "batch prompt"],
    generation: Generation,
    valid: Bool[Tensor, "batch prompt"] | None = None,
    generator: torch.Generator | None = None,
    guesses: int = MOST,
) -> Written:
    """How a decoder goes on with each text.

    Args:
        model: see `Continuation`.
        prompt: the texts, with padding on either side.
        generation: how they go on.
        valid: `True` where a word of the prompt is real; `None` when all are.
        generator: chance, where words are drawn.
        guesses: words that one text, written without beams, is taken to repeat of itself in a step, which changes
            nothing but the time; 0 for none.

    Raises:
        ConfigError: an empty prompt, or one that leaves no room for a word.
    """
    generation = fitting(generation, model.config.max_tokens)
    if not prompt.shape[1]:
        raise ConfigError("The prompt is empty. Give at least one token, such as the one that begins a text.")
    if valid is not None:
        prompt, valid = aligned(prompt, valid)
        prompt = prompt.masked_fill(~valid, NOTHING)
    counts = lengths(prompt)
    check_length(max(counts, default=0), model.config.max_tokens)
    room = max((generation.most(count) - count for count in counts), default=0)
    writer = Continuation(model, valid, prompt.shape[0], prompt.shape[1] + room)
    return write(writer, prompt, generation, generator, guesses)
