"""`vitrail evaluate`: how good a model is on labelled pictures, on texts, or on questions about words."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from vitrail.cli.flags import Batch, Data, Out, Source, Switch, Word, number, shown, whole


def evaluate(
    run: Source,
    *,
    data: Data,
    split: Annotated[str | None, shown("val|test|train")] = None,
    out: Out = None,
    batch: Batch = 32,
    workers: Annotated[int, arg(metavar="N"), whole("--workers")] = 1,
    nms: Annotated[float | None, shown("X"), number("--nms", "0.7")] = None,
    device: Word = None,
    json: Switch = False,
) -> None:
    """Score a model on labelled pictures, or on texts, and write its report.

    Args:
        run: a run, a folder, a name from `vitrail models` or a hub id.
        data: labelled pictures or texts, in one piece or with a part val or test; for word vectors a file of analogies
            (man king woman queen), or of pairs of words with what people gave them, separated by tabs.
        split: the part of the data that judges; val without it, or test where there is no val.
        out: the folder of the report; evaluated-DATA in the run without it.
        batch: pictures or texts at once.
        workers: processes that read pictures.
        nms: of a detector: leave out boxes that share more than this with a better one of their class; as its recipe
            says without it.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
        json: print scores and details as one JSON object.
    """
    from vitrail.cli.screen import print_json_lines, table
    from vitrail.errors import UsageError
    from vitrail.evaluate.judge import judge
    from vitrail.tasks.scores import in_words
    from vitrail.words.predictor import vectors_at

    vectors = vectors_at(run)
    if vectors is not None:
        if split is not None:
            raise UsageError("Questions about words are in one piece. Leave out --split.")
        evaluate_words(vectors, data, out, json)
        return
    report, page = judge(run, data, split=split, out=out, batch=batch, workers=workers, device=device, nms=nms)
    if json:
        print_json_lines([report.to_json()])
    else:
        scores = [(name, in_words(name, value)) for name, value in report.telling.items()]
        table(("score", f"{report.seen:,} judged"), scores)
        for remark in report.remarks:
            print(remark)
        print(f"The report is in {page}.")


def evaluate_words(vectors: Path, data: str, out: Path | None, json: bool) -> None:
    """Print how good word vectors are."""
    from vitrail.cli.screen import print_json_lines, table
    from vitrail.errors import UsageError
    from vitrail.words.files import read_vectors
    from vitrail.words.judging import Likeness, judge_words, together

    if out is not None:
        raise UsageError(
            "Word vectors have no report, only the table that is printed. Leave out --out, or type --json."
        )
    found = judge_words(read_vectors(vectors), data)
    if isinstance(found, Likeness):
        if json:
            print_json_lines([found._asdict()])
        else:
            rows = [("Spearman", f"{found.spearman:.3f}"), ("pairs with an unknown word", f"{found.unknown:,}")]
            table(("score", f"{found.pairs:,} pairs"), rows)
        return
    sections = [*found, together(found)]
    if json:
        print_json_lines([{**section._asdict(), "accuracy": section.accuracy} for section in sections])
        return
    rows = [
        (one.name, f"{one.accuracy:.1%}" if one.asked else "", f"{one.asked:,}", f"{one.unknown:,}") for one in sections
    ]
    table(("analogies", "right", "of", "with an unknown word"), rows)
