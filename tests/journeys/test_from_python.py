"""What people bring from timm and transformers into Python: names, loops, kernels and pictures of their own."""

import copy
import subprocess
import sys
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vitrail
from vitrail.catalog import MODELS
from vitrail.core.attention import Attention
from vitrail.core.kernels import plain
from vitrail.data.dataset import Splits
from vitrail.data.datasets.memory import PicturesInMemory
from vitrail.errors import CheckpointError, ConfigError, DataError, ExplanationError
from vitrail.recipes.vit import classify
from vitrail.train.fit import fit
from vitrail.weights.names import no_model

SMALL = {"image": 32, "patch": 8, "dim": 16, "heads": 2, "depth": 2, "mlp_dim": 32}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8))


def small(**changes):
    torch.manual_seed(0)
    return vitrail.create_model("vit-tiny-16", **{**SMALL, "classes": 3, **changes}).eval()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("vit_base_patch16_224", "vit-base-16"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "vit-tiny-16"),
        ("vit_large_patch32_384", "vit-large-32-384"),
        ("google/vit-base-patch16-224-in21k", "vit-base-16"),
        ("vit_b_16", "vit-base-16"),
        ("dinov2_vits14", "dinov2-small-14"),
        ("dinov2_vitb14_reg", "dinov2-base-registers-14"),
        ("vit_small_patch14_reg4_dinov2.lvd142m", "dinov2-small-registers-14"),
        ("deit_tiny_distilled_patch16_224", "deit-tiny-distilled-16"),
        ("facebook/detr-resnet-50", "detr-resnet-50"),
        ("bert-base-uncased", "bert-base"),
    ],
)
def test_names_of_other_libraries_are_translated(theirs, ours):
    assert no_model(theirs, MODELS) == (
        f"There is no model called {theirs!r}: here it is {ours}. `vitrail models` lists all models."
    )


def test_a_name_of_nothing_here_is_not_translated():
    assert "here it is" not in no_model("swin_tiny_patch4_window7_224", MODELS)


def test_arguments_of_other_libraries_are_answered_together():
    with pytest.raises(
        ConfigError, match=r"num_classes: classes=N; pretrained: .*from_pretrained.*; in_chans: channels"
    ):
        vitrail.create_model("vit-base-16", num_classes=5, pretrained=False, in_chans=1)
    with pytest.raises(AttributeError, match=r"no 'pipeline'. Type vitrail.predictor"):
        _ = vitrail.pipeline


def test_labels_name_the_classes(tmp_path):
    model = vitrail.create_model("vit-tiny-16", labels=("cat", "dog"), **SMALL)
    assert (model.config.classes, model.card.labels) == (2, ("cat", "dog"))
    vitrail.save_pretrained(model, tmp_path / "model")
    renamed = vitrail.from_pretrained(tmp_path / "model", labels=("Katze", "Hund"))
    assert {guess.label for guess in vitrail.predictor(renamed)(PICTURE)[0].top()} == {"Katze", "Hund"}
    three = vitrail.from_pretrained(tmp_path / "model", labels=("a", "b", "c"))
    assert three.head.weight.shape == (3, 16)
    with pytest.raises(ConfigError, match="2 labels for a model that tells 3 classes apart"):
        vitrail.create_model("vit-tiny-16", labels=("cat", "dog"), **SMALL, classes=3)
    with pytest.raises(ConfigError, match="One word for a model"):
        vitrail.create_model("vit-tiny-16", labels="cat", **SMALL, classes=3)


