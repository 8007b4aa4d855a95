"""`vitrail explain`: what a model looked at, and what its answer rests on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction

from vitrail.cli.flags import Source, Switch, Word, read_by, shown
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from vitrail.predict import Predictor
    from vitrail.predict_texts import TextPredictor

OF_DETECTORS = ("--query", "--queries", "--top", "--threshold")
OF_PICTURES = ("--at", *OF_DETECTORS)
BESIDE = {
    "--positions": (),
    "--heads": ("--heads", "--data"),
    "--queries": ("--queries", "--data", "--top", "--threshold"),
}
OF_TEXTS = ("--word", "--of", "--context")


def pixel(x: str, y: str) -> tuple[int, int]:
    """A pixel of a picture; nothing lies between two."""
    return int(x), int(y)


def head_of(text: str = "each") -> int | str:
    """Which head is meant: from 1 as people count, or from the end; without a word, what each does."""
    return text if text in ("mean", "all", "each") else from_zero(text)


def layer_of(text: str) -> int | str:
    """Which layer is meant: from 1 as people count, from the end, or by its name; `all` is the pattern of any name."""
    return "*" if text == "all" else from_zero(text) if text.removeprefix("-").isdecimal() else text


def query_of(text: str) -> int:
    """Which query is meant, counted from 0 as in answers.

    Raises:
        ValueError: it is no such number.
    """
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def top_of(text: str) -> int:
    """How many are drawn; 0 for all.

    Raises:
        ValueError: it is neither a number above 0 nor `all`.
    """
    if text != "all" and not (text.isdecimal() and int(text)):
        raise ValueError(text)
    return 0 if text == "all" else int(text)


def share_of(text: str) -> float:
    """A score, from 0 to 1.

    Raises:
        ValueError: it is none.
    """
    if not 0 <= (score := float(text)) <= 1:
        raise ValueError(text)
    return score


def whose(text: str) -> str:
    """Whose attention is meant, in a model that translates.

    Raises:
        ValueError: it is none of the three.
    """
    if text not in ("cross", "encoder", "decoder"):
        raise ValueError(text)
    return text


def from_zero(text: str) -> int:
    """A place counted from 1, or from the end, as Python counts it.

    Raises:
        ValueError: it is no whole number, or 0.
    """
    if (place := int(text)) == 0:
        raise ValueError(text)
    return place - 1 if place > 0 else place


PIXEL = "two whole numbers, x then y, such as 410 37"
LAYERS = "numbers counted from 1, such as 3 6 9 12 (-1 is the last), all, or names"

Point = Annotated[tuple[int, int], read_by(pixel, "--at", PIXEL, counts=(1, 2))]
At = Annotated[tuple[Point, ...], UseAppendAction, shown("X Y")]
Query = Annotated[int, read_by(query_of, "--query", "a whole number counted from 0, as in the answers of predict")]
Queries = Annotated[tuple[Query, ...], UseAppendAction, shown("N")]
Top = Annotated[int | None, shown("N|all"), read_by(top_of, "--top", "a whole number of 1 or more, or all")]
Threshold = Annotated[float | None, shown("X"), read_by(share_of, "--threshold", "a number from 0 to 1, such as 0.7")]
Layer = Annotated[int | str, read_by(layer_of, "--layers", LAYERS)]
Layers = Annotated[tuple[Layer, ...], shown("N|all", aliases=("--layer",))]
Heads = Annotated[
    int | Literal["mean", "all", "each"] | None,
    shown("N|mean|all", aliases=("--head",)),
    read_by(head_of, "--heads", "a number counted from 1 (-1 is the last), mean or all", counts=(0, 1)),
]
Whose = Annotated[
    Literal["cross", "encoder", "decoder"] | None,
    shown("cross|encoder|decoder"),
    read_by(whose, "--of", "cross, encoder or decoder"),
]
Method = Annotated[Literal["attention", "rollout", "relevance", "attribution", "gradient"], shown()]


def known_layers(names: Sequence[str], layers: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The layers that were typed, refused where they are not among those of a model.

    Raises:
        UsageError: says which there are, counted as people count.
    """
    from fnmatch import fnmatchcase

    there = f"this model has layers 1 to {len(names)}; -1 is the last"
    for layer in layers:
        if isinstance(layer, int) and not -len(names) <= layer < len(names):
            raise UsageError(f"--layers {layer + (layer >= 0)}: {there}.")
        if isinstance(layer, str) and not any(fnmatchcase(name, layer) for name in names):
            raise UsageError(
                f"--layers {layer}: {there}. Type several as 1 2 3, or all; by name they are {names[0]} to {names[-1]}."
            )
    return layers


