"""What somebody typed, beside what a verb takes: a sentence for what does not fit, with what to type instead."""

import difflib
import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from tyro.conf import UseAppendAction

from vitrail.errors import UsageError
from vitrail.errors import many as so_many

ELSEWHERE = {  # what other programs call it: what to type here
    "--lr": "--set optimiser.rate=1e-4", "--learning-rate": "--set optimiser.rate=1e-4",
    "--lr0": "--set optimiser.rate=1e-4", "--weight-decay": "--set optimiser.decay=0.05",
    "--amp": "--set precision=bfloat16", "--bf16": "--set precision=bfloat16", "--fp16": "--set precision=bfloat16",
    "--pretrained": "--init default", "--batch-size": "--batch", "--num-workers": "--workers", "--output": "--out",
    "--output-dir": "--out", "--conf": "--threshold", "--iou": "--nms", "--num-beams": "--beam",
    "--max-new-tokens": "--tokens",
}  # fmt: skip
INSTEAD = {  # of verbs that take next to nothing: what whoever types an option of another may want
    "resume": " A run goes on as it began. `vitrail train MODEL --data PATH --init RUN` begins one from its weights.",
}
OPTION = re.compile(r"-[^\d.\s]")  # how an option begins, and a negative number does not


class Place(NamedTuple):
    """A word that a verb takes where it stands.

    Attributes:
        shown: how it is called in front of a person: `RUN`.
        needed: whether it must be there.
        many: whether more of the kind may follow.
    """

    shown: str
    needed: bool
    many: bool


class Flag(NamedTuple):
    """An option of a verb.

    Attributes:
        name: `--data`.
        takes: what stands after it, such as `PATH`; nothing after a switch.
        needed: whether it must be there.
        many: whether all words that follow are its own.
        again: whether it may be typed several times.
        choices: the only words that it takes, where they are few.
    """

    name: str
    takes: str
    needed: bool
    many: bool
    again: bool
    choices: tuple[str, ...]

    @property
    def least(self) -> int:
        """How many words it takes at least: `--analogy A B C` three."""
        return len(self.takes.removesuffix(" ...").split())


class Typed(NamedTuple):
    """A command line taken apart: words that stand alone, options with the words after them, and options unknown."""

    words: list[str]
    options: list[tuple[Flag, list[str]]]
    unknown: list[str]


def flag_of(name: str) -> str:
    """How a parameter is typed: `dry_run` as `--dry-run`."""
    return f"--{name.strip('_').replace('_', '-')}"


def takes(verb: Callable[..., Any]) -> tuple[list[Place], dict[str, Flag]]:
    """What a verb takes, by its signature: words in their order, and options by each of their names."""
    places, flags = list[Place](), dict[str, Flag]()
    kinds = get_type_hints(verb, include_extras=True)
    for name, parameter in inspect.signature(verb).parameters.items():
        kind, *notes = get_args(kinds[name]) if hasattr(kinds[name], "__metadata__") else (kinds[name],)
        called, metavar, aliases = (
            next((value for note in notes if (value := getattr(note, what, None))), None)
            for what in ("name", "metavar", "aliases")
        )
        needed, choices = parameter.default is parameter.empty, get_args(kind) if get_origin(kind) is Literal else ()
        if parameter.kind is not parameter.KEYWORD_ONLY:
            places.append(Place(metavar or name.upper(), needed, get_origin(kind) in (list, tuple)))
            continue
        after = "" if kind is bool else metavar or "|".join(choices) or "PATH"
        several = get_origin(kind) is tuple
        many, again = several and UseAppendAction not in notes, several and UseAppendAction in notes
        flag = Flag(flag_of(called or name), after, needed, many, again, choices)
        flags |= dict.fromkeys((flag.name, *(aliases or ())), flag)
    return places, flags


def take_apart(typed: Sequence[str], flags: dict[str, Flag]) -> Typed:
    """Which of the words stand alone, and which belong to an option."""
    found, left = Typed([], [], []), list(typed)
    while left:
        word, equals, value = left.pop(0).partition("=")
        flag = flags.get(flag_of(word.removeprefix("--"))) if word.startswith("--") else None
        if flag is not None:
            own = [value] if equals else list[str]()
            while left and flag.takes and not OPTION.match(left[0]) and (flag.many or len(own) < flag.least):
                own.append(left.pop(0))
            found.options.append((flag, own))
        elif OPTION.match(word):
            found.unknown.append(word)
        else:
            found.words.append(word + equals + value)
    return found


