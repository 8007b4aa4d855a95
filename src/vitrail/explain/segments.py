"""Pictures with segments drawn on them: a tint for every pixel, and the name of each segment where it is widest."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from vitrail.explain.boxes import Colour, colour_of, enlarged, ink_on, letter_height, letters, tinted
from vitrail.tasks.segmented import Segmented

LEAST = 12  # pixels of the drawing that a segment must have to get a name


def widest(mask: Bool[np.ndarray, "rows columns"]) -> tuple[float, float]:
    """The pixel of a mask that is farthest from its edge, x then y."""
    depth = np.asarray(distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return column + 0.5, row + 0.5


def counted(names: Sequence[str], things: Sequence[bool]) -> list[str]:
    """Names in which things are numbered where there are several of a kind: car 1, car 2, grass."""
    seen: dict[str, int] = {}
    said = []
    for name, thing in zip(names, things, strict=True):
        seen[name] = seen.get(name, 0) + 1
        several = thing and sum(other == name for other in names) > 1
        said.append(f"{name} {seen[name]}" if several else name)
    return said


def draw_segments(
    image: Image.Image,
    numbers: Int[np.ndarray, "rows columns"],
    segments: Sequence[int],
    labels: Sequence[str],
    colours: Sequence[Colour],
) -> Image.Image:
    """Draw segments on a picture.

    Args:
        image: as displayed; it stays as it is.
        numbers: of which segment each pixel is, of any number of rows and columns; those of none stay untinted.
        segments: the numbers.
        labels: what to write in each; nothing is written where it is empty.
        colours: of each, such as `colour_of(class)`.

    Returns:
        An image in colour, of the same size, or larger where that was small.
    """
    canvas, _ = enlarged(image)
    whole = np.asarray(Image.fromarray(numbers.astype(np.int32)).resize(canvas.size, Image.Resampling.NEAREST))
    pixels, written = np.asarray(canvas), []
    for number, label, colour in zip(segments, labels, colours, strict=True):
        mask = whole == number
        pixels = tinted(pixels, mask, colour)
        if label and mask.sum() >= LEAST:
            written.append((label, colour, widest(mask)))
    canvas = Image.fromarray(pixels)
    draw, height = ImageDraw.Draw(canvas), letter_height(canvas.size)
    font, padding = letters(height), max(1, height // 4)
    for label, colour, (x, y) in written:
        half = draw.textlength(label, font) / 2 + padding
        x = min(max(x, half), max(canvas.width - half, half))
        y = min(max(y, height / 2 + padding), canvas.height - height / 2 - padding)
        draw.rectangle((x - half, y - height / 2 - padding, x + half, y + height / 2 + padding), fill=colour)
        draw.text((x, y), label, fill=ink_on(colour), font=font, anchor="mm")
    return canvas


def draw_result(image: Image.Image, result: Segmented, marks: Sequence[str] = ()) -> Image.Image:
    """Draw what a model says, in the colours of the classes; things of a kind are numbered.

    Args:
        image: as displayed, of any size.
        result: its segments.
        marks: what to write behind the name of each, if anything.
    """
    labels = [segment.label for segment in result.segments]
    names = counted([result.classes[label] for label in labels], [result.things[label] for label in labels])
    names = [f"{name}{mark}" for name, mark in zip(names, marks or [""] * len(names), strict=True)]
    numbers = [segment.number for segment in result.segments]
    return draw_segments(image, result.numbers.cpu().numpy(), numbers, names, [colour_of(label) for label in labels])