def known_head(model: "nn.Module", head: Any) -> Any:
    """The head that was typed, counted from 0, refused where a model does not have it.

    Raises:
        UsageError: says which there are, counted as people count.
    """
    from vitrail.explain.seam import attentions

    if isinstance(head, str):
        return head
    most = min(attention.heads for attention in attentions(model).values())
    if not -most <= head < most:
        raise UsageError(f"--heads {head + (head >= 0)}: this model has heads 1 to {most}; -1 is the last.")
    return head % most


def evidence_of_queries(
    ask: "Predictor", image: str, method: str, target: str | None, queries: tuple, faithful: bool, out: Path
) -> None:
    """Draw what the answer of one query of a detector rests on."""
    from vitrail.loading import say

    if len(queries) > 1:
        raise UsageError("--method explains one query at a time: type one --query.")
    query = queries[0] if queries else None
    found = ask.evidence(image, method, target, faithful=faithful, query=query, say=say)
    print("\n".join([f"{found.save(out)}: {found.caption().title}.", f"{found.answer}.", *found.found]))


def evidence(
    ask: "Predictor", run: str, image: str, method: str, target: str | None, faithful: bool, out: Path
) -> None:
    """Draw what an answer rests on, and say how far that can be trusted."""
    from dataclasses import replace

    from vitrail.evaluate.background import learned_from
    from vitrail.explain.methods import METHODS
    from vitrail.loading import say

    found = ask.evidence(image, method, target, faithful=faithful, say=say)
    if faithful and (data := learned_from(run)).startswith("scenes:"):
        found = replace(found, pointed=ask.pointing(data, method).sentence(asks=METHODS[method].asks))
    title = f"{found.save(out)}: {found.caption().title}."
    print("\n".join([title, *([f"{found.answer}."] if found.answer else []), *found.found]))


def looks(ask: "Predictor", image: str, at: tuple, layers: tuple, heads: Any, out: Path) -> None:
    """Draw where tokens looked, and say what that cost."""
    from vitrail.explain.attention import cost, own_layers, sheet

    layers, head = known_layers(own_layers(ask.model)[1], layers or (-1,)), known_head(ask.model, heads)
    found = ask.look(image, at=at or (None,), layers=layers, head=head)
    drawing = sheet(found)
    asked = " and ".join(dict.fromkeys(look.asked.words for look in found))
    print(f"{drawing.save(out)}: {drawing.caption().title}, asked about {asked}.")
    print("\n".join([*([f"{drawing.answer}."] if drawing.answer else []), cost(found)]))


def look_for_boxes(
    ask: "Predictor",
    image: str,
    queries: tuple[int, ...],
    layers: tuple,
    heads: Any,
    top: int | None,
    threshold: float | None,
    out: Path,
) -> None:
    """Draw where a detector looked for its boxes, and say what that cost."""
    from vitrail.explain.attention import cost
    from vitrail.explain.kinds import kinds
    from vitrail.explain.objects import MOST, ObjectSheet

    layers, head = known_layers(kinds(ask.model)["cross"], layers or (-1,)), known_head(ask.model, heads)
    most = MOST if top is None else top or None
    found = ask.look_for(image, queries, layers, head, most=most, threshold=threshold)
    seen = found.looks if isinstance(found, ObjectSheet) else (found,)
    caption = found.caption()
    print(f"{found.save(out)}: {caption.title}. {caption.question}.")
    print("\n".join([*([f"{found.answer}."] if found.answer else []), cost(seen)]))


