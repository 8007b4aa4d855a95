"""`vitrail predict` with a panoptic model: segments drawn, and as COCO's files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.cli.predict_objects import Seen
    from vitrail.predict import Predictor

COLUMNS = ("file", "label", "thing", "score", "area", "number")
NAME = "panoptic.json"


def segments_pictures(ask: Any) -> bool:
    """Whether a predictor answers with segments."""
    return hasattr(ask.task, "things")


def with_threshold(ask: "Predictor", threshold: float) -> None:
    """Let queries have pixels from another score on; who shares the pixels decides what each gets."""
    ask.card = replace(ask.card, answering={**ask.card.answering, "threshold": threshold})


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
    import sys

    from vitrail.cli.predict_objects import free_path, look_at, name_of
    from vitrail.cli.screen import print_csv, table
    from vitrail.errors import DataError, ImageError, many

    unread: list[str] = []
    if threshold is not None:
        with_threshold(ask, threshold)

    def found() -> "Iterator[Seen]":
        for seen in look_at(ask, images, batch, None):
            if isinstance(seen.result, ImageError):
                unread.append(f"{name_of(seen)}: {seen.result.hint}")
            else:
                yield seen

    if json:
        path = write_files(out, found())
        print(path.read_text(encoding="utf-8"), end="")
        print(f"This is {path}; the segments of each picture are a PNG in {path.with_suffix('')}.", file=sys.stderr)
    elif csv:
        print_csv([row for seen in found() for row in rows(seen)], COLUMNS)
    else:
        lines, taken = list[tuple[str, str]](), set[Path]()
        for seen in found():
            lines.append((name_of(seen), seen.result.summary()))
            draw(seen, free_path(out, name_of(seen), ".jpg", taken))
        table(("picture", f"shows, of queries sure to {ask.task.threshold:.0%} or more"), lines)  # pyright: ignore
        if taken:
            print(f"The pictures, with their segments drawn on them, are in {out}.")
    if unread:
        print("\n".join(unread), file=sys.stderr)
        raise DataError(f"{many(len(unread), 'picture')} could not be read.")


def draw(seen: "Seen", path: Path) -> None:
    """One picture with its segments."""
    from vitrail.predict_objects import segments_drawn

    path.parent.mkdir(parents=True, exist_ok=True)
    segments_drawn(seen.picture, seen.result).save(path, quality=92)  # pyright: ignore


def write_files(out: Path, found: "Iterator[Seen]") -> Path:
    """COCO's panoptic format: one JSON, and a PNG for each picture."""
    from vitrail.cli.predict_objects import free_path, name_of, number_of
    from vitrail.tasks import result_files

    taken = set[Path]()
    out.mkdir(parents=True, exist_ok=True)
    told = (
        result_files.Seen(number_of(name_of(seen)), free_path(out, name_of(seen), ".png", taken).stem, seen.result)
        for seen in found
    )
    return result_files.write_panoptic(out / NAME, told)


def rows(seen: "Seen") -> Iterator[dict[str, Any]]:
    """The segments of a picture as lines of a table, largest first."""
    from vitrail.cli.predict_objects import name_of

    for one in seen.result.record()["segments"]:  # pyright: ignore
        kind = {True: "yes", False: "no"}[one["thing"]]
        values = (name_of(seen), one["label"], kind, round(one["score"], 6), one["area"], one["number"])
        yield dict(zip(COLUMNS, values, strict=True))
