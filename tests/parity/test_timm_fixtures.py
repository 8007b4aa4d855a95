"""ViT answers as timm recorded it, from timm folders and from bare files, and writes timm's names and shapes back.

timm cannot be imported here; `shared/golden/timm` holds what it computed (version 1.0.31).
"""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from parity.references import load, quiet
from vitrail.core.positions import LogRelativeBias, resize_positions
from vitrail.loading import save_pretrained
from vitrail.models.vit import ViT, ViTConfig
from vitrail.models.vit_formats import FAMILY

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
CASES = {
    "vit_cls": ("vit_base_patch16_224", {}),
    "vit_avg_fcnorm": ("vit_base_patch16_224", {"global_pool": "avg"}),
    "vit_reg_embedall": ("vit_base_patch16_224", {"reg_tokens": 3}),
    "vit_reg_noembedcls_ls": (
        "vit_base_patch16_224",
        {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5, "global_pool": "avg"},
    ),
    "vit_rect": ("vit_base_patch16_224", {"img_size": [24, 40]}),
    "vit_dynamic_nonsquare": ("vit_base_patch16_224", {"dynamic_img_size": True}),
    "vit_nopos_siglip_like": (
        "vit_base_patch16_224",
        {"pos_embed": "none", "class_token": False, "global_pool": "avg"},
    ),
    "vit_respostnorm": (
        "vit_base_patch16_rpn_224",
        {"class_token": True, "global_pool": "token", "qkv_bias": True},
    ),
    "vit_swiglu_packed": ("vit_giant_patch14_dinov2", {"mlp_ratio": 4.0}),
    "deit_distilled": ("deit_base_distilled_patch16_224", {}),
}
BARE = {  # what shapes and names do not tell
    "vit_rect": {"image": (24, 40)},
    "vit_nopos_siglip_like": {"position": "none", "image": 32},
    "vit_respostnorm": {"norm": "branch"},
    "vit_swiglu_packed": {"model": "dinov2-giant-14", "pool": "class"},
    "vit_convstem": {"heads": 2},
    "vit_reg_noembedcls_ls": {"pool": "mean", "image": 32},
    "vit_avg_fcnorm": {"pool": "mean"},
}


BIASES = ("blocks.0.bias.", "blocks.1.bias.")


def recorded(shared: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A fixture: its weights by timm's names, and everything else in it."""
    tensors = load_file(shared / "golden/timm" / f"{name}.safetensors")
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    return weights, {key: value for key, value in tensors.items() if not key.startswith("weight.")}


def timm_folder(folder: Path, weights: dict[str, Tensor], name: str, classes: int) -> Path:
    """The folder that `timm.models.save_for_hf` makes."""
    architecture, arguments = CASES[name]
    config = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": 48,
        "global_pool": arguments.get("global_pool", "token"),
        "model_args": SIZES | arguments,
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "num_classes": classes,
            "classifier": "head",
        },
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def close(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def compare(model: nn.Module, record: dict[str, Tensor]) -> None:
    """Tokens, pooled token and logits, as far as they were recorded."""
    with torch.no_grad():
        close(model(record["input.image"]), record["output.logits"])
        if not model.config.norm_pooled:
            close(model.encode(record["input.image"]).x, record["output.features"])
        if not model.config.distillation_token:
            close(model.pool(model.encode(record["input.image"])), record["output.pre_logits"])
        else:
            opinions = model.opinions(record["input.image"])
            close(opinions.logits, record["output.train_logits"])
            close(opinions.distilled, record["output.train_logits_dist"])


@pytest.mark.parametrize("name", CASES)
def test_a_timm_folder_answers_as_timm_recorded(shared, tmp_path, name):
    weights, record = recorded(shared, name)
    model = load(timm_folder(tmp_path, weights, name, record["output.logits"].shape[1]))
    compare(model, record)
    assert model.card.preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", [*CASES, "vit_convstem"])
def test_a_bare_timm_file_answers_as_timm_recorded(shared, tmp_path, name):
    weights, record = recorded(shared, name)
    save_file(weights, tmp_path / "weights.safetensors")
    named = {"model": "vit-tiny-16", "heads": 4} | BARE.get(name, {})
    compare(load(tmp_path / "weights.safetensors", format="timm", **named), record)


@pytest.mark.parametrize("name", CASES)
def test_a_timm_folder_written_back_holds_the_same_bytes(shared, tmp_path, name):
    weights, record = recorded(shared, name)
    model = load(timm_folder(tmp_path / "before", weights, name, record["output.logits"].shape[1]))

    save_pretrained(model, tmp_path / "after", format="timm", announce=quiet)

    written = load_file(tmp_path / "after/model.safetensors")
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[key], weights[key]) for key in weights)
    compare(load(tmp_path / "after"), record)


