"""`vitrail predict` with a detector: pictures drawn, and what is in them as other tools read it."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vitrail.errors import ImageError
    from vitrail.predict import Predictor
    from vitrail.tasks.detected import Detected

COLUMNS = ("file", "label", "score", "left", "top", "right", "bottom", "query")


class Tiling(NamedTuple):
    """How large pictures are cut into pieces: their side in pixels, and the share that neighbours have in common."""

    tile: int
    overlap: float


class Seen(NamedTuple):
    """A picture and what is in it, or why it cannot be read."""

    picture: Any
    result: "Detected | ImageError"


def look_at(ask: "Predictor", images: Sequence[str], batch: int, tiling: Tiling | None) -> Iterator[Seen]:
    """What is in each picture, in their order."""
    from vitrail.cli.predict import GROUP, named
    from vitrail.errors import ImageError
    from vitrail.predict import in_groups
    from vitrail.predict_objects import find_in_tiles

    group: list[Any]
    for group in in_groups(named(images), 1 if tiling else GROUP):
        shown = [one for one in group if not isinstance(one, ImageError)]
        if tiling is None:
            results: Iterator[Any] = iter(ask(shown, batch=batch, on_error="keep"))
        else:
            find = partial(find_in_tiles, ask, tile=tiling.tile, overlap=tiling.overlap)
            results = (whole(find, one) for one in shown)
        for one in group:
            yield Seen(one, one if isinstance(one, ImageError) else next(results))


def whole(find: Any, picture: Any) -> "Detected | ImageError":
    """What is found in a picture, or why it cannot be read, as a value."""
    from vitrail.errors import ImageError

    try:
        return find(picture)
    except ImageError as error:
        return error


def name_of(seen: Seen) -> str:
    """What a picture is called in front of a person."""
    return seen.picture.name if hasattr(seen.picture, "name") else str(seen.picture.path)


def number_of(name: str) -> int | str:
    """The `image_id` of a picture: the number that its file is called by, as in COCO, or else its name."""
    stem = Path(name).stem
    return int(stem) if stem.isdecimal() and stem.isascii() else Path(name).name


def free_path(folder: Path, name: str, ending: str, taken: set[Path]) -> Path:
    """Where the drawing of a picture goes; two pictures of one name do not share it."""
    stem, number = Path(name).stem or "picture", 1
    path = folder / f"{stem}{ending}"
    while path in taken:
        number += 1
        path = folder / f"{stem}-{number}{ending}"
    taken.add(path)
    return path


def predict_objects(
    ask: "Predictor",
    images: Sequence[str],
    *,
    threshold: float | None,
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
    import sys

    from vitrail.cli.screen import print_csv, table
    from vitrail.errors import DataError, ImageError, many

    shown = ask.task.threshold if threshold is None else threshold  # pyright: ignore
    unread: list[str] = []

    def found() -> Iterator[Seen]:
        for seen in look_at(ask, images, batch, tiling):
            if isinstance(seen.result, ImageError):
                unread.append(f"{name_of(seen)}: {seen.result.hint}")
                continue
            every = json and threshold is None
            yield Seen(seen.picture, seen.result if every else seen.result.above(shown))

    if json:
        print_results(found())
    elif csv:
        print_csv([row for seen in found() for row in rows(seen)], COLUMNS)
    elif yolo:
        print(f"{many(write_labels(out, found()), 'text file')} in {out}, with classes.txt.")
    else:
        lines, taken = list[tuple[str, str]](), set[Path]()
        for seen in found():
            assert not isinstance(seen.result, ImageError), "they were taken out"
            lines.append((name_of(seen), seen.result.summary()))
            draw(seen, free_path(out, name_of(seen), ".jpg", taken))
        table(("picture", f"found with {shown:.0%} or more"), lines)
        if taken:
            print(f"The pictures, with what was found drawn on them, are in {out}.")
    if unread:
        print("\n".join(unread), file=sys.stderr)
        raise DataError(f"{many(len(unread), 'picture')} could not be read.")


def draw(seen: Seen, path: Path) -> None:
    """One picture with what was found in it."""
    from vitrail.predict_objects import drawn

    assert not isinstance(seen.result, Exception)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(seen.picture, seen.result).save(path, quality=92)


def print_results(found: Iterator[Seen]) -> None:
    """COCO's results: one JSON list, an object on each line."""
    import json

    from vitrail.tasks.result_files import coco_results

    lines = []
    for seen in found:
        name = name_of(seen)
        for row in coco_results(seen.result, number_of(name)):  # pyright: ignore
            lines.append(json.dumps({**row, "file_name": Path(name).name}))
    print("[" + ",\n".join(lines) + "]")


def rows(seen: Seen) -> Iterator[dict[str, Any]]:
    """The objects of a picture as lines of a table."""
    for one in seen.result.found():  # pyright: ignore
        sides = (round(side, 2) for side in one.box_xyxy)
        values = (name_of(seen), one.label, round(one.score, 6), *sides, one.query)
        yield dict(zip(COLUMNS, values, strict=True))


def write_labels(out: Path, found: Iterator[Seen]) -> int:
    """YOLO's text files; gives how many."""
    from vitrail.tasks import result_files

    seen = (result_files.Seen(number_of(name_of(one)), Path(name_of(one)).stem, one.result) for one in found)
    return len(result_files.write_yolo(out, seen))
