"""What a model is and what it costs, worked out without running it: torch's meta device has shapes and no numbers."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitrail import catalog
from vitrail.core.attention import Attention
from vitrail.core.init import Undrawn
from vitrail.core.quick import CACHE
from vitrail.core.tokens import Tokens
from vitrail.errors import ConfigError
from vitrail.loading import create_model, family_of, from_pretrained
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.card import Card
from vitrail.weights.cards import Checkpoint, default_checkpoint

FLOAT32 = 4  # bytes


@dataclass(frozen=True, kw_only=True)
class AttentionCost:
    """What it takes that tokens look at each other, for one picture, or for the longest text.

    Attributes:
        tokens: how many vectors a block works on.
        grid: rows and columns of patches among them; a text is one row.
        patch: pixels of the picture to each patch, rows and columns; one word piece of a text.
        layers: how many layers attend.
        heads: of the layer that weighs most.
        pairs: of a token that looks and one that is looked at, in that layer. All of them are weighed in each head.
        layer: bytes that its weights would take in float32 if they were kept, as a fused kernel never does.
        all: bytes that those of all layers would take.
    """

    tokens: int
    grid: tuple[int, int]
    patch: tuple[int, int]
    layers: int
    heads: int
    pairs: int
    layer: int
    all: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """A model in numbers.

    Attributes:
        family: its name in the catalog.
        config: everything that shapes it.
        card: labels, preprocessing, licence, origin.
        text: whether it reads text, and not pictures.
        checkpoint: where published weights of this size are, if there are any.
        parameters: how many numbers are learned.
        operations: floating-point operations of one answer: to a picture, or to the longest text. A multiply-add counts
            as two; papers often count it as one and print half of this. Matrix products, convolutions and attention
            are counted, the rest is not.
        tokens: how many vectors a block works on, `None` for a model without tokens.
        grid: rows and columns of patches among them; a text is one row.
        attention: what it takes that they look at each other, `None` for a model without tokens or attention.
        attention_before: the same with the patches that the source has, where `patch` is changed and they still fit.
        kept: bytes that training keeps of each picture or text, in float32, until its gradient is known.
    """

    family: str
    config: Any
    card: Card
    text: bool
    checkpoint: Checkpoint | None
    parameters: int
    operations: int
    tokens: int | None
    grid: tuple[int, int] | None
    attention: AttentionCost | None
    attention_before: AttentionCost | None
    kept: int

    @property
    def weights(self) -> int:
        """Bytes of the weights in float32."""
        return FLOAT32 * self.parameters

    def training(self, batch: int) -> int:
        """Bytes that a step of AdamW takes in float32: weights, gradients, two moments, and what inputs leave."""
        return 4 * self.weights + batch * self.kept


def classes_called(task: str) -> str:
    """What the classes of a task are to people."""
    return getattr(catalog.load(catalog.TASKS[task]), "classes_are", "classes") if task in catalog.TASKS else "classes"


def storage(tensor: Tensor) -> int:
    """Which memory a tensor stands in; views of one memory answer the same."""
    return tensor.untyped_storage()._cdata


def count_operations(model: nn.Module, *inputs: Tensor) -> int:
    """Floating-point operations of one forward pass, a multiply-add as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(*inputs)
    return counter.get_total_flops()


def choose_counted_kernel(attention: nn.Module, given: tuple[Any, ...]) -> None:
    """Before an attention layer is counted: the kernel that stands for the one it would take."""
    assert isinstance(attention, Attention)
    query, key = given[0], given[1]
    if query.shape[-2] * key.shape[-2] * query.element_size() > CACHE:
        attention.kernel = as_fused


class KeptByFused(torch.autograd.Function):
    """Fused attention as far as memory goes: it keeps what it is given and what it answers, and no weights."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        answer = query.new_empty(*query.shape[:-1], value.shape[-1])
        context.save_for_backward(query, key, value, answer)
        return answer


def as_fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, dropout: float = 0.0
) -> Tensor:
    """What torch's fused kernel would keep; on the meta device torch itself has only the plain one."""
    return KeptByFused.apply(query, key, value)


