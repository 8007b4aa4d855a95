"""`vitrail explain`: what a model looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from vitrail.cli.flags import Source, Word, read_by, shown

if TYPE_CHECKING:
    from vitrail.predict import Predictor


def point(x: str, y: str) -> tuple[float, float]:
    """A place in a picture."""
    return float(x), float(y)


def head_of(text: str) -> int | str:
    """Which head is meant."""
    return text if text in ("mean", "all") else int(text)


At = Annotated[
    tuple[float, float] | None,
    shown("X Y"),
    read_by(point, "--at", "two numbers, x then y, such as 410 37", counts=(1, 2)),
]
Head = Annotated[
    int | Literal["mean", "all"],
    shown("N|mean|all"),
    read_by(head_of, "--head", "a number, mean or all"),
]
Layer = Annotated[int | str, shown("N")]


def answer_about(image: str, ask: "Predictor") -> str:
    """What the model says of a picture, and what its folder is called where that names a class."""
    from vitrail.errors import ConfigError

    try:
        _ = ask.task
    except ConfigError:  # it tells no classes apart, and still looks at something
        return ""
    [result] = ask(image)
    folder = Path(image).absolute().parent.name
    truth = f"; the picture lies in a folder called {folder}" if folder in ask.card.labels else ""
    return f"The model's answer: {result.summary()}{truth}"


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
        out: where the drawing goes: a name that ends with .png, .jpg, .webp, .pdf or .svg.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
    """
    from dataclasses import replace

    from vitrail.explain.drawing import check_place
    from vitrail.predict import predictor

    check_place(out)
    ask = predictor(run, device=device)
    explanation = replace(ask.explain(image, at=at, layer=layer, head=head), answer=answer_about(image, ask))
    print(f"{explanation.save(out)}: layer {explanation.layer}, asked about {explanation.asked.words}.")
    if explanation.answer:
        print(f"{explanation.answer}.")
