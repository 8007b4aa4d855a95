"""A batch that is split over steps or processes teaches what the whole would: each part counts by its words."""

import pytest
import torch

from vitrail.loading import create_model
from vitrail.samples import Batch, Words
from vitrail.tasks.language import CausalLanguage, MaskedLanguage
from vitrail.tasks.tag import Tag
from vitrail.tasks.task import weight_of
from vitrail.tasks.translate import Translate
from vitrail.tasks.translate_parallel import TranslateParallel

LENGTHS = (9, 2, 5, 3)  # so uneven that rows would be another measure
VALID = torch.arange(9)[None] < torch.tensor(LENGTHS)[:, None]
IDS = torch.randint(4, 30, (4, 9), generator=torch.Generator().manual_seed(0)) * VALID
TARGET = IDS.masked_fill(~VALID, -100)
SMALL = {"vocabulary": 30, "dim": 16, "depth": 1, "heads": 2, "mlp_dim": 24, "max_tokens": 16}
BOTH = {"encoder_heads": 2, "decoder_heads": 2, "encoder_depth": 1, "decoder_depth": 1, "dim": 16}
ROOM = {"source_vocabulary": 30, "target_vocabulary": 30}


def part(rows: slice, target) -> Batch:
    words = Words(IDS[rows], VALID[rows])
    return Batch(words, words if target is None else target[rows], torch.arange(4)[rows])


@pytest.mark.parametrize(
    ("task", "name", "changes", "target"),
    [
        (Translate(smoothing=0.1), "transformer-tiny", BOTH | ROOM, None),
        (CausalLanguage(), "gpt-mini", SMALL, TARGET),
        (MaskedLanguage(), "bert-tiny", SMALL | {"head": "masked-lm"}, TARGET),
        (Tag(classes=("a", "b")), "bert-tiny", SMALL | {"head": "tag", "classes": 2}, TARGET.clamp(max=1)),
    ],
)
def test_parts_of_a_batch_teach_what_the_whole_teaches(task, name, changes, target):
    torch.manual_seed(0)
    model = create_model(name, **changes).double().eval()
    whole = task.loss(model, part(slice(None), target)).total
    parts = [part(rows, target) for rows in (slice(0, 1), slice(1, 4))]
    weights = [weight_of(task, one) for one in parts]
    assert weights[0] / sum(weights) != 1 / 4
    shared = sum(task.loss(model, one).total * weight for one, weight in zip(parts, weights, strict=True))
    torch.testing.assert_close(shared / sum(weights), whole, rtol=1e-6, atol=0)


def test_what_is_written_all_at_once_counts_by_its_words_without_the_symbols_around_them():
    assert weight_of(TranslateParallel(), part(slice(None), None)) == sum(max(length - 2, 0) for length in LENGTHS)