def command(verb: str, words: Sequence[str], options: Sequence[tuple[Flag, list[str]]], *absent: str) -> str:
    """A command line to type, with names for the words that only the person knows."""
    after = [word for flag, own in options for word in (flag.name, *own)]
    return " ".join(["vitrail", verb, *map(shlex.quote, words), *absent, *map(shlex.quote, after)])


def hint_at(name: str, verb: str, flags: dict[str, Flag], takers: Callable[[str], Sequence[str]]) -> str:
    """What an option may stand for that a verb has not: one of its own, or that of other verbs; empty if neither."""
    option = flag_of(name.removeprefix("--"))
    meant = ELSEWHERE.get(option, "")
    if meant.partition(" ")[0] in flags:
        return f" Did you mean {meant}?"
    if others := takers(meant.partition(" ")[0] or option):
        there = f" Did you mean {meant} of `vitrail {others[0]}`?" if meant else f" It is for {', '.join(others)}."
        return INSTEAD.get(verb, there)
    near = [] if meant else difflib.get_close_matches(name, flags, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def mistakes(
    verb: str,
    typed: Typed,
    places: Sequence[Place],
    flags: dict[str, Flag],
    takers: Callable[[str], Sequence[str]],
) -> Iterator[str]:
    """What does not fit, the most telling first."""
    for name in typed.unknown:
        hint = hint_at(name, verb, flags, takers)
        yield f"There is no option {name}.{hint} `vitrail {verb} --help` lists all there are."
    for flag, own in typed.options:
        if flag.takes and not own:
            yield f"{flag.name} stands alone. Type what it should be: {flag.name} {flag.takes}"
        if not flag.takes and own:
            yield f"{flag.name} takes nothing after it. Type {flag.name} alone."
        if own and len(own) < flag.least:
            given = f"{so_many(len(own), 'word')} ({shlex.join(own)})"
            yield f"{flag.name} takes {flag.takes}: {flag.least} words, not {given}."
        if flag.choices and own[0] not in flag.choices:
            yield f"{flag.name} takes {', '.join(flag.choices[:-1])} or {flag.choices[-1]}, not {own[0]!r}."

    most = len(typed.words) if any(place.many for place in places) else len(places)
    over, options = typed.words[most:], list(typed.options)
    for flag, own in options:
        if over and flag.name == "--set" and "=" not in own[0]:
            name, value = shlex.join(own), next((word for word in over if word != "="), "VALUE")
            yield f"--set {name} has no '='. Type it in one piece, without spaces: --set {name}={shlex.quote(value)}"
    given = {flag.name for flag, _ in options}
    lacking = [flag for flag in dict.fromkeys(flags.values()) if flag.needed and flag.name not in given]
    if len(over) == 1 == len(lacking):
        whole = command(verb, typed.words[:most], [*options, (lacking[0], over)])
        yield f"{shlex.join(over)} needs {lacking[0].name} in front of it. Type: {whole}"
    if over:
        every = " and ".join(place.shown for place in places) or "options only"
        yield f"`vitrail {verb}` takes {every}; {over[0]!r} is a word too many. `vitrail {verb} --help` tells the rest."
    absent = [place.shown for place in places[len(typed.words) :] if place.needed]
    if absent or lacking:
        wanted = [*absent, *(f"{flag.name} {flag.takes}" for flag in lacking)]
        whole = command(verb, typed.words, options, *wanted)
        needs = "also needs" if typed.words or options else "needs"
        called = " and ".join(want.removesuffix(" ...") for want in wanted)
        yield f"`vitrail {verb}` {needs} {called}. Type: {whole}"


def refuse_repeats(function: Callable[..., Any], typed: Sequence[str]) -> None:
    """Refuse an option that was typed twice and counts once.

    Raises:
        UsageError: names it.
    """
    seen = dict[str, list[str]]()
    for flag, own in take_apart(typed, takes(function)[1]).options:
        if flag.name in seen and not flag.again:
            whole = shlex.join([flag.name, *(seen[flag.name] if flag.many else []), *own])
            raise UsageError(f"{flag.name} stands there twice, and counts once. Type {whole}, for example.")
        seen[flag.name] = own


def mistake(
    verb: str, function: Callable[..., Any], typed: Sequence[str], takers: Callable[[str], Sequence[str]]
) -> str | None:
    """The sentence for a command line that its verb does not understand, where there is one.

    Args:
        verb, function: as it is typed, and what it does.
        typed: the words after it.
        takers: which other verbs have an option.
    """
    places, flags = takes(function)
    return next(mistakes(verb, take_apart(typed, flags), places, flags, takers), None)
