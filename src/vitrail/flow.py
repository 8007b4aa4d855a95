"""What flows through a model: the shape of every part's answer, for one picture or one sentence."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.convolutions import Stage as ConvStage
from vitrail.decoding.parallel import mask_predict
from vitrail.decoding.write import translate
from vitrail.errors import ConfigError, many
from vitrail.tokenizing import BETWEEN, TextPreprocessing

DEEPEST = 3  # words of a part's name, such as encoder.0.attention


class Stage(NamedTuple):
    """One part of a model at work.

    Attributes:
        name: of the module.
        kind: what it is.
        taken, given: shapes of what goes in and what comes out.
    """

    name: str
    kind: str
    taken: tuple[tuple[int, ...], ...]
    given: tuple[tuple[int, ...], ...]


class Flow(NamedTuple):
    """A pass through a model.

    Attributes:
        read: what was read: the pieces of a text, or nothing of a picture.
        written: the pieces that were written, by a model that writes a sentence of its own.
        stages: the parts in the order in which they were done.
    """

    read: tuple[str, ...]
    written: tuple[str, ...]
    stages: tuple[Stage, ...]


def shapes(value: Any) -> Iterator[tuple[int, ...]]:
    """The shapes of all floating tensors and numbers of pieces in a value."""
    if isinstance(value, Tensor):
        if value.dtype != torch.bool:
            yield tuple(value.shape)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from shapes(one)


def worth_a_line(part: nn.Module) -> bool:
    """Whether a part does something of its own; a stage does, as its first block may make the map smaller."""
    return not isinstance(part, nn.Dropout | nn.ModuleList | nn.Identity) or isinstance(part, ConvStage)


def told(name: str) -> bool:
    """Whether a part of this name is told of: of equal blocks, only the first is taken apart."""
    words = name.split(".")
    numbers = [int(word) for word in words if word.isdecimal()]
    return len(words) <= 2 or (len(words) <= DEEPEST and numbers == [0])


def parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts that are worth a line, by name; those of a model within, such as a backbone, as if it were alone."""
    within = [f"{name}." for name, part in model.named_modules() if name and hasattr(part, "config")]
    for name, part in model.named_modules():
        around = max((prefix for prefix in within if name.startswith(prefix)), key=len, default="")
        if name and worth_a_line(part) and told(name.removeprefix(around)):
            yield name, part


def kind_of(part: nn.Module) -> str:
    """What a part is, in words."""
    if isinstance(part, Attention):
        return f"Attention, {many(part.heads, 'head')}"
    if isinstance(part, ConvStage):
        return f"Stage, {many(len(part), 'block')}"
    return type(part).__name__


@torch.inference_mode()
def stages(model: nn.Module, *inputs: Any) -> tuple[Stage, ...]:
    """The parts of a model in the order in which they finish, with the shapes of one pass."""
    found: list[Stage] = []

    def note(name: str) -> Any:
        def hook(part: nn.Module, taken: Any, given: Any) -> None:
            found.append(Stage(name, kind_of(part), tuple(shapes(taken)), tuple(shapes(given))))

        return hook

    hooks = [part.register_forward_hook(note(name)) for name, part in parts(model)]
    try:
        model.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found)


def flow_of_text(model: Any, text: str) -> Flow:
    """What flows through a model of text; one that writes reads back what it has written itself.

    Args:
        model: with its card.
        text: a sentence; or two with a tab between, such as a question and the text that answers it, for a model that
            tells two texts apart.

    Raises:
        ConfigError: its card has no tokenizer, or there is nothing to read.
    """
    preprocessing, generation = model.card.preprocessing, model.card.generation
    if not isinstance(preprocessing, TextPreprocessing) or not preprocessing.tokenizer:
        raise ConfigError(f"This {model.card.model} reads no text: its card has no tokenizer.")
    if not text.strip():
        raise ConfigError("The text is empty, so nothing flows. Write something.")
    first, parted, second = text.partition(BETWEEN)
    words = preprocessing([first], [second]) if parted and preprocessing.segments else preprocessing([text])
    read = tuple(preprocessing.tokens(words.ids[0]))
    if model.card.task == "translate-parallel":  # all places are hidden at first
        answer = mask_predict(model, words.ids, words.valid, steps=1, padding=preprocessing.pad_id)
        inputs = [words.ids, answer.ids, answer.valid, words.valid, answer.valid]
        return Flow(read, tuple(preprocessing.tokens(answer.ids[0])), stages(model, *inputs))
    if generation is None or generation.start is None:
        inputs = [words.ids, words.valid, *([] if words.segments is None else [words.segments])]
        return Flow(read, (), stages(model, *inputs))
    written = translate(model, words.ids, generation, words.valid).ids
    target = torch.cat([written.new_tensor([[generation.start]]), written], dim=1)[:, :-1]
    return Flow(read, tuple(preprocessing.tokens(target[0])), stages(model, words.ids, target, words.valid))


def flow_of_picture(model: Any, picture: Any) -> Flow:
    """What flows through a model of pictures."""
    prepared = model.card.preprocessing(picture).pixels[None].to(next(model.parameters()))
    return Flow((), (), stages(model, prepared))
