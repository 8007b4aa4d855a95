"""Finding objects beyond one look: large pictures in tiles, and what was found drawn on them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from vitrail.data.images import PictureArray
from vitrail.errors import ConfigError
from vitrail.explain.boxes import colour_of, draw_objects
from vitrail.explain.segments import draw_result
from vitrail.geometry.placement import Size
from vitrail.geometry.tiles import Tile, tiles_of
from vitrail.samples import Picture
from vitrail.tasks.detected import Detected
from vitrail.tasks.segmented import Segmented
from vitrail.tasks.tiled import completed, joined

if TYPE_CHECKING:
    from vitrail.predict import Predictor

NOTHING = 0.05  # score below which a tile has found nothing that could become an answer


def answer_with(ask: "Predictor", **typed: float | None) -> None:
    """Let a model answer otherwise than its card says, where that is wanted: from another score on, for example."""
    wanted = {name: value for name, value in typed.items() if value is not None}
    ask.card = replace(ask.card, answering={**ask.card.answering, **wanted})


def moved(result: Detected, tile: Tile, size: Size) -> Detected:
    """What was found in a tile, in pixels of the whole picture, but for what is hardly believed."""
    kept = result.only(result.scores >= NOTHING)
    corner = kept.boxes_xyxy.new_tensor(tile[:2]).repeat(2)
    return replace(kept, boxes_xyxy=kept.boxes_xyxy + corner, size=size)


def find_in_tiles(ask: "Predictor", picture: Picture, tile: int, overlap: float = 0.2, batch: int = 8) -> Detected:
    """What a detector finds in a large picture that it is shown piece by piece, and once as a whole.

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
    pieces = joined([moved(one, tile, picture.size) for one, tile in zip(results, tiles, strict=True)], tiles)
    if len(tiles) == 1:
        return pieces
    [whole] = ask([picture])
    rows, columns = picture.size
    found = completed(pieces, moved(whole, (0, 0, columns, rows), picture.size), tiles)
    return found.unrepeated(getattr(ask.task, "nms", 1.0))


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


def segments_drawn(picture: Picture, result: Segmented) -> Image.Image:
    """A picture with its segments, in the colours of the classes; things of a kind are numbered."""
    return draw_result(picture.read(), result)


def finds_objects(ask: Any) -> bool:
    """Whether a predictor answers with objects, from some score on."""
    return hasattr(ask.task, "threshold")
