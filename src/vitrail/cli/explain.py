"""`vitrail explain`: what a model looked at."""

from pathlib import Path
from typing import Annotated, Literal

from vitrail.cli.flags import Source, Word, shown

At = Annotated[tuple[float, float] | None, shown("X Y")]
Head = Annotated[int | Literal["mean", "all"], shown("N|mean|all")]
Layer = Annotated[int | str, shown("N")]


def explain(
    run: Source,
    image: Source,
    *,
    at: At = None,
    layer: Layer = -1,
    head: Head = "mean",
    out: Path = Path("attention.png"),
    device: Word = None,
) -> None:
    """Draw what a model looked at, over the picture. The answer is the model's own, to the last bit.

    Args:
        run: a run, a folder, a name from `vitrail models` or a hub id.
        image: the picture.
        at: the pixel to ask about, x then y, in the picture as displayed; without it the class token is asked. A pixel
            that the model does not see is replaced by the nearest that it does, and that is said.
        layer: which, counted from 0; the last without it.
        head: which, counted from 0; the mean of all without it, or all to see each.
        out: where the drawing goes.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
    """
    from vitrail.predict import predictor

    explanation = predictor(run, device=device).explain(image, at=at, layer=layer, head=head)
    print(f"{explanation.save(out)}: layer {explanation.layer}, asked about {explanation.asked.words}.")
