"""`vitrail info`: what a model is, what it costs, and where it comes from."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vitrail.cli.flags import Set, Source, Switch, shown
from vitrail.errors import UsageError, many

if TYPE_CHECKING:
    from vitrail.description import AttentionCost, Description
    from vitrail.preprocessing import PicturePreprocessing
    from vitrail.tokenizing import TextPreprocessing

BATCH = 16  # pictures in the step whose memory is told
FITS = {"squash": "stretched to", "cover": "resized to cover", "contain": "resized to fit into"}


def info(
    source: Source,
    *,
    set: Set = (),
    flow: Annotated[str | None, shown("TEXT|PICTURE")] = None,
    json: Switch = False,
) -> None:
    """Tell a model's size, cost, input, licence and origin. For a name, nothing is fetched.

    Args:
        source: a name from `vitrail models`, a folder, a run or a hub id.
        set: a field of its configuration that should be otherwise, such as image=384; several may follow.
        flow: a sentence, or a picture, whose way through the model is told instead: what goes into each part and what
            comes out; of a model that answers questions, a question and its text with a tab between.
        json: print one JSON object.
    """
    from vitrail.cli.screen import print_json_lines, table
    from vitrail.cli.values import changes
    from vitrail.description import describe
    from vitrail.predict import refuse_no_model

    refuse_no_model(Path(source))
    if flow is not None:
        if set:
            raise UsageError("--flow goes through a model as it is; leave out --set.")
        tell_flow(source, flow, json)
        return
    found = describe(source, **changes(set))
    if json:
        told = dataclasses.asdict(found)
        if found.text:  # the whole vocabulary stands in the folder's tokenizer.json
            told["card"]["preprocessing"]["tokenizer"] = tokenizer(found.card.preprocessing)
        print_json_lines([told])
    else:
        rows = [*costs(found), *uses(found), *origins(found, changed=bool(set))]
        table((found.card.model, ""), [row for row in rows if row[1]])


def tell_flow(source: str, given: str, json: bool) -> None:
    """Print what flows through a model, part by part."""
    from vitrail.cli.screen import print_json_lines, table
    from vitrail.data.images import ImageFile
    from vitrail.flow import flow_of_picture, flow_of_text
    from vitrail.loading import from_pretrained
    from vitrail.tokenizing import TextPreprocessing

    model: Any = from_pretrained(source)
    reads_text = isinstance(model.card.preprocessing, TextPreprocessing)
    found = flow_of_text(model, given) if reads_text else flow_of_picture(model, ImageFile(given))
    if json:
        print_json_lines([{**found._asdict(), "stages": [stage._asdict() for stage in found.stages]}])
        return
    for name, pieces in (("reads", found.read), ("writes", found.written)):
        if pieces:
            print(f"{name} {many(len(pieces), 'piece')}: {' '.join(pieces)}")
    rows = [(stage.name, stage.kind, in_line(stage.taken), in_line(stage.given)) for stage in found.stages]
    table(("part", "what it is", "takes", "gives"), rows)


def in_line(shapes: Iterable[tuple[int, ...]]) -> str:
    """Shapes one after the other, as rows x columns."""
    return ", ".join(" x ".join(map(str, shape)) for shape in dict.fromkeys(shapes))


def costs(found: "Description") -> Iterator[tuple[str, str]]:
    """How large it is and what it takes to run and to train."""
    from vitrail.environment import size

    unit, name = (1e9, "GFLOP") if found.operations >= 1e9 else (1e6, "MFLOP")
    operations = found.operations / unit
    one = f"text of {many(found.tokens or 0, 'word piece')}" if found.text else "picture"
    yield "parameters", f"{found.parameters:,} ({size(found.weights)} in float32)"
    yield (
        "arithmetic",
        f"{operations:.3g} {name} a {one}, where a multiply-add counts as two "
        f"(papers that count it as one print {operations / 2:.3g})",
    )
    yield "training", f"takes {size(found.training(BATCH))} for batches of {BATCH}, with AdamW in float32"


def uses(found: "Description") -> Iterator[tuple[str, str]]:
    """What it reads, what it works on and what it answers."""
    from vitrail.description import classes_called

    reads = found.card.preprocessing
    if found.text:
        yield "reads", f"texts of at most {many(reads.max_tokens, 'word piece')}"
    else:
        channels = many(reads.channels, "channel")
        yield "reads", f"{channels} of {reads.size[0]} x {reads.size[1]} pixels (rows x columns)"
    if found.tokens is not None and found.grid is not None and not found.text:
        yield "tokens", tokens(found.tokens, found.grid)
    if found.attention is not None:
        yield "attention", attention(found.attention, "text" if found.text else "picture")
    if found.attention is not None and found.attention_before is not None:
        yield beside(found.attention, found.attention_before)
    if found.text:
        yield "tokenizer", tokenizer(reads)
    elif found.checkpoint is None or found.card.origin:
        yield "preprocessing", preprocessing(reads)
    else:
        yield from both_preprocessings(reads, found.checkpoint.preprocessing)
    if labels := found.card.labels:
        more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
        called = classes_called(found.card.task or "")
        yield "labels" if called == "classes" else called, ", ".join(labels[:8]) + more
    yield "configuration", configuration(found.config)


def configuration(config: Any) -> str:
    """What is there; of a configuration within, its family and its fields."""
    parts = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return ", ".join(
        f"{name}={getattr(value, 'family', '')}({configuration(value)})"
        if dataclasses.is_dataclass(value)
        else f"{name}={value}"
        for name, value in parts.items()
        if value
    )


def tokens(count: int, grid: tuple[int, int]) -> str:
    """How many there are, and where."""
    patches = grid[0] * grid[1]
    return f"{count:,}: {count - patches} in front, and {grid[0]} x {grid[1]} patches ({patches:,})"


def attention(cost: "AttentionCost", one: str = "picture") -> str:
    """How much there is to weigh, and what it would take to keep it."""
    from vitrail.environment import size

    return (
        f"{rounded(cost.pairs)} pairs of tokens in each layer; to keep the weights of {many(cost.heads, 'head')} takes "
        f"{size(cost.layer)} a {one} for one layer, {size(cost.all)} for all {cost.layers}"
    )


def beside(found: "AttentionCost", before: "AttentionCost") -> tuple[str, str]:
    """The same with the patches that the model has before they are changed."""
    rows, columns = before.patch
    times = max(found.pairs, before.pairs) / min(found.pairs, before.pairs)
    compared = "fewer" if before.pairs <= found.pairs else "more"
    shares = f"{times:,.0f}" if times >= 100 else f"{times:.2g}"
    return (
        f"with patch {rows}" if rows == columns else f"with patch {rows} x {columns}",
        f"{tokens(before.tokens, before.grid)}; {attention(before)}: {shares} times {compared} pairs",
    )


def rounded(count: int) -> str:
    """A number as people say it: in full while that is short."""
    return f"{count:,}" if count < 1_000_000 else f"{count:.1e}".replace("e+0", "e").replace("e+", "e")


def preprocessing(reads: "PicturePreprocessing") -> str:
    """What is done to a picture, in words."""
    from vitrail.preprocessing import Fitted, Preprocessing

    mean, std = (", ".join(f"{number:.3g}" for number in values) for values in (reads.mean, reads.std))
    spread = f"mean {mean}; standard deviation {std}"
    if isinstance(reads, Fitted):
        how = f"({reads.interpolation}, {reads.resampler})"
        return f"shorter side to {reads.shorter}, longer to {reads.longer} at most {how}; {spread}"
    assert isinstance(reads, Preprocessing), "there are two ways to prepare a picture"
    if reads.resize is None:
        first = "not resized"
    elif isinstance(reads.resize, int):
        first = f"shorter side to {reads.resize}"
    else:
        first = f"{FITS[reads.fit]} {reads.resize[0]} x {reads.resize[1]}"
    return (
        f"{first} ({reads.interpolation}, {reads.resampler}), then the middle {reads.size[0]} x {reads.size[1]}; "
        f"{spread}"
    )


def both_preprocessings(
    fresh: "PicturePreprocessing", published: "PicturePreprocessing | None"
) -> Iterator[tuple[str, str]]:
    """How pictures are prepared for fresh weights, and how for the published ones, where that differs."""
    if published is None or published == fresh:
        yield "preprocessing", preprocessing(fresh)
        return
    yield "preprocessing", f"of fresh weights: {preprocessing(fresh)}"
    before = ", before --set changed it" if getattr(published, "size", None) != getattr(fresh, "size", None) else ""
    yield "", f"of --init default{before}: {preprocessing(published)}"


def tokenizer(reads: "TextPreprocessing") -> str:
    """What cuts a text into word pieces, in words."""
    if not reads.tokenizer:
        return "none yet: it comes with weights, or is trained on your text"
    special = f"; special: {', '.join(reads.special)}" if reads.special else ""
    return f"{reads.size:,} word pieces{special}"


def origins(found: "Description", *, changed: bool = False) -> Iterator[tuple[str, str]]:
    """Whose it is: the weights at hand, or else the published ones.

    Args:
        found: the model.
        changed: whether it is shaped otherwise than its weights were when they were scored.
    """
    from vitrail.tasks.scores import in_words

    before = "before --set changed it: " if changed else ""

    card, published = found.card, found.checkpoint
    if card.origin:
        yield "origin", card.origin
        yield "licence", card.licence or "not known"
        scores = ", ".join(f"{name} {in_words(name, value)}" for name, value in card.scores.items())
        yield "scores", f"{before}{scores}" if scores else ""
        yield "notes", card.notes
    elif published is not None:
        yield "weights", f"{published.source} (--init default), {published.licence}"
        yield "origin", published.origin
        scores = ", ".join(f"{name} {value:.4g}" for name, value in published.scores.items())
        yield "scores", f"{before}{scores} ({published.scores_from})" if scores else ""
        yield "notes", published.notes
    else:
        yield "weights", "none published"
