"""`vitrail convert`: weights out of one library's hands into another's."""

from typing import Annotated

from vitrail.cli.flags import Set, Source, Word, shown


def convert(
    source: Source,
    out: Source,
    *,
    from_: Annotated[str | None, shown("FORMAT", name="from")] = None,
    to: Annotated[str, shown("FORMAT")] = "vitrail",
    model: Word = None,
    set: Set = (),
) -> None:
    """Write a model down for vitrail, transformers or timm.

    Args:
        source: a folder, a run, a hub id or a bare file of weights.
        out: the folder to write, new or empty.
        from_: who wrote a bare file: torchvision, timm, transformers or google; found out for folders.
        to: for whom to write: vitrail (without it), transformers or timm.
        model: the name of the model in a bare file, from `vitrail models`.
        set: what the file cannot tell or should be changed, such as patch=2 or preprocessing.resize=248; may be
            repeated.
    """
    from pathlib import Path

    from vitrail.cli.values import changes, refuse_overwriting
    from vitrail.loading import from_pretrained, save_pretrained
    from vitrail.predict import refuse_no_model

    refuse_no_model(Path(source))
    refuse_overwriting(Path(out))
    save_pretrained(from_pretrained(source, format=from_, model=model, **changes(set)), out, format=to, announce=print)
