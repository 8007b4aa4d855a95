"""What a person should know about a model besides its numbers: labels, preprocessing, licence, origin, score."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitrail.errors import ConfigError
from vitrail.generation import Generation
from vitrail.preprocessing import Fitted, Preprocessing
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.configs import build


def kind_of_preprocessing(told: Any) -> type:
    """Which of the ways to prepare inputs a file tells of, by the field that only this one has."""
    told = told if isinstance(told, Mapping) else {}
    return TextPreprocessing if "max_tokens" in told else Fitted if "longer" in told else Preprocessing


GENERATED = " on generated scenes"  # how the origin of such weights ends


@dataclass(frozen=True, kw_only=True)
class Card:
    """The page that goes with a model.

    Attributes:
        model: the name of its variant, or of its family when it is none of the published sizes.
        preprocessing: how a picture, or a text, becomes what the model reads: `Preprocessing`, `Fitted` or
            `TextPreprocessing`.
        labels: names of the classes, in their order; empty where they are not known.
        class_ids: by what numbers the data that it learned from calls them; empty where it has none.
        things: which of the classes are countable things and not stuff, of a model that tells the two apart.
        generation: how its sentences are written, of a model that writes.
        task: what an answer means.
        multi_label: whether several labels can hold at once.
        answering: settings of its task that decide how it answers, where they are not the task's own.
        licence: of the weights; empty where it is not known.
        origin: where the weights come from.
        scores: published or measured numbers by name.
        notes: whatever else is worth a sentence.
    """

    model: str
    preprocessing: Any
    generation: Generation | None = None
    labels: tuple[str, ...] = ()
    class_ids: tuple[int, ...] = ()
    things: tuple[bool, ...] = ()
    task: str = "classify"
    multi_label: bool = False
    answering: Mapping[str, float] = field(default_factory=dict)
    licence: str = ""
    origin: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        if self.class_ids and len(self.class_ids) != len(self.labels):
            raise ConfigError(
                f"class_ids has {len(self.class_ids)} numbers for {len(self.labels)} labels. Each class has one number."
            )
        if self.things and self.labels and len(self.things) != len(self.labels):
            raise ConfigError(
                f"things says of {len(self.things)} classes what they are, and there are {len(self.labels)}."
            )

    @property
    def generated(self) -> bool:
        """Whether the weights have seen generated scenes and no photograph."""
        return self.origin.endswith(GENERATED)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `card.json` holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str = "card.json") -> "Card":
        """The card in a file.

        Raises:
            ConfigError: a field that a card does not have, or one of the wrong kind.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} should hold the fields of a card, and holds {values!r:.60}.")
        known = dict(values)
        if "preprocessing" in known:
            told = known["preprocessing"]
            known["preprocessing"] = build(kind_of_preprocessing(told), told, f"preprocessing in {where}")
        if known.get("generation") is not None:
            known["generation"] = build(Generation, known["generation"], f"generation in {where}")
        scores = known.get("scores", {})
        if not isinstance(scores, Mapping) or not all(isinstance(score, int | float) for score in scores.values()):
            raise ConfigError(f"{where}: scores should be numbers by name, and are {scores!r:.60}.")
        return build(cls, known, where)


def only_features(model: Any) -> bool:
    """Whether a model with a card answers nothing: it was to tell classes apart, and has none."""
    card = model.card
    return card.task == "classify" and not card.labels and not getattr(model.config, "classes", 0)


def classes_of(model: Any) -> tuple[str, ...]:
    """The classes of a model by name; by number where its card does not know them.

    Raises:
        ConfigError: it has none.
    """
    card = getattr(model, "card", None)
    if card is not None and card.labels:
        return card.labels
    classes = getattr(getattr(model, "config", None), "classes", 0)
    if not classes:
        name = type(model).__name__ if card is None else card.model
        instead = (
            "Train a head for them: vitrail train MODEL --data DATA --init FOLDER."
            if card is not None and isinstance(card.preprocessing, TextPreprocessing)
            else "Ask it for features instead."
        )
        raise ConfigError(f"This {name} tells no classes apart. {instead}")
    return tuple(map(str, range(classes)))
