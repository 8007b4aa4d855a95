"""Finding objects beyond one look: large pictures in tiles, and what was found drawn on them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from vitrail.data.images import PictureArray
from vitrail.errors import ConfigError
from vitrail.explain.boxes import colour_of, draw_objects
from vitrail.geometry.tiles import Answers, gathered, tiles_of
from vitrail.samples import Picture
from vitrail.tasks.detected import Detected

if TYPE_CHECKING:
    from vitrail.predict import Predictor

NOTHING = 0.05  # score below which a tile has found nothing that could become an answer


def whole_picture(picture: Picture, results: list[Detected], tiles: list[tuple[int, int, int, int]]) -> Detected:
    """What the tiles of a picture have found, as one answer.

    Args:
        picture: the whole.
        results: of each tile, in its own pixels.
        tiles: left, top, right, bottom of each.
    """
    kept = [result.only(result.scores >= NOTHING) for result in results]
    corners = torch.tensor(tiles, dtype=torch.float32)
    boxes = [one.boxes_xyxy + corners[number, :2].repeat(2) for number, one in enumerate(kept)]
    tile_of = [torch.full((len(one),), number) for number, one in enumerate(kept)]
    answers = Answers(
        torch.cat(boxes),
        torch.cat([one.scores for one in kept]),
        torch.cat([one.labels for one in kept]),
        torch.cat(tile_of),
        corners,
    )
    groups = gathered(answers, picture.size)
    first = torch.tensor([group.places[0] for group in groups], dtype=torch.long)
    found = replace(
        kept[0],
        boxes_xyxy=torch.stack([group.box_xyxy for group in groups]) if groups else torch.zeros(0, 4),
        scores=answers.scores[first],
        labels=answers.labels[first],
        queries=torch.cat([one.queries for one in kept])[first],
        size=picture.size,
        masks=None,
    )
    return found.only(found.scores.argsort(descending=True, stable=True))


def find_in_tiles(ask: "Predictor", picture: Picture, tile: int, overlap: float = 0.2, batch: int = 8) -> Detected:
    """What a detector finds in a large picture that it is shown piece by piece.

    Args:
        ask: predictor of a detector.
        picture: whole.
        tile: side of a piece, pixels of the file.
        overlap: the share of a piece that its neighbour sees too.
        batch: pieces at once.

    Raises:
        ConfigError: the model finds no objects, or says where they are pixel by pixel; pieces that never get on.
    """
    tiles = tiles_of(picture.size, tile, overlap)
    pieces = [PictureArray(picture.read(box), picture.name) for box in tiles]
    results = ask(pieces, batch=batch)
    if not isinstance(results[0], Detected) or results[0].masks is not None:
        raise ConfigError("Only what finds boxes looks at pictures in tiles; leave out --tile.")
    return whole_picture(picture, results, tiles)


def drawn(picture: Picture, result: Detected) -> Image.Image:
    """A picture with what was found in it, in the colours of the classes."""
    labels = result.labels.tolist()
    return draw_objects(
        picture.read(),
        result.boxes_xyxy,
        [result.classes[label] for label in labels],
        [colour_of(label) for label in labels],
        masks=result.masks,
        scores=result.scores.tolist(),
    )


def finds_objects(ask: Any) -> bool:
    """Whether a predictor answers with objects, from some score on."""
    return hasattr(ask.task, "threshold")
