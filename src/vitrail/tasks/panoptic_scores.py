"""The scores of a panoptic model over a data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitrail.samples import Batch
from vitrail.tasks.panoptic_quality import Marked, Tally, compare
from vitrail.tasks.segmented import Segmented


class PanopticMetrics:
    """Panoptic quality, from 0 to 1; -1 where none of the classes occurs.

    `pq`, `sq`, `rq`: means over all classes that occur; with `_things` and `_stuff` over those alone.

    Args:
        classes: their names, in the order of the labels.
        things: which of them are countable things.
    """

    def __init__(self, classes: tuple[str, ...], things: tuple[bool, ...]) -> None:
        self.classes, self.things = classes, np.array(things, dtype=bool)
        self.tally = Tally.nothing(len(classes))

    def update(self, results: Sequence[Segmented], batch: Batch) -> None:
        for result, truth in zip(results, batch.references, strict=True):
            assert result.size == truth.size, f"{result.size} of what is said is not {truth.size} of the picture"
            self.count(Marked.of_objects(truth.objects), result.marked)

    def count(self, truth: Marked, said: Marked) -> None:
        """One picture more."""
        self.tally = self.tally.plus(compare(truth, said, len(self.classes)))

    def compute(self) -> dict[str, float]:
        parts = {"": np.ones_like(self.things), "_things": self.things, "_stuff": ~self.things}
        return {
            f"{name}{part}": value for part, chosen in parts.items() for name, value in self.tally.means(chosen).items()
        }

    def details(self) -> dict[str, Any]:
        quality, occurring = self.tally.quality(), self.tally.occurring
        rows = []
        for label, name in enumerate(self.classes):
            counts = {key: int(getattr(self.tally, key)[label]) for key in ("found", "missed", "wrong")}
            values = {key: float(column[label]) if occurring[label] else None for key, column in quality.items()}
            rows.append({"label": name, "thing": "yes" if self.things[label] else "no", **counts, **values})
        return {"classes": list(self.classes), "per_class": rows}
