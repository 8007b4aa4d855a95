"""Which parameters learn, how fast each of them does, and which are pulled towards zero."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitrail.core.stacks import Blocks
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.loading import is_any


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay.

    Attributes:
        rate: the learning rate at its peak.
        decay: how strongly weight matrices are pulled towards zero.
        betas: memory of the mean and of the square of the gradient.
        eps: added below the fraction.
        layer_decay: each layer learns this much slower than the one above it; 1 for all alike. Fine-tuning uses
            0.65 to 0.9.
        backbone: the rate of a model's backbone, as a share of that of what stands on it; 1 for the same. Detectors
            whose backbone has learned from many more pictures use 0.1 (Carion et al., ECCV 2020, section 4).

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """

    rate: float = 1e-3
    decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    layer_decay: float = 1.0
    backbone: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            "optimiser.",
            rate=Range(0, 100, above=True, usual="1e-5 to 1e-3"),
            decay=Range(0, 100, usual="0.01 to 0.3"),
            betas=Range(0, 1, below=True, usual="0.9,0.999"),
            eps=Range(0, 1, above=True, usual="1e-8"),
            layer_decay=Range(0, 1, above=True, usual="0.65 to 0.9, or 1 for all layers alike"),
            backbone=Range(0, 100, above=True, usual="0.1 for one with published weights, or 1"),
        )


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let the parameters whose names match stay as they are.

    Args:
        patterns: names as `model.named_parameters()` has them, with `*` for anything: `blocks.0.*`.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(is_any(name, [pattern]) for name in names):
            raise ConfigError(f"freeze={pattern!r} matches no parameter. The first are {', '.join(names[:4])} ...")
    for name, parameter in model.named_parameters():
        if is_any(name, patterns):
            parameter.requires_grad_(False)


def freeze_all_but(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let only the parameters whose names match learn: a linear probe, when they are those of the head."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_any(name, patterns))


def train_mode(model: nn.Module) -> None:
    """Put into training mode what learns; a part with only frozen parameters behaves as it will in use."""
    model.train()
    for part in model.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def layers(model: nn.Module) -> dict[str, int]:
    """How far up each parameter stands: 0 in the stem, then one more for each block of its `Blocks`, then the head.

    Parts are taken in the order in which the model defines them. What stands between two runs of blocks belongs to the
    block that follows; the last norm and the head share the last number, as in BEiT.
    """
    stacks = [(name, part) for name, part in model.named_modules() if isinstance(part, Blocks)]
    blocks = [f"{name}.{place}." for name, stack in stacks for place in range(len(stack))]
    found, passed = {}, 0
    for name, _ in model.named_parameters():
        inside = next((number for number, block in enumerate(blocks, 1) if name.startswith(block)), None)
        passed = passed if inside is None else inside
        if inside is not None:
            found[name] = inside
        elif passed == 0:
            found[name] = 0
        else:
            found[name] = passed + 1
    return found


def decays(model: nn.Module) -> set[str]:
    """The parameters that weight decay applies to: the matrices of linear and convolution layers.

    Biases, norms, tokens, positions and layer scales are left alone: pulling them to zero does not make the
    function simpler.
    """
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return {f"{name}.weight".lstrip(".") for name, part in model.named_modules() if isinstance(part, kinds)}


def parameter_groups(model: nn.Module, config: AdamW) -> list[dict]:
    """Parameters that are stepped alike, with their `scale` of the rate and their `weight_decay`.

    The scale is `layer_decay` to the power of how many layers stand above (Bao et al., "BEiT", ICLR 2022,
    appendix; Clark et al., "ELECTRA", ICLR 2020), times `backbone` in a part of that name.
    """
    depth, pulled = layers(model), decays(model)
    top = max(depth.values(), default=0)
    groups: dict[tuple[float, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.layer_decay ** (top - depth[name])
        if "backbone" in name.split("."):
            scale *= config.backbone
        key = (scale, name in pulled)
        if key not in groups:
            groups[key] = {
                "params": [],
                "names": [],
                "scale": scale,
                "weight_decay": config.decay if name in pulled else 0.0,
            }
        groups[key]["params"].append(parameter)
        groups[key]["names"].append(name)
    return list(groups.values())


def build_optimiser(model: nn.Module, config: AdamW) -> torch.optim.AdamW:
    """The optimiser of whatever learns in a model.

    Raises:
        ConfigError: everything is frozen.
    """
    groups = parameter_groups(model, config)
    if not groups:
        raise ConfigError("Everything in the model is frozen, so there is nothing to train. Take names out of freeze.")
    mean, square = map(float, config.betas)  # torch takes no whole numbers here, and a person may type 0
    return torch.optim.AdamW(groups, lr=config.rate, betas=(mean, square), eps=config.eps, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its rate: the schedule's, scaled for its layer."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]


def gradients(model: nn.Module) -> list[Tensor]:
    """The gradients that there are."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def gradient_norm(model: nn.Module) -> float:
    """How long the gradient is, taken as one vector; 0 when there is none."""
    return float(torch.nn.utils.get_total_norm(gradients(model)))


def clip(model: nn.Module, norm: float, limit: float | None) -> None:
    """Shorten the gradient, taken as one long vector, to a limit.

    Args:
        norm: how long it is.
        limit: how long it may be; `None` for any length.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.
    """
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradients(model), limit / norm)
