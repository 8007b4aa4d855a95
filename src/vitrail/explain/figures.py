"""What all drawings have in common: the page, the letters on it, and the file that it becomes.

matplotlib is imported when something is drawn, and only its `Figure` is used: no window, no global state, any thread.
"""

import io
import math
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import ExplanationError
from vitrail.geometry.placement import Box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, QUIET = "#1a1a1a", "#6b6b6b"
MARGIN, GAP = 0.35, 0.18  # inches around the panels and between them
LINE = 1.6  # from one line of text to the next, in heights of its letters
LETTER, BOLD = 0.58, 0.68  # width of a letter of text, and of a bold one, in heights
BESIDE = 7.5  # inches of a page from which there is room for the colour bar beside the notes
LACKING = "\u25a1"  # drawn for a letter that the font lacks
RESOLUTION = 150  # pixels per inch
SIDE, PIXELS = 16_000, 40_000_000  # of a drawing, at most; WebP ends at 16,383 pixels a side
KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".pdf": "pdf", ".svg": "svg"}


@cache
def glyphs() -> frozenset[int]:
    """The characters that matplotlib's own font has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def drawable(text: str, most: int = 80) -> str:
    """Text on one line of so many characters, with a box for each that the font lacks.

    What is too long loses its middle, since long names often differ only in how they end.
    """
    line = "".join(letter if ord(letter) in glyphs() else LACKING for letter in " ".join(text.split()))
    end = (most - 1) // 3
    return line if len(line) <= most else f"{line[: most - 1 - end]}\u2026{line[-end:] if end else ''}"


def lacking(said: Iterable[str]) -> list[str]:
    """The sentence that a drawing needs where some letter on it cannot be drawn; none where all can."""
    boxes = any(LACKING in drawable(line, len(line) + 1) for line in said)
    return [f"{LACKING} is a letter that this figure's font lacks."] if boxes else []


def high(size: float) -> float:
    """Inches from one line of text to the next; size in points."""
    return LINE * size / 72


def wrapped(text: str, width: float, size: float, most: int = 4) -> list[str]:
    """Text as lines, at most so many, that fit into so many inches; size in points. What is left out leaves a mark."""
    letters = max(int(width * 72 / (LETTER * size)), 8)
    return textwrap.wrap(drawable(text, most * letters), letters, max_lines=most, placeholder="\u2026")


def new_figure(width: float, height: float) -> "Figure":
    """An empty white page of whole pixels, inches; a very large one has fewer pixels to the inch."""
    from matplotlib.figure import Figure

    dpi = min(RESOLUTION, SIDE / max(width, height), math.sqrt(PIXELS / (width * height)))
    across, down = ((math.ceil(side * dpi - 1e-6) + 1e-3) / dpi for side in (width, height))  # not one less by rounding
    return Figure(figsize=(across, down), dpi=dpi, facecolor="white")


def on_pixels(figure: "Figure", place: Box) -> Box:
    """A place on a page (left, bottom, width and height, as parts of it) moved to the edges of the nearest pixels.

    What is drawn into it then covers every pixel of it whole: none of the last row or column is left half covered.
    """
    width, height = figure.bbox.size
    left, bottom = round(place[0] * width), round(place[1] * height)
    right, top = round((place[0] + place[2]) * width), round((place[1] + place[3]) * height)
    return left / width, bottom / height, max(right - left, 1) / width, max(top - bottom, 1) / height


def png(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def check_place(path: Path) -> None:
    """Refuse a path at which no drawing can be written, before anybody has waited for one.

    Raises:
        ExplanationError: its ending is not that of a picture, or a folder or file is in the way.
    """
    if path.is_dir():
        raise ExplanationError(f"{path} is a folder. Give the name of a file in it, such as {path / 'attention.png'}.")
    if path.suffix.lower() not in KINDS:
        raise ExplanationError(
            f"{path} does not end like a picture. Give a name that ends with {', '.join(KINDS)}, "
            f"such as {path.with_suffix('.png') if path.name else 'attention.png'}."
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ExplanationError(f"{path} cannot be written: {above} is a file and not a folder. Give another place.")
