"""`vitrail check`: what is wrong with a data set, before anything runs."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.cli.flags import Data, Out, Switch

if TYPE_CHECKING:
    from vitrail.data.check import Fault

SHOWN = 10  # findings of a kind that are printed one by one


def check(*, data: Data, json: Switch = False, draw: Out = None) -> None:
    """Say what is wrong with a data set, file by file, and change nothing.

    Finds pictures that cannot be read, empty classes, the same picture in two parts, names that differ only in
    case, hidden files, wrong extensions and more; in texts, sides of different lengths, bytes that are no UTF-8, rows
    without a label, answers that are not where the file says, the same text twice and more. Exits with 1 when there is
    an error, which would stop a training or spoil its scores, or a warning, of what was probably not meant; notes alone
    are no fault. Of pictures with marked objects it draws sixteen, with what is marked.

    Args:
        data: an image folder, a CSV or JSONL manifest, a folder of idx files, scenes: for generated ones; or pictures
            with marked objects: COCO, Pascal VOC, YOLO; or texts: sentence pairs, running text, labelled texts, tagged
            words, questions.
        json: print one JSON object for each finding, however many there are.
        draw: where sixteen annotated pictures are drawn; check-NAME.png without it, and nowhere with --json.
    """
    from collections import Counter

    from vitrail.cli.screen import print_json_lines
    from vitrail.data.check import check, count_in_words
    from vitrail.errors import DataError, many

    faults = check(data)
    if json:
        print_json_lines(fault._asdict() for fault in faults)
    else:
        for line in (*lines(faults), *count_in_words(data)):
            print(line)
    undrawn = draw_annotated(data, draw) if draw is not None or not json else ""
    found, verdict = Counter(fault.severity for fault in faults), ""
    if found["error"]:
        verdict = f"{data}: {found['error']} of {many(len(faults), 'finding')} must be put right before training."
    elif found["warning"]:
        verdict = f"{data} can be trained on, but {many(found['warning'], 'finding')} should be looked at first."
    elif not json:
        print(f"{data.removesuffix(':')}: ready to train on{', with the above in mind' if faults else ''}.")
    if verdict or undrawn:
        raise DataError(f"{verdict} {undrawn}".strip())


def draw_annotated(data: str, draw: Path | None) -> str:
    """Draw sixteen annotated pictures, if objects are marked in any, and say where.

    Returns:
        Why there is no drawing where one was asked for: the data has no objects, or it cannot be written there.
    """
    from vitrail.data.open import name_of
    from vitrail.explain.sheet import sheet_of

    sheet = sheet_of(data)
    if sheet is None:
        return "" if draw is None else f"{data} has no marked objects that could be drawn. Leave out --draw."
    out = draw or Path(f"check-{name_of(data)}.png")
    try:
        sheet.save(out)
    except (OSError, ValueError) as error:
        if draw is not None:
            return f"{out} cannot be written ({error}). Name another with --draw OUT.png."
        print(f"Annotated pictures are not drawn: {out} cannot be written here. --draw OUT.png names another place.")
        return ""
    print(f"{out}: some of the pictures, with what is marked in them.")
    return ""


def lines(faults: Sequence["Fault"]) -> Iterator[str]:
    """A line for each finding, and one for all those of a kind beyond the first few."""
    for code, group in groupby(faults, key=lambda fault: fault.code):
        alike = list(group)
        for fault in alike[:SHOWN]:
            yield f"{fault.path}: {fault.severity}: {fault.reason} [{code}]"
        if len(alike) > SHOWN:
            yield f"... and {len(alike) - SHOWN} more [{code}]; --json lists them all."
