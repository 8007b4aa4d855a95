"""Which attention of a model is which: who looks, and at what.

A family says it of itself, by patterns of names; of one that does not, the attention of decoder blocks is told from the
rest by how such blocks are built.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from vitrail.core.blocks import DecoderBlock
from vitrail.explain.seam import attentions

Of = Literal["cross", "encoder", "decoder", "self"]
NAMES = {
    "cross": "Cross-attention",
    "encoder": "Self-attention of the encoder",
    "decoder": "Self-attention of the decoder",
    "self": "Self-attention",
}


@runtime_checkable
class TellsKinds(Protocol):
    """A family that says which of its attention is which.

    `attention_kinds` has a kind for each pattern of names within it: `cross`, `encoder` and `decoder`, or any other
    word for attention that is neither, as that of a backbone.
    """

    @property
    def attention_kinds(self) -> Mapping[str, str]: ...


def told_kinds(model: nn.Module) -> dict[str, str]:
    """A kind for each name of attention, where a model, or the model in it, tells them."""
    for prefix, part in model.named_modules():
        if isinstance(part, TellsKinds):
            start = f"{prefix}." if prefix else ""
            return {f"{start}{pattern}": kind for pattern, kind in part.attention_kinds.items()}
    return {}


def kinds(model: nn.Module) -> dict[str, list[str]]:
    """The names of a model's attention layers, by what looks at what, in the model's order.

    Raises:
        ExplanationError: nothing here attends.
    """
    if told := told_kinds(model):
        found: dict[str, list[str]] = {"cross": [], "encoder": [], "decoder": []}
        for name in attentions(model):
            kind = next((kind for pattern, kind in told.items() if fnmatchcase(name, pattern)), "other")
            found.setdefault(kind, []).append(name)
        return {kind: names for kind, names in found.items() if names}
    blocks = [name for name, part in model.named_modules() if isinstance(part, DecoderBlock)]
    decoder, cross = ([f"{name}.{part}" for name in blocks] for part in ("attention", "cross_attention"))
    others = [name for name in attentions(model) if name not in decoder and name not in cross]
    return {"cross": cross, "encoder": others, "decoder": decoder} if cross else {"self": others}
