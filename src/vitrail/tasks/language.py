"""Foretelling the next word, and guessing hidden ones: what language models learn by, without any labels.

Sources: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Devlin et al., "BERT", NAACL 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.decoding.write import complete
from vitrail.errors import ConfigError
from vitrail.generation import Generation
from vitrail.samples import Batch, Words
from vitrail.tasks.surprise import mean_surprise, rows_asked
from vitrail.tasks.task import Loss
from vitrail.tasks.text_scores import IGNORED, Foretold, TokenMetrics, asked_for
from vitrail.tasks.translate import Sentence, how, sentences
from vitrail.tokenizing import TextPreprocessing


def foretold_where_asked(
    logits: Float[Tensor, "asked vocabulary"], target: Int[Tensor, "batch tokens"]
) -> list[Foretold]:
    """What logits say about the true tokens.

    Args:
        logits: where something is asked, row by row.
        target: what stands there; `IGNORED` elsewhere.
    """
    asked = target != IGNORED
    ids, surprise = torch.zeros_like(target), logits.new_zeros(target.shape, dtype=torch.float32)
    ids[asked] = logits.argmax(dim=1)
    surprise[asked] = F.cross_entropy(logits.float(), target[asked], reduction="none")
    return [Foretold(*row) for row in zip(ids.cpu(), surprise.cpu(), strict=True)]


class Guess(NamedTuple):
    """What may stand behind one mask.

    Attributes:
        pieces: the likeliest, likeliest first, each with its probability.
    """

    pieces: tuple[tuple[str, float], ...]


class Filled(NamedTuple):
    """A text with hidden words, and what a model takes them for.

    Attributes:
        text: with the likeliest word in each place.
        guesses: for each hidden word.
    """

    text: str
    guesses: tuple[Guess, ...]

    def record(self, top: int = 5) -> dict[str, Any]:
        """Ready for JSON."""
        guesses = [[{"piece": piece, "score": share} for piece, share in guess.pieces[:top]] for guess in self.guesses]
        return {"text": self.text, "guesses": guesses}

    @property
    def missing(self) -> str:
        """Why there is no answer; empty where there is one."""
        return "" if self.guesses else "no word is hidden: write [MASK] where one should be guessed"

    def summary(self, top: int = 3) -> str:
        """The hidden words in their order, each with its likeliest readings."""
        if self.missing:
            return self.missing
        said = [", ".join(f"{piece!r} {share:.1%}" for piece, share in guess.pieces[:top]) for guess in self.guesses]
        return "; ".join(said)


SHOWN = 100  # guesses that are kept for a hidden word


@dataclass(frozen=True, kw_only=True)
class CausalLanguage:
    """The task of foretelling the next piece of a text from those before it.

    Attributes:
        generation: how it writes for a person; as the model's card says unless given.
        seed: of chance, where words are drawn; another each time unless given.
    """

    generation: Generation | None = field(default=None, compare=False)
    seed: int | None = field(default=None, compare=False)

    name = "causal-lm"
    goes_on = True

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return "perplexity", "min"

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        logits = model(batch.inputs.ids, batch.inputs.valid)
        return Loss(mean_surprise(logits, batch.target), {})

    def weight(self, batch: Batch) -> int:
        """The pieces that are asked for."""
        return asked_for(batch)

    def judge(self, model: nn.Module, batch: Batch) -> list[Foretold]:
        """How well each text of a batch was foretold."""
        logits = model(batch.inputs.ids, batch.inputs.valid)
        return foretold_where_asked(logits[batch.target != IGNORED], batch.target)

    def words(self, preprocessing: TextPreprocessing, texts: Sequence[str]) -> Words:
        """Texts to go on with: nothing says that they have ended. An empty one begins as a text begins."""
        rows = preprocessing.encode_all(list(texts), around=False)
        begin = preprocessing.start_token or preprocessing.end_token
        if begin is not None:
            rows = [row or [preprocessing.id_of(begin)] for row in rows]
        return preprocessing.side_by_side(rows)

    def predict(self, model: Any, inputs: Words) -> list[Sentence]:
        """How each text goes on."""
        chance = None if self.seed is None else torch.Generator(inputs.ids.device).manual_seed(self.seed % 2**64)
        settings = how(model, self.generation)
        return sentences(model, complete(model, inputs.ids, settings, inputs.valid, chance))

    def metrics(self) -> TokenMetrics:
        return TokenMetrics()

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""


@dataclass(frozen=True, kw_only=True)
class MaskedLanguage:
    """The task of guessing hidden pieces of a text from all the others."""

    name = "masked-lm"
    hides = True  # a text to be asked has hidden words

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return "perplexity", "min"

    def loss(self, model: Any, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        rows = rows_asked(batch.target)
        return Loss(mean_surprise(self.missing(model, batch, rows), batch.target.flatten()[rows]), {})

    def missing(self, model: Any, batch: Batch, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Logits of some tokens of a batch, counted text after text; of the others they are not computed."""
        return model.missing(model.encode(*batch.inputs).x.flatten(0, 1).index_select(0, rows))

    def weight(self, batch: Batch) -> int:
        """The pieces that are asked for."""
        return asked_for(batch)

    def judge(self, model: nn.Module, batch: Batch) -> list[Foretold]:
        """How well the hidden pieces of each text were guessed."""
        hidden = (batch.target != IGNORED).flatten().nonzero().flatten()
        return foretold_where_asked(self.missing(model, batch, hidden), batch.target)

    def predict(self, model: Any, inputs: Words) -> list[Filled]:
        """What stands behind each mask."""
        preprocessing = model.card.preprocessing
        if preprocessing.mask_token is None:
            raise ConfigError("The tokenizer of this model has no mask token, so no word can be hidden.")
        hidden = inputs.ids == preprocessing.id_of(preprocessing.mask_token)
        hidden = hidden & inputs.valid
        logits = model.missing(model.encode(*inputs).x[hidden]).float()
        pieces = [piece for piece in sorted(preprocessing.pieces) if piece < logits.shape[1]]
        known = torch.tensor(pieces, device=logits.device)  # a table of words may have more rows than there are pieces
        shares, places = logits.softmax(dim=-1)[:, known].topk(min(SHOWN, len(known)))
        ids = known[places]
        filled = inputs.ids.masked_scatter(hidden, ids[:, 0])
        guesses = [
            Guess(tuple(zip(preprocessing.tokens(row), chances.tolist(), strict=True)))
            for row, chances in zip(ids, shares, strict=True)
        ]
        results = []
        for row, valid, count in zip(filled, inputs.valid, hidden.sum(dim=1).tolist(), strict=True):
            results.append(Filled(preprocessing.decode(row[valid]), tuple(guesses[:count])))
            guesses = guesses[count:]
        return results

    def metrics(self) -> TokenMetrics:
        return TokenMetrics()

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""
