"""All words of a sentence at once, and then again where they are least certain.

In one step every place is filled by itself. Each further step hides the words that the model was least sure of, fewer
and fewer of them, and asks again with the others in sight. Several lengths are tried side by side.

Source: Ghazvininejad et al., "Mask-Predict", EMNLP 2019, section 3.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.decoding.write import Written
from vitrail.errors import ConfigError


def least_certain(
    confidence: Float[Tensor, "batch target"], valid: Bool[Tensor, "batch target"], share: float
) -> Bool[Tensor, "batch target"]:
    """The given share of each sentence's words, rounded down, that have the lowest confidence."""
    rank = confidence.masked_fill(~valid, torch.inf).argsort(dim=1).argsort(dim=1)
    return rank < (valid.sum(dim=1, keepdim=True) * share).floor()


@torch.inference_mode()
def mask_predict(
    model: Any,
    source: Int[Tensor, "batch source"],
    source_valid: Bool[Tensor, "batch source"] | None = None,
    *,
    steps: int = 10,
    lengths: int = 5,
    padding: int = 0,
) -> Written:
    """Translate without waiting for the word before.

    Args:
        model: has `encode`, `decode` and `guess` as `models.parallel_transformer.ParallelTransformer` has them.
        source: the sentences that are read, with padding on either side.
        source_valid: `True` where a word of them is real; `None` when all are.
        steps: how often all places are asked; 1 fills them once.
        lengths: how many of the likeliest lengths are tried; the one whose words are likeliest on average is taken.
        padding: what stands after a sentence.

    Raises:
        ConfigError: no step, or no length.
    """
    if steps < 1 or lengths < 1:
        raise ConfigError(f"steps={steps} and lengths={lengths} must both be at least 1.")
    memory, guesses = model.encode(source, source_valid)
    tried = min(lengths, guesses.shape[1])
    counts = guesses.topk(tried).indices.flatten() + 1
    memory = memory.repeat_interleave(tried, dim=0)
    seen = None if source_valid is None else source_valid.repeat_interleave(tried, dim=0)

    valid = torch.arange(int(counts.max()), device=source.device)[None] < counts[:, None]
    words = torch.zeros_like(valid, dtype=torch.long)
    confidence = torch.zeros_like(valid, dtype=torch.float32)
    hidden = valid.clone()
    for step in range(1, steps + 1):
        asked = model.decode(words, hidden, memory, seen, valid)[hidden]
        best = model.guess(asked).float().log_softmax(dim=-1).max(dim=-1)
        words, confidence = words.masked_scatter(hidden, best.indices), confidence.masked_scatter(hidden, best.values)
        hidden = least_certain(confidence, valid, 1 - step / steps)

    average = confidence.masked_fill(~valid, 0.0).sum(dim=1) / counts
    first = torch.arange(source.shape[0], device=source.device) * tried
    taken = first + average.unflatten(0, (-1, tried)).argmax(dim=1)
    words, valid = words[taken], valid[taken]
    most = int(valid.sum(dim=1).max())
    return Written(words.masked_fill(~valid, padding)[:, :most], valid[:, :most])