def count_kept(model: nn.Module, *inputs: Tensor) -> int:
    """Bytes that the forward pass keeps for the backward pass, beside the parameters.

    Weights of attention are counted where they are short enough to be computed whole (`core.quick`).
    """
    for part in model.modules():
        if isinstance(part, Attention):
            part.register_forward_pre_hook(choose_counted_kernel)
    parameters = {storage(parameter) for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors are held, so that no memory is counted twice under one number

    def keep(tensor: Tensor) -> Tensor:
        if storage(tensor) not in parameters:
            kept[storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(*inputs)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def find_tokens(model: nn.Module, *inputs: Tensor) -> Tokens | None:
    """What the blocks of a model work on, if it says so; of two texts, what is made of the first."""
    encode = getattr(model, "encode", None)
    if encode is None:
        return None
    with torch.no_grad():
        encoded = encode(inputs[0])
    read = encoded if isinstance(encoded, Tokens | Tensor) else encoded[0]  # with what else the encoder says
    if isinstance(read, Tokens):
        return read
    return Tokens(read, (1, read.shape[1]), 0)


def cost_of_attention(model: nn.Module, *inputs: Tensor) -> AttentionCost | None:
    """What the attention of one input takes, from the shapes that each of its layers is called with."""
    asked: list[tuple[int, int]] = []  # heads and pairs of each layer

    def note(layer: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(layer, Attention)
        query, key, *_ = given
        asked.append((layer.heads, query.shape[0] * query.shape[1] * key.shape[1]))

    hooks = [part.register_forward_pre_hook(note) for part in model.modules() if isinstance(part, Attention)]
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    tokens = find_tokens(model, *inputs)
    if tokens is None or not asked:
        return None
    heads, pairs = max(asked, key=math.prod)
    sides = inputs[0].shape[2:] if inputs[0].ndim == 4 else tokens.grid
    return AttentionCost(
        tokens=tokens.x.shape[1],
        grid=tokens.grid,
        patch=(sides[0] // tokens.grid[0], sides[1] // tokens.grid[1]),
        layers=len(asked),
        heads=heads,
        pairs=pairs,
        layer=FLOAT32 * heads * pairs,
        all=FLOAT32 * sum(map(math.prod, asked)),
    )


def without_numbers(source: str | Path, changes: dict[str, Any]) -> nn.Module:
    """The model of a source as shapes alone; a published size is never fetched."""
    if Path(source).exists() or str(source) not in catalog.MODELS:
        return from_pretrained(source, announce=lambda sentence: None, **changes).float().to("meta")
    with torch.device("meta"), Undrawn():
        return create_model(str(source), **changes)


def one_input(model: nn.Module) -> tuple[Tensor, ...]:
    """What the model reads for one answer, of shape alone."""
    return family_of(model).example(cast(Any, model.card).preprocessing)


def before(source: str | Path, changes: dict[str, Any]) -> AttentionCost | None:
    """What attention would take with the patches that a source has; `None` where nobody asks for others."""
    if "patch" not in changes:
        return None
    try:
        model = without_numbers(source, {name: value for name, value in changes.items() if name != "patch"})
    except ConfigError:  # the other changes do not go with them
        return None
    return cost_of_attention(model, *one_input(model))


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
    inputs = one_input(model)
    tokens = find_tokens(model, *inputs)
    return Description(
        family=family_of(model).name,
        config=model.config,
        card=card,
        text=isinstance(card.preprocessing, TextPreprocessing),
        checkpoint=default_checkpoint(card.model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        operations=count_operations(model, *inputs),
        tokens=None if tokens is None else tokens.x.shape[1],
        grid=None if tokens is None else tokens.grid,
        attention=cost_of_attention(model, *inputs),
        attention_before=before(source, changes),
        kept=count_kept(model, *inputs),
    )
