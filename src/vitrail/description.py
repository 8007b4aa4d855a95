"""What a model is and what it costs, worked out without running it: torch's meta device has shapes and no numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitrail import catalog
from vitrail.core.init import Undrawn
from vitrail.core.tokens import Tokens
from vitrail.loading import create_model, family_of, from_pretrained
from vitrail.weights.card import Card
from vitrail.weights.cards import Checkpoint, default_checkpoint

FLOAT32 = 4  # bytes


@dataclass(frozen=True, kw_only=True)
class Description:
    """A model in numbers.

    Attributes:
        family: its name in the catalog.
        config: everything that shapes it.
        card: labels, preprocessing, licence, origin.
        checkpoint: where published weights of this size are, if there are any.
        parameters: how many numbers are learned.
        operations: floating-point operations of one answer. A multiply-add counts as two; papers often count it as
            one and print half of this. Matrix products, convolutions and attention are counted, the rest is not.
        tokens: how many vectors a block works on, `None` for a model without tokens.
        grid: rows and columns of patches among them.
        kept: bytes that training keeps of each picture, in float32, until its gradient is known.
    """

    family: str
    config: Any
    card: Card
    checkpoint: Checkpoint | None
    parameters: int
    operations: int
    tokens: int | None
    grid: tuple[int, int] | None
    kept: int

    @property
    def weights(self) -> int:
        """Bytes of the weights in float32."""
        return FLOAT32 * self.parameters

    def training(self, batch: int) -> int:
        """Bytes that a step of AdamW takes in float32: weights, gradients, two moments, and what pictures leave."""
        return 4 * self.weights + batch * self.kept


def storage(tensor: Tensor) -> int:
    """Which memory a tensor stands in; views of one memory answer the same."""
    return tensor.untyped_storage()._cdata


def count_operations(model: nn.Module, images: Tensor) -> int:
    """Floating-point operations of one forward pass, a multiply-add as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(images)
    return counter.get_total_flops()


def count_kept(model: nn.Module, images: Tensor) -> int:
    """Bytes that the forward pass keeps for the backward pass, beside the parameters."""
    parameters = {storage(parameter) for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors are held, so that no memory is counted twice under one number

    def keep(tensor: Tensor) -> Tensor:
        if storage(tensor) not in parameters:
            kept[storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(images)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def find_tokens(model: nn.Module, images: Tensor) -> Tokens | None:
    """What the blocks of a model work on, if it says so."""
    encode = getattr(model, "encode", None)
    if encode is None:
        return None
    with torch.no_grad():
        return encode(images)


def without_numbers(source: str | Path, changes: dict[str, Any]) -> nn.Module:
    """The model of a source as shapes alone; a published size is never fetched."""
    if Path(source).exists() or str(source) not in catalog.MODELS:
        return from_pretrained(source, announce=lambda sentence: None, **changes).to("meta")
    with torch.device("meta"), Undrawn():
        return create_model(str(source), **changes)


def describe(source: str | Path, **changes: Any) -> Description:
    """Tell a model's size, cost, input and origin.

    Args:
        source: a name from `list_models`, a folder, a run or a hub id.
        changes: fields of its configuration that should be otherwise (`image=384`).

    Raises:
        ConfigError, CheckpointError: there is no such model, or it cannot be changed so.
    """
    model = without_numbers(source, changes)
    card: Any = model.card
    images = torch.empty(1, card.preprocessing.channels, *card.preprocessing.size, device="meta")
    tokens = find_tokens(model, images)
    return Description(
        family=family_of(model).name,
        config=model.config,
        card=card,
        checkpoint=default_checkpoint(card.model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        operations=count_operations(model, images),
        tokens=None if tokens is None else tokens.x.shape[1],
        grid=None if tokens is None else tokens.grid,
        kept=count_kept(model, images),
    )
