"""Beam search: several sentences are followed side by side, and the best that ends is taken.

There are two published definitions, which differ in more than the penalty of short sentences. In both, the best
continuations of all beams are looked at, twice as many as there are beams, and more where several words end a sentence.

`power` (fairseq, transformers): log probability / length ** x. A sentence is finished when it ends among the best
`beams` continuations; at the last step all of these count as finished, whether they end or not.

`gnmt` (Wu et al., "Google's Neural Machine Translation System", 2016, eq. 14 without its coverage; tensor2tensor):
log probability / ((5 + length) / 6) ** x. A sentence is finished when it ends among any of the continuations looked
at; one that has not ended is taken only where no other has.

The length counts new words, the end included. The search of a sentence stops when as many sentences have finished as
there are beams and `early_stopping` says so: `True` at once; `False` when the best beam, at its present length, is
worse than the worst of them; `"never"` when it would be even at the greatest length (so nothing better can come). All
as transformers defines it, where the second test is also made under `True`. Where words are forbidden so that no
continuation is left, a beam dies here; transformers follows it with a score of -1e9.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.core.highest import highest
from vitrail.decoding.rules import Rules
from vitrail.decoding.writers import NOTHING, Writer
from vitrail.generation import Generation


class Beams(NamedTuple):
    """The best sentences, best first.

    Attributes:
        ids: their words, from the start or the prompt on; `NOTHING` after the end.
        scores: log probability with its penalty; minus infinity where there are fewer sentences.
    """

    ids: Int[Tensor, "batch beams tokens"]
    scores: Float[Tensor, "batch beams"]

    def at(self, which: Int[Tensor, "batch chosen"]) -> "Beams":
        """Some of them, by their number."""
        return Beams(
            self.ids.gather(1, which[..., None].expand(-1, -1, self.ids.shape[2])), self.scores.gather(1, which)
        )

    def best(self, count: int) -> "Beams":
        """The `count` with the best scores."""
        return self.at(self.scores.topk(count).indices)

    def beside(self, others: "Beams") -> "Beams":
        """These and others."""
        return Beams(torch.cat([self.ids, others.ids], dim=1), torch.cat([self.scores, others.scores], dim=1))


def length_penalty(length: int, generation: Generation) -> float:
    """What the log probability of so many words is divided by."""
    base = length if generation.penalty == "power" else (5 + length) / 6
    return base**generation.length_penalty


def nothing_more(scores: Float[Tensor, "batch vocabulary"]) -> Float[Tensor, "batch vocabulary"]:
    """Log probabilities by which a beam stays as it is: one way to go on, at no cost."""
    return torch.full_like(scores, -torch.inf).index_fill(1, torch.zeros(1, dtype=torch.long, device=scores.device), 0)


def is_any(ids: Int[Tensor, "*batch"], wanted: tuple[int, ...]) -> Bool[Tensor, "*batch"]:
    """Where one of the wanted words stands."""
    return torch.isin(ids, torch.tensor(wanted, device=ids.device, dtype=ids.dtype))


def beam_search(writer: Writer, prompt: Int[Tensor, "batch prompt"], generation: Generation) -> Beams:
    """The best sentences that a search with `generation.beams` beams finds.

    Args:
        writer: has a row for each sentence, and has not been told the prompt.
        prompt: what the sentences begin with; `NOTHING` where there is padding, which the writer knows.
        generation: how they are written.
    """
    batch, first = prompt.shape
    beams, power = generation.beams, generation.penalty == "power"
    looked_at = max(2, 1 + len(generation.end)) * beams
    each = torch.arange(batch, device=prompt.device)[:, None]

    logits = writer.step(prompt)
    rules = Rules(generation, prompt.repeat_interleave(beams, dim=0), logits.shape[-1])
    most, room = max(rules.rooms), rules.room.unflatten(0, (batch, beams))[:, :1]
    whole = torch.tensor([[length_penalty(count, generation)] for count in room[:, 0].tolist()], device=prompt.device)
    ids = prompt.new_full((batch, beams, first + most), NOTHING)
    ids[:, :, :first] = prompt[:, None]
    scores = torch.full((batch, beams), -torch.inf, device=prompt.device)
    finished = Beams(ids, scores)
    alive = Beams(ids, scores.index_fill(1, torch.zeros(1, dtype=torch.long, device=prompt.device), 0.0))
    searching = torch.ones(batch, 1, dtype=torch.bool, device=prompt.device)
    rows = each.expand(batch, beams).flatten()
    writer.reorder(rows)
    logits = logits[rows]

    for length in range(1, most + 1):
        place, over = first + length - 1, length > room  # over: those whose room is used up wait for the others
        log_probabilities = rules(alive.ids[:, :, :place].flatten(0, 1), logits.float().log_softmax(dim=-1))
        if len(rules.rooms) > 1:
            log_probabilities = torch.where(over[rows // beams], nothing_more(log_probabilities), log_probabilities)
        vocabulary = log_probabilities.shape[-1]
        # a place p among the continuations of all beams is the word p % vocabulary after the beam p // vocabulary
        total = alive.scores[..., None] + log_probabilities.unflatten(0, (batch, beams))
        best, places = highest(total.flatten(1), looked_at)
        parents, words = places // vocabulary, (places % vocabulary).masked_fill(over, NOTHING)
        longer = Beams(alive.at(parents).ids, best)
        longer.ids[:, :, place] = words

        # those that end leave the search, and the best of the others are followed
        ends = is_any(words, generation.end)
        if power:
            ends = ends | (length == room)
        survivors = best.masked_fill(ends, -torch.inf).topk(beams).indices
        alive = longer._replace(scores=best.masked_fill(ends, -torch.inf)).at(survivors)

        # of those that have ended the best are kept, by their penalised scores
        counts = ends & searching
        if power:
            counts[:, beams:] = False
        ended = best / length_penalty(length, generation)
        finished = finished.beside(longer._replace(scores=ended.masked_fill(~counts, -torch.inf))).best(beams)

        # whether the best that is followed may still overtake the worst that is kept
        unbounded = generation.early_stopping == "never" and generation.length_penalty > 0
        hoped = alive.scores[:, :1] / (whole if unbounded else length_penalty(length, generation))
        searching = searching & (hoped > finished.scores.min(dim=1, keepdim=True).values) & (length < room)
        if generation.early_stopping is True:
            searching = searching & (finished.scores == -torch.inf).any(dim=1, keepdim=True)
        if not searching.any():
            break
        rows = (each * beams + parents.gather(1, survivors)).flatten()
        writer.reorder(rows)
        logits = writer.step(alive.ids[:, :, place].flatten()[:, None])

    none = (finished.scores == -torch.inf).all(dim=1)
    return Beams(
        torch.where(none[:, None, None], alive.ids, finished.ids),
        torch.where(none[:, None], alive.scores / whole, finished.scores),
    )
