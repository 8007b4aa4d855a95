"""The Transformer: a sentence is read by an encoder, and another is written by a decoder that looks at it.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017. The paper's N is `encoder_depth` and
`decoder_depth`, its d_model is `dim` and its d_ff the two `mlp_dim`. With other parts it is Marian (Junczys-Dowmunt et
al., ACL 2018) as transformers has it, and torch's `nn.Transformer`.
Compared with both, and with the Annotated Transformer, in tests/parity/test_transformer.py and test_marian.py.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.blocks import ACTIVATIONS, MLP, DecoderBlock, EncoderBlock, Residual
from vitrail.core.cache import DecoderCache
from vitrail.core.dropout import dropout
from vitrail.core.masks import causal_mask, join, padding_mask
from vitrail.core.positions import sinusoidal
from vitrail.core.shortlist import answered_by
from vitrail.core.stacks import Blocks, Stack
from vitrail.core.tokens import Tokens
from vitrail.core.words import check_ids, check_length, places
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges

SIZE, DEPTH, RATE = Range(1, 2**24), Range(1, 1000), Range(0, 1, below=True)
RANGES = {
    "source_vocabulary": SIZE, "target_vocabulary": SIZE, "max_tokens": SIZE, "dim": SIZE, "encoder_depth": DEPTH,
    "decoder_depth": DEPTH, "encoder_heads": SIZE, "decoder_heads": SIZE, "encoder_mlp_dim": SIZE,
    "decoder_mlp_dim": SIZE, "eps": Range(0, above=True, usual="1e-6"), "dropout": RATE, "attention_dropout": RATE,
    "activation_dropout": RATE,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """Everything that shapes an encoder-decoder Transformer. The defaults are the paper's base model."""

    source_vocabulary: int = 37_000  # word pieces that it can read
    target_vocabulary: int = 37_000  # word pieces that it can write
    max_tokens: int = 1024  # of the longest sentence, read or written
    dim: int = 512  # width of a token
    encoder_depth: int = 6  # number of blocks
    decoder_depth: int = 6
    encoder_heads: int = 8
    decoder_heads: int = 8
    encoder_mlp_dim: int = 2048  # width inside each MLP
    decoder_mlp_dim: int = 2048

    share: Literal["all", "target", "none"] = "all"  # one matrix for both embeddings and the output, or the last two
    output_bias: bool = False  # what is added to the logits
    scale_embedding: bool = True  # embeddings times sqrt(dim)
    sinusoids: Literal["interleaved", "halves"] = "interleaved"
    places: Literal["tokens", "columns"] = "tokens"  # what positions count: padding not, or padding too

    norm: Literal["before", "after"] = "after"
    final_norm: bool | None = None  # after each stack; None: where the norms stand before
    eps: float = 1e-6  # of every layer norm
    activation: Literal["gelu", "gelu-tanh", "quick-gelu", "relu", "silu"] = "relu"
    dropout: float = 0.1  # of embeddings and of every branch
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "", **RANGES)
        for name in ("encoder_heads", "decoder_heads"):
            if self.dim % getattr(self, name):
                raise ConfigError(
                    f"dim={self.dim} does not divide into {name}={getattr(self, name)}. "
                    f"Choose a multiple of {getattr(self, name)}."
                )
        if self.share == "all" and self.source_vocabulary != self.target_vocabulary:
            raise ConfigError(
                f"share='all' needs one vocabulary, and source_vocabulary={self.source_vocabulary} is not "
                f"target_vocabulary={self.target_vocabulary}. Use share='target'."
            )

    @property
    def normed(self) -> bool:
        """Whether a norm stands after each stack."""
        return self.norm == "before" if self.final_norm is None else self.final_norm


def both(**sizes: int) -> dict[str, Any]:
    """The same sizes for the encoder and the decoder."""
    return {f"{stack}_{name}": size for name, size in sizes.items() for stack in ("encoder", "decoder")}