def each_query(
    ask: "Predictor", run: str, data: str | None, top: int | None, threshold: float | None, out: Path
) -> None:
    """Draw and say where each query of a detector puts its boxes.

    Raises:
        UsageError: nothing says in which pictures.
    """
    from vitrail.evaluate.background import learned_from
    from vitrail.evaluate.judge import material_for, part_to_judge
    from vitrail.explain.atlas import SQUARES, examine_queries
    from vitrail.explain.objects import detector, with_threshold
    from vitrail.loading import say

    detector(ask.model)
    shown, reads, task = data or learned_from(run), ask.card.preprocessing, with_threshold(ask.task, threshold)
    if not shown:
        raise UsageError(
            f"Where queries put their boxes is measured on pictures: vitrail explain {run} --queries --data PATH."
        )
    dataset, part = part_to_judge(ask, run, shown, print)
    batches = material_for(shown, ask.card.task, reads, batch=8, workers=0).judging(dataset, reads)
    found = examine_queries(
        ask.model,
        task,
        batches.epoch(0),
        total=len(dataset),
        say=say,
        called=ask.card.model,
        data=f"{shown} ({part})" if part else shown,
        squares=SQUARES if top is None else top or None,
    )
    print("\n".join([*found.sentences(), f"The drawing is in {found.save(out)}, its numbers beside it."]))


def one_text(text: str) -> str:
    """The text that was typed.

    Raises:
        UsageError: it is a file.
    """
    from os.path import isfile

    if isfile(text):  # which a long text may be asked too
        raise UsageError(f"{text} is a file, and one text is explained. Type the text itself, in quotes.")
    return text


def look_in_text(
    ask: "TextPredictor",
    text: str,
    word: str | None,
    of: Any,
    layers: tuple,
    heads: Any,
    out: Path,
    context: str | None,
) -> None:
    """Draw what the words of a text looked at."""
    from vitrail.explain.kinds import kinds
    from vitrail.explain.texts import Arcs

    text, there = one_text(text), kinds(ask.model)
    if of is not None and of not in there:
        raise UsageError(
            f"--of is for models that translate, and this {type(ask.model).__name__} does not: leave it out."
        )
    names = there[of] if of else next(iter(there.values())) if word is None else max(there.values(), key=len)
    layer, head = known_layers(names, layers) or None, None if heads is None else known_head(ask.model, heads)
    found = ask.explain(text, word, layer, head, of=of, context=context)
    print(f"{found.save(out)}: {found.caption().title}.")
    for line in (found.answer, found.note, found.most if isinstance(found, Arcs) else ""):
        if line:
            print(line)


def evidence_in_text(
    ask: "TextPredictor",
    text: str,
    method: str,
    target: str | None,
    word: str | None,
    of: Any,
    faithful: bool,
    out: Path,
    context: str | None,
) -> None:
    """Draw which words of a text an answer rests on."""
    from vitrail.loading import say

    found = ask.evidence(one_text(text), method, target, word=word, of=of, context=context, faithful=faithful, say=say)
    print(f"{found.save(out)}: {found.caption().title}.")
    for line in (found.answer, found.note, found.most, *found.found):
        if line:
            print(line)


def each_head(ask: "Predictor | TextPredictor", run: str, data: str | None, out: Path) -> None:
    """Draw and say what each head does.

    Raises:
        UsageError: nothing says on which pictures or texts.
    """
    from math import isnan

    from vitrail.cli.screen import table
    from vitrail.evaluate.background import learned_from
    from vitrail.evaluate.judge import material_for, part_to_judge, refuse_several_labels
    from vitrail.explain.few import few
    from vitrail.explain.heads import examine_heads, written
    from vitrail.loading import say
    from vitrail.preprocessing import PicturePreprocessing

    shown, reads = data or learned_from(run), ask.card.preprocessing
    if not shown:
        them = "pictures" if isinstance(reads, PicturePreprocessing) else "texts"
        raise UsageError(f"What each head does is measured on {them}: vitrail explain {run} --heads --data PATH.")
    dataset = part_to_judge(ask, run, shown, print).dataset
    refuse_several_labels(dataset, ask.task, shown)
    chosen = few(material_for(shown, ask.card.task, reads, batch=16, workers=0, source=run), dataset, reads)
    found = examine_heads(ask.model, ask.task, chosen.epoch(0), say)
    away = f"{found.ground.unit}s away"
    forms = {"layer": ".0f", "head": ".0f", "distance": ".1f", "entropy": ".3f", "diagonal": ".3f", "loss": "+.4f"}
    rows = [
        [row["of"], *("" if isnan(row[name]) else written(row[name], form) for name, form in forms.items())]
        for row in found.table()
    ]
    table(("of", "layer", "head", away, "entropy", "at itself", "loss without it"), rows)
    print("\n".join([*found.sentences(), f"The drawing is in {found.save(out)}."]))