def test_a_compiled_model_is_saved_as_the_model_that_it_is(tmp_path):
    model = small()
    vitrail.save_pretrained(torch.compile(model, backend="eager"), tmp_path / "model")
    again = vitrail.from_pretrained(tmp_path / "model")
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (nn.Sequential(nn.Linear(16, 3)), r"it has 2 tensors that its configuration lacks \(head.0.bias\)"),
        (nn.Identity(), r"it lacks 2 tensors that its configuration has \(head.bias\)"),
        (nn.Linear(16, 7), r"its head.bias is \(7,\), and its configuration says \(3,\)"),
    ],
)
def test_a_model_with_foreign_parts_is_not_written(tmp_path, head, said):
    model, folder = small(), tmp_path / "model"
    vitrail.save_pretrained(model, folder)
    before = (folder / "model.safetensors").read_bytes()
    changed = copy.deepcopy(model)
    changed.head = head
    with pytest.raises(ConfigError, match=said):
        vitrail.save_pretrained(changed, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(ConfigError, match=r"Give model\.module"):
        vitrail.save_pretrained(nn.DataParallel(model), folder)


def with_kernel(model, kernel):
    for part in model.modules():
        if isinstance(part, Attention):
            part.kernel = kernel
    return model


def evenly(query, key, value, mask, *, scale, dropout=0.0):
    return value.mean(-2, keepdim=True).expand(*query.shape[:-1], value.shape[-1]).contiguous()


def by_hand(query, key, value, mask, *, scale, dropout=0.0):
    return (query @ key.transpose(-1, -2) * scale).softmax(-1) @ value


def of_any(query, key, value, mask, *, scale, dropout=0.0):
    if query.shape[2] != 17:
        raise ValueError("this kernel was made for 17 tokens")
    return plain(query, key, value, mask, scale=scale)


@pytest.mark.parametrize("kernel", [evenly, of_any])
@pytest.mark.parametrize("method", ["attention", "rollout", "relevance", "attribution"])
def test_attention_that_was_never_computed_is_not_drawn(kernel, method):
    with pytest.raises(ExplanationError, match=r"The kernel of blocks\.\d\.attention is not one of vitrail's"):
        vitrail.predictor(with_kernel(small(), kernel)).explain(PICTURE, method=method)


def test_what_needs_no_attention_is_drawn_with_any_kernel():
    assert vitrail.predictor(with_kernel(small(), evenly)).explain(PICTURE, method="gradient").map.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_softmax_of_ones_own_is_explained_as_vitrails(dtype):
    mine = vitrail.predictor(with_kernel(small().to(dtype), by_hand)).explain(PICTURE, layer=0)
    ours = vitrail.predictor(small().to(dtype)).explain(PICTURE, layer=0)
    assert torch.equal(mine.map, ours.map)


def test_one_layer_is_not_taken_for_several(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    vitrail.save_pretrained(small(), tmp_path / "model")
    typed = """
import sys, vitrail
for layer in ([0, 1], None, (0,)):
    try:
        vitrail.predictor(sys.argv[1]).explain(sys.argv[2], layer=layer)
    except vitrail.ExplanationError as error:
        print(error)
"""  # in a process of its own: in tests, types are checked before anybody can answer in a sentence
    asked = [sys.executable, "-c", typed, str(tmp_path / "model"), str(tmp_path / "a.png")]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 3
    assert all("no single layer" in line and "predict.look" in line for line in said)


def test_blocks_count_from_the_end_too():
    model, images = small(), torch.randn(2, 3, 32, 32)
    last, first = model.features(images, at=(-1, 0))
    assert torch.equal(last.map, model.features(images, at=(1,))[0].map)
    assert torch.equal(first.map, model.features(images, at=(-2,))[0].map)
    with pytest.raises(ConfigError, match="There is no block -3: this model has blocks 0 to 1"):
        model.features(images, at=(-3,))


def test_channels_last_are_told():
    with pytest.raises(ConfigError, match=r"channels last.*movedim"):
        small()(torch.zeros(1, 32, 32, 3))


def pictures(count, channels=3):
    random = np.random.default_rng(count)
    return [random.integers(0, 256, (24, 20, channels), dtype=np.uint8) for _ in range(count)]


def test_pictures_in_memory_are_learned_from(tmp_path):
    mixed = [
        Image.fromarray(one) if place % 2 else torch.from_numpy(one).permute(2, 0, 1)
        for place, one in enumerate(pictures(12))
    ]
    learned = PicturesInMemory(mixed, np.arange(12) % 2, classes=("cat", "dog"))
    judging = PicturesInMemory(pictures(4), [0, 1, 0, 1], classes=("cat", "dog"))
    splits = Splits(learned, judging, notes=[])
    recipe = classify("memory", splits, model="vit-tiny-16", changes=SMALL, say=lambda _: None)
    recipe = replace(recipe, epochs=2, steps=None, data=replace(recipe.data, batch=4, workers=0))
    result = fit(recipe, tmp_path / "run", splits=splits, say=lambda _: None)
    model = vitrail.from_pretrained(result.folder)
    assert model.card.labels == ("cat", "dog")
    assert repr(learned) == "<PicturesInMemory: 12 samples for classify, 2 classes>"
    assert learned.labels() == [0, 1] * 6
    assert learned.fingerprint(0) == PicturesInMemory(pictures(12)[:1], [0], ("cat",)).fingerprint(0)
    assert learned.fingerprint(0) != learned.fingerprint(1)


def test_pictures_in_memory_that_do_not_fit_their_labels():
    with pytest.raises(DataError, match="2 pictures and 1 labels"):
        PicturesInMemory(pictures(2), [0], ("cat",))
    with pytest.raises(DataError, match="of class 2, and there are classes 0 to 1: cat, dog"):
        PicturesInMemory(pictures(2), [0, 2], ("cat", "dog"))
    with pytest.raises(DataError, match="this one has 5"):
        PicturesInMemory(pictures(1, channels=5), [0], ("cat",))[0]


@pytest.mark.parametrize("name", ["vit-tiny-16", "resnet-18", "bert-tiny", "gpt-mini"])
def test_a_state_dict_that_somebody_saved_is_read_by_our_own_names(tmp_path, name):
    torch.manual_seed(0)
    model, file = vitrail.create_model(name), tmp_path / "mine.pt"
    torch.save(model.state_dict(), file)
    with pytest.raises(CheckpointError, match=f"It looks like vitrail's {name}; if so, .* format='vitrail'"):
        vitrail.from_pretrained(file)
    again = vitrail.from_pretrained(file, format="vitrail", model=name, announce=list)
    assert again.config == model.config
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_what_the_shapes_of_a_state_dict_tell_need_not_be_said(tmp_path):
    model, file = small(), tmp_path / "mine.pt"
    torch.save(model.state_dict(), file)
    said = []
    again = vitrail.from_pretrained(file, format="vitrail", model="vit-tiny-16", heads=2, announce=said.append)
    assert again.config == model.config
    assert "classes=3" in " ".join(said)


def test_a_state_dict_of_another_model_is_not_taken_for_ours(tmp_path):
    file = tmp_path / "other.pt"
    torch.save(nn.Sequential(nn.Linear(3, 4)).state_dict(), file)
    with pytest.raises(CheckpointError):
        vitrail.from_pretrained(file, format="vitrail", model="vit-tiny-16", announce=list)


@pytest.mark.parametrize("fast", [True, False])
def test_a_predictor_goes_to_another_process(fast):
    predict = vitrail.predictor(small())
    predict.fast = fast
    again = ForkingPickler.loads(ForkingPickler.dumps(predict))
    assert again.fast is fast
    assert torch.allclose(again(PICTURE)[0].scores, predict(PICTURE)[0].scores)


def test_names_of_another_number_of_classes_are_not_written(tmp_path):
    model = small()
    model.card = replace(model.card, labels=("cat", "dog"))
    with pytest.raises(ConfigError, match="2 labels for a model that tells 3 classes apart"):
        vitrail.save_pretrained(model, tmp_path / "folder", announce=list)
    assert not (tmp_path / "folder").exists()


MISTAKES = """
from PIL import Image
import numpy as np
import vitrail
from vitrail.data.transforms import Augment, eval_transform, train_transform
model = vitrail.create_model("vit-tiny-16", image=32, dim=16, heads=2, depth=2, mlp_dim=32)
net = vitrail.create_model("resnet-18")
picture, reads = Image.new("RGB", (32, 32)), model.card.preprocessing
images = reads(picture).pixels[None]
for mistake in (
    lambda: model(picture),
    lambda: net(np.zeros((1, 3, 32, 32), np.float32)),
    lambda: model.features(images, at=1),
    lambda: net.features(images, at=1),
    lambda: reads("a.jpg"),
    lambda: train_transform(reads, Augment())(picture, (0, 0, 0)),
    lambda: eval_transform(reads)(picture),
):
    try:
        mistake()
    except vitrail.errors.VitrailError as error:
        print(error)
"""


def test_what_is_no_tensor_no_picture_and_no_sequence_is_said():  # where nothing else looks at types
    done = subprocess.run([sys.executable, "-c", MISTAKES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = ["Image is no tensor", "ndarray is no tensor", "1 is one block", "1 is one stage", "str is no picture"]
    told += ["Image is no sample"] * 2
    lines = done.stdout.splitlines()
    assert [line[: len(begins)] for line, begins in zip(lines, told, strict=True)] == told


@pytest.mark.parametrize("name", ["vit-tiny-16", "vit-tiny-conv", "resnet-18"])
def test_torch_exports_a_model_for_any_number_of_pictures(tmp_path, name):
    model = vitrail.create_model(name, classes=3, **({} if name == "resnet-18" else {"image": 32})).eval()
    two, five = torch.rand(2, 3, 32, 32), torch.rand(5, 3, 32, 32)
    program = torch.export.export(model, (two,), dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}})
    torch.export.save(program, tmp_path / "model.pt2")
    again = torch.export.load(tmp_path / "model.pt2").module()
    with torch.inference_mode():
        assert torch.allclose(again(five), model(five), atol=1e-5)
