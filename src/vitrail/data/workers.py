"""Processes that work ahead: each turns tickets into batches, and the batches come in the order of the tickets.

torch's DataLoader would serve, but for four things: it reports a killed worker by raising from a signal handler,
wherever the main program happens to be; it cannot say what that worker was doing; it makes other errors of ours; and
it takes fresh shared memory for every batch, which cost more than decoding the pictures (53 ms against 5 for 32 of
224 x 224).
"""

import dataclasses
import itertools
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize, get_temp_dir
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
import torch.multiprocessing  # teaches connections to send tensors through shared memory
from torch import Tensor

from vitrail.errors import DataError, VitrailError
from vitrail.samples import Batch

AHEAD = 2  # tickets that each process has in hand
ORPHANED = 2.0  # seconds after which an idle process looks whether the main program is still there
STUCK = 120.0  # seconds without any progress after which waiting makes no sense
IDLE = -1
START = "fork" if sys.platform == "linux" else "spawn"  # libraries of macOS fail in a process that was forked
KILLED = -9  # exit code of a process that the system has ended at once

Tell = Callable[[int], None]
Work = Callable[[Any, Tell], Batch]


class Shelf:
    """Shared memory for batches, used again and again.

    There are as many places as a process has tickets in hand, so what is on a place has been fetched before it is used
    again.
    """

    def __init__(self) -> None:
        self.places = deque([torch.empty(0)] * AHEAD)

    def put(self, tensor: Tensor) -> Tensor:
        """A copy in shared memory."""
        place = self.places.popleft()
        if place.shape != tensor.shape or place.dtype != tensor.dtype:
            place = shared_like(tensor)
        self.places.append(place.copy_(tensor))
        return place


def shared_like(tensor: Tensor) -> Tensor:
    """Room for a tensor in shared memory.

    Raises:
        DataError: there is none left.
    """
    try:
        return torch.empty_like(tensor).share_memory_()
    except RuntimeError as error:
        raise DataError(
            f"The shared memory has no room for a batch of {tensor.nbytes / 1e6:.0f} MB. Use fewer --workers, or 0, "
            "or a smaller --batch; a container is given more by --shm-size."
        ) from error


class Sent(NamedTuple):
    """Something made of parts, on its way: what it is, and its parts in their order."""

    kind: type
    parts: list


def packed(batch: Batch, shelf: Shelf) -> Batch:
    """A batch that can be sent: the pixels through shared memory, the rest by value."""
    if isinstance(batch.inputs, Tensor):
        inputs: Any = shelf.put(batch.inputs)
    else:
        pixels, *rest = batch.inputs
        inputs = Sent(type(batch.inputs), [shelf.put(pixels), *map(as_arrays, rest)])
    return Batch(inputs, *map(as_arrays, batch[1:]))


def unpacked(batch: Batch) -> Batch:
    """A batch that belongs to whoever received it."""
    if isinstance(batch.inputs, Tensor):
        inputs: Any = batch.inputs.clone()
    else:
        pixels, *rest = batch.inputs.parts
        inputs = batch.inputs.kind(pixels.clone(), *map(as_tensors, rest))
    return Batch(inputs, *map(as_tensors, batch[1:]))


def as_arrays(value: Any) -> Any:
    """Tensors as arrays, which are sent by value: tensors are sent as open files, and those are few."""
    if isinstance(value, Tensor):
        return value.numpy()
    if dataclasses.is_dataclass(value):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return Sent(type(value), list(map(as_arrays, fields)))
    if isinstance(value, tuple):
        return Sent(type(value), list(map(as_arrays, value)))
    return value


def as_tensors(value: Any) -> Any:
    """What was sent, as it was."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if not isinstance(value, Sent):
        return value
    parts = map(as_tensors, value.parts)
    return tuple(parts) if value.kind is tuple else value.kind(*parts)


def serve(work: Work, connection: Connection, progress: Any, place: int, parent: int) -> None:
    """What each process does, until it is told to end, or finds itself alone."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C, and signals to the group, are for the main program to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    shelf = Shelf()

    def tell(index: int) -> None:
        progress[place] = index

    while True:
        try:
            while not connection.poll(ORPHANED):
                if os.getppid() != parent:
                    return
            ticket = connection.recv()
            if ticket is None:
                return
            connection.send(attempt(work, ticket, tell, shelf))
            tell(IDLE)
        except (EOFError, OSError):  # the main program is gone
            return


