"""Where things stand: sinusoids, tables, biases, and how tables are stretched."""

import math

import pytest
import torch
from safetensors.torch import load_file

from vitrail.core.positions import (
    DIALECTS,
    CountedAxes,
    CountedSinusoids,
    LearnedAxes,
    LearnedPositions,
    LogRelativeBias,
    RelativeBias,
    SinusoidalPositions,
    relative_places,
    resize_positions,
    sinusoidal,
    sinusoidal_2d,
)
from vitrail.core.tokens import Feature
from vitrail.errors import CheckpointError, ConfigError


@pytest.mark.parametrize(("length", "dim"), [(12, 16), (50, 32)])
def test_the_interleaved_sinusoid_is_that_of_the_annotated_transformer(shared, length, dim):
    tables = load_file(shared / "golden/transformer/sinusoid_tables.safetensors")
    theirs = tables[f"output.interleaved.n{length}.d{dim}"]
    torch.testing.assert_close(sinusoidal(length, dim), theirs, rtol=1e-5, atol=4e-6)  # theirs is computed in float32


@pytest.mark.parametrize(("length", "dim"), [(12, 16), (50, 32), (9, 7)])
def test_a_smaller_base_gives_the_sinusoid_of_tensor2tensor_and_fairseq(shared, length, dim):
    tables = load_file(shared / "golden/transformer/sinusoid_tables.safetensors")
    half = dim // 2
    base = 10_000 ** (half / (half - 1))  # their longest wavelength is that of the last frequency, ours of the next
    ours = torch.nn.functional.pad(sinusoidal(length, 2 * half, layout="halves", base=base), (0, dim % 2))
    theirs = tables[f"output.t2t_half_split.n{length}.d{dim}"]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=4e-6)
    padded = tables[f"output.fairseq_half_split_pad1.n{length}.d{dim}"]
    assert (padded[1] == 0).all()  # the place of its padding, whose words count from 2
    torch.testing.assert_close(ours[2:], padded[2:], rtol=1e-5, atol=4e-6)


