"""How a translator is taught, beside the published code: label smoothing in its four conventions, and the schedule."""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vitrail.samples import Batch, Words
from vitrail.tasks.translate import Translate
from vitrail.train.schedules import InverseSquareRoot

PAD = 0


@pytest.fixture(scope="module")
def published(shared):
    return load_file(shared / "golden/transformer/schedule_and_losses.safetensors")


class Knowing(nn.Module):
    """Answers these logits, whatever it reads."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, source, target, source_valid, target_valid) -> Tensor:
        return self.logits[None]


def taught(published, smoothing: float, ignored: bool) -> tuple[Tensor, int]:
    """The loss of `Translate`, and over how many words it is the mean."""
    target = published["input.target"]
    row = torch.cat([torch.tensor([1]), target])[None]
    valid = torch.cat([torch.tensor([True]), target != PAD if ignored else torch.ones_like(target, dtype=bool)])[None]
    batch = Batch(Words(row, valid), Words(row, valid), torch.zeros(1, dtype=torch.long))
    task = Translate(smoothing=smoothing)
    return task.loss(Knowing(published["input.logits"]), batch).total, task.weight(batch)


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
def test_label_smoothing_is_that_of_torch(published, smoothing):
    loss, _ = taught(published, smoothing, ignored=True)
    torch.testing.assert_close(loss, published[f"output.torch_ce_ls_{smoothing}_mean_ignore0"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
@pytest.mark.parametrize(("ignored", "name"), [(True, "pad0"), (False, "nopad")])
def test_label_smoothing_of_fairseq_gives_the_right_word_nothing(published, smoothing, ignored, name):
    """It shares its smoothing among all other words, torch among all; so a little more of ours is the same."""
    words = published["input.logits"].shape[1]
    loss, count = taught(published, smoothing * words / (words - 1), ignored)
    theirs = published[f"output.fairseq_ls_{smoothing}_{name}"]
    torch.testing.assert_close(loss * count, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
def test_label_smoothing_of_tensor2tensor_is_the_same_less_a_constant(published, smoothing):
    words = published["input.logits"].shape[1]
    loss, _ = taught(published, smoothing * words / (words - 1), ignored=False)
    right, wrong = torch.tensor(1 - smoothing), torch.tensor(smoothing / (words - 1))
    entropy = -(right * right.log() + (words - 1) * wrong * wrong.log())
    theirs = published[f"output.t2t_smoothing_xent_{smoothing}"].mean()
    torch.testing.assert_close(loss - entropy, theirs, rtol=1e-5, atol=1e-5)


def test_without_smoothing_it_is_the_log_likelihood_of_the_words(published):
    loss, count = taught(published, 0.0, ignored=True)
    torch.testing.assert_close(loss * count, published["output.fairseq_nll_pad0"], rtol=1e-6, atol=1e-5)


def test_the_schedule_is_that_of_the_annotated_transformer(published):
    dim, warmup = 512, 4000
    peak = (dim * warmup) ** -0.5
    schedule = InverseSquareRoot(warmup_steps=warmup)
    steps = published["output.steps"].tolist()
    assert steps[0] == 0  # it calls the first step 0 and takes it for 1; ours is counted from 0
    rates = torch.tensor([peak * schedule.factor(max(step, 1) - 1, 100_000) for step in steps])
    torch.testing.assert_close(rates, published["output.noam_rate"], rtol=1e-6, atol=0)
