"""How weights are drawn before training, and how not to where they are loaded."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWS = (
    nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_, Tensor.erfinv_,
)  # fmt: skip


class Undrawn(TorchFunctionMode):
    """Parameters made within have no first values, for weights that are about to take their place.

    Drawing those of ViT-L takes seconds; so does the first draw on the meta device, where torch loads its compiler.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        drawn = kwargs.get("tensor", args[0] if args else None)
        return drawn if function in DRAWS and isinstance(drawn, nn.Parameter) else function(*args, **kwargs)


def init_transformer(module: nn.Module) -> None:
    """Draw linear layers from a normal of deviation 0.02 with zero biases, as timm and DeiT do.

    Their code cuts the normal at -2 and 2, a hundred deviations away: never. Not cutting is ten times as fast. The code
    of BERT cuts it at two deviations, and that of ViT draws from Glorot's uniform.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def init_convolutions(module: nn.Module) -> None:
    """Draw convolutions from a normal that keeps the size of gradients on the way back through rectifiers.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 14.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def depth_decay(rate: float, depth: int) -> list[float]:
    """Stochastic depth that grows along the stack: 0 at the first block, `rate` at the last."""
    return [rate * block / max(depth - 1, 1) for block in range(depth)]
