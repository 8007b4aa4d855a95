"""`vitrail convert`: weights out of one library's hands into another's, and marked objects from format to format."""

from pathlib import Path
from typing import Annotated

from vitrail.cli.flags import Set, Source, Word, shown

WEIGHT_FORMATS = ("vitrail", "transformers", "timm")
DATA_FORMATS = ("coco", "voc", "yolo")


def convert_objects(source: str, out: Path, to: str) -> None:
    """Write a data set in another format, and say where it is and what could not be kept."""
    from vitrail.cli.values import refuse_overwriting
    from vitrail.data.conversion import convert_data

    refuse_overwriting(out)
    for note in convert_data(source, out, to):
        print(note)
    print(out)


def convert(
    source: Source,
    out: Source,
    *,
    from_: Annotated[str | None, shown("FORMAT", name="from")] = None,
    to: Annotated[str, shown("FORMAT")] = "vitrail",
    model: Word = None,
    set: Set = (),
) -> None:
    """Write a model down for vitrail, transformers or timm, or pictures with marked objects as COCO, VOC or YOLO.

    Args:
        source: a folder, a run, a hub id or a bare file of weights; or a data set of marked objects.
        out: the folder to write, new or empty.
        from_: who wrote a bare file: torchvision, timm, transformers, google or vitrail; found out for folders.
        to: for whom to write: vitrail (without it), transformers or timm; or coco, voc or yolo for a data set.
        model: the name of the model in a bare file, from `vitrail models`.
        set: what the file cannot tell or should be changed, such as patch=2 or preprocessing.resize=248; may be
            repeated.
    """
    from vitrail.cli.values import changes, refuse_overwriting

    if to in DATA_FORMATS:
        convert_objects(source, Path(out), to)
        return
    from vitrail.errors import CheckpointError, UsageError, unknown
    from vitrail.loading import from_pretrained, save_pretrained
    from vitrail.predict import refuse_no_model

    if to not in WEIGHT_FORMATS:
        raise UsageError(unknown("format", to, [*WEIGHT_FORMATS, *DATA_FORMATS]))
    try:
        refuse_no_model(Path(source))
    except CheckpointError as error:
        raise CheckpointError(f"{error} Marked objects are written with --to coco, --to voc or --to yolo.") from error
    refuse_overwriting(Path(out))
    save_pretrained(from_pretrained(source, format=from_, model=model, **changes(set)), out, format=to, announce=print)
