"""`vitrail predict` with a panoptic model: segments drawn, and as COCO's files."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.cli.screen import print_csv
from vitrail.cli.seen import Seen, Unread, draw_all, free_path, look_at
from vitrail.errors import percent

if TYPE_CHECKING:
    from vitrail.predict import Predictor

COLUMNS = ("file", "label", "thing", "score", "area", "number")
NAME = "panoptic.json"


def segments_pictures(ask: "Predictor") -> bool:
    """Whether a predictor answers with segments."""
    return hasattr(ask.task, "things")


def predict_segments(
    ask: "Predictor",
    images: Sequence[str],
    *,
    threshold: float | None,
    out: Path,
    json: bool,
    csv: bool,
    batch: int,
) -> None:
    """Say of every pixel of which thing or stuff it is, and draw or print that.

    Raises:
        DataError: at the end, when pictures could not be read.
    """
    from vitrail.predict_objects import answer_with, segments_drawn
    from vitrail.tasks.panoptic import Panoptic

    answer_with(ask, threshold=threshold)
    task = ask.task
    assert isinstance(task, Panoptic)
    unread = Unread()
    found = unread.left_out(look_at(images, lambda some: ask(some, batch=batch, on_error="keep"), group=batch))
    if json:
        path = write_files(out, found)
        print(path.read_text(encoding="utf-8"), end="")
        print(f"This is {path}; the segments of each picture are a PNG in {path.with_suffix('')}.", file=sys.stderr)
    elif csv:
        print_csv([row for one in found for row in rows(one)], COLUMNS)
    else:
        heading = f"shows, of queries sure to {percent(task.threshold)} or more"
        draw_all(found, out, segments_drawn, heading=heading, what="their segments")
    unread.say()


def write_files(out: Path, found: Iterable[Seen]) -> Path:
    """COCO's panoptic format: one JSON, and a PNG for each picture; of two of one name, the second has its path."""
    from vitrail.data.files import own_number
    from vitrail.tasks import result_files

    taken, numbers = set[Path](), set[int | str]()
    out.mkdir(parents=True, exist_ok=True)
    told = (
        result_files.Seen(own_number(one.name, numbers), free_path(out, one.name, ".png", taken).stem, one.result)
        for one in found
    )
    return result_files.write_panoptic(out / NAME, told)


def rows(seen: Seen) -> Iterator[dict[str, Any]]:
    """The segments of a picture as lines of a table, largest first."""
    for one in seen.result.record()["segments"]:
        kind = {True: "yes", False: "no"}[one["thing"]]
        values = (seen.name, one["label"], kind, round(one["score"], 6), one["area"], one["number"])
        yield dict(zip(COLUMNS, values, strict=True))