@pytest.mark.parametrize(("place", "channel"), [(0, 0), (3, 5), (41, 6), (41, 7)])
def test_one_value_of_the_sinusoid_by_hand(place, channel):
    angle = place / 10_000 ** (2 * (channel // 2) / 10)
    expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    assert sinusoidal(42, 10, dtype=torch.float64)[place, channel].item() == pytest.approx(expected, abs=1e-12)


def test_halves_are_the_interleaved_columns_in_another_order():
    interleaved, halves = sinusoidal(9, 7), sinusoidal(9, 7, layout="halves")
    assert torch.equal(halves, torch.cat([interleaved[:, 0::2], interleaved[:, 1::2]], dim=1))


@pytest.mark.parametrize(("dim", "side"), [(16, 5), (24, 7), (32, 4)])
def test_the_2d_sinusoid_is_that_of_mae(shared, dim, side):
    tables = load_file(shared / "golden/mae/pos_embed.safetensors")
    (name,) = [name for name in tables if name.startswith(f"output.sincos2d.d{dim}.g{side}")]
    theirs = tables[name][tables[name].shape[0] - side * side :]
    torch.testing.assert_close(sinusoidal_2d(side, side, dim), theirs.float(), rtol=1e-6, atol=1e-6)


def test_the_2d_sinusoid_says_rows_and_columns_apart():
    table = sinusoidal_2d(3, 5, 16).unflatten(0, (3, 5))
    columns, rows = table[..., :8], table[..., 8:]
    assert torch.equal(columns, columns[:1].expand(3, -1, -1))
    assert torch.equal(rows, rows[:, :1].expand(-1, 5, -1))
    assert torch.equal(sinusoidal_2d(3, 5, 16, first="rows"), torch.cat([rows, columns], -1).flatten(0, 1))


def test_an_odd_quarter_of_the_width_is_named():
    with pytest.raises(ConfigError, match="divides by 4, and dim=10"):
        sinusoidal_2d(2, 2, 10)


@pytest.mark.parametrize(
    ("name", "old", "new", "prefix"),
    [("4x4_to_6x6", (4, 4), (6, 6), 1), ("4x4_to_3x7", (4, 4), (3, 7), 1), ("6x6_to_4x4", (6, 6), (4, 4), 0)],
)
def test_resizing_in_timms_dialect_gives_timms_numbers(shared, name, old, new, prefix):
    tables = load_file(shared / "golden/timm/resample_abs_pos_embed.safetensors")
    resized = resize_positions(tables[f"input.{name}_prefix{prefix}"], old, new, prefix=prefix, dialect="timm")
    torch.testing.assert_close(resized, tables[f"output.{name}_prefix{prefix}"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", ["48x48", "40x24"])
def test_resizing_in_dinos_dialect_gives_dinos_numbers(shared, size):
    tables = load_file(shared / "golden/dino/dino_vit.safetensors")
    rows, columns = (int(side) // 8 for side in size.split("x"))
    ours = resize_positions(tables["weight.pos_embed"], (4, 4), (rows, columns), prefix=1, dialect="dino")
    torch.testing.assert_close(ours, tables[f"output.pos_{size}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "old", "new"), [("4to6", (4, 4), (6, 6)), ("7to5", (7, 7), (5, 5))])
def test_resizing_as_mae_does_is_the_dialect_of_transformers(shared, name, old, new):
    tables = load_file(shared / "golden/mae/pos_embed.safetensors")
    ours = resize_positions(tables[f"input.pos_embed.{name}"], old, new, prefix=1, dialect="transformers")
    torch.testing.assert_close(ours, tables[f"output.interpolated.{name}"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", ["42x42", "35x56"])
def test_resizing_as_dinov2_with_registers_does(shared, size):
    tables = load_file(shared / "golden/dinov2/dinov2_reg_layerscale.safetensors")
    rows, columns = (int(side) // 7 for side in size.split("x"))
    ours = resize_positions(tables["weight.pos_embed"], (4, 4), (rows, columns), prefix=1, dialect="dinov2-registers")
    torch.testing.assert_close(ours, tables[f"output.pos_{size}"], rtol=1e-5, atol=1e-6)


def test_the_jax_dialect_is_scipys_zoom():
    from scipy.ndimage import zoom

    table = torch.randn(1, 16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs = zoom(table.unflatten(1, (4, 4))[0].numpy(), (7 / 4, 5 / 4, 1), order=1)
    ours = resize_positions(table, (4, 4), (7, 5), prefix=0, dialect="jax").unflatten(1, (7, 5))[0]
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-12, atol=1e-12)


def test_the_dialects_differ_as_much_as_they_are_said_to():
    noise = torch.randn(1, 14 * 14, 64, generator=torch.Generator().manual_seed(0))
    resized = {name: resize_positions(noise, (14, 14), (24, 24), prefix=0, dialect=name) for name in DIALECTS}
    apart = {name: (resized[name] - resized["transformers"]).abs().mean().item() for name in DIALECTS}
    assert apart["dinov2"] == 0
    for name, distance in {"timm": 0.055, "dino": 0.049, "torchvision": 0.174, "dpt": 0.173, "jax": 0.229}.items():
        assert apart[name] == pytest.approx(distance, abs=0.012), name


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_resizing_keeps_prefix_type_and_an_unchanged_grid(dialect, dtype):
    table = torch.randn(1, 2 + 12, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert resize_positions(table, (3, 4), (3, 4), prefix=2, dialect=dialect) is table
    resized = resize_positions(table, (3, 4), (5, 2), prefix=2, dialect=dialect)
    assert resized.shape == (1, 12, 8)
    assert resized.dtype == dtype
    assert torch.equal(resized[:, :2], table[:, :2])


def test_a_table_that_is_not_the_grid_is_named():
    with pytest.raises(CheckpointError, match="17 positions do not fit a grid of 4 x 4 patches after 2 tokens"):
        resize_positions(torch.zeros(1, 17, 4), (4, 4), (5, 5), prefix=2)
    with pytest.raises(ConfigError, match="no dialect"):
        resize_positions(torch.zeros(1, 17, 4), (4, 4), (5, 5), prefix=1, dialect="tim")


def test_two_axes_are_one_table_whose_vectors_are_row_beside_column():
    axes = LearnedAxes((3, 4), 10, prefix=1)
    whole = axes((3, 4))
    assert whole.shape == (1, 13, 10)
    row, column = 2, 1
    place = whole[0, 1 + row * 4 + column]
    assert torch.equal(place, torch.cat([axes.rows[0, row], axes.columns[0, column]]))
    assert sum(p.numel() for p in axes.parameters()) == 3 * 5 + 4 * 5 + 10
    assert axes((5, 2)).shape == (1, 11, 10)


def test_learned_positions_follow_the_grid():
    positions = LearnedPositions((3, 4), 8, prefix=2, dialect="transformers")
    assert positions((3, 4)) is positions.table
    assert positions((6, 5)).shape == (1, 32, 8)


def test_sinusoidal_positions_are_computed_for_any_grid():
    positions = SinusoidalPositions((3, 4), 16, prefix=1)
    assert torch.equal(positions((2, 6))[0, 1:], sinusoidal_2d(2, 6, 16))
    assert positions((2, 6))[0, 0].abs().max() == 0
    assert not list(positions.parameters())


@pytest.mark.parametrize("grid", [(2, 3), (4, 4), (1, 5)])
def test_equal_displacements_share_a_place(grid):
    rows, columns = grid
    places = relative_places(rows, columns)
    seen = {}
    for query in range(rows * columns):
        for key in range(rows * columns):
            displacement = (query // columns - key // columns, query % columns - key % columns)
            assert seen.setdefault(displacement, places[query, key].item()) == places[query, key].item()
    assert sorted(seen.values()) == list(range((2 * rows - 1) * (2 * columns - 1)))


def test_the_relative_table_is_swins_index(shared):
    tables = load_file(shared / "golden/swin/parts.safetensors")
    assert torch.equal(relative_places(4, 4), tables["weight.attn.relative_position_index"])


def test_prefix_tokens_share_three_numbers():
    bias = RelativeBias((2, 2), heads=1, prefix=2)
    scores = bias()[0, 0]
    assert scores.shape == (6, 6)
    to_patch, from_patch, among = bias.table[-3:, 0]
    assert torch.equal(scores[:2, 2:], to_patch.expand(2, 4))
    assert torch.equal(scores[2:, :2], from_patch.expand(4, 2))
    assert torch.equal(scores[:2, :2], among.expand(2, 2))


def test_the_log_bias_is_its_formula():
    torch.manual_seed(0)
    bias = LogRelativeBias((2, 3), heads=4, hidden=5, prefix=1).double()
    scores = bias()
    for query in range(6):
        for key in range(6):
            far = (query // 3 - key // 3, query % 3 - key % 3)
            log = torch.tensor([math.copysign(math.log(1 + abs(d)), d) for d in far], dtype=torch.float64)
            hidden = (bias.expand.weight @ log + bias.expand.bias).clamp(min=0)
            expected = bias.contract.weight @ hidden + bias.contract.bias
            torch.testing.assert_close(scores[0, :, 1 + query, 1 + key], expected, rtol=1e-6, atol=1e-6)
    assert scores[0, :, 0].abs().max() == 0


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("sine_normalized", {}),
        ("sine_raw", {"length": None}),
        ("sine_temp20_scale1", {"length": 1.0, "base": 20.0}),
    ],
)
def test_counted_sinusoids_are_the_published_ones(shared, name, how):
    tensors = load_file(shared / "golden/detr/position_encodings.safetensors")
    theirs = tensors[f"output.{name}"].flatten(2).mT
    seen = Feature(tensors["input.image"], (32, 32), ~tensors["input.mask"])
    torch.testing.assert_close(CountedSinusoids(32, **how)(seen), theirs, rtol=1e-5, atol=2e-6)


def test_counted_axes_are_the_published_ones(shared):
    tensors = load_file(shared / "golden/detr/position_encodings.safetensors")
    positions = CountedAxes(50, 32)
    tables = {"rows": "row", "columns": "col"}
    positions.load_state_dict(
        {ours: tensors[f"weight.learned.{theirs}_embed.weight"] for ours, theirs in tables.items()}
    )
    ours = positions(Feature(tensors["input.image"], (32, 32))).expand(2, -1, -1)
    assert torch.equal(ours, tensors["output.learned"].flatten(2).mT)


def test_counted_sinusoids_do_not_see_the_padding_beside_a_picture():
    valid = torch.zeros(1, 6, 9, dtype=torch.bool)
    valid[:, :4, :5] = True
    padded = CountedSinusoids(16)(Feature(torch.rand(1, 1, 6, 9), (32, 32), valid)).unflatten(1, (6, 9))
    alone = CountedSinusoids(16)(Feature(torch.rand(1, 1, 4, 5), (32, 32))).unflatten(1, (4, 5))
    assert torch.equal(padded[:, :4, :5], alone)


def test_maps_that_learned_rows_do_not_reach_are_refused():
    with pytest.raises(ConfigError, match=r"4 x 6 cells, and there are learned positions for 5 rows and 5 columns"):
        CountedAxes(5, 8)(Feature(torch.rand(1, 1, 4, 6), (32, 32)))
    with pytest.raises(ConfigError, match="divides by 4, and dim=10 does not"):
        CountedSinusoids(10)
