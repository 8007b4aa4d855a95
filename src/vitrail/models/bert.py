"""BERT: an encoder that reads a text in both directions, learned by filling in words that were hidden.

One encoder with the norm after each sublayer, and one of several heads: the hidden word, the class of a text, the class
of each word piece, or where an answer begins and ends.
Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019.
The small sizes are those of Turc et al., "Well-Read Students Learn Better", 2019.
Compared with transformers in tests/parity/test_bert.py. Padding never changes an answer here: places are counted, and
the text is pooled, from its first word piece, where transformers takes the first of the row.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.blocks import ACTIVATIONS, MLP, EncoderBlock, Residual
from vitrail.core.dropout import Dropout
from vitrail.core.init import init_transformer
from vitrail.core.stacks import Stack
from vitrail.core.tokens import Tokens
from vitrail.core.words import check_ids, check_length, places
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges

Head = Literal["none", "masked-lm", "classify", "tag", "answer"]
WITH_CLASSES = ("classify", "tag")  # the heads that tell classes apart

SIZE, COUNT, RATE = Range(1, 2**24), Range(0, 2**24), Range(0, 1, below=True)
RANGES = {
    "vocabulary": SIZE, "max_tokens": SIZE, "segments": SIZE, "dim": SIZE, "depth": Range(1, 1000), "heads": SIZE,
    "mlp_dim": SIZE, "classes": COUNT, "eps": Range(0, above=True, usual="1e-12"), "dropout": RATE,
    "attention_dropout": RATE, "head_dropout": RATE,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class BertConfig:
    """Everything that shapes a BERT. The defaults are BERT-base."""

    vocabulary: int = 30522  # how many word pieces there are
    max_tokens: int = 512  # the longest text, in word pieces
    segments: int = 2  # how many texts can stand side by side, as a question and what answers it
    dim: int = 768  # width of a token
    depth: int = 12  # number of blocks
    heads: int = 12
    mlp_dim: int = 3072  # width inside each MLP
    activation: Literal["gelu", "gelu-tanh", "quick-gelu", "relu", "silu"] = "gelu"  # in MLPs and the masked-lm head
    eps: float = 1e-12  # of every layer norm
    pooler: bool = True  # a tanh layer on [CLS], which the head of classes reads
    next_sentence: bool = False  # a head that tells whether one text follows another (NSP); read, never trained here
    head: Head = "none"  # what is answered; without a head, the pooled token
    classes: int = 0  # of the heads classify and tag
    dropout: float = 0.1
    attention_dropout: float = 0.1  # of the weights of attention
    head_dropout: float | None = None  # before the head of classes; `None` for that of the blocks

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "", **RANGES)
        if self.dim % self.heads:
            raise ConfigError(
                f"dim={self.dim} does not divide into heads={self.heads}. Choose a multiple of {self.heads}."
            )
        if self.head in WITH_CLASSES and not self.classes:
            raise ConfigError(f"head={self.head!r} tells classes apart, and classes=0. Say how many there are.")
        if self.classes and self.head not in WITH_CLASSES:
            raise ConfigError(
                f"classes={self.classes} needs head='classify' for one class to a text, or head='tag' for one to each "
                f"word piece, and head={self.head!r}."
            )
        if not self.pooler and (self.head == "classify" or self.next_sentence):
            asks = "head='classify'" if self.head == "classify" else "next_sentence=True"
            raise ConfigError(f"{asks} reads the pooled token, and pooler=False. Use pooler=True.")


VARIANTS = {
    "bert-tiny": BertConfig(dim=128, depth=2, heads=2, mlp_dim=512),
    "bert-mini": BertConfig(dim=256, depth=4, heads=4, mlp_dim=1024),
    "bert-small": BertConfig(dim=512, depth=4, heads=8, mlp_dim=2048),
    "bert-medium": BertConfig(dim=512, depth=8, heads=8, mlp_dim=2048),
    "bert-base": BertConfig(),
    "bert-large": BertConfig(dim=1024, depth=24, heads=16, mlp_dim=4096),
}


def build_block(config: BertConfig) -> EncoderBlock:
    """One layer of the encoder."""

    def residual() -> Residual:
        return Residual(config.dim, norm="after", eps=config.eps, dropout=config.dropout)

    return EncoderBlock(
        Attention(config.dim, config.heads, dropout=config.attention_dropout),
        MLP(config.dim, config.mlp_dim, activation=ACTIVATIONS[config.activation]),
        residual(),
        residual(),
    )


class BertEmbed(nn.Module):
    """What is said, where, and in which of the texts, added up and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocabulary, config.dim)
        self.positions = nn.Embedding(config.max_tokens, config.dim)
        self.segments = nn.Embedding(config.segments, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        valid: Bool[Tensor, "batch tokens"] | None,
        segments: Int[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch tokens dim"]:
        check_length(ids.shape[1], self.positions.num_embeddings)
        check_ids(ids, self.words.num_embeddings)
        if segments is None:
            segments = torch.zeros_like(ids)
        check_ids(segments, self.segments.num_embeddings, "segment")
        at = torch.arange(ids.shape[1], device=ids.device) if valid is None else places(valid)
        return self.dropout(self.norm(self.words(ids) + self.positions(at) + self.segments(segments)))


class MaskedHead(nn.Module):
    """Which word piece was hidden: the token is made ready, and compared with the embedding of every word piece."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.dim, config.dim)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))

    def forward(
        self, x: Float[Tensor, "*batch dim"], words: Float[Tensor, "vocabulary dim"]
    ) -> Float[Tensor, "*batch vocabulary"]:
        return F.linear(self.norm(self.activation(self.transform(x))), words, self.bias)


def build_head(config: BertConfig) -> nn.Module | None:
    """What makes the answer of the tokens, if anything."""
    if config.head == "masked-lm":
        return MaskedHead(config)
    outputs = {"classify": config.classes, "tag": config.classes, "answer": 2}
    return nn.Linear(config.dim, outputs[config.head]) if config.head in outputs else None


class Bert(nn.Module):
    """Answer from word pieces that have all read each other."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = BertEmbed(config)
        self.blocks = Stack(build_block(config) for _ in range(config.depth))
        self.pooler = nn.Linear(config.dim, config.dim) if config.pooler else None
        self.next_sentence = nn.Linear(config.dim, 2) if config.next_sentence else None
        self.head = build_head(config)
        self.dropout = Dropout(config.dropout if config.head_dropout is None else config.head_dropout)
        init_transformer(self)
        for table in (self.embed.words, self.embed.positions, self.embed.segments):
            nn.init.normal_(table.weight, std=0.02)

    @property
    def source_table(self) -> Float[Tensor, "vocabulary dim"]:
        """A vector for each word piece."""
        return self.embed.words.weight

    @property
    def place_table(self) -> Float[Tensor, "tokens dim"]:
        """A vector for each place of a text."""
        return self.embed.positions.weight

    def encode(
        self,
        ids: Int[Tensor, "batch tokens"],
        valid: Bool[Tensor, "batch tokens"] | None = None,
        segments: Int[Tensor, "batch tokens"] | None = None,
    ) -> Tokens:
        """All word pieces after the last block, in one row.

        Args:
            ids: of the word pieces, as the tokenizer numbers them.
            valid: `True` where a word piece is of the text and not padding, which may stand on either side.
            segments: to which of the texts each belongs; all to the first unless given.

        Raises:
            ConfigError: a text longer than the model reads, or a number that its vocabulary does not have.
        """
        x = self.embed(ids, valid, segments)
        return self.blocks(Tokens(x, (1, ids.shape[1]), 0, valid))

    def pool(self, tokens: Tokens) -> Float[Tensor, "batch dim"]:
        """[CLS], the first token of each text, through a tanh layer where there is one."""
        first = tokens.x[:, 0]
        if tokens.valid is not None:
            begins = tokens.valid.int().argmax(dim=1)  # 0 where there is nothing but padding
            first = tokens.x[torch.arange(tokens.x.shape[0], device=tokens.x.device), begins]
        return first if self.pooler is None else torch.tanh(self.pooler(first))

    def follows(self, tokens: Tokens) -> Float[Tensor, "batch 2"]:
        """Logits of next-sentence prediction: the second text follows the first, or stands there by chance."""
        if self.next_sentence is None:
            raise ConfigError("This model cannot tell whether a text follows another. Make it with next_sentence=True.")
        return self.next_sentence(self.pool(tokens))

    def missing(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocabulary"]:
        """Logits of the word pieces that may stand where these tokens are; the training asks the hidden ones only."""
        if not isinstance(self.head, MaskedHead):
            raise ConfigError(f"This model has head={self.config.head!r}. For hidden words, use head='masked-lm'.")
        return self.head(x, self.source_table)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        valid: Bool[Tensor, "batch tokens"] | None = None,
        segments: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch *rest"]:
        """Logits, as the head has them; without a head, the pooled token.

        `masked-lm` answers (batch, tokens, vocabulary), `classify` (batch, classes), `tag` (batch, tokens, classes)
        and `answer` (batch, tokens, 2): where an answer begins and where it ends.
        """
        tokens = self.encode(ids, valid, segments)
        if self.head is None:
            return self.pool(tokens)
        if isinstance(self.head, MaskedHead):
            return self.missing(tokens.x)
        if self.config.head == "answer":
            return self.head(tokens.x)
        return self.head(self.dropout(self.pool(tokens) if self.config.head == "classify" else tokens.x))
