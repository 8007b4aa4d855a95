"""What may not be written, and what must be: the settings of published checkpoints, applied to scores.

Each sentence has limits of its own, by its own words: padding, and what stands beside a sentence, count nowhere. In
transformers padding counts, so that a text may get less room in company there.

Settings are applied in the order in which transformers applies them, to the logits when words are taken one by one and
to log probabilities in a beam search, as there.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.decoding.writers import NOTHING
from vitrail.errors import ConfigError
from vitrail.generation import Generation


def check_vocabulary(generation: Generation, vocabulary: int) -> None:
    """Refuse settings that speak of words which a model does not have. `padding` may be any number: nobody reads it.

    Raises:
        ConfigError: says which, and how many words there are.
    """
    said = {
        "end": generation.end,
        "forced_start": () if generation.forced_start is None else (generation.forced_start,),
        "forced_end": generation.forced_end,
        "forbidden": tuple(word for run in generation.forbidden for word in run),
    }
    for name, ids in said.items():
        wrong = next((one for one in ids if not 0 <= one < vocabulary), None)
        if wrong is not None:
            raise ConfigError(
                f"{name} in the generation settings speaks of word piece {wrong}, and this model has {vocabulary:,}, "
                f"numbered from 0. Set {name} to what its tokenizer says, or leave it out."
            )


def lengths(prompt: Int[Tensor, "batch prompt"]) -> list[int]:
    """How many words each of some prompts has; `NOTHING` is none."""
    return (prompt != NOTHING).sum(dim=1).tolist()


def marked(
    ids: Int[Tensor, "batch tokens"], scores: Float[Tensor, "batch vocabulary"]
) -> Bool[Tensor, "batch vocabulary"]:
    """Which words of the vocabulary are among the ids of each row; `NOTHING` marks none."""
    vocabulary = scores.shape[1]
    marks = torch.zeros(scores.shape[0], vocabulary + 1, dtype=torch.bool, device=scores.device)
    return marks.scatter_(1, ids % (vocabulary + 1), True)[:, :vocabulary]


def penalised(
    written: Int[Tensor, "batch tokens"], scores: Float[Tensor, "batch vocabulary"], penalty: float
) -> Float[Tensor, "batch vocabulary"]:
    """Words that are there already, made less likely by a factor on their score.

    Source: Keskar et al., "CTRL", 2019, section 4.1; negative scores are multiplied where the paper divides.
    """
    lower = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(marked(written, scores), lower, scores)


def repeating(
    written: Int[Tensor, "batch tokens"], scores: Float[Tensor, "batch vocabulary"], length: int
) -> Bool[Tensor, "batch vocabulary"]:
    """Which next words would complete a run of `length` words that is there already."""
    if written.shape[1] < length:
        return torch.zeros_like(scores, dtype=torch.bool)
    runs = written.unfold(1, length, 1)
    begun = written[:, written.shape[1] - length + 1 :]
    same = (runs[..., :-1] == begun[:, None]).all(dim=-1)
    return marked(runs[..., -1].masked_fill(~same, NOTHING), scores)


def without(
    scores: Float[Tensor, "batch vocabulary"], words: Int[Tensor, "chosen"], where: Bool[Tensor, "batch"]
) -> Float[Tensor, "batch vocabulary"]:
    """The scores, with those of some words at minus infinity in the rows where they may not come."""
    rows = where[:, None].expand(-1, len(words))
    return scores.index_copy(1, words, scores.index_select(1, words).masked_fill(rows, -torch.inf))


class Rules:
    """The rules of some sentences, for each step.

    Args:
        generation: the settings.
        prompt: what each begins with, the start symbol included; `NOTHING` where there is padding.
        vocabulary: how many words there are to choose from.

    Attributes:
        room: how many words may be written in each row.

    Raises:
        ConfigError: the settings speak of a word that there is not.
    """

    def __init__(self, generation: Generation, prompt: Int[Tensor, "batch prompt"], vocabulary: int) -> None:
        check_vocabulary(generation, vocabulary)
        self.generation, self.first = generation, prompt.shape[1]
        counts = lengths(prompt)
        rooms = [generation.most(count) - count for count in counts]
        waits = [generation.least(count) - count for count in counts]
        self.room = torch.tensor(rooms, device=prompt.device)
        self.wait = torch.tensor(waits, device=prompt.device)  # how many words come before the end may
        self.bare = torch.tensor([count == 1 for count in counts], device=prompt.device)  # nothing but a first word
        self.rooms, self.longest_wait, self.any_bare = set(rooms), max(waits), 1 in counts
        forbidden = [run for run in generation.forbidden if run not in {(end,) for end in generation.end}]
        self.never = torch.tensor([run[0] for run in forbidden if len(run) == 1], device=prompt.device).long()
        self.runs = [run for run in forbidden if len(run) > 1]
        self.end = torch.tensor(generation.end, device=prompt.device).long()

    def __call__(
        self, written: Int[Tensor, "batch tokens"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        """The scores of the next word, with those of words that may not come at minus infinity.

        Args:
            written: all words so far; `NOTHING` where there is padding.
            scores: of each word that may come.
        """
        settings, new = self.generation, written.shape[1] - self.first
        if settings.repetition_penalty != 1.0:
            scores = penalised(written, scores, settings.repetition_penalty)
        if settings.no_repeat:
            scores = scores.masked_fill(repeating(written, scores, settings.no_repeat), -torch.inf)
        if len(self.never):
            scores = scores.index_fill(1, self.never, -torch.inf)
        for run in self.runs:
            scores = without(scores, self.ids(run[-1:], scores), self.begun(written, run))
        if new < self.longest_wait:
            scores = without(scores, self.end, new < self.wait)
        if new == 0 and self.any_bare and settings.forced_start is not None:
            scores = torch.where(self.bare[:, None], self.only((settings.forced_start,), scores), scores)
        if new + 1 in self.rooms and settings.forced_end:
            scores = torch.where((self.room == new + 1)[:, None], self.only(settings.forced_end, scores), scores)
        return scores

    def begun(self, written: Int[Tensor, "batch tokens"], run: tuple[int, ...]) -> Bool[Tensor, "batch"]:
        """Which rows end with all words of a run but its last."""
        if len(run) > written.shape[1] + 1:
            return written.new_zeros(len(written), dtype=torch.bool)
        return (written[:, 1 - len(run) :] == self.ids(run[:-1], written)).all(dim=1)

    def only(
        self, ids: tuple[int, ...], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        """Scores by which nothing but these words can come."""
        return torch.full_like(scores, -torch.inf).index_fill(1, self.ids(ids, scores), 0.0)

    def ids(self, ids: tuple[int, ...] | list[int], like: Tensor) -> Int[Tensor, "chosen"]:
        return torch.tensor(ids, device=like.device)
