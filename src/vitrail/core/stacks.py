"""A run of blocks: the last tokens, or the tokens at chosen depths."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrail.core.masks import padding_mask
from vitrail.core.tokens import Tokens
from vitrail.errors import ConfigError


@contextmanager
def unmoved(block: nn.Module) -> Iterator[None]:
    """Within it, what a block counts stays as it is: the statistics of batch norms."""
    before = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)


class Blocks(nn.ModuleList):
    """Blocks that are run one after the other.

    Set `checkpointing = True` to compute activations again in the backward pass instead of keeping them: less
    memory, about a third more time.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__(blocks)
        self.checkpointing = False

    def run(self, block: nn.Module, *given: Tensor | None, **told: Any) -> Tensor:
        """What a block makes of what it is given, and told besides."""
        if not (self.checkpointing and self.training):
            return block(*given, **told)
        return checkpoint(
            block,
            *given,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), unmoved(block)),  # the second time it has counted already
            **told,
        )


class Stack(Blocks):
    """An encoder: blocks in which every token sees every one that is not padding.

    Where more is masked, or there is a memory (a decoder), `Blocks` are run one by one.
    """

    def forward(self, tokens: Tokens, position: Tensor | None = None) -> Tokens:
        """The tokens after the last block; `position` is told to each block, where one is given."""
        return self.at(tokens, [len(self) - 1], position)[0] if len(self) else tokens

    def at(self, tokens: Tokens, depths: Sequence[int], position: Tensor | None = None) -> list[Tokens]:
        """The tokens after each of the chosen blocks; later blocks are not run.

        Args:
            tokens: what the first block reads.
            depths: blocks, counted from 0; negative ones count from the end.
            position: told to every block, where they want it.

        Raises:
            ConfigError: none, or one that there is not.
        """
        if isinstance(depths, int):
            raise ConfigError(f"{depths} is one block; expected a sequence of them, such as ({depths},).")
        if not depths:
            raise ConfigError(f"No block was named. This model has blocks 0 to {len(self) - 1}.")
        outside = [depth for depth in depths if not -len(self) <= depth < len(self)]
        if outside:
            raise ConfigError(f"There is no block {outside[0]}: this model has blocks 0 to {len(self) - 1}.")
        depths = [depth % len(self) for depth in depths]
        x, mask = tokens.x, None
        if tokens.valid is not None:
            x = x.masked_fill(~tokens.valid[..., None], 0.0)  # whatever stands in padding cannot leak, even NaN
            mask = padding_mask(tokens.valid)
        told = {"mask": mask} if position is None else {"mask": mask, "position": position}
        seen: dict[int, Tokens] = {}
        for depth in range(max(depths) + 1):
            x = self.run(self[depth], x, **told)
            if depth in depths:
                seen[depth] = tokens._replace(x=x)
        return [seen[depth] for depth in depths]
