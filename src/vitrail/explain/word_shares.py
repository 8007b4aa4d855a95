"""How much each word of a text spoke for an answer, or of each has reached the token that the answer is read from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.explain.kinds import Of
from vitrail.explain.methods import spoken
from vitrail.explain.pieces import Piece, merged
from vitrail.explain.recording import recording
from vitrail.explain.relevance import Traced, relevance_of, traced_each
from vitrail.explain.rollout import rollout_of
from vitrail.explain.said import Said
from vitrail.explain.streams import Flow
from vitrail.explain.texts import Read

Arguments = tuple[Tensor, ...]


class Explained(NamedTuple):
    """An answer about a text, and how it is asked on which words it rests.

    Attributes:
        model: with its card.
        method: `relevance` or `rollout`.
        found: the text as it was read, and what was written.
        numbers: that the answer is made of.
        of: whose words are looked at.
    """

    model: Any
    method: str
    found: Read
    numbers: list[Said]
    of: Of

    @property
    def seen(self) -> tuple[Piece, ...]:
        """The pieces that the answer may rest on."""
        return self.found.before if self.of == "decoder" else self.found.encoded or self.found.source

    @property
    def together(self) -> list[tuple[Arguments, list[Said]]]:
        """Numbers that the model gives when it is asked once, with what it is asked."""
        groups: dict[int, tuple[Arguments, list[Said]]] = {}
        for said in self.numbers:
            arguments = self.found.asked_for(said.row)
            groups.setdefault(id(arguments), (arguments, []))[1].append(said)
        return list(groups.values())

    def of_stack(self, flow: Flow) -> Flow:
        """What has come from what was read, or from the tokens of the same stack."""
        return flow if self.of == "cross" else Flow(flow.own)


def shares_of(asked: Explained) -> Float[Tensor, "rows words"]:
    """The share that each word has in each answer."""
    every = list(dict.fromkeys(said.about for said in asked.numbers))
    asks = [Piece("", every.index(said.about)) for said in asked.numbers]
    whole = merged(rows_of(asked), asks, asked.seen)
    sums = whole.sum(dim=1, keepdim=True)
    return torch.where(sums > 0, whole / sums, 0.0)


def rows_of(asked: Explained) -> Float[Tensor, "rows tokens"]:
    """What spoke for each number, or what has reached the token that it is read from."""
    follow, rows = rolled if asked.method == "rollout" else spoken_for, dict[Said, Tensor]()
    for arguments, numbers in asked.together:
        rows |= zip(numbers, follow(asked, arguments, numbers), strict=True)
    return torch.stack([rows[said] for said in asked.numbers])


@torch.inference_mode()
def rolled(asked: Explained, arguments: Arguments, numbers: Sequence[Said]) -> list[Float[Tensor, " tokens"]]:
    """Attention through all layers, from the token that each number is read from."""
    twin, records = recording(asked.model)
    twin.eval()(*arguments)
    maps = [record.maps[-1] for record in records.values()]
    reached = asked.of_stack(rollout_of(asked.model, list(records), maps)).reached
    return [reached[0, said.row].cpu().double() for said in numbers]


def spoken_for(asked: Explained, arguments: Arguments, numbers: Sequence[Said]) -> list[Float[Tensor, " tokens"]]:
    """What spoke for each number."""

    def answers(outputs: Any) -> list[Float[Tensor, " batch"]]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return [logits[(slice(None), *said.place)] for said in numbers]

    def row(number: int, seen: Traced) -> Float[Tensor, " tokens"]:
        return spoken(asked.of_stack(relevance_of(asked.model, seen)))[0, numbers[number].row].cpu().double()

    return traced_each(asked.model, arguments, answers, row)
