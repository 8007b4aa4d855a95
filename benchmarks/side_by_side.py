"""Ways to do the same work, timed in turns, in one process or each in its own.

Times on a shared machine mean little; how they relate in the same few seconds means something. So every round does
the work once in each way, each round begins with another way, and the ratios are taken within rounds.
"""

import contextlib
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from statistics import median

import torch

Work = Callable[[], object]


def serve(calls: Connection, threads: int, make: Callable[..., Work], arguments: tuple) -> None:
    """Make the work, and do it as often as it is called for."""
    torch.set_num_threads(threads)
    work = make(*arguments)
    calls.send("ready")
    with contextlib.suppress(EOFError):  # whoever calls has ended
        while calls.recv():
            work()
            calls.send("done")


def apart(make: Callable[..., Work], *arguments: object) -> Work:
    """Work that is made and done in a process of its own, so that no setting of it helps or hinders the others.

    Args:
        make: gives the work; a function of a module.
        arguments: for it.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=serve, args=(there, torch.get_num_threads(), make, arguments), daemon=True).start()
    here.recv()

    def work() -> None:
        here.send("go")
        here.recv()

    return work


def machine() -> str:
    """What the numbers were measured on."""
    knows = getattr(torch.cpu, "get_capabilities", dict)()
    name = knows.get("cpu_name", platform.machine())
    return (
        f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}"
    )


def once(work: Work) -> float:
    """Seconds that the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(ways: Mapping[str, Work], seconds: float, least: int = 3) -> dict[str, list[float]]:
    """Do the work in every way, round after round.

    Args:
        ways: the work by its name.
        seconds: after which no further round begins.
        least: rounds that are done however long they take; one more before them warms up and is not counted.

    Returns:
        Seconds for each round, by name.
    """
    names = list(ways)
    for work in ways.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in names}
    began, rounds = time.monotonic(), 0
    while rounds < least or time.monotonic() - began < seconds:
        for place in range(len(names)):
            name = names[(place + rounds) % len(names)]
            times[name].append(once(ways[name]))
        rounds += 1
    return times


def ratios(times: Mapping[str, list[float]], name: str, base: str) -> list[float]:
    """How many times faster a way was than the base, round by round."""
    return [theirs / ours for theirs, ours in zip(times[base], times[name], strict=True)]


def show(title: str, times: Mapping[str, list[float]], base: str, notes: Mapping[str, str] | None = None) -> None:
    """Print a line for each way: its median and best time, and how much faster than the base it was.

    `ratio` is the median over rounds, `best` compares the best rounds of both, which others disturbed least.
    """
    rounds = len(times[base])
    print(f"\n{title}; {rounds} rounds in turns\n{machine()}\n")
    print(f"{'':34}{'median ms':>10}{'best ms':>10}{'ratio':>8}{'best':>8}")
    for name, seconds in times.items():
        ratio = median(ratios(times, name, base))
        best = min(times[base]) / min(seconds)
        note = (notes or {}).get(name, "")
        print(
            f"{name:34}{median(seconds) * 1e3:10.1f}{min(seconds) * 1e3:10.1f}{ratio:8.2f}{best:8.2f}  {note}".rstrip()
        )
