"""Pictures with boxes drawn on them, each with its name, and masks as a tint: what is marked, or what was found.

Lines and letters are as large as the picture asks for, and a small picture is enlarged, so that all can be read.
"""

import colorsys
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vitrail.pixels import to_channels

SMALLEST = 480  # pixels of the longer side, below which a picture is enlarged
TINT = 0.45  # of a mask's colour over the picture
LETTERS = 42  # of the shorter side of a picture, one above the other
LOWEST, HIGHEST = 11, 64  # pixels of a letter
LINE = 6  # of the height of a letter, one beside the other
PADDING = 4  # of the height of a letter, around a label
FEW = 12  # labels that are written however little room there is
HIDDEN = 0.1  # of a picture, that more labels than these hide at most
STEP = (math.sqrt(5) - 1) / 2  # of the circle of hues, from one class to the next: the most even for any number
LIGHTNESSES = ((0.95, 0.85), (0.75, 0.55), (1.0, 0.65))  # brightness and saturation, in turns

Colour = tuple[int, int, int]
Sides = tuple[float, float, float, float]  # left, top, right, bottom


def colour_of(number: int) -> Colour:
    """The colour of a class, by its place: neighbours differ much, and no number of classes exhausts them."""
    brightness, saturation = LIGHTNESSES[number // 7 % len(LIGHTNESSES)]
    red, green, blue = colorsys.hsv_to_rgb((0.02 + number * STEP) % 1, saturation, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


@cache
def letters(height: int) -> ImageFont.FreeTypeFont:
    """A font with most of the world's letters."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), height)


def letter_height(size: tuple[int, int]) -> int:
    """Pixels of a letter on a picture of this width and height."""
    return min(max(round(min(size) / LETTERS), LOWEST), HIGHEST)


def padding_of(height: int) -> int:
    """Pixels around letters of this height."""
    return max(1, height // PADDING)


def enlarged(image: Image.Image) -> tuple[Image.Image, float]:
    """A picture that can be drawn on, in colour, and how many times larger it is than what was given."""
    factor = max(1.0, SMALLEST / max(image.size))
    size = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
    image = to_channels(image, 3)
    return (image.resize(size, Image.Resampling.BICUBIC) if factor > 1 else image.copy()), factor


def border(mask: Bool[np.ndarray, "rows columns"], width: int) -> Bool[np.ndarray, "rows columns"]:
    """The pixels of a mask that lie at its edge."""
    inside = mask
    for _ in range(width):
        padded = np.pad(inside, 1)
        inside = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def tinted(
    pixels: UInt8[np.ndarray, "rows columns 3"], mask: Bool[np.ndarray, "rows columns"], colour: Colour
) -> UInt8[np.ndarray, "rows columns 3"]:
    """The pixels with a mask laid over them, and its edge drawn."""
    ink = np.array(colour, np.float32)
    shade = pixels.astype(np.float32)
    shade[mask] += (ink - shade[mask]) * TINT
    shade[border(mask, max(1, min(mask.shape) // 400))] = ink
    return shade.round().astype(np.uint8)


class Tag(NamedTuple):
    """What is to be drawn of an object: what is written at it, in which colour, and its box."""

    text: str
    colour: Colour
    box: Sides


def shared(first: Sides, second: Sides) -> float:
    """Area that two rectangles have in common."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def place_for(box: Sides, width: float, height: float, size: tuple[int, int], taken: Sequence[Sides]) -> Sides:
    """Where a label stands: above its box, or inside, or below, wherever it hides the least of the others."""
    left, top, right, bottom = box
    beside, inside = right - width, bottom - height
    corners = [(left, top - height), (left, top), (left, bottom), (beside, inside)]
    corners += [(beside, top - height), (beside, top), (beside, bottom), (left, inside)]
    places = []
    for x, y in corners:
        x, y = min(max(x, 0), max(size[0] - width, 0)), min(max(y, 0), max(size[1] - height, 0))
        places.append((x, y, x + width, y + height))
    return min(places, key=lambda place: sum(shared(place, other) for other in taken))


def fits(ground: Sides, size: tuple[int, int], taken: Sequence[Sides]) -> bool:
    """Whether a label hides none of the others, and all together not too much of a picture."""
    hidden = sum(shared(one, one) for one in (ground, *taken))
    return hidden <= HIDDEN * size[0] * size[1] and not any(shared(ground, other) for other in taken)


def grounds(tags: Sequence[Tag], size: tuple[int, int], height: int) -> list[Sides | None]:
    """Where labels stand; the first choose first, and beyond a few there is none for those that would not fit."""
    font, padding, taken = letters(height), padding_of(height), list[Sides]()
    found: list[Sides | None] = []
    for tag in tags:
        width = font.getlength(tag.text) + 2 * padding
        ground = place_for(tag.box, width, height + 2 * padding, size, taken)
        if tag.text and (len(taken) < FEW or fits(ground, size, taken)):
            taken.append(ground)
            found.append(ground)
        else:
            found.append(None)
    return found


def outline(draw: ImageDraw.ImageDraw, tag: Tag, width: int) -> None:
    """Draw a box; a line of more than one pixel has an edge that can be seen on its own colour."""
    left, top, right, bottom = tag.box
    if width > 1:
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=ink_on(tag.colour))
    draw.rectangle(tag.box, outline=tag.colour, width=width)


def write(draw: ImageDraw.ImageDraw, tag: Tag, ground: Sides, height: int) -> None:
    """Write a label on a ground of its colour."""
    draw.rectangle(ground, fill=tag.colour)
    place = ground[0] + padding_of(height), (ground[1] + ground[3]) / 2
    draw.text(place, tag.text, fill=ink_on(tag.colour), font=letters(height), anchor="lm")


def draw_objects(
    image: Image.Image,
    boxes_xyxy: Float[Tensor, "objects 4"],
    labels: Sequence[str],
    colours: Sequence[Colour] | None = None,
    *,
    masks: Bool[Tensor, "objects rows columns"] | None = None,
    scores: Sequence[float] | None = None,
) -> Image.Image:
    """Draw objects on a picture: all of their boxes, and as many of their labels as leave the picture to be seen.

    What is believed in most, or stands first, lies on top and gets its label first. Where there are many objects, a
    label that would hide another, or with all others a tenth of the picture, is left out, and its box is a thin line.

    Args:
        image: as displayed; it stays as it is.
        boxes_xyxy: left, top, right, bottom of each object, in its pixels.
        labels: what to write at each; nothing is written where it is empty.
        colours: of each, such as `colour_of(class)`; without them, one for each label.
        masks: where each is, of the rows and columns of the image; laid over it as a tint.
        scores: how much each is believed in, 0 to 1, written behind the label.

    Returns:
        An image in colour, of the same size, or larger where that was small.
    """
    if colours is None:
        number = {label: place for place, label in enumerate(dict.fromkeys(labels))}
        colours = [colour_of(number[label]) for label in labels]
    assert len(boxes_xyxy) == len(labels) == len(colours), "a label and a colour for each box"
    order = sorted(range(len(labels)), key=lambda place: 0.0 if scores is None else -scores[place])
    canvas, factor = enlarged(image)
    if masks is not None and len(labels):
        pixels = np.asarray(canvas)
        for place in reversed(order):
            mask = Image.fromarray(masks[place].numpy()).resize(canvas.size)
            pixels = tinted(pixels, np.asarray(mask), colours[place])
        canvas = Image.fromarray(pixels)
    draw, height = ImageDraw.Draw(canvas), letter_height(canvas.size)
    tags = []
    for place in order:
        left, top, right, bottom = (side * factor for side in boxes_xyxy[place].tolist())
        said = labels[place] if scores is None else f"{labels[place]} {scores[place]:.0%}".strip()
        tags.append(Tag(said, colours[place], (left, top, max(right - 1, left), max(bottom - 1, top))))
    written = grounds(tags, canvas.size, height)
    for tag, ground in reversed([*zip(tags, written, strict=True)]):
        outline(draw, tag, 1 if tag.text and ground is None else max(2, height // LINE))
    for tag, ground in reversed([*zip(tags, written, strict=True)]):
        if ground is not None:
            write(draw, tag, ground, height)
    return canvas
