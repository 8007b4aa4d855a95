"""Bare files of torchvision and Google answer as those libraries compute, written out here with torch's own parts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from parity.references import agree, disturbed, load
from vitrail.errors import CheckpointError, VitrailError
from vitrail.loading import create_model, from_pretrained, save_pretrained
from vitrail.models.vit_formats import FAMILY

DIM, HEADS, DEPTH, MLP = 24, 3, 2, 36


class Encoder(nn.Module):
    """A block under torchvision's names, with torch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(DIM, eps=1e-6), nn.LayerNorm(DIM, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        self.mlp = nn.ModuleDict({"0": nn.Linear(DIM, MLP), "3": nn.Linear(MLP, DIM)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)
        x = x + self.self_attention(h, h, h, need_weights=False)[0]
        return x + self.mlp["3"](F.gelu(self.mlp["0"](self.ln_2(x))))


class TorchvisionViT(nn.Module):
    """torchvision's VisionTransformer: its names, its order of operations."""

    def __init__(self, stem: tuple[int, ...] = (), representation: int | None = None, patch: int = 4) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, DIM))
        if stem:
            steps = nn.Sequential()
            for number, (before, after) in enumerate(zip((3, *stem[:-1]), stem, strict=True)):
                convolution = nn.Conv2d(before, after, 3, 2, 1, bias=False)
                steps.add_module(f"conv_bn_relu_{number}", nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU()))
            steps.add_module("conv_last", nn.Conv2d(stem[-1], DIM, 1))
            self.conv_proj: nn.Module = steps
        else:
            self.conv_proj = nn.Conv2d(3, DIM, patch, patch)
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 1 + (16 // patch) ** 2, DIM))
        layers = {f"encoder_layer_{number}": Encoder() for number in range(DEPTH)}
        self.encoder.layers, self.encoder.ln = nn.ModuleDict(layers), nn.LayerNorm(DIM, eps=1e-6)
        self.heads = nn.Sequential()
        if representation:
            self.heads.add_module("pre_logits", nn.Linear(DIM, representation))
            self.heads.add_module("act", nn.Tanh())
        self.heads.add_module("head", nn.Linear(representation or DIM, 5))

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_proj(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.encoder.pos_embedding
        for layer in self.encoder.layers.values():
            x = layer(x)
        return self.heads(self.encoder.ln(x)[:, 0])


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("parts", [{}, {"stem": (6, 10)}, {"representation": 9}, {"patch": 2}], ids=str)
def test_a_torchvision_file_answers_as_torchvision_does(tmp_path, parts, precise):
    dtype = torch.float64 if precise else torch.float32
    theirs = disturbed(TorchvisionViT(**parts)).to(dtype)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.abs_()
    torch.save({"model": theirs.state_dict()}, tmp_path / "vit.pth")

    ours = load(tmp_path / "vit.pth", format="torchvision", model="vit-tiny-16", heads=HEADS)

    images = torch.rand(2, 3, 16, 16, dtype=dtype)
    with torch.no_grad():
        agree(ours(images), theirs(images), precise)
    assert ours.config.image == 16


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", ""])
@pytest.mark.parametrize("wrapper", ["model", "state_dict", None])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_wrappers_of_training_scripts_are_taken_off(tmp_path, prefix, wrapper, suffix):
    theirs = disturbed(TorchvisionViT())
    values = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    path = tmp_path / f"vit{suffix}"
    if suffix == ".safetensors":
        save_file(values, path)
    else:
        torch.save({wrapper: values, "epoch": 3} if wrapper else values, path)

    ours = load(path, format="torchvision", model="vit-tiny-16", heads=HEADS)

    images = torch.rand(1, 3, 16, 16)
    agree(ours(images), theirs(images), precise=False)


@pytest.mark.parametrize(("plain", "averaged"), [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_averaged_weights_are_taken_before_the_others_as_timm_takes_them(tmp_path, plain, averaged):
    theirs = disturbed(TorchvisionViT())
    others = {name: tensor + 1 for name, tensor in theirs.state_dict().items()}
    torch.save({plain: others, averaged: theirs.state_dict()}, tmp_path / "vit.pth")
    ours = load(tmp_path / "vit.pth", format="torchvision", model="vit-tiny-16", heads=HEADS)
    images = torch.rand(1, 3, 16, 16)
    agree(ours(images), theirs(images), precise=False)


def test_the_old_names_of_torchvisions_mlp_are_read(tmp_path):
    theirs = disturbed(TorchvisionViT())
    old = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    save_file(old, tmp_path / "vit.safetensors")
    images = torch.rand(1, 3, 16, 16)
    ours = load(tmp_path / "vit.safetensors", format="torchvision", model="vit-tiny-16", heads=HEADS)
    agree(ours(images), theirs(images), precise=False)


def flax_arrays(big_vision: bool, representation: bool) -> dict[str, np.ndarray]:
    """Random weights under Google's names, in flax's layouts."""
    random = np.random.default_rng(0)
    attention, mlp, norm = ("_0", "_0", "_1") if big_vision else ("_1", "_3", "_2")
    width = DIM // HEADS
    shapes = {
        "cls": (1, 1, DIM),
        "embedding/kernel": (4, 4, 3, DIM),
        "embedding/bias": (DIM,),
        "pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding": (1, 17, DIM),
        "Transformer/encoder_norm/scale": (DIM,),
        "Transformer/encoder_norm/bias": (DIM,),
        "head/kernel": (DIM, 5),
        "head/bias": (5,),
    }
    if representation:
        shapes |= {"pre_logits/kernel": (DIM, DIM), "pre_logits/bias": (DIM,)}
    for number in range(DEPTH):
        block = f"Transformer/encoderblock_{number}"
        for part in ("query", "key", "value"):
            shapes[f"{block}/MultiHeadDotProductAttention{attention}/{part}/kernel"] = (DIM, HEADS, width)
            shapes[f"{block}/MultiHeadDotProductAttention{attention}/{part}/bias"] = (HEADS, width)
        shapes[f"{block}/MultiHeadDotProductAttention{attention}/out/kernel"] = (HEADS, width, DIM)
        shapes[f"{block}/MultiHeadDotProductAttention{attention}/out/bias"] = (DIM,)
        for which in ("_0", norm):
            shapes |= {f"{block}/LayerNorm{which}/scale": (DIM,), f"{block}/LayerNorm{which}/bias": (DIM,)}
        shapes |= {f"{block}/MlpBlock{mlp}/Dense_0/kernel": (DIM, MLP), f"{block}/MlpBlock{mlp}/Dense_0/bias": (MLP,)}
        shapes |= {f"{block}/MlpBlock{mlp}/Dense_1/kernel": (MLP, DIM), f"{block}/MlpBlock{mlp}/Dense_1/bias": (DIM,)}
    return {name: random.normal(size=shape).astype("f4") * 0.3 for name, shape in shapes.items()}


def flax_vit(weights: dict[str, np.ndarray], images: Tensor, big_vision: bool) -> Tensor:
    """What Google's code computes with them, in einsums over its own axes."""
    w = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    attention, mlp, norm = ("_0", "_0", "_1") if big_vision else ("_1", "_3", "_2")

    def normed(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (DIM,), w[f"{name}/scale"], w[f"{name}/bias"], eps=1e-6)

    patches = images.unfold(2, 4, 4).unfold(3, 4, 4)  # batch channels rows columns, then pixels of a patch
    x = torch.einsum("bchwij,ijcd->bhwd", patches, w["embedding/kernel"]).flatten(1, 2) + w["embedding/bias"]
    x = torch.cat([w["cls"].expand(len(x), -1, -1), x], dim=1)
    x = x + w["pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"]
    for number in range(DEPTH):
        block = f"Transformer/encoderblock_{number}"
        look = f"{block}/MultiHeadDotProductAttention{attention}"
        h = normed(x, f"{block}/LayerNorm_0")
        q, k, v = (
            torch.einsum("btd,dhw->bthw", h, w[f"{look}/{part}/kernel"]) + w[f"{look}/{part}/bias"]
            for part in ("query", "key", "value")
        )
        shares = (torch.einsum("bqhw,bkhw->bhqk", q, k) / (DIM // HEADS) ** 0.5).softmax(-1)
        mixed = torch.einsum("bhqk,bkhw->bqhw", shares, v)
        x = x + torch.einsum("bqhw,hwd->bqd", mixed, w[f"{look}/out/kernel"]) + w[f"{look}/out/bias"]
        h, think = normed(x, f"{block}/LayerNorm{norm}"), f"{block}/MlpBlock{mlp}"
        h = F.gelu(h @ w[f"{think}/Dense_0/kernel"] + w[f"{think}/Dense_0/bias"])
        x = x + h @ w[f"{think}/Dense_1/kernel"] + w[f"{think}/Dense_1/bias"]
    pooled = normed(x, "Transformer/encoder_norm")[:, 0]
    if "pre_logits/kernel" in w:
        pooled = torch.tanh(pooled @ w["pre_logits/kernel"] + w["pre_logits/bias"])
    return pooled @ w["head/kernel"] + w["head/bias"]


@pytest.mark.parametrize("representation", [True, False], ids=["with representation", "without representation"])
@pytest.mark.parametrize(("big_vision", "prefix"), [(False, ""), (False, "opt/target/"), (True, "params/")])
def test_a_google_archive_answers_as_googles_code_does(tmp_path, big_vision, prefix, representation):
    weights = flax_arrays(big_vision, representation)
    np.savez(tmp_path / "B_16.npz", **{prefix + name: array for name, array in weights.items()})

    ours = load(tmp_path / "B_16.npz", format="google", model="vit-base-16").double()

    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        agree(ours(images), flax_vit(weights, images, big_vision), precise=True)
    assert ours.config.heads == HEADS


@pytest.mark.parametrize("big_vision", [True, False])
def test_a_google_archive_is_written_back_byte_for_byte(big_vision):
    weights = {name: torch.from_numpy(array) for name, array in flax_arrays(big_vision, True).items()}
    tables = [one.keymap for one in FAMILY.formats if one.library == "google"]
    table = next(one for one in tables if not one.unclaimed(weights))

    written = table.write(table.read(weights), {"heads": HEADS})

    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)


def test_a_file_that_nobody_introduces_is_guessed_in_the_error(tmp_path):
    small = create_model("vit-small-16", depth=2, image=32)
    for library, suggestion in (("torchvision", "torchvision"), ("timm", "timm"), ("transformers", "transformers")):
        table = next(one.keymap for one in FAMILY.formats if one.library == library)
        path = tmp_path / f"{library}.safetensors"
        save_file(table.write(small.state_dict()), path)
        with pytest.raises(CheckpointError, match=f"It looks like {suggestion}'s vit-small-16") as raised:
            load(path)
        assert f"from_pretrained('{path.name}', format='{library}', model='vit-small-16')" in str(raised.value)
        with pytest.raises(CheckpointError, match="does not say what model it is"):
            load(path, format=library)


def test_a_file_that_looks_like_nothing_says_so(tmp_path):
    save_file({"a": torch.zeros(2), "b": torch.zeros(3)}, tmp_path / "mystery.safetensors")
    with pytest.raises(CheckpointError, match=r"format=\.\.\., model=\.\.\.\) says it"):
        load(tmp_path / "mystery.safetensors")


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ({"patch": 8}, r"patch=8 was given, and the shapes in .* say patch=4"),
        ({"depth": 12}, r"depth=12 was given, and the shapes in .* say depth=2"),
        ({"registers": 4}, r"registers=4 was given, and the shapes in .* say registers=0"),
        ({"heads": 5}, r"dim=24 does not divide into heads=5"),
        ({"heads": None}, r"heads=None is not a whole number"),
        ({"eyes": 3}, r"no field called 'eyes'"),
    ],
)
def test_what_is_named_and_contradicts_the_shapes_is_a_sentence(tmp_path, named, sentence):
    save_file(TorchvisionViT().state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(VitrailError, match=sentence):
        load(tmp_path / "vit.safetensors", **{"format": "torchvision", "model": "vit-tiny-16", "heads": HEADS} | named)


def test_heads_that_nothing_tells_are_asked_for(tmp_path):
    save_file(TorchvisionViT().state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(CheckpointError, match=r"dim=24 and vit-tiny-16 has 192, so nothing tells heads\. Add heads="):
        load(tmp_path / "vit.safetensors", format="torchvision", model="vit-tiny-16")


def test_a_file_of_no_published_width_is_not_called_a_published_size(tmp_path):
    save_file(TorchvisionViT().state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(CheckpointError, match=r"looks like torchvision's, of no published size; say .*model=\.\.\."):
        load(tmp_path / "vit.safetensors")


@pytest.mark.parametrize(
    ("image", "registers", "positions_for"),
    [((56, 64), 0, "all"), ((24, 32), 0, "all"), (12, 4, "patches"), ((12, 20), 0, "patches")],
)
def test_positions_that_could_be_of_several_pictures_are_asked_for(tmp_path, image, registers, positions_for):
    model = create_model(
        "vit-tiny-16", dim=24, heads=3, mlp_dim=36, depth=1, patch=4, classes=2,
        image=image, registers=registers, positions_for=positions_for,
    )  # fmt: skip
    path = save_pretrained(disturbed(model), tmp_path, format="timm", announce=lambda said: None) / "model.safetensors"
    said = {"format": "timm", "model": "vit-tiny-16", "heads": 3}
    with pytest.raises(CheckpointError, match="Nothing tells of how many rows and columns"):
        load(path, **said)
    read = load(path, **said, image=image)
    assert (read.config.image, read.config.positioned) == (model.config.image, model.config.positioned)


def test_a_norm_after_the_pooling_means_that_patches_are_pooled(tmp_path):
    model = disturbed(
        create_model(
            "vit-tiny-16",
            dim=24,
            heads=3,
            mlp_dim=36,
            depth=1,
            patch=4,
            image=16,
            classes=2,
            pool="mean",
            norm_pooled=True,
        )
    )
    path = save_pretrained(model, tmp_path, format="timm", announce=lambda said: None) / "model.safetensors"
    read = load(path, format="timm", model="vit-tiny-16", heads=3)
    images = torch.randn(2, 3, 16, 16)
    agree(read(images), model.eval()(images), precise=False)


def test_what_shapes_tell_and_libraries_decide_is_announced(tmp_path):
    save_file(TorchvisionViT(patch=2).state_dict(), tmp_path / "vit.safetensors")
    heard = []
    from_pretrained(
        tmp_path / "vit.safetensors",
        format="torchvision", model="vit-tiny-16", patch=2, heads=HEADS, classes=3, announce=heard.append,
    )  # fmt: skip
    assert any("patch=2" in said and "depth=2" in said and "image=16" in said for said in heard)
    assert "As in torchvision: eps=1e-06, dialect='torchvision'." in heard
    assert (
        "Nothing in vit.safetensors tells norm='before', activation='gelu', pool='class'; so it is in vit-tiny-16."
        in (heard)
    )
    assert heard[-1] == "kept 38 of 40 tensors; new: head.weight (3, 24), head.bias (3,)"
