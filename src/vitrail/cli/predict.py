"""`vitrail predict`: what pictures show."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from tyro.conf import Positional, arg

from vitrail.cli.flags import Batch, Source, Switch, Word, shown, whole

if TYPE_CHECKING:
    from vitrail.predict import Predictor

GROUP = 256  # pictures whose answers are held before they are printed


def predict(
    run: Source,
    images: Annotated[Positional[list[str]], shown("PICTURE ...")],
    *,
    top: Annotated[int, arg(metavar="N"), whole("--top", "3")] = 3,
    features: Switch = False,
    json: Switch = False,
    csv: Switch = False,
    batch: Batch = 32,
    device: Word = None,
) -> None:
    """Say what pictures show. Exits with 1 when a file could not be read or a name means none, after all the others.

    Args:
        run: a run, a folder, a name from `vitrail models` or a hub id.
        images: pictures, folders of pictures, and patterns in quotes ('more/*.jpg').
        top: how many guesses for each; where several labels can hold, those below 50% stand in brackets.
        features: give the numbers that the model's head reads instead of labels.
        json: print one JSON object for each picture, as soon as it is known.
        csv: print a table of comma-separated values.
        batch: pictures at once.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
    """
    from vitrail.cli.screen import print_csv, print_json_lines, table
    from vitrail.errors import DataError, UsageError
    from vitrail.predict import predictor

    if not images:
        raise UsageError(f"Which pictures? Type: vitrail predict RUN PICTURE ... Only {run} was given.")
    if top < 1:
        raise UsageError(f"--top {top} would show nothing. Type --top 1 or more.")
    if json and csv:
        raise UsageError("--json and --csv are two ways to print the same. Type one of them.")
    unread: list[Answer] = []
    found = answers(predictor(run, device=device), images, batch, features, unread)
    if csv:
        print_csv(record(answer, top) for answer in found)
    elif json or features:
        print_json_lines(record(answer, top) for answer in found)
    else:
        table(("picture", "shows"), [(answer.name, in_words(answer, top)) for answer in found])
    if unread:
        rows = "1 row has no answer, and says" if len(unread) == 1 else f"{len(unread)} rows have no answer, and say"
        raise DataError(f"{rows} why.")


class Answer(NamedTuple):
    """What is known about one picture: a result, its features, or why there is none."""

    name: str
    result: Any


def named(images: Sequence[str]) -> Iterator[Any]:
    """The pictures that each name means, or why it means none."""
    from vitrail.errors import DataError, ImageError
    from vitrail.predict import pictures

    for image in images:
        try:
            yield from pictures(image)
        except DataError as error:
            yield ImageError("no-picture", image, str(error))


def answers(
    ask: "Predictor", images: Sequence[str], batch: int, features: bool, unread: list[Answer]
) -> Iterator[Answer]:
    """The answers in the order of the pictures; those that are none are also added to `unread`."""
    from vitrail.errors import ImageError
    from vitrail.predict import in_groups

    give = ask.features if features else ask
    group: list[Any]
    for group in in_groups(named(images), GROUP):
        shown: list[Any] = [one for one in group if not isinstance(one, ImageError)]
        results = iter(give(shown, batch=batch, on_error="keep"))
        for one in group:
            answer = Answer(one.path, one) if isinstance(one, ImageError) else Answer(one.name, next(results))
            if isinstance(answer.result, ImageError):
                unread.append(answer)
            yield answer


def record(answer: Answer, top: int) -> dict[str, Any]:
    """One answer for a program."""
    from torch import Tensor

    from vitrail.errors import ImageError

    if isinstance(answer.result, ImageError):
        return {"file": answer.name, "error": answer.result.code, "reason": answer.result.hint}
    if isinstance(answer.result, Tensor):
        return {"file": answer.name, "features": answer.result.tolist()}
    return {"file": answer.name, **answer.result.record(top)}


def in_words(answer: Answer, top: int) -> str:
    """One answer for a person."""
    from vitrail.errors import ImageError

    if isinstance(answer.result, ImageError):
        return f"not read: {answer.result.hint}"
    return answer.result.summary(top)
