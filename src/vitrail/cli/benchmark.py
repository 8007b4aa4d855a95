"""`vitrail benchmark`: our score beside the published ones."""

from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from vitrail.cli.flags import Batch, Out, Switch, Word, shown, whole

if TYPE_CHECKING:
    from vitrail.evaluate.benchmarks import Benchmark, Row

HEADINGS = {
    "gflops": "GFLOPs", "fps": "FPS", "parameters": "#params", "ap": "AP", "ap50": "AP50", "ap75": "AP75",
    "ap_small": "AP-S", "ap_medium": "AP-M", "ap_large": "AP-L", "ar1": "AR1", "ar10": "AR10", "ar100": "AR100",
    "ar_small": "AR-S", "ar_medium": "AR-M", "ar_large": "AR-L",
}  # fmt: skip
FORMS = {"gflops": "{:.0f}", "fps": "{:.3g}", "parameters": "{:.0f}M"}  # of numbers; others have one decimal


def cell(row: "Row", column: str) -> str:
    """The numbers of one column, and nothing where they are not known."""
    names = [name for name in column.split("/") if name in row.numbers]
    return "/".join(FORMS.get(name, "{:.1f}").format(row.numbers[name]) for name in names)


def show(name: str, rows: list["Row"], about: "Benchmark") -> None:
    """The table for people."""
    from vitrail.cli.screen import table
    from vitrail.evaluate.benchmarks import typed

    columns = about.columns or (about.metric,)
    headings = ["/".join(HEADINGS.get(name, about.unit) for name in column.split("/")) for column in columns]
    said = []
    for row in rows:
        score = "" if row.score is None else f"{row.score:.2f}"
        cells = [cell(row, column) for column in about.columns] or [score]
        where = "published" if not row.here else "here" if row.alike else "here, on other data"
        said.append((row.model, *cells, where, row.source))
    table((about.title, *headings, "", "source"), said)
    if about.costs and any(row.here and row.score is None for row in rows):
        print("Scores are published and were not computed here: --data PATH --model SOURCE does that.")
    if about.note:
        print(about.note)
    if about.task is None:
        print("It cannot be run here yet.")
    elif not any(row.here for row in rows):
        print(f"None of ours is verified yet. Type: {typed(name)}, where {about.layout}.")


def benchmark(
    name: Positional[str],
    *,
    data: Annotated[str | None, shown("PATH")] = None,
    model: Word = None,
    out: Out = None,
    batch: Batch = 32,
    workers: Annotated[int, arg(metavar="N"), whole("--workers")] = 1,
    device: Word = None,
    json: Switch = False,
) -> None:
    """Score a model as its field does, and put that beside published scores.

    Without --data only those are shown, and nothing is written unless --out says where. Detectors (detr) are also
    compared by what they cost: products, parameters, and pictures a second on this machine.

    Args:
        name: imagenet, coco, detr, wmt14 or squad; librispeech can be shown and not run yet.
        data: the benchmark's data: for imagenet its val folder, with a folder for each class; for coco and detr the
            folder of COCO, or any pictures with marked objects; for wmt14 a folder with test.en and test.de, as
            FOLDER:en-de; for squad its dev-v1.1.json.
        model: a run, a folder, a name from `vitrail models` (its published weights) or a hub id.
        out: the folder of the chart and the table; benchmark-NAME without it, where a model is scored.
        batch: pictures at once.
        workers: processes that read pictures.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
        json: print the rows as one JSON object.
    """
    from pathlib import Path

    from vitrail.cli.screen import print_json_lines
    from vitrail.evaluate.benchmarks import as_json, find_benchmark, ranked, rows_of, save
    from vitrail.evaluate.judge import refuse_taken

    about = find_benchmark(name)
    if out is not None:
        refuse_taken(out, earlier=f"{name}.png")
    rows = ranked(rows_of(name, data, model, batch=batch, workers=workers, device=device), about)
    if json:
        print_json_lines([as_json(name, rows)])
    else:
        show(name, rows, about)
    if data is None and out is None:
        return
    path = save(name, rows, Path(f"benchmark-{name}") if out is None else out)
    if not json:
        print(f"The chart is in {path}.")
