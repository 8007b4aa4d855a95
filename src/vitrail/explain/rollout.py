"""Attention through all layers at once: what a token looks at, through whatever those tokens looked at before.

Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section 3. Compared with numbers of
other people's code in tests/parity/test_explain.py. They have one stack. Through a decoder the same rule is applied to
each attention in turn: half of what a token is then comes from those that it looks at, be they written or read.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vitrail.explain.streams import Flow, Step, identity, parted


def rollout(mixed: Sequence[Float[Tensor, "batch tokens tokens"]]) -> Float[Tensor, "batch tokens tokens"]:
    """The product of the layers, each with the identity for what goes past it.

    Args:
        mixed: the attention of each layer, the mean of its heads, from the first to the last; a row sums to one.

    Returns:
        How much of each token of the input (columns) there is in each token of the output (rows); a row sums to one.
    """
    flow = identity(mixed[0])
    for one in mixed:
        through = one + identity(one)  # half of it attended to, half passed by the residual connection
        flow = through / through.sum(dim=-1, keepdim=True) @ flow
    return flow


def rollout_across(encoder: Float[Tensor, "batch source source"], decoder: Sequence[Step]) -> Flow:
    """The same through a decoder that looks at what an encoder has read.

    Args:
        encoder: rollout of the encoder; the tokens that the decoder looks at are its last ones.
        decoder: the mean of the heads of each attention of the decoder, from the first to the last.

    Returns:
        How much of each token that was written or read there is in each token of the decoder; the two rows together sum
        to one.
    """
    own = identity(decoder[0].mixed)
    read = own.new_zeros(*own.shape[:2], encoder.shape[-1])
    for across, mixed in decoder:
        if across:
            own, read = own / 2, (read + mixed @ encoder[:, -mixed.shape[-1] :]) / 2
        else:
            own, read = (own + mixed @ own) / 2, (read + mixed @ read) / 2
    return Flow(own, read)


def rollout_of(model: nn.Module, names: Sequence[str], maps: Sequence[Tensor]) -> Flow:
    """Rollout through a model, whether or not it has a decoder.

    Args:
        model: whose attention it is.
        names: of the layers, in the order in which they were asked.
        maps: their attention: (batch, heads, query, key).

    Raises:
        ExplanationError: the layers of one stack attend over different tokens.
    """
    encoder, decoder = parted(model, names, [one.mean(dim=1) for one in maps])
    within = rollout(encoder)
    return rollout_across(within, decoder) if decoder else Flow(within)
