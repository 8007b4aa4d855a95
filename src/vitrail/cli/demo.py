"""`vitrail demo`: everything once, on pictures that need no download."""

from pathlib import Path


def demo(*, out: Path = Path("demo")) -> None:
    """Train a small model on generated pictures, say how well it does, and draw where it looks. Takes minutes.

    Args:
        out: the folder for what it leaves.
    """
    from vitrail.recipes.tour import tour

    tour(out)
