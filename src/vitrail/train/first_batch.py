"""A look at what a model is about to learn from."""

from collections.abc import Callable

from vitrail.train.observers import Observer
from vitrail.train.run import Run

Say = Callable[[str], None]


class FirstBatch(Observer):
    """Draws the first batch as the model is shown it, into `targets.png` of the run, where it can be drawn.

    Args:
        say: told where.
    """

    def __init__(self, say: Say = print) -> None:
        self.say = say

    def begin(self, run: Run) -> None:
        """Draw it before the first step."""
