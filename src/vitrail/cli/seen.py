"""Pictures and what a model says of them, one after another, as the verbs that predict print and draw it."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.cli.screen import table

if TYPE_CHECKING:
    from PIL.Image import Image

GROUP = 256  # pictures whose answers are held before they are printed
EVERY = 20  # seconds between two sentences about how far one is


class Seen(NamedTuple):
    """A picture and what a model says of it; or why it cannot be read.

    Attributes:
        picture: a `Picture`; the `ImageError` itself where a name means none.
        result: what the task says, or an `ImageError`.
    """

    picture: Any
    result: Any

    @property
    def name(self) -> str:
        """What the picture is called in front of a person."""
        return self.picture.name if hasattr(self.picture, "name") else str(self.picture.path)


def named(images: Sequence[str]) -> Iterator[Any]:
    """The pictures that each name means, or why it means none."""
    from vitrail.errors import DataError, ImageError
    from vitrail.predict import pictures

    for image in images:
        try:
            yield from pictures(image)
        except DataError as error:
            yield ImageError("no-picture", image, str(error))


def look_at(images: Sequence[str], ask: Callable[[list[Any]], Iterable[Any]], group: int = GROUP) -> Iterator[Seen]:
    """What is in each picture, in their order; how many there have been is said now and then, beside what is printed.

    Args:
        images: names of files and folders, and patterns.
        ask: gives a result for each picture of a list.
        group: how many pictures it is asked about at a time.
    """
    from vitrail.errors import ImageError
    from vitrail.predict import in_groups

    some: list[Any]
    began = said = time.monotonic()
    done = 0
    for some in in_groups(named(images), group):
        results = iter(ask([one for one in some if not isinstance(one, ImageError)]))
        for one in some:
            yield Seen(one, one if isinstance(one, ImageError) else next(results))
        done, now = done + len(some), time.monotonic()
        if now - said >= EVERY:
            print(f"{done:,} pictures so far, {done / (now - began):.3g} a second.", file=sys.stderr)
            said = now


class Unread:
    """Pictures that could not be read, which is said at the end, after all the others."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def left_out(self, seen: Iterable[Seen]) -> Iterator[Seen]:
        """The others."""
        from vitrail.errors import ImageError

        for one in seen:
            if isinstance(one.result, ImageError):
                self.lines.append(f"{one.name}: {one.result.hint}")
            else:
                yield one

    def say(self) -> None:
        """Say which, if any.

        Raises:
            DataError: there are some.
        """
        from vitrail.errors import DataError, many

        if self.lines:
            if len(self.lines) == 1:
                raise DataError(self.lines[0])
            print("\n".join(self.lines), file=sys.stderr)
            raise DataError(f"{many(len(self.lines), 'picture')} could not be read.")


def free_path(folder: Path, name: str, ending: str, taken: set[Path]) -> Path:
    """Where the drawing of a picture goes; two pictures of one name do not share it."""
    stem, number = Path(name).stem or "picture", 1
    path = folder / f"{stem}{ending}"
    while path in taken:
        number += 1
        path = folder / f"{stem}-{number}{ending}"
    taken.add(path)
    return path


def draw_all(seen: Iterable[Seen], out: Path, draw: Callable[[Any, Any], "Image"], *, heading: str, what: str) -> None:
    """Draw each picture with what is in it, and print a table of that.

    Args:
        seen: pictures and results, which have a summary.
        out: folder of the drawings, made if there is none.
        draw: gives the drawing of a picture and its result.
        heading: over the summaries.
        what: is drawn on them, as the last line calls it.
    """
    lines, taken = list[tuple[str, str]](), set[Path]()
    for one in seen:
        lines.append((one.name, one.result.summary()))
        path = free_path(out, one.name, ".jpg", taken)
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(one.picture, one.result).save(path, quality=92)
    table(("picture", heading), lines)
    if taken:
        print(f"The pictures, with {what} drawn on them, are in {out}.")
