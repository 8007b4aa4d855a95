"""`vitrail predict`: what pictures show, and what becomes of texts."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from tyro.conf import Positional

from vitrail.cli.flags import Batch, Out, Source, Switch, Word, number, read_by, shown, whole
from vitrail.errors import ConfigError, DataError, UsageError, VitrailError

if TYPE_CHECKING:
    from vitrail.predict import Predictor
    from vitrail.predict_texts import TextPredictor
    from vitrail.words.predictor import WordPredictor

GUESSES = 3  # for each picture or text
Analogy = Annotated[
    tuple[str, str, str],
    read_by(lambda *words: words, "--analogy", "three words, such as king man woman", counts=3),
]


def predict(
    run: Source,
    images: Annotated[Positional[list[str]], shown("PICTURE|TEXT ...")],
    *,
    top: Annotated[int | None, shown("N"), whole("--top", "3")] = None,
    features: Switch = False,
    prompt: Annotated[str | None, shown("FILE|TEXT")] = None,
    context: Annotated[str | None, shown("FILE|TEXT")] = None,
    analogy: Annotated[Analogy | None, shown("A B C")] = None,
    beam: Annotated[int | None, shown("N"), whole("--beam", "4")] = None,
    tokens: Annotated[int | None, shown("N"), whole("--tokens", "200")] = None,
    temperature: Annotated[float | None, shown("X"), number("--temperature", "0.8")] = None,
    top_p: Annotated[float | None, shown("X"), number("--top-p", "0.9")] = None,
    top_k: Annotated[int | None, shown("N"), whole("--top-k", "50")] = None,
    seed: Annotated[int | None, shown("N"), whole("--seed", "0")] = None,
    threshold: Annotated[float | None, shown("X"), number("--threshold", "0.7")] = None,
    nms: Annotated[float | None, shown("X"), number("--nms", "0.7")] = None,
    tile: Annotated[int | None, shown("N"), whole("--tile", "800")] = None,
    overlap: Annotated[float | None, shown("X"), number("--overlap", "0.2")] = None,
    out: Out = None,
    json: Switch = False,
    csv: Switch = False,
    yolo: Switch = False,
    batch: Batch = 32,
    device: Word = None,
) -> None:
    """Say what pictures show, or what a model of texts makes of them. Exits with 1 when a file could not be read or a
    name means none, after all the others.

    Args:
        run: a run, a folder, a name from `vitrail models` or a hub id.
        images: pictures, folders of pictures, and patterns in quotes ('more/*.jpg'); for a model that reads texts,
            texts in quotes, .txt files, which mean their lines, tables (.csv, .tsv, .jsonl), which mean their column
            text, or - for the lines that another program hands over; for word vectors, words.
        top: how many guesses for each, 3 without it; where several labels can hold, those below 50% stand in brackets.
        features: give the numbers that the model's head reads instead of labels.
        prompt: a text, or the file that holds it, that the model goes on with; it is printed in front of what follows.
        context: the text, or the file, in which a model that answers questions looks for the answers.
        analogy: of word vectors: which word is to C as A is to B; king man woman asks for queen.
        beam: sentences that are followed side by side, for a model that writes; 1 takes the likeliest word each time.
        tokens: pieces that are written at most.
        temperature: draw words instead, the lower the safer; 1 as likely as the model says.
        top_p: draw among the likeliest words that have so much of the probability together.
        top_k: draw among so many words.
        seed: of what is drawn; another each time without it.
        threshold: of a detector: show objects from this score on; as its recipe says (0.7) without it. Of a panoptic
            model: the score from which a query may have pixels; 0.85 without it.
        nms: of a detector: leave out boxes that share more than this with a better one of their class; as its recipe
            says without it (0.7 for small models, 1 for others, which leaves all).
        tile: of a detector: look at large pictures in pieces of N by N pixels, for small objects.
        overlap: the share of a piece that its neighbour sees too; 0.2 without it.
        out: of a detector: the folder of the drawn pictures, or of YOLO's or COCO's panoptic files; `predicted` in the
            run without it.
        json: print one JSON object for each picture or text, as soon as it is known; of a detector COCO's results, one
            list of all objects, whatever their score (with --tile from 0.05 on) unless --threshold is typed; of a
            panoptic model COCO's panoptic JSON, which is also written to --out, with a PNG for each picture.
        csv: print a table of comma-separated values.
        yolo: of a detector: write a text file for each picture, as YOLO has them.
        batch: pictures at once.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
    """
    from vitrail.cli.predict_objects import predict_objects, tiling
    from vitrail.cli.predict_segments import predict_segments, segments_pictures
    from vitrail.cli.screen import print_csv, print_json_lines, table
    from vitrail.predict import predictor
    from vitrail.predict_objects import finds_objects
    from vitrail.predict_texts import TextPredictor
    from vitrail.words.predictor import WordPredictor

    if not images and prompt is None and analogy is None:
        raise UsageError(f"Which pictures or texts? Type: vitrail predict RUN PICTURE|TEXT ... Only {run} was given.")
    if top is not None and top < 1:
        raise UsageError(f"--top {top} would show nothing. Type --top 1 or more.")
    if json + csv + yolo > 1:
        raise UsageError("--json, --csv and --yolo are ways to say the same. Type one of them.")
    if "" in images:
        raise UsageError("'' names nothing. Type a picture, a folder of pictures, or a text.")
    guesses = GUESSES if top is None else top
    settings = writing(beam=beam, tokens=tokens, temperature=temperature, top_p=top_p, top_k=top_k)
    ask, unread = predictor(run, device=device), list[Answer]()
    if isinstance(ask, WordPredictor):
        if features or prompt is not None or context is not None or settings or seed is not None:
            raise UsageError("Word vectors are asked for the words nearest to others, or with --analogy A B C.")
        found = word_answers(ask, images, analogy, guesses, unread)
    elif analogy is not None:
        raise UsageError(f"--analogy is for word vectors, and {run} holds none. `vitrail train word2vec` learns some.")
    elif isinstance(ask, TextPredictor):
        if features:
            raise UsageError("--features are of pictures, and this model reads texts.")
        if prompt is not None and ask.card.task != "causal-lm":
            raise UsageError(f"--prompt is for a model that goes on with texts, and this {ask.card.model} does not.")
        refuse_for_writers(ask, top=top, tokens=tokens)
        found = text_answers(ask, images, prompt, batch, unread, seed=seed, context=context, **settings)
    elif prompt is not None or context is not None or settings or seed is not None:
        raise UsageError(
            "--prompt, --context, --beam, --tokens, --temperature, --top-p, --top-k and --seed are for models of texts."
        )
    elif not features and finds_objects(ask):
        if top is not None:
            raise UsageError(
                f"--top {top} is for models that give labels, and this one finds objects, each with one label. To show "
                "fewer or more of them, type --threshold 0.5, for example: a score from 0 to 1."
            )
        where = out or (Path(run) if Path(run).is_dir() else Path()) / "predicted"
        shared = {"threshold": share("--threshold", threshold), "out": where, "json": json, "csv": csv, "batch": batch}
        if out is not None and (csv or (json and not segments_pictures(ask))):
            flag = "--csv" if csv else "--json"
            raise UsageError(f"{flag} prints, and --out is for drawings and text files: type > {out}, or leave it out.")
        if segments_pictures(ask):
            what = "models that find boxes, and this one says it of every pixel"
            only(what, nms=nms, tile=tile, overlap=overlap, yolo=yolo)
            predict_segments(ask, images, **shared)
        else:
            repeats = share("--nms", nms)
            predict_objects(ask, images, **shared, nms=repeats, yolo=yolo, tiling=tiling(tile, overlap))
        return
    else:
        found = answers(ask, images, batch, features, unread)
    what = "models that find objects, and this one does not"
    only(what, threshold=threshold, nms=nms, tile=tile, overlap=overlap, out=out, yolo=yolo)
    if csv:
        print_csv(record(answer, guesses) for answer in found)
    elif json or features:
        print_json_lines(record(answer, guesses) for answer in found)
    elif prompt is not None or (isinstance(ask, TextPredictor) and len(images) == 1):
        print("\n".join(whole_text(answer, guesses) for answer in found))
    else:
        columns = ("picture", "shows") if not isinstance(ask, TextPredictor) else ("text", "answer")
        columns = ("word", "near to it") if isinstance(ask, WordPredictor) else columns
        table(columns, [(answer.name, in_words(answer, guesses)) for answer in found])
    if unread:
        rows = "1 row has no answer, and says" if len(unread) == 1 else f"{len(unread)} rows have no answer, and say"
        raise DataError(f"{rows} why.")


def refuse_for_writers(ask: "TextPredictor", top: int | None, tokens: int | None) -> None:
    """Refuse what a model that writes cannot do: guess several times, or write more than it reads.

    Raises:
        UsageError: it is asked to.
    """
    writes, most = (
        ask.card.generation is not None or ask.card.task == "translate-parallel",
        ask.card.preprocessing.max_tokens,
    )
    if writes and top is not None:
        raise UsageError(
            f"--top {top} is for models that guess, and this {ask.card.model} writes one text. Leave it out."
        )
    if writes and tokens is not None and tokens > most:
        raise UsageError(
            f"--tokens {tokens}: this {ask.card.model} has room for {most:,} in one text. Type --tokens {most} or less."
        )


def share(flag: str, value: float | None) -> float | None:
    """A number from 0 to 1.

    Raises:
        UsageError: it is another.
    """
    if value is not None and not 0 <= value <= 1:
        raise UsageError(f"{flag} {value:g} is no share. Type a number from 0 to 1, such as {flag} 0.5.")
    return value


def only(whose: str, **flags: Any) -> None:
    """Refuse flags that are for others.

    Raises:
        UsageError: names the flag, and who has it.
    """
    given = next((name for name, value in flags.items() if value is not None and value is not False), None)
    if given is not None:
        raise UsageError(f"--{given} is for {whose}. Leave it out.")


def writing(**said: Any) -> dict[str, Any]:
    """How somebody wants sentences to be written, as a model that writes has it.

    Raises:
        UsageError: there would be no sentence, or two flags ask for different things.
    """
    names = {"beam": "beams", "tokens": "max_tokens"}
    for name in names:
        if said[name] is not None and said[name] < 1:
            raise UsageError(f"--{name} {said[name]} would write nothing. Type --{name} 1 or more.")
    given = {names.get(name, name): value for name, value in said.items() if value is not None}
    if given.get("temperature") == 0:
        raise UsageError("--temperature 0 draws nothing. For the likeliest word each time type --beam 1.")
    if given.keys() & {"temperature", "top_p", "top_k"}:
        if given.get("beams", 1) > 1:
            raise UsageError("--beam follows the likeliest sentences, and --temperature, --top-p and --top-k draw one.")
        return {**given, "sample": True, "beams": 1}
    return {**given, "sample": False} if "beams" in given else given


def lines_that_come_in() -> list[str]:
    """The texts that another program hands over, one a line, without empty ones, as the lines of a file are.

    Raises:
        DataError: there are none, or they are not text.
    """
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        lines = [line.rstrip("\r") for line in content.decode("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"What came in for - is not UTF-8 (byte {error.start:,}).") from error
    if not lines:
        raise DataError("Nothing came in for -, which means the lines that another program hands over.")
    return lines


def text_answers(
    ask: "TextPredictor",
    texts: Sequence[str],
    prompt: str | None,
    batch: int,
    unread: list["Answer"],
    **settings: Any,
) -> Iterator["Answer"]:
    """What becomes of texts, in their order and a batch at a time; of a prompt, the whole that it becomes.

    Results that miss something, and texts among several that cannot be read, are also added to `unread`.
    """
    from vitrail.predict_texts import content_of, texts_of

    begun = None if prompt is None else content_of(prompt)
    asked = [text for one in texts for text in (lines_that_come_in() if one == "-" else texts_of(one, ask.compares))]
    given = [*asked, *([] if begun is None else [begun])]
    on_error, strange = "keep" if len(given) > 1 else "raise", list[str]()
    for first in range(0, len(given), max(batch, 1)):
        some = given[first : first + max(batch, 1)]
        for text, result in zip(some, ask.answers(some, batch=batch, on_error=on_error, **settings), strict=True):
            answer = Answer(text, result, text if text is begun else "", of_text=True)
            if isinstance(result, VitrailError) or getattr(result, "missing", ""):
                unread.append(answer)
            elif ask.card.preprocessing.knows_nothing_of(text):
                strange.append(text)
            yield answer
    say_of_strange(strange, len(given))


def say_of_strange(texts: Sequence[str], of: int) -> None:
    """Tell the person of texts whose answers mean nothing, since the model knows no piece of them."""
    from vitrail.loading import say

    if texts:
        which = f"{len(texts):,} of {of:,} texts, such as {texts[0][:40]!r}," if of > 1 else f"{texts[0][:40]!r}"
        say(f"Nothing of {which} is in this model's vocabulary, so that it reads unknown pieces alone.")


def word_answers(
    ask: "WordPredictor",
    words: Sequence[str],
    analogy: tuple[str, str, str] | None,
    count: int,
    unread: list["Answer"],
) -> Iterator["Answer"]:
    """What is near to words, in their order, and then what completes an analogy.

    Words among several that are not known are also added to `unread`.
    """
    for word in words:
        try:
            yield Answer(word, ask(word, count)[0], of_text=True)
        except ConfigError as error:
            if len(words) == 1:
                raise
            unread.append(Answer(word, error, of_text=True))
            yield unread[-1]
    if analogy is not None:
        yield Answer("{} is to {} as ? to {}".format(*analogy), ask.analogy(*analogy, count), of_text=True)


def whole_text(answer: "Answer", top: int) -> str:
    """An answer as running text, with what it goes on from."""
    return answer.before + in_words(answer, top)


class Answer(NamedTuple):
    """What is known about one picture or text: a result, its features, or why there is none.

    Attributes:
        name: of the picture, or the text itself.
        result: what the task says of it.
        before: the text that the result goes on from, where it is one text with it.
        of_text: whether it is about a text.
    """

    name: str
    result: Any
    before: str = ""
    of_text: bool = False


def answers(
    ask: "Predictor", images: Sequence[str], batch: int, features: bool, unread: list[Answer]
) -> Iterator[Answer]:
    """The answers in the order of the pictures; those that are none are also added to `unread`."""
    from vitrail.cli.seen import look_at
    from vitrail.errors import ImageError

    give = ask.features if features else ask
    for seen in look_at(images, lambda some: give(some, batch=batch, on_error="keep")):
        answer = Answer(seen.name, seen.result)
        if isinstance(answer.result, ImageError):
            unread.append(answer)
        yield answer


def record(answer: Answer, top: int) -> dict[str, Any]:
    """One answer for a program."""
    from torch import Tensor

    from vitrail.errors import ImageError

    if isinstance(answer.result, ImageError):
        return {"file": answer.name, "error": answer.result.code, "reason": answer.result.hint}
    if isinstance(answer.result, VitrailError):
        return {"input": answer.name, "error": "unfit", "reason": str(answer.result)}
    if isinstance(answer.result, Tensor):
        return {"file": answer.name, "features": answer.result.tolist()}
    return {"input" if answer.of_text else "file": answer.name, **answer.result.record(top)}


def in_words(answer: Answer, top: int) -> str:
    """One answer for a person."""
    from vitrail.errors import ImageError

    if isinstance(answer.result, ImageError):
        return f"not read: {answer.result.hint}"
    if isinstance(answer.result, VitrailError):
        return f"not read: {answer.result}"
    return answer.result.summary(top)