def listed(flags: Sequence[str]) -> str:
    """Flags in a row, as one would say them."""
    return " and ".join(filter(None, (", ".join(flags[:-1]), flags[-1])))


def refuse_foreign(typed: Sequence[str], *, of_text: bool) -> None:
    """Refuse flags that are about what a model does not read.

    Raises:
        UsageError: names them.
    """
    if strange := [flag for flag in typed if flag in (OF_PICTURES if of_text else OF_TEXTS)]:
        reads, others = ("texts", "pictures") if of_text else ("pictures", "texts")
        verb, them = ("is", "it") if len(strange) == 1 else ("are", "them")
        raise UsageError(f"{listed(strange)} {verb} for {others}, and this model reads {reads}: leave {them} out.")


def asks_queries(ask: "Predictor | TextPredictor") -> bool:
    """Whether a model finds objects, each by a query of its own."""
    from vitrail.explain.attention import detector_in

    return detector_in(ask.model) is not None


def refuse_without_queries(ask: "Predictor", typed: Sequence[str]) -> None:
    """Refuse flags that are about the queries of a detector, of a model that has none.

    Raises:
        UsageError: names them.
    """
    strange = [flag for flag in typed if flag in OF_DETECTORS]
    if strange and not asks_queries(ask):
        verb, them = ("is", "it") if len(strange) == 1 else ("are", "them")
        raise UsageError(
            f"{listed(strange)} {verb} for models that find objects by queries, such as detr-resnet-50, and this "
            f"{type(ask.model).__name__} has none: leave {them} out."
        )


def refuse_beside(flag: str, typed: list[str], allowed: Sequence[str]) -> None:
    """Refuse flags that would say nothing beside one that is about the model.

    Raises:
        UsageError: names them.
    """
    if idle := [one for one in typed if one not in allowed]:
        raise UsageError(
            f"{flag} is about the model, and {listed(idle)} would say nothing beside it: leave one of them out."
        )