def vocabulary(size: int) -> dict[str, Any]:
    """One vocabulary for both languages."""
    return {"source_vocabulary": size, "target_vocabulary": size}


VARIANTS = {
    "transformer-tiny": TransformerConfig(**vocabulary(4_000), **both(depth=2, heads=4, mlp_dim=512), dim=128),
    "transformer-small": TransformerConfig(**vocabulary(8_000), **both(depth=3, heads=8, mlp_dim=1024), dim=256),
    "transformer-base": TransformerConfig(),
    "transformer-big": TransformerConfig(**both(heads=16, mlp_dim=4096), dim=1024, dropout=0.3),
}


def build_residual(config: TransformerConfig) -> Residual:
    return Residual(config.dim, norm=config.norm, eps=config.eps, dropout=config.dropout)


def build_mlp(config: TransformerConfig, hidden: int) -> MLP:
    return MLP(config.dim, hidden, activation=ACTIVATIONS[config.activation], dropout=config.activation_dropout)


def build_encoder_block(config: TransformerConfig) -> EncoderBlock:
    """One layer of the encoder."""
    return EncoderBlock(
        Attention(config.dim, config.encoder_heads, dropout=config.attention_dropout),
        build_mlp(config, config.encoder_mlp_dim),
        build_residual(config),
        build_residual(config),
    )


def build_decoder_block(config: TransformerConfig) -> DecoderBlock:
    """One layer of the decoder."""
    return DecoderBlock(
        Attention(config.dim, config.decoder_heads, dropout=config.attention_dropout),
        Attention(config.dim, config.decoder_heads, dropout=config.attention_dropout),
        build_mlp(config, config.decoder_mlp_dim),
        build_residual(config),
        build_residual(config),
        build_residual(config),
    )


