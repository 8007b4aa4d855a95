"""DeiT answers as transformers' DeiT does, with one classifier, with two and with none."""

import pytest
import torch
import transformers
from safetensors.torch import load_file

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.loading import save_pretrained

CONFIG = transformers.DeiTConfig(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=36,
    image_size=24, patch_size=8, num_labels=5,
)  # fmt: skip
KINDS = [
    transformers.DeiTForImageClassification,
    transformers.DeiTForImageClassificationWithTeacher,
    transformers.DeiTModel,
]


def answer(theirs: torch.nn.Module, images: torch.Tensor, **how) -> torch.Tensor:
    """Logits, or the pooled token of a model without classifier."""
    given = theirs(images, **how)
    return given.pooler_output if isinstance(theirs, transformers.DeiTModel) else given.logits


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_deit_answers_as_transformers_does(tmp_path, kind, precise):
    dtype = torch.float64 if precise else torch.float32
    theirs = disturbed(kind(CONFIG)).to(dtype)
    ours = load(saved(theirs, tmp_path))
    images, larger = torch.rand(2, 3, 24, 24, dtype=dtype), torch.rand(2, 3, 40, 24, dtype=dtype)

    with torch.no_grad():
        agree(ours(images), answer(theirs, images), precise)
        agree(ours(larger), answer(theirs, larger, interpolate_pos_encoding=True), precise)


def test_the_two_opinions_are_those_of_the_two_classifiers(tmp_path):
    theirs = disturbed(transformers.DeiTForImageClassificationWithTeacher(CONFIG)).double()
    ours = load(saved(theirs, tmp_path))
    images = torch.rand(2, 3, 24, 24, dtype=torch.float64)

    with torch.no_grad():
        given, opinions = theirs(images), ours.opinions(images)
    agree(opinions.logits, given.cls_logits, precise=True)
    agree(opinions.distilled, given.distillation_logits, precise=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deit_folder_written_back_holds_the_same_bytes_and_loads_in_transformers(tmp_path, kind):
    theirs = disturbed(kind(CONFIG))
    before = saved(theirs, tmp_path / "before")

    save_pretrained(load(before), tmp_path / "after", format="transformers", announce=quiet)

    one, other = (load_file(folder / "model.safetensors") for folder in (before, tmp_path / "after"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    images = torch.rand(2, 3, 24, 24)
    agree(answer(kind.from_pretrained(tmp_path / "after"), images), answer(theirs, images), precise=False)


def test_new_classes_give_both_heads_anew(tmp_path):
    folder = saved(disturbed(transformers.DeiTForImageClassificationWithTeacher(CONFIG)), tmp_path)
    assert load(folder, classes=9)(torch.rand(1, 3, 24, 24)).shape == (1, 9)