def explain(
    run: Source,
    image: Annotated[Positional[str | None], shown("PICTURE|TEXT")] = None,
    *,
    method: Method = "attention",
    at: At = (),
    query: Queries = (),
    layers: Layers = (),
    heads: Heads = None,
    word: Word = None,
    of: Whose = None,
    context: Annotated[str | None, shown("FILE|TEXT")] = None,
    target: Word = None,
    faithful: Switch = False,
    positions: Switch = False,
    queries: Switch = False,
    top: Top = None,
    threshold: Threshold = None,
    data: Annotated[str | None, shown("PATH")] = None,
    out: Annotated[Path | None, shown("PATH")] = None,
    device: Word = None,
) -> None:
    """Draw what a model looked at, or what its answer rests on, over the picture or among the words of a text. Its
    numbers go beside, as .npz.

    Args:
        run: a run, a folder, a name from `vitrail models` or a hub id.
        image: the picture, or a text in quotes for a model that reads texts; none for --heads alone, --positions and
            --queries, which are about the model.
        method: attention (without it) for single tokens and layers; rollout follows attention through all layers;
            relevance weighs it by what it did for the answer; attribution hands the answer back part by part; gradient
            goes by pixel and needs no attention. Of a detector, attention is that of its queries, and rollout,
            relevance and gradient explain the class that one of them answers. Of a text, relevance draws which words
            an answer rests on, and rollout what has reached the token that it is read from.
        at: the pixel to ask about, x then y, in the picture as displayed, two whole numbers counted from 0; may be
            repeated. Without it the class token is asked. A pixel that the model does not see is replaced by the
            nearest that it does, and that is said. Of a detector the cell of its encoder is asked that holds the pixel.
        query: of a detector, the query that is asked where it looked for its box, counted from 0 as in the answers of
            `vitrail predict --csv`; may be repeated. Without it and --at, those of the best objects.
        layers: which, counted from 1, or from the end (-1), or all; several are drawn in the model's order. The last
            without it; for the alignment of a translation the one before the last, and for a text without --word all.
        heads: which, counted from 1, or from the end (-1); the mean of all without it, or all to see each, which is
            what is drawn of a text without it unless it is aligned. Alone, without a picture or a text, it says what
            each head does: how far and how widely it looks, and the loss without it.
        word: the word of a text whose arcs are drawn to what it looks at; of one that stands there twice, the:2 is the
            second. Without it matrices are drawn: an alignment of a translation, or which pieces look at which. With
            --method, the word whose tag is explained, or the word written.
        of: of a model that translates, whose attention: cross (without it) from what is written to what is read,
            encoder among what is read (without it where --word is of the text), or decoder among what is written.
        context: the text, or the file, in which a model that answers questions looks for the answer.
        target: the class that relevance, attribution and gradient explain, or of a text the class, tag or word; the
            model's answer without it.
        faithful: say on the drawing how far it can be trusted: what hiding and showing its strongest parts does to the
            answer, whether it depends on what the model has learned, and, for generated scenes, whether it points at
            the object. That asks the model some 200 times: three minutes of processor time for vit-base-16.
        positions: draw how the model knows where its patches, or the words of a text, are.
        queries: of a detector, draw where each query puts its boxes over a data set, and say which are never used,
            which repeat each other, and how many would do.
        top: of a detector, how many objects are drawn (8 without it), or of --queries how many (20); or all.
        threshold: of a detector, the score from which a box counts as an object; as its recipe says (0.7) without it.
        data: labelled pictures, or texts, for --heads alone and --queries. Without it those that `vitrail evaluate`
            judges the run by: the part val of what it has learned from, or else test, or else what training has set
            aside.
        out: where the drawing goes: a name that ends with .png, .jpg, .webp, .pdf or .svg; attention.png, heads.png,
            positions.png or queries.png without it.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
    """
    from vitrail.explain.figures import check_place
    from vitrail.predict import predictor
    from vitrail.predict_texts import TextPredictor

    about_model = positions or queries or heads == "each"
    if about_model == (image is not None):
        raise UsageError(
            "--positions, --queries and --heads alone are about the model: leave out the picture, or the text."
            if image
            else f"Which picture? Type: vitrail explain {run} PICTURE; or, about the model, --queries of a detector, "
            f"--heads or --positions of others."
        )
    whole = method != "attention" or target is not None or faithful
    given = {
        "--at": at,
        "--query": query,
        "--queries": queries,
        "--top": top is not None,
        "--threshold": threshold is not None,
        "--layers": layers,
        "--heads": heads is not None,
        "--method": method != "attention",
        "--target": target is not None,
        "--faithful": faithful,
        "--data": data is not None,
        "--word": word is not None,
        "--of": of is not None,
        "--context": context is not None,
    }
    typed = [flag for flag, there in given.items() if there]
    if about_model:
        flag = "--positions" if positions else "--queries" if queries else "--heads"
        refuse_beside(flag, typed, BESIDE[flag])
    elif data is not None:
        raise UsageError("--data is for --heads alone, without a picture, and for --queries: leave it out.")
    if at and query:
        raise UsageError("--at asks the encoder and --query the decoder: leave one of them out.")
    if (at or query) and top is not None:
        raise UsageError("--top says how many objects are drawn where none is asked for: leave it out.")
    if whole and (at or layers or heads is not None):
        raise UsageError("--at, --layers and --heads ask single tokens; leave out --method, --target and --faithful.")
    name = "positions.png" if positions else "queries.png" if queries else "heads.png"
    out = out or Path(name if about_model else "attention.png")
    check_place(out)
    if whole and (top is not None or threshold is not None):
        raise UsageError("--top and --threshold choose among objects, and --method explains one: leave them out.")
    ask = predictor(run, device=device)
    of_text = isinstance(ask, TextPredictor)
    refuse_foreign(typed, of_text=of_text)
    if not of_text:
        refuse_without_queries(ask, typed)
    if queries:
        each_query(ask, run, data, top, threshold, out)
    elif heads == "each":
        each_head(ask, run, data, out)
    elif image is None:
        from vitrail.explain.positions import positions_of

        print(f"The drawing is in {positions_of(ask.model).save(out)}.")
    elif of_text and whole:
        evidence_in_text(ask, image, method, target, word, of, faithful, out, context)
    elif of_text:
        look_in_text(ask, image, word, of, layers, heads, out, context)
    elif whole and asks_queries(ask):
        evidence_of_queries(ask, image, method, target, query, faithful, out)
    elif whole:
        evidence(ask, run, image, method, target, faithful, out)
    elif asks_queries(ask) and not at:
        look_for_boxes(ask, image, query, layers, "mean" if heads is None else heads, top, threshold, out)
    else:
        looks(ask, image, at, layers, "mean" if heads is None else heads, out)
