"""`vitrail VERB ...`: the verb is read first, and only that verb's file is imported."""

import functools
import importlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout

import tyro

from vitrail.cli.flags import each_set
from vitrail.cli.usage import mistake, refuse_repeats, takes
from vitrail.errors import UsageError, VitrailError, unknown

VERBS = {
    "check": "say what is wrong with a data set, file by file, before anything runs",
    "train": "train a model on your pictures or texts, from published or from fresh weights",
    "resume": "go on with a run that was stopped, to the same bytes as if it had not been",
    "evaluate": "score a run on labelled pictures, or on texts, and write its report",
    "predict": "say what pictures show; translate texts, go on with them, tag them, answer from them",
    "explain": "draw what a model looked at",
    "models": "list the models by name",
    "info": "tell a model's size, cost, input, licence and origin",
    "convert": "write a model down for vitrail, transformers or timm",
    "benchmark": "put a model's score beside published ones",
    "doctor": "examine this machine and say what is missing and what to type",
    "demo": "train a small model on generated pictures and see what it looks at, in minutes",
}
EVERY_VERB = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)


def welcome() -> str:
    """What somebody reads who has typed no verb yet."""
    verbs = "\n".join(f"  {verb:<10}{sentence}" for verb, sentence in VERBS.items())
    return (
        "usage: vitrail VERB [OPTIONS]\n\n"
        "Transformers for pictures and for texts: train them on your own, and see what they look at.\n\n"
        f"{verbs}\n\n"
        "`vitrail VERB --help` tells the rest of each. New here? Type `vitrail demo`."
    )


def version() -> str:
    from importlib.metadata import version

    return f"vitrail {version('vitrail')}"


def find(verb: str) -> Callable[..., None]:
    """The function behind a verb; its file is imported only now.

    Raises:
        UsageError: there is no such verb.
    """
    if verb not in VERBS:
        raise UsageError(unknown("verb", verb, VERBS))
    return getattr(importlib.import_module(f"vitrail.cli.{verb}"), verb)


def takers(option: str) -> list[str]:
    """The verbs that have an option."""
    return [verb for verb in VERBS if option in takes(find(verb))[1]]


def understood(verb: str, typed: Sequence[str]) -> Callable[[], None]:
    """A verb with the options that were typed, not yet done.

    Raises:
        UsageError: the words mean nothing; says what to type instead.
        SystemExit: its help has been printed, or, in tyro's own way, what was not understood.
    """
    function = find(verb)
    later = functools.wraps(function)(lambda *given, **named: functools.partial(function, *given, **named))
    read = functools.partial(tyro.cli, later, prog=f"vitrail {verb}", args=each_set(typed), config=EVERY_VERB)
    refuse_repeats(function, typed)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # tyro would draw a box first
            return read()  # pyright: ignore[reportReturnType] - what `later` gives
    except SystemExit as stop:
        if stop.code and (sentence := mistake(verb, function, typed, takers)):
            raise UsageError(sentence) from None
        return read()  # pyright: ignore[reportReturnType]


def run(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help") or list(arguments) == ["help"]:
        print(welcome())
    elif arguments[0] == "help":
        run([arguments[1], "--help"])
    elif arguments[0] == "--version":
        print(version())
    else:
        verb, *rest = arguments
        understood(verb, rest)()
    sys.stdout.flush()  # a pipe that is closed is noticed here and not at exit


def keep_traceback(arguments: Sequence[str]) -> str:
    """Write down what went wrong inside, for whoever mends it; gives the path."""
    with tempfile.NamedTemporaryFile("w", prefix="vitrail-", suffix=".txt", delete=False) as file:
        print(version(), *arguments, file=file)
        traceback.print_exc(file=file)
    return file.name


def print_anything() -> None:
    """Let a name out of somebody's file be printed whatever letters it has; those that cannot be are spelled out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 1 a person's mistake; 2 a command that means nothing; 3 our mistake; 130 and 143
        stopped by Ctrl-C or SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    print_anything()
    try:
        run(arguments)
    except SystemExit as stop:  # tyro has printed its help, or what it did not understand
        return stop.code if isinstance(stop.code, int) else 0
    except VitrailError as error:
        print(f"vitrail: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("vitrail: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our lines has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # a disk that is full, say
            print(f"vitrail: {': '.join(filter(None, (error.filename, error.strerror)))}.", file=sys.stderr)
            return 1
        print(
            f"vitrail: This is our mistake, not yours: {type(error).__name__}: {error}. What happened is written in "
            f"{keep_traceback(arguments)}; please send it with what you did.",
            file=sys.stderr,
        )
        return 3
    return 0
