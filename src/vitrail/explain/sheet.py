"""A sheet of annotated pictures: what is marked in a data set, at a glance."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from vitrail.data.dataset import Dataset
from vitrail.data.open import open_splits
from vitrail.errors import VitrailError
from vitrail.explain.boxes import colour_of, draw_objects, ink_on, letters, tinted
from vitrail.pixels import to_channels
from vitrail.samples import Sample

MOST = 16  # pictures
ACROSS = 4  # side by side
CELL = 480  # pixels of the longer side of a picture on the sheet
GAP, TITLE, LETTER = 12, 24, 15  # pixels
LISTED = 60  # classes in the legend
PAPER, INK, QUIET = (255, 255, 255), (26, 26, 26), (107, 107, 107)


class Cell(NamedTuple):
    """One picture of a sheet, drawn, what stands above it, and the places of its classes."""

    image: Image.Image
    title: str
    labels: tuple[int, ...]


def chosen(count: int, most: int = MOST) -> list[int]:
    """Places all over a data set, as far from each other as can be."""
    some = min(count, most)
    return [round(step * (count - 1) / max(some - 1, 1)) for step in range(some)]


def cell_of(sample: Sample, classes: tuple[str, ...], things: tuple[bool, ...]) -> Cell:
    """One annotated picture, as large as a sheet has room for.

    Raises:
        VitrailError: the picture cannot be read.
    """
    objects = sample.objects
    assert objects is not None
    image = to_channels(sample.picture.read(), 3)
    factor = CELL / max(image.size)
    size = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
    small = image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    masks = None
    if objects.masks is not None:
        drawn = [np.asarray(Image.fromarray(mask).resize(size)) for mask in objects.masks.numpy()]
        masks = torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(0, size[1], size[0], dtype=torch.bool)
    countable = torch.tensor([things[label] for label in objects.labels.tolist()], dtype=torch.bool)
    if masks is not None and not countable.all():
        pixels = np.asarray(small)
        for mask, label in zip(masks[~countable].numpy(), objects.labels[~countable].tolist(), strict=True):
            pixels = tinted(pixels, mask, colour_of(label))
        small, masks = Image.fromarray(pixels), masks[countable]
    shown = objects.only(countable)
    labels = shown.labels.tolist()
    marks = [" (crowd)" if crowd else "" for crowd in shown.crowd.tolist()]
    names = [classes[label] + mark for label, mark in zip(labels, marks, strict=True)]
    colours = [colour_of(label) for label in labels]
    drawing = draw_objects(small, shown.boxes_xyxy * factor, names, colours, masks=masks)
    return Cell(drawing.resize(size), f"{Path(sample.name).name}: {len(objects)}", tuple(objects.labels.tolist()))


def cells(dataset: Dataset, things: tuple[bool, ...]) -> Iterator[Cell]:
    """The pictures of a sheet; those that cannot be read are left out."""
    for index in chosen(len(dataset)):
        try:
            yield cell_of(dataset[index], dataset.classes, things)
        except VitrailError:
            continue


def legend(classes: list[tuple[str, int]], width: int) -> Image.Image:
    """The colours of classes, each with its name.

    Args:
        classes: name and place of each.
        width: pixels.
    """
    font, x, rows = letters(LETTER), GAP, [[]]
    for name, place in classes:
        wide = round(font.getlength(name)) + 2 * TITLE
        if x + wide > width and rows[-1]:
            rows.append([])
            x = GAP
        rows[-1].append((x, name, place))
        x += wide
    page = Image.new("RGB", (width, TITLE * len(rows) + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for line, row in enumerate(rows):
        middle = line * TITLE + TITLE // 2
        for left, name, place in row:
            colour = colour_of(place)
            draw.rectangle((left, middle - 7, left + 14, middle + 7), fill=colour, outline=ink_on(colour))
            draw.text((left + 20, middle), name, fill=INK, font=font, anchor="lm")
    return page


def fitting(text: str, width: int) -> str:
    """The text, or its end, as far as there is room for it."""
    font = letters(LETTER)
    while len(text) > 4 and font.getlength(text) > width:
        text = "…" + text[2:]
    return text


def draw_sheet(dataset: Dataset, title: str) -> Image.Image:
    """Sixteen pictures from all over a data set with what is marked in them, and the colours of the classes.

    Args:
        dataset: for detection or panoptic segmentation.
        title: what stands above.
    """
    things = getattr(dataset, "things", (True,) * len(dataset.classes))
    drawn = list(cells(dataset, things))
    present = sorted({label for cell in drawn for label in cell.labels})
    names = [(dataset.classes[place], place) for place in present[:LISTED]]
    wide = max((cell.image.width for cell in drawn), default=CELL)
    across = min(ACROSS, max(len(drawn), 1))
    width = across * (wide + GAP) + GAP
    key = legend(names, width)
    rows = [drawn[first : first + across] for first in range(0, len(drawn), across)]
    highs = [TITLE + max(cell.image.height for cell in row) + GAP for row in rows]
    page = Image.new("RGB", (width, 2 * TITLE + sum(highs) + key.height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GAP, TITLE), fitting(title, width - 2 * GAP), fill=INK, font=letters(LETTER + 3), anchor="lm")
    y = 2 * TITLE
    for row, high in zip(rows, highs, strict=True):
        for place, cell in enumerate(row):
            x = GAP + place * (wide + GAP)
            draw.text((x, y + TITLE // 2), fitting(cell.title, wide), fill=QUIET, font=letters(LETTER), anchor="lm")
            page.paste(cell.image, (x, y + TITLE))
        y += high
    page.paste(key, (0, page.height - key.height))
    return page


def sheet_of(data: str) -> Image.Image | None:
    """The sheet of the part that is learned from; none where nothing can be marked, or the data cannot be opened."""
    try:
        dataset = open_splits(data).train
    except VitrailError:
        return None
    if dataset.task not in ("detect", "panoptic"):
        return None
    return draw_sheet(dataset, f"{data.removesuffix(':')}: {len(dataset):,} pictures to learn from, some of them")
