"""What is known about a published checkpoint beside its folder: its page, and the names of ImageNet's classes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vitrail.weights import hub
from vitrail.weights.card import Card
from vitrail.weights.cards import Checkpoint
from vitrail.weights.files import read_json
from vitrail.weights.folders import label_list


def published_card(card: Card, name: str, checkpoint: Checkpoint) -> Card:
    """The card of a published checkpoint, with what is known about it beside its folder."""
    return replace(
        card,
        model=name,
        licence=checkpoint.licence,
        origin=f"{checkpoint.source} ({checkpoint.origin})",
        scores=checkpoint.scores,
        notes=checkpoint.notes,
    )


def with_imagenet_names(card: Card, config: Any, announce: Callable[[str], None]) -> Card:
    """The card of a published checkpoint; the names of ImageNet's classes stand on it where its folder has none."""
    classes = getattr(config, "classes", 0)
    if card.labels or classes != 1000:
        return card
    file = hub.imagenet_names()
    if file is None:
        repo, name = hub.IMAGENET
        announce(
            "Its classes are called by number: the names of ImageNet's are not in the cache, and the hub cannot be "
            f"reached. `hf download {repo} {name} --repo-type dataset` fetches them."
        )
        return card
    announce(f"The names of its classes are those of {hub.IMAGENET[0]}.")
    return replace(card, labels=label_list(read_json(file), classes))
