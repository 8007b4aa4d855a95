"""What flows through a model: the shape of every part's answer, for one picture or one sentence."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.decoding.parallel import mask_predict
from vitrail.decoding.write import translate
from vitrail.errors import ConfigError
from vitrail.tokenizing import TextPreprocessing

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


def told(name: str, part: nn.Module) -> bool:
    """Whether a part is worth a line: of equal blocks, only the first is taken apart."""
    words = name.split(".")
    numbers = [int(word) for word in words if word.isdecimal()]
    if not name or len(words) > DEEPEST or isinstance(part, nn.Dropout | nn.ModuleList | nn.Identity):
        return False
    return len(words) <= 2 or numbers == [0]


def kind_of(part: nn.Module) -> str:
    """What a part is, in words."""
    if isinstance(part, Attention):
        return f"Attention, {part.heads} heads"
    return type(part).__name__


@torch.inference_mode()
def stages(model: nn.Module, *inputs: Any) -> tuple[Stage, ...]:
    """The parts of a model in the order in which they finish, with the shapes of one pass."""
    found: list[Stage] = []

    def note(name: str) -> Any:
        def hook(part: nn.Module, taken: Any, given: Any) -> None:
            found.append(Stage(name, kind_of(part), tuple(shapes(taken)), tuple(shapes(given))))

        return hook

    hooks = [part.register_forward_hook(note(name)) for name, part in model.named_modules() if told(name, part)]
    try:
        model.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found)


def flow_of_text(model: Any, text: str) -> Flow:
    """What flows through a model of text; one that writes reads back what it has written itself.

    Raises:
        ConfigError: its card has no tokenizer.
    """
    preprocessing, generation = model.card.preprocessing, model.card.generation
    if not isinstance(preprocessing, TextPreprocessing) or not preprocessing.tokenizer:
        raise ConfigError(f"This {model.card.model} reads no text: its card has no tokenizer.")
    words = preprocessing([text])
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