def init_words_and_layers(model: nn.Module, words: Iterable[nn.Module], dim: int) -> None:
    """Draw weights: Glorot's uniform for linear layers, deviation 1 / sqrt(dim) for words.

    The paper does not say; this is what tensor2tensor does, so that scaled embeddings have deviation 1.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in words:
        nn.init.normal_(part.get_parameter("weight"), std=dim**-0.5)


class Transformer(nn.Module):
    """Say how likely each word is to come next, given a sentence and what has been written of another.

    Where embeddings share the matrix of the output, `output` holds it and they have none of their own.
    """

    positions: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.source_embedding = nn.Embedding(config.source_vocabulary, dim) if config.share != "all" else None
        self.target_embedding = nn.Embedding(config.target_vocabulary, dim) if config.share == "none" else None
        self.register_buffer("positions", sinusoidal(config.max_tokens, dim, layout=config.sinusoids), persistent=False)
        self.encoder = Stack(build_encoder_block(config) for _ in range(config.encoder_depth))
        self.encoder_norm = nn.LayerNorm(dim, eps=config.eps) if config.normed else nn.Identity()
        self.decoder = Blocks(build_decoder_block(config) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(dim, eps=config.eps) if config.normed else nn.Identity()
        self.output = nn.Linear(dim, config.target_vocabulary, bias=config.output_bias)
        words = (self.source_embedding, self.target_embedding, self.output)
        init_words_and_layers(self, [part for part in words if part is not None], dim)

    @property
    def source_table(self) -> Float[Tensor, "vocabulary dim"]:
        """A vector for each word that is read."""
        return (self.output if self.source_embedding is None else self.source_embedding).weight

    @property
    def place_table(self) -> Float[Tensor, "tokens dim"]:
        """A vector for each place of a sentence."""
        return self.positions

    @property
    def target_table(self) -> Float[Tensor, "vocabulary dim"]:
        """A vector for each word that is written."""
        return (self.output if self.target_embedding is None else self.target_embedding).weight

    def embed(
        self,
        ids: Int[Tensor, "batch tokens"],
        table: Float[Tensor, "vocabulary dim"],
        valid: Bool[Tensor, "batch all"] | None,
        before: int = 0,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Each word as a vector that knows its place; padding is all zeros.

        Args:
            ids: the words that have come after `before` others.
            table: a vector for each word of the vocabulary.
            valid: `True` where a token is real, for the words before and for these.
            before: how many words stood before.

        Raises:
            ConfigError: a longer sentence than there are places, or a number that the vocabulary does not have.
        """
        end = before + ids.shape[1]
        check_length(end, self.config.max_tokens)
        check_ids(ids, table.shape[0])
        x = F.embedding(ids, table)
        if self.config.scale_embedding:
            x = x * math.sqrt(self.config.dim)  # section 3.4
        if valid is None:
            return self.drop(x + self.positions[before:end])
        if self.config.places == "tokens":
            x = x + self.positions[places(valid)[:, before:]]
        else:
            x = x + self.positions[before:end]
        return self.drop(x).masked_fill(~valid[:, before:, None], 0.0)

    def drop(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        return dropout(x, self.config.dropout, self.training)

    def encode(
        self, source: Int[Tensor, "batch source"], source_valid: Bool[Tensor, "batch source"] | None = None
    ) -> Float[Tensor, "batch source dim"]:
        """What the encoder understands of a sentence: the memory that a decoder looks at.

        Args:
            source: the words of the sentence.
            source_valid: `True` where a word is real and not padding; `None` when all are.
        """
        x = self.embed(source, self.source_table, source_valid)
        return self.encoder_norm(self.encoder(Tokens(x, (1, source.shape[1]), 0, source_valid)).x)

    def decode(
        self,
        target: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source dim"],
        source_valid: Bool[Tensor, "batch source"] | None = None,
        target_valid: Bool[Tensor, "batch all"] | None = None,
        past: Sequence[DecoderCache] | None = None,
    ) -> Float[Tensor, "batch target dim"]:
        """What the decoder makes of the words so far, each seeing only itself and those before.

        Args:
            target: the words that have been written; with a `past`, those that have come since.
            memory: what `encode` gives.
            source_valid: which of the memory is real and not padding.
            target_valid: which of all words written so far are, with a `past` those before included.
            past: what each block has kept of earlier words (`cache`); these are added to it.
        """
        before, new = past[0].tokens.length if past else 0, target.shape[1]
        x = self.embed(target, self.target_table, target_valid, before)
        causal = causal_mask(new, before + new, target.device) if new > 1 else None
        mask = join(causal, None if target_valid is None else padding_mask(target_valid))
        return self.write(x, mask, memory, source_valid, past)

    def write(
        self,
        x: Float[Tensor, "batch target dim"],
        mask: Tensor | None,
        memory: Float[Tensor, "batch source dim"],
        source_valid: Bool[Tensor, "batch source"] | None = None,
        past: Sequence[DecoderCache] | None = None,
    ) -> Float[Tensor, "batch target dim"]:
        """The blocks of the decoder over any tokens, of which `mask` says who may look at whom."""
        memory_mask = None if source_valid is None else padding_mask(source_valid)
        for depth, block in enumerate(self.decoder):
            kept = None if past is None else past[depth]
            x = self.decoder.run(block, x, memory, mask=mask, memory_mask=memory_mask, past=kept)
        return self.decoder_norm(x)

    def cache(self, batch: int, capacity: int, memory: int) -> list[DecoderCache]:
        """Room in every block for so many words to be written, and for a memory of so many."""
        return [block.cache(batch, capacity, memory) for block in self.decoder]  # pyright: ignore[reportCallIssue]

    @answered_by("output")
    def next(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocabulary"]:
        """Logits of the word that may follow what the decoder made of the words so far."""
        return self.output(x)

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        source_valid: Bool[Tensor, "batch source"] | None = None,
        target_valid: Bool[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target vocabulary"]:
        """Logits of the word that follows each word of the target, which begins with the start symbol."""
        memory = self.encode(source, source_valid)
        return self.next(self.decode(target, memory, source_valid, target_valid))
