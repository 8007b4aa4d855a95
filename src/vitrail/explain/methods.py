"""Ways to say which parts of a picture mattered: from a model and its pictures to one map for each.

A map is not negative, and its scale means nothing across methods: what counts is which cells stand out.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.core.tokens import Tokens
from vitrail.errors import ExplanationError
from vitrail.explain.attention import encode, first_token
from vitrail.explain.attribution import attributed
from vitrail.explain.recording import recording
from vitrail.explain.relevance import relevance_of, traced
from vitrail.explain.rollout import rollout_of
from vitrail.explain.streams import Flow, identity

Images = Float[Tensor, "batch channels height width"]
Targets = Int[Tensor, " batch"]
Maps = Float[Tensor, "batch rows columns"]


class Method(NamedTuple):
    """One way to explain.

    Attributes:
        maps: from a model, its pictures and the classes in question.
        title: what a drawing is called; `{}` stands for the class.
        question: what it answers, in the same way.
        asks: whether it explains an answer; else what the tokens looked at, whatever was answered.
        notes: what a person should know who reads it.
    """

    maps: Callable[[nn.Module, Images, Targets], Maps]
    title: str
    question: str
    asks: bool
    notes: tuple[str, ...]


def logits_of(outputs: Tensor, targets: Targets) -> Float[Tensor, " batch"]:
    """The number that a model gives to the class in question, for each picture.

    Raises:
        ExplanationError: its outputs are not a row of classes for each picture, or there is no such class.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise ExplanationError("This model does not answer with a number for each class, so no class can be explained.")
    if int(targets.max()) >= outputs.shape[1]:
        raise ExplanationError(f"There is no class {int(targets.max())}: this model has 0 to {outputs.shape[1] - 1}.")
    return outputs.gather(1, targets[:, None])[:, 0]


@runtime_checkable
class SaysWhatItReads(Protocol):
    """A model that knows which tokens its head reads, part by part; of each part it reads the mean."""

    def read_tokens(self, tokens: Tokens) -> Sequence[slice]: ...


def parts_read(model: nn.Module, tokens: Tokens, count: int) -> list[list[int]]:
    """The tokens that the head reads, in the order of the tokens, of which there are so many."""
    if isinstance(model, SaysWhatItReads):
        return [list(range(count))[part] for part in model.read_tokens(tokens)]
    return [first_token(model, tokens).rows]


def over_patches(
    rows: Float[Tensor, "batch read tokens"], parts: list[list[int]], tokens: Tokens
) -> Float[Tensor, "batch rows columns"]:
    """What the tokens that the head reads, part by part, have of each patch. Each part counts alike."""
    read = torch.stack([part.mean(dim=1) for part in rows.split([len(part) for part in parts], dim=1)])
    return read.mean(dim=0)[:, tokens.prefix :].unflatten(1, tokens.grid)


def all_over_patches(
    rows: Float[Tensor, "batch query key"], model: nn.Module, tokens: Tokens
) -> Float[Tensor, "batch rows columns"]:
    """The same from the rows of all tokens."""
    parts = parts_read(model, tokens, rows.shape[1])
    return over_patches(rows[:, [place for part in parts for place in part]], parts, tokens)


def spoken(flow: Flow) -> Float[Tensor, "batch query key"]:
    """What spoke for the answer, beside what each token is by itself.

    Relevance in one stack begins with the identity. In the row of a class token no patch sees it; in the mean of the
    rows of all patches it is the same everywhere, and drowns the rest.
    """
    return flow.own - identity(flow.own) if flow.read is None else flow.read


@torch.inference_mode()
def attention_maps(model: nn.Module, images: Images, targets: Targets) -> Maps:
    """Attention of the last layer, the mean of its heads."""
    tokens = encode(model, images)
    parts = parts_read(model, tokens, tokens.x.shape[1])
    twin, records = recording(model, -1, [place for part in parts for place in part])
    encode(twin.eval(), images)
    [record] = records.values()
    return over_patches(record.maps[-1].mean(dim=1), parts, tokens)


@torch.inference_mode()
def rollout_maps(model: nn.Module, images: Images, targets: Targets) -> Maps:
    """Attention through all layers (`explain.rollout`)."""
    twin, records = recording(model)
    tokens = encode(model, images)
    twin.eval()(images)
    flow = rollout_of(model, list(records), [record.maps[-1] for record in records.values()])
    return all_over_patches(flow.reached, model, tokens)


def relevance_maps(model: nn.Module, images: Images, targets: Targets) -> Maps:
    """Attention weighed by its gradient, through all layers (`explain.relevance`)."""
    with torch.inference_mode():
        tokens = encode(model, images)
    seen = traced(model, images, lambda outputs: logits_of(outputs, targets))
    return all_over_patches(spoken(relevance_of(model, seen)), model, tokens)


def attribution_maps(model: nn.Module, images: Images, targets: Targets) -> Maps:
    """The answer handed back to all attention, weighed by its gradient, through all layers (`explain.attribution`)."""
    with torch.inference_mode():
        tokens = encode(model, images)
    seen = attributed(model, images, lambda outputs: logits_of(outputs, targets))
    return all_over_patches(spoken(relevance_of(model, seen)), model, tokens)


def gradient_maps(model: nn.Module, images: Images, targets: Targets) -> Maps:
    """Size of the gradient of the answer at each pixel, the largest over the channels.

    Source: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2014, section 3.1.
    """
    with torch.inference_mode(False), torch.enable_grad():
        pixels = images.clone().requires_grad_()
        [gradient] = torch.autograd.grad(logits_of(model(pixels), targets).sum(), pixels)
    return gradient.abs().amax(dim=1)


METHODS = {
    "attention": Method(
        attention_maps,
        "Attention in the last layer",
        "Where the tokens that the answer is read from look",
        False,
        ("What was mixed in one layer; it does not depend on the answer.",),
    ),
    "rollout": Method(
        rollout_maps,
        "Attention through all layers (rollout)",
        "What has reached the tokens that the answer is read from",
        False,
        ("Attention followed through all layers (Abnar and Zuidema 2020); it does not depend on the answer.",),
    ),
    "relevance": Method(
        relevance_maps,
        "Relevance for {}",
        "What speaks for {}",
        True,
        ("Attention weighed by what it did for this answer, through all layers (Chefer et al., ICCV 2021).",),
    ),
    "attribution": Method(
        attribution_maps,
        "Attribution of {}",
        "What speaks for {}",
        True,
        ("The score handed back part by part to all attention, weighed by its gradient (Chefer et al., CVPR 2021).",),
    ),
    "gradient": Method(
        gradient_maps,
        "Gradient of {}",
        "Where a change would change the score of {} most",
        True,
        ("How much the score would change with each pixel (Simonyan et al. 2014); the largest over the channels.",),
    ),
}
