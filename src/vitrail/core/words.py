"""Word pieces as a model meets them: numbers that its vocabulary has, each at its place in the sentence."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vitrail.errors import ConfigError, many


def check_ids(ids: Int[Tensor, "batch tokens"], vocabulary: int, kind: str = "word piece") -> None:
    """Refuse numbers that the vocabulary does not have, which an embedding would look up in somebody else's memory.

    Args:
        ids: what is to be looked up.
        vocabulary: how many there are; ids count from 0.
        kind: what one of them is called.

    Raises:
        ConfigError: says the number and how many there are.
    """
    if torch.compiler.is_compiling() or ids.is_meta or not ids.numel():
        return
    for wrong in (int(ids.min()), int(ids.max())):
        if not 0 <= wrong < vocabulary:
            raise ConfigError(
                f"There is no {kind} {wrong}: this model has {vocabulary:,}, numbered from 0. Is the tokenizer the "
                f"one that the model was trained with?"
            )


def check_length(tokens: int | torch.SymInt, most: int) -> None:
    """Refuse a text longer than a model has positions for.

    Raises:
        ConfigError: says how long it is and the most the model reads.
    """
    if tokens > most:
        raise ConfigError(
            f"The text has {many(int(tokens), 'word piece')}, and the model reads at most {most}. Shorten it, or read "
            f"it in parts."
        )


def check_places(valid: Bool[Tensor, "batch tokens"], most: int) -> None:
    """The same for texts with padding, which takes no position.

    Raises:
        ConfigError: says how long the longest is and the most the model reads.
    """
    if torch.compiler.is_compiling() or valid.is_meta or valid.shape[1] <= most:
        return
    check_length(int(valid.sum(dim=1).max()), most)


def places(valid: Bool[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"]:
    """Where each word piece stands in its sentence, counted from 0; padding before a sentence moves nothing."""
    return (valid.cumsum(dim=1) - 1).clamp(min=0)