@pytest.mark.parametrize("name", ["vit_convstem", "vit_relpos"])
def test_the_table_reads_and_writes_all_of_a_bare_file(shared, name):
    weights, _ = recorded(shared, name)
    table = next(one.keymap for one in FAMILY.formats if one.library == "timm")
    written = table.write(table.read(weights))
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[key], weights[key]) for key in weights)


@pytest.mark.parametrize("case", ["4x4_to_6x6_prefix1", "4x4_to_3x7_prefix1", "6x6_to_4x4_prefix0"])
def test_positions_are_stretched_as_timm_does(shared, case):
    tensors = load_file(shared / "golden/timm/resample_abs_pos_embed.safetensors")
    old, new = (tuple(map(int, part.split("x"))) for part in case.split("_prefix")[0].split("_to_"))
    stretched = resize_positions(tensors[f"input.{case}"], old, new, prefix=int(case[-1]), dialect="timm")
    close(stretched, tensors[f"output.{case}"])


def test_the_logarithmic_bias_is_the_published_formula():
    """Swin V2, section 3.3, equation 4, one displacement after the other; and nothing for tokens without a place."""
    rows, columns, heads, prefix = 3, 4, 2, 1
    part = LogRelativeBias((rows, columns), heads, hidden=7, prefix=prefix).double()
    expected = torch.zeros(1, heads, prefix + rows * columns, prefix + rows * columns, dtype=torch.float64)
    for query in range(rows * columns):
        for key in range(rows * columns):
            down, right = query // columns - key // columns, query % columns - key % columns
            place = [math.copysign(math.log(1 + abs(step)), step) for step in (down, right)]
            hidden = torch.relu(part.expand.weight @ torch.tensor(place, dtype=torch.float64) + part.expand.bias)
            expected[0, :, prefix + query, prefix + key] = part.contract.weight @ hidden + part.contract.bias
    torch.testing.assert_close(part(), expected, rtol=0, atol=1e-7)  # the displacements are held in float32


class TokensOnly(nn.Module):
    """A model that answers with its tokens, as the fixture recorded them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode(images).x


def test_the_relative_fixture_is_explained_by_one_number_for_each_displacement(shared):
    """`vit_relpos` was recorded with a buffer that is in no file, so its bias is found before it is compared.

    timm holds the logarithmic displacements in a buffer that is not saved (`rel_coords_log`); the recording redrew
    every floating tensor at random, this one too, and timm itself does not reproduce the fixture from its weights.
    What is still true of it: the bias of a block is one number for each head and displacement. So these numbers are
    fitted to the recorded tokens (392 unknowns, 1024 equations: only the right blocks can meet them all) by damped
    Gauss-Newton steps, until what is left is the rounding of float32; and the logits, which the fit has not seen,
    agree.
    """
    weights, record = recorded(shared, "vit_relpos")
    tensors = next(one.keymap for one in FAMILY.formats if one.library == "timm").read(weights)
    config = ViTConfig(
        image=32, patch=8, dim=32, depth=2, heads=4, mlp_dim=128, classes=5,
        position="relative", layer_scale=1e-5, class_token=False, pool="mean",
    )  # fmt: skip
    model = ViT(config).double().eval().requires_grad_(False)
    given = {name: value for name, value in tensors.items() if not name.startswith(BIASES)}
    assert model.load_state_dict(given, strict=False) == ([f"{bias}table" for bias in BIASES], [])
    images, tokens = record["input.image"].double(), record["output.features"].double()
    shape = model.blocks[0].bias.table.shape

    def named(numbers: Tensor) -> dict[str, Tensor]:
        return {f"{bias}table": table for bias, table in zip(BIASES, numbers.view(2, *shape), strict=True)}

    def errors(numbers: Tensor) -> Tensor:
        tables = {f"model.{name}": table for name, table in named(numbers).items()}
        return (torch.func.functional_call(TokensOnly(model), tables, (images,)) - tokens).flatten()

    numbers = torch.zeros(2 * shape.numel(), dtype=torch.float64)
    for step in range(8):
        slopes, left = torch.func.jacrev(errors)(numbers), errors(numbers)
        damping = 0.01 / 5**step * torch.eye(len(numbers), dtype=torch.float64)
        numbers = numbers - torch.linalg.solve(slopes.T @ slopes + damping, slopes.T @ left)

    assert errors(numbers).square().mean() < 1e-12
    model.load_state_dict(named(numbers), strict=False)
    close(model(images), record["output.logits"])
