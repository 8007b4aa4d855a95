"""GPT: a decoder that writes a text word by word, each from all that came before it.

The layout is GPT-2's: the norm before each sublayer, learned positions, and an output that compares with the embedding
of every word piece.
Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
Compared with transformers in tests/parity/test_gpt.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.blocks import ACTIVATIONS, MLP, EncoderBlock, Residual
from vitrail.core.cache import KeyValueCache
from vitrail.core.dropout import Dropout
from vitrail.core.init import init_transformer
from vitrail.core.masks import causal_mask, join, padding_mask
from vitrail.core.quick import quick
from vitrail.core.shortlist import answered_by
from vitrail.core.stacks import Blocks
from vitrail.core.words import check_ids, check_length, check_places, places
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges

SIZE, RATE = Range(1, 2**24), Range(0, 1, below=True)
RANGES = {
    "vocabulary": SIZE, "max_tokens": SIZE, "dim": SIZE, "depth": Range(1, 1000), "heads": SIZE, "mlp_dim": SIZE,
    "eps": Range(0, above=True, usual="1e-5"), "dropout": RATE, "attention_dropout": RATE, "embed_dropout": RATE,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTConfig:
    """Everything that shapes a GPT. The defaults are GPT-2's smallest."""

    vocabulary: int = 50257  # how many word pieces there are
    max_tokens: int = 1024  # the longest text, in word pieces, the prompt included
    dim: int = 768  # width of a token
    depth: int = 12  # number of blocks
    heads: int = 12
    mlp_dim: int = 3072  # width inside each MLP
    activation: Literal["gelu", "gelu-tanh", "quick-gelu", "relu", "silu"] = "gelu-tanh"  # inside each MLP
    eps: float = 1e-5  # of every layer norm
    scaled: bool = True  # scores are divided by the root of the width of a head
    scaled_by_depth: bool = False  # and by the number of their block, counted from 1
    precise_scores: bool = False  # attention is computed in float32 where the weights have half the precision
    dropout: float = 0.1
    attention_dropout: float = 0.1  # of the weights of attention
    embed_dropout: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "", **RANGES)
        if self.dim % self.heads:
            raise ConfigError(
                f"dim={self.dim} does not divide into heads={self.heads}. Choose a multiple of {self.heads}."
            )

    def scale(self, block: int) -> float:
        """What the scores of a block, counted from 0, are multiplied by."""
        scale = (self.dim // self.heads) ** -0.5 if self.scaled else 1.0
        return scale / (block + 1) if self.scaled_by_depth else scale


VARIANTS = {
    "gpt-mini": GPTConfig(vocabulary=8192, max_tokens=256, dim=256, depth=6, heads=8, mlp_dim=1024),
    "gpt2": GPTConfig(),
    "gpt2-medium": GPTConfig(dim=1024, depth=24, heads=16, mlp_dim=4096),
    "gpt2-large": GPTConfig(dim=1280, depth=36, heads=20, mlp_dim=5120),
    "gpt2-xl": GPTConfig(dim=1600, depth=48, heads=25, mlp_dim=6400),
}


def in_float32(
    query: Float[Tensor, "batch heads query width"],
    key: Float[Tensor, "batch heads key width"],
    value: Float[Tensor, "batch heads key value_width"],
    mask: Tensor | None,
    *,
    scale: float,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads query value_width"]:
    """`quick` in at least single precision, whatever the weights are held in."""
    if query.element_size() >= 4:
        return quick(query, key, value, mask, scale=scale, dropout=dropout)
    with torch.autocast(query.device.type, enabled=False):
        answer = quick(query.float(), key.float(), value.float(), mask, scale=scale, dropout=dropout)
    return answer.to(value.dtype)


def build_block(config: GPTConfig, block: int) -> EncoderBlock:
    """One layer, by its number from 0."""

    def residual() -> Residual:
        return Residual(config.dim, norm="before", eps=config.eps, dropout=config.dropout)

    return EncoderBlock(
        Attention(
            config.dim,
            config.heads,
            scale=config.scale(block),
            dropout=config.attention_dropout,
            kernel=in_float32 if config.precise_scores else quick,
        ),
        MLP(config.dim, config.mlp_dim, activation=ACTIVATIONS[config.activation]),
        residual(),
        residual(),
    )


class GPT(nn.Module):
    """Say which word piece comes next, after each of a text."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Linear(config.dim, config.vocabulary, bias=False)  # its rows are the embeddings too
        self.positions = nn.Embedding(config.max_tokens, config.dim)
        self.dropout = Dropout(config.embed_dropout)
        self.blocks = Blocks(build_block(config, block) for block in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        init_transformer(self)
        for table in (self.words, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        for name, weight in self.named_parameters():  # what each adds to the path is drawn smaller the more there are
            if name.endswith(("attention.out.weight", "mlp.contract.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.depth))

    @property
    def source_table(self) -> Float[Tensor, "vocabulary dim"]:
        """A vector for each word piece."""
        return self.words.weight

    @property
    def place_table(self) -> Float[Tensor, "tokens dim"]:
        """A vector for each place of a text."""
        return self.positions.weight

    def cache(self, batch: int, capacity: int) -> list[KeyValueCache]:
        """Room for so many word pieces of so many texts, padding included, to be handed to `forward` as `past`."""
        attentions = [part for part in self.blocks.modules() if isinstance(part, Attention)]
        return [attention.cache(batch, capacity) for attention in attentions]

    def embed(
        self, ids: Int[Tensor, "batch new"], valid: Bool[Tensor, "batch all"] | None, before: int
    ) -> Float[Tensor, "batch new dim"]:
        """What is said and where, added up; `before` word pieces came earlier."""
        end = before + ids.shape[1]
        check_ids(ids, self.config.vocabulary)
        if valid is None:
            check_length(end, self.config.max_tokens)
            return self.dropout(
                F.embedding(ids, self.words.weight) + self.positions(torch.arange(before, end, device=ids.device))
            )
        if valid.shape[1] != end:
            raise ConfigError(
                f"valid is {valid.shape[1]} word pieces long, and there are {end}: {before} of the past and "
                f"{ids.shape[1]} new ones. It says of all of them whether they are of the text."
            )
        check_places(valid, self.config.max_tokens)
        return self.dropout(F.embedding(ids, self.words.weight) + self.positions(places(valid)[:, before:]))

    def encode(
        self,
        ids: Int[Tensor, "batch new"],
        valid: Bool[Tensor, "batch all"] | None = None,
        past: Sequence[KeyValueCache] | None = None,
    ) -> Float[Tensor, "batch new dim"]:
        """The newest tokens after the last block, normalised.

        Args:
            ids: of the word pieces, as the tokenizer numbers them; with a past, those that have come since.
            valid: `True` where a word piece is of the text and not padding, which may stand on either side; with a
                past, of the earlier ones too.
            past: what each block has kept of earlier word pieces (`cache`); the new ones are added to it.

        Raises:
            ConfigError: a text longer than the model reads, or a number that its vocabulary does not have.
        """
        before = past[0].length if past else 0
        x = self.embed(ids, valid, before)
        mask = causal_mask(ids.shape[1], before + ids.shape[1], ids.device) if ids.shape[1] > 1 else None
        if valid is not None:
            mask = join(mask, padding_mask(valid))
        for block, kept in zip(self.blocks, past or [None] * len(self.blocks), strict=True):
            x = self.blocks.run(block, x, mask=mask, past=kept)
        return self.norm(x)

    @answered_by("words")
    def next(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocabulary"]:
        """Logits of the word pieces that may follow these tokens."""
        return self.words(x)

    def forward(
        self,
        ids: Int[Tensor, "batch new"],
        valid: Bool[Tensor, "batch all"] | None = None,
        past: Sequence[KeyValueCache] | None = None,
    ) -> Float[Tensor, "batch new vocabulary"]:
        """Logits of what follows each of the newest word pieces; see `encode`."""
        return self.next(self.encode(ids, valid, past))
