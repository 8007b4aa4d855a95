"""Whether it is true of a model that an answer rests on some words: what becomes of it when they are left out.

The questions are those of `explain.faithfulness`. A word that is left out stands as if it had never been there.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitrail.errors import ExplanationError
from vitrail.explain.faithfulness import TWINS, Pace, Say, Trust, curves_of, rank_correlation, shuffled
from vitrail.explain.said import ANSWERS, Said
from vitrail.explain.word_shares import Arguments, Explained, shares_of

TOGETHER = 32  # shortened texts that a model is asked about at once
FEWEST = 4  # words whose orders differ enough to be compared with


def may_be_left_out(asked: Explained) -> list[int]:
    """The words without which an answer can still be read: not those that it is read from, and no special tokens.

    Raises:
        ExplanationError: several answers, one that rests on what was written, or a text of too few words.
    """
    if len({said.about for said in asked.numbers}) > 1:
        raise ExplanationError(f"Trust is asked of one answer at a time. {ANSWERS[asked.model.card.task].one}.")
    if not asked.numbers[0].place:
        raise ExplanationError("This model gives features and no answer, so nothing says what words are worth to it.")
    if asked.of == "decoder":
        raise ExplanationError("Trust is asked by leaving out words of the text: leave out --of decoder.")
    stay = {piece.word for piece in asked.seen if piece.special}
    if not asked.found.written:
        stay |= {asked.seen[said.row].word for said in asked.numbers}
    free = [word for word in dict.fromkeys(piece.word for piece in asked.seen) if word not in stay]
    if len(free) < FEWEST:
        raise ExplanationError(
            f"Trust is asked by leaving out words that the answer is not read from, and there are {len(free)} of them, "
            f"where orders of fewer than {FEWEST} tell nothing. Give a longer text."
        )
    return free


def trust_in_words(
    asked: Explained, shares: Float[Tensor, " words"], free: Sequence[int], say: Say | None = None
) -> Trust:
    """Leave words out, strongest first, and unlearn the model.

    Args:
        asked: the answer, of which there is one.
        shares: of the words.
        free: those that may be left out, by number.
        say: is told how far it is, where it takes long.
    """
    others, pace = list[Tensor](), Pace(say)
    pieces = asked.seen[len(asked.seen) - len(asked.found.source) :]  # those that the model is handed
    places = torch.tensor([[float(piece.word == word) for piece in pieces] for word in free])
    deletion, insertion = curves_of(lambda hides: probabilities(asked, hides.float() @ places > 0), shares[free])
    for twin in range(TWINS):
        others.append(shares_of(asked._replace(model=shuffled(asked.model, twin)))[0, free])
        pace.tell(twin + 1, TWINS, "models of shuffled weights asked")
    return Trust(deletion, insertion, tuple(rank_correlation(shares[free], other) for other in others), len(free))


@torch.inference_mode()
def probabilities(asked: Explained, left_out: Bool[Tensor, "changed tokens"]) -> Float[Tensor, " changed"]:
    """How likely an answer is without some pieces of the text, for each time that the model is asked."""
    total = []
    for some in left_out.split(TOGETHER):
        parts = [likely(asked, arguments, numbers, some) for arguments, numbers in asked.together]
        total.append(torch.stack(parts).prod(dim=0).cpu())
    return torch.cat(total)


def likely(
    asked: Explained, arguments: Arguments, numbers: Sequence[Said], left_out: Bool[Tensor, "changed tokens"]
) -> Float[Tensor, " changed"]:
    """The same for numbers that are asked at once."""
    card, at = asked.model.card, asked.found.valid_at
    of_tokens = ANSWERS[card.task].of_tokens
    given = [one.expand(len(left_out), *one.shape[1:]) for one in arguments]
    given[at] = given[at] & ~left_out.to(given[at].device)
    outputs = asked.model(*given)
    logits = (outputs[0] if isinstance(outputs, tuple) else outputs).float()
    if of_tokens:
        logits = logits.masked_fill(~given[at][..., None], -torch.inf)
    shares = logits.sigmoid() if card.multi_label else logits.softmax(dim=1 if of_tokens else -1)
    return torch.stack([shares[(slice(None), *said.place)] for said in numbers]).prod(dim=0)