def attempt(work: Work, ticket: Any, tell: Tell, shelf: Shelf) -> Batch | Exception:
    """The batch, or the error that came instead, as a value."""
    try:
        return packed(work(ticket, tell), shelf)
    except VitrailError as error:
        return error
    except Exception:
        return RuntimeError(f"a loader process failed\n{traceback.format_exc()}")


def stop(processes: list, connections: list[Connection]) -> None:
    """End the processes, whatever they are doing."""
    for process, connection in zip(processes, connections, strict=True):
        connection.close()
        process.kill()
    for process in processes:
        process.join()


class Workers:
    """Some processes that do the same work.

    Args:
        work: called as `work(ticket, tell)`; it says by `tell(index)` what it is about to do, so that it can be named
            if it is the last thing it does.
        count: how many processes.
        describe: what to call an index in front of a person.
    """

    def __init__(self, work: Work, count: int, describe: Callable[[int], str]) -> None:
        context = get_context(START)
        get_temp_dir()  # for all processes, and removed by this one: they are killed, and each would leave its own
        self.describe = describe
        self.progress = context.RawArray("q", [IDLE] * count)
        self.connections, self.processes = [], []
        for place in range(count):
            here, there = context.Pipe()
            arguments = (work, there, self.progress, place, os.getpid())
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            there.close()
            self.connections.append(here)
            self.processes.append(process)
        # runs when this object goes, and at exit, before multiprocessing would wait for its children
        self.close = Finalize(self, stop, (self.processes, self.connections), exitpriority=10)

    def run(self, tickets: Iterable[Any]) -> Iterator[Batch]:
        """Yield the batch of each ticket, in their order, while the next ones are being made.

        Raises:
            DataError: a process was killed, or nothing has moved for two minutes.
            VitrailError: whatever the work raised.
        """
        tickets = iter(tickets)
        waiting: deque[int] = deque()  # whose turn it is to answer
        places = [place for _ in range(AHEAD) for place in range(len(self.processes))]
        for place, ticket in zip(places, tickets):  # noqa: B905 the tickets may be fewer
            self.send(place, ticket)
            waiting.append(place)
        while waiting:
            place = waiting.popleft()
            batch = self.receive(place)
            for ticket in itertools.islice(tickets, 1):
                self.send(place, ticket)
                waiting.append(place)
            yield batch

    def send(self, place: int, ticket: Any) -> None:
        try:
            self.connections[place].send(ticket)
        except OSError:
            self.raise_death(place)

    def receive(self, place: int) -> Batch:
        """Fetch the next batch of one process, or raise the error that came instead."""
        self.watch(place)
        try:
            result = self.connections[place].recv()
        except (EOFError, OSError):
            self.raise_death(place)
        if isinstance(result, Exception):
            raise result
        return unpacked(result)

    def watch(self, place: int) -> None:
        """Wait for one process, and for the death of any."""
        sentinels = {process.sentinel: number for number, process in enumerate(self.processes)}
        while True:
            before = list(self.progress)
            ready = wait([self.connections[place], *sentinels], timeout=STUCK)
            for sentinel in ready:
                if sentinel in sentinels:
                    self.raise_death(sentinels[sentinel])
            if ready:
                return
            if list(self.progress) == before:
                raise DataError(f"Nothing was read for {STUCK:.0f} seconds: it hangs at {self.doing(place)}.")

    def doing(self, place: int) -> str:
        index = self.progress[place]
        return "nothing in particular" if index == IDLE else self.describe(index)

    def raise_death(self, place: int) -> NoReturn:
        process = self.processes[place]
        process.join(timeout=1)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        hint = ""
        if code == KILLED:
            hint = " Most often that is the system running out of memory: use fewer --workers or a smaller --batch."
        elif code == 1 and START == "spawn":
            hint = " A script of your own is read again by each process: write what it does below `if __name__ == ...`."
        raise DataError(f"A loader process {how} while reading {self.doing(place)}.{hint}")
