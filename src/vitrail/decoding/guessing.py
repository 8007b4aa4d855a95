"""Writing one text several words at a time, where it repeats itself.

For one text, a step costs the reading of every weight, which several words that are asked about at once can share. So
the words that followed when the last ones came before are taken to follow again, and one step says of all of them
whether they do. What is written is what would have been written word by word: a guess stays only where the model, by
the same rules and the same chance, writes that word itself: up to the rounding by which a product of several rows
differs from that of one.

Sources: Yang et al., "Inference with Reference: Lossless Acceleration of Large Language Models", 2023; Leviathan et
al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023. transformers has it as
`prompt_lookup_num_tokens`, and does it when asked.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.decoding.beam import is_any
from vitrail.decoding.rules import Rules
from vitrail.decoding.sampling import choose, wanted
from vitrail.decoding.writers import NOTHING, Reviser, Selective
from vitrail.generation import Generation

MOST = 7  # guesses in one step, by default: with the word before them, eight rows
RUN = 3  # last words that must have come before


def sequel(words: Sequence[int], most: int) -> list[int]:
    """The next words, if a text goes on as it did when its last `RUN` words came last; none where they never did.

    Where that was so lately that what followed is shorter than `most`, it is repeated: a, b, a, b goes on a, b, a, ...
    """
    last = tuple(words[-RUN:])
    for distance in range(1, len(words) - RUN + 1):
        if tuple(words[-RUN - distance : -distance]) == last:
            return [words[-distance + step % distance] for step in range(most)]
    return []


def each(
    rules: Rules, hoped: Int[Tensor, "1 tokens"], known: int, scores: Float[Tensor, "new vocabulary"]
) -> Float[Tensor, "new vocabulary"]:
    """The rules for what comes after each word from the last of those that are known on, if all guesses are right."""
    return torch.cat([rules(hoped[:, : known + guess], row[None]) for guess, row in enumerate(scores)])


def with_guesses(
    writer: Reviser,
    prompt: Int[Tensor, "1 prompt"],
    generation: Generation,
    generator: torch.Generator | None,
    most: int,
) -> Int[Tensor, "1 tokens"]:
    """One text, as `write.one_by_one` writes it.

    Twice as many words are guessed as were right the last time, and one more. In half precision, where words are often
    equally likely and a product of several rows may decide otherwise than that of one, nothing is guessed.

    Args:
        writer: has one row, and has not been told the prompt.
        prompt: what the text begins with.
        generation: how it goes on.
        generator: chance, where words are drawn.
        most: guesses in one step.

    Returns:
        All words from the prompt on; `NOTHING` after the end.
    """
    logits = writer.step(prompt)[:, None]
    selective = writer if isinstance(writer, Selective) else None
    most = most if logits.element_size() >= 4 else 0
    rules = Rules(generation, prompt, logits.shape[-1])
    ids = torch.cat([prompt, prompt.new_full((1, max(rules.rooms)), NOTHING)], dim=1)
    place, guesses = prompt.shape[1], list[int]()
    while True:
        for right, scores in enumerate(logits.unbind(dim=1)):
            word = choose(rules(ids[:, :place], scores.float()), generation, generator)
            ids[:, place] = word
            place += 1
            if place == ids.shape[1] or bool(is_any(word, generation.end)):
                return ids
            if guesses[right : right + 1] != word.tolist():
                break
        writer.forget(len(guesses) - right)
        guesses = sequel(ids[0, :place].tolist(), min(2 * right + 1, most, ids.shape[1] - 1 - place))
        hoped = torch.cat([ids[:, :place], ids.new_tensor([guesses])], dim=1)
        new, choice = hoped[:, place - 1 :], wanted(generation, partial(each, rules, hoped, place))
        logits = selective.likeliest(new, choice) if selective and choice else writer.steps(new)
