"""`vitrail predict` with a detector: pictures drawn, and what is in them as other tools read it."""

import json as json_text
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.cli.screen import print_csv
from vitrail.cli.seen import Seen, Unread, draw_all, free_path, look_at
from vitrail.errors import UsageError, many, percent

if TYPE_CHECKING:
    from vitrail.errors import ImageError
    from vitrail.predict import Predictor
    from vitrail.tasks.detected import Detected

COLUMNS = ("file", "label", "score", "left", "top", "right", "bottom", "query")


class Tiling(NamedTuple):
    """How large pictures are cut into pieces: their side in pixels, and the share that neighbours have in common."""

    tile: int
    overlap: float


def tiling(tile: int | None, overlap: float | None) -> Tiling | None:
    """How large pictures are cut into pieces, if they are.

    Raises:
        UsageError: an overlap of nothing, or pieces without pixels.
    """
    if tile is None:
        if overlap is not None:
            raise UsageError("--overlap is of the pieces that --tile cuts. Type --tile 800 as well.")
        return None
    if tile < 16:
        raise UsageError(f"--tile {tile} shows hardly anything. Type --tile 800, for example.")
    overlap = 0.2 if overlap is None else overlap
    if not 0 <= overlap < 0.9:
        raise UsageError(f"--overlap {overlap:g} must be at least 0 and below 0.9. Usual: --overlap 0.2.")
    return Tiling(tile, overlap)


def in_tiles(ask: "Predictor", picture: Any, tiling: Tiling) -> "Detected | ImageError":
    """What is found in a picture that is looked at in pieces, or why it cannot be read, as a value."""
    from vitrail.errors import ImageError
    from vitrail.predict_objects import find_in_tiles

    try:
        return find_in_tiles(ask, picture, tiling.tile, tiling.overlap)
    except ImageError as error:
        return error


def predict_objects(
    ask: "Predictor",
    images: Sequence[str],
    *,
    threshold: float | None,
    nms: float | None,
    out: Path,
    json: bool,
    csv: bool,
    yolo: bool,
    batch: int,
    tiling: Tiling | None,
) -> None:
    """Find objects, and draw or print them; `--json` has all of them unless a threshold was typed.

    Raises:
        DataError: at the end, when pictures could not be read.
    """
    from vitrail.predict_objects import answer_with, drawn
    from vitrail.tasks.detect import Detect

    answer_with(ask, threshold=threshold, nms=nms)
    task = ask.task
    assert isinstance(task, Detect)
    if tiling is None:
        looked = look_at(images, lambda some: ask(some, batch=batch, on_error="keep"), group=batch)
    else:
        looked = look_at(images, lambda some: (in_tiles(ask, one, tiling) for one in some), group=1)
    unread = Unread()
    found = unread.left_out(looked)
    sure = (one._replace(result=one.result.above(task.threshold)) for one in found)
    if json:
        print_results(found if threshold is None else sure)
    elif csv:
        print_csv([row for one in sure for row in rows(one)], COLUMNS)
    elif yolo:
        print(write_labels(out, sure))
    else:
        heading = f"found with {percent(task.threshold)} or more"
        draw_all(
            found,
            out,
            lambda picture, result: drawn(picture, result.above(task.threshold)),
            heading=heading,
            what="what was found",
        )
    unread.say()


def print_results(found: Iterable[Seen]) -> None:
    """COCO's results: one JSON list, an object on each line.

    Raises:
        DataError: two pictures have one number; nothing is printed then.
    """
    from vitrail.data.files import number_of
    from vitrail.errors import DataError
    from vitrail.tasks.result_files import coco_results

    lines, numbered = list[str](), dict[int | str, str]()
    for one in found:
        number = number_of(one.name)
        if number in numbered:
            raise DataError(
                f"{numbered[number]} and {one.name} would both be image_id {number}. Predict one folder at a time, or "
                f"give one of them another name."
            )
        numbered[number] = one.name
        for row in coco_results(one.result, number):
            lines.append(json_text.dumps({**row, "file_name": Path(one.name).name}))
    print("[" + ",\n".join(lines) + "]")


def rows(seen: Seen) -> Iterator[dict[str, Any]]:
    """The objects of a picture as lines of a table."""
    for one in seen.result.found():
        sides = (round(side, 2) for side in one.box_xyxy)
        values = (seen.name, one.label, round(one.score, 6), *sides, one.query)
        yield dict(zip(COLUMNS, values, strict=True))


def write_labels(out: Path, found: Iterable[Seen]) -> str:
    """YOLO's text files; gives a sentence about them."""
    from vitrail.data.files import number_of
    from vitrail.tasks import result_files

    taken, counts = set[Path](), list[int]()

    def each() -> Iterator[result_files.Seen]:
        for one in found:
            counts.append(len(one.result))
            yield result_files.Seen(number_of(one.name), free_path(out, one.name, ".txt", taken).stem, one.result)

    files = result_files.write_yolo(out, each())
    empty = f", {counts.count(0)} of them without any" if 0 in counts else ""
    return f"{many(len(files), 'text file')} in {out}, with classes.txt: {many(sum(counts), 'object')}{empty}."
