"""A Transformer that writes all words at once: each place asks by itself, and nobody waits for the word before.

A learned token before the source says how long the answer will be; a learned query stands at each place of which
nothing is known yet. The decoder has no look-ahead mask, so that words which are known help those that are not:
hiding the least certain ones and asking again refines the answer (`decoding/parallel.py`).

Source: Gu et al., "Non-Autoregressive Neural Machine Translation", ICLR 2018; Ghazvininejad et al., "Mask-Predict:
Parallel Decoding of Conditional Masked Language Models", EMNLP 2019, whose single mask token is a query for each place
here, as in DETR (Carion et al., ECCV 2020). The encoder and the decoder are those of `models/transformer.py`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.masks import padding_mask
from vitrail.core.tokens import Tokens
from vitrail.core.words import check_length, places
from vitrail.models.transformer import Transformer, TransformerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelTransformerConfig(TransformerConfig):
    """Everything that shapes it: the fields of the Transformer whose parts it has."""


class Understood(NamedTuple):
    """What the encoder makes of a sentence.

    Attributes:
        memory: what the decoder looks at.
        lengths: logits of how many words the answer has, from 1 on.
    """

    memory: Float[Tensor, "batch source dim"]
    lengths: Float[Tensor, "batch lengths"]


class Guessed(NamedTuple):
    """What is learned from.

    Attributes:
        logits: of the word at each place.
        lengths: logits of how many words the answer has, from 1 on.
    """

    logits: Float[Tensor, "batch target vocabulary"]
    lengths: Float[Tensor, "batch lengths"]


class ParallelTransformer(nn.Module):
    """Say how likely each word is at every hidden place, given a sentence and the words that are not hidden."""

    def __init__(self, config: ParallelTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.length_token = nn.Parameter(torch.empty(1, 1, config.dim).normal_())
        self.length_head = nn.Linear(config.dim, config.max_tokens)
        self.queries = nn.Parameter(torch.empty(config.max_tokens, config.dim).normal_())

    @property
    def source_table(self) -> Float[Tensor, "vocabulary dim"]:
        """A vector for each word that is read."""
        return self.transformer.source_table

    @property
    def place_table(self) -> Float[Tensor, "tokens dim"]:
        """A vector for each place of a sentence."""
        return self.transformer.place_table

    def encode(
        self, source: Int[Tensor, "batch source"], source_valid: Bool[Tensor, "batch source"] | None = None
    ) -> Understood:
        """Read a sentence, and guess how long the answer will be."""
        part = self.transformer
        x = part.embed(source, part.source_table, source_valid)
        x = torch.cat([self.length_token.expand(x.shape[0], -1, -1), x], dim=1)
        valid = None
        if source_valid is not None:
            valid = torch.cat([source_valid.new_ones(x.shape[0], 1), source_valid], dim=1)
        x = part.encoder_norm(part.encoder(Tokens(x, (1, x.shape[1]), 0, valid)).x)
        return Understood(x[:, 1:], self.length_head(x[:, 0]))

    def decode(
        self,
        target: Int[Tensor, "batch target"],
        hidden: Bool[Tensor, "batch target"],
        memory: Float[Tensor, "batch source dim"],
        source_valid: Bool[Tensor, "batch source"] | None = None,
        target_valid: Bool[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target dim"]:
        """What the decoder makes of each place, from which `guess` tells its word.

        Args:
            target: the words; those that are hidden are not looked at.
            hidden: `True` where a word is not known, and a query stands in its place.
            memory: what `encode` gives.
            source_valid: which of the memory is real and not padding.
            target_valid: which places the answer has.
        """
        part = self.transformer
        check_length(target.shape[1], self.config.max_tokens)
        known = part.embed(target.masked_fill(hidden, 0), part.target_table, target_valid)
        at = torch.arange(target.shape[1], device=target.device)[None] if target_valid is None else places(target_valid)
        x = torch.where(hidden[..., None], part.drop(self.queries[at] + part.positions[at]), known)
        mask = None
        if target_valid is not None:
            x, mask = x.masked_fill(~target_valid[..., None], 0.0), padding_mask(target_valid)
        return part.write(x, mask, memory, source_valid)

    def guess(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocabulary"]:
        """Logits of the word at places of which the decoder made this; the training asks the hidden ones only."""
        return self.transformer.next(x)

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        hidden: Bool[Tensor, "batch target"],
        source_valid: Bool[Tensor, "batch source"] | None = None,
        target_valid: Bool[Tensor, "batch target"] | None = None,
    ) -> Guessed:
        """Logits of the word at each place, and of the length of the answer; see `encode` and `decode`."""
        memory, lengths = self.encode(source, source_valid)
        return Guessed(self.guess(self.decode(target, hidden, memory, source_valid, target_valid)), lengths)
