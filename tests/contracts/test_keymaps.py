"""Key maps are total and reversible, for every format of every family, byte for byte."""

import fnmatch
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from vitrail import catalog
from vitrail.errors import CheckpointError
from vitrail.models.resnet import ResNet, ResNetConfig
from vitrail.models.vit import VARIANTS, ViT, ViTConfig
from vitrail.models.vit_formats import FAMILY
from vitrail.weights.configs import disagreements
from vitrail.weights.keymap import Again, Alias, Ignore, Join, KeyMap, Rearrange, Rename, Split, Tie, within

FAMILIES = [catalog.load(entry) for entry in catalog.FAMILIES.values()]
FORMATS = [
    pytest.param(family, number, id=f"{family.name}-{number}-{'|'.join(format.architectures[:1]) or format.library}")
    for family in FAMILIES
    for number, format in enumerate(family.formats)
]


def numbers(*shape: int) -> Tensor:
    """A tensor no two of whose numbers are alike."""
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("rule", "foreign"),
    [
        (Rename("a.{i}.{p}", "b.{i}.{p}"), {"a.0.weight": numbers(2, 3), "a.11.bias": numbers(4)}),
        (Split("qkv.{p}", ("q.{p}", "k.{p}", "v.{p}")), {"qkv.weight": numbers(6, 2), "qkv.bias": numbers(6)}),
        (Split("qkv", ("q", "k", "v"), transposed=True), {"qkv": numbers(2, 6)}),
        (Join(("gate.{i}", "up.{i}"), "both.{i}"), {"gate.0": numbers(3, 2), "up.0": numbers(3, 2) + 6}),
        (Rearrange("kernel", "weight", "dim heads width -> (heads width) dim"), {"kernel": numbers(5, 2, 3)}),
        (Rearrange("kernel", "weight", "dim classes -> classes dim"), {"kernel": numbers(5, 2)}),
        (Tie(("embed", "decode"), "table"), {"embed": numbers(3, 2), "decode": numbers(3, 2)}),
        (Rename("{rest}.x", "{rest}.y"), {"a.b.c.x": numbers(2)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_rule_reads_and_writes_the_same_bytes(rule, foreign):
    table = KeyMap([rule])
    assert same(table.write(table.read(foreign), {"heads": 2}), foreign)


def test_a_split_gives_each_part_its_own_rows():
    ours = KeyMap([Split("qkv", ("q", "k", "v"))]).read({"qkv": numbers(6, 2)})
    assert torch.equal(ours["k"], numbers(6, 2)[2:4])


def test_a_transposed_split_gives_each_part_its_own_columns():
    ours = KeyMap([Split("qkv", ("q", "k", "v"), transposed=True)]).read({"qkv": numbers(2, 6)})
    assert torch.equal(ours["k"], numbers(2, 6)[:, 2:4].T)


def test_what_a_file_holds_twice_is_compared_and_written_once():
    table = KeyMap([Rename("m.words", "words"), Again("m.decoder", "m.words")])
    assert table.read({"m.words": numbers(3, 2), "m.decoder": numbers(3, 2)}).keys() == {"words"}
    assert table.write({"words": numbers(3, 2)}).keys() == {"m.words"}
    inside = KeyMap(within("big.", table.rules))
    assert inside.read({"big.m.words": numbers(1), "big.m.decoder": numbers(1)}).keys() == {"words"}


def test_a_rearrangement_moves_axes_where_it_says():
    kernel = numbers(5, 2, 3)
    ours = KeyMap([Rearrange("kernel", "weight", "dim heads width -> (heads width) dim")]).read({"kernel": kernel})
    assert ours["weight"][1 * 3 + 2, 4] == kernel[4, 1, 2]


def test_what_is_ignored_says_why_and_is_rebuilt():
    rebuild = Ignore("index.{i}", "it is computed", lambda ours: {"index.0": ours["table"].argsort()})
    table = KeyMap([Rename("table", "table"), rebuild])
    foreign = {"table": numbers(4), "index.0": torch.arange(4)}
    assert table.ignored(foreign) == {"index.0": "it is computed"}
    assert table.read(foreign).keys() == {"table"}
    assert same(table.write(table.read(foreign)), foreign)


def test_an_old_spelling_is_read_and_the_new_one_written():
    table = KeyMap([Alias("gamma.{i}", "weight.{i}"), Rename("weight.{i}", "scale.{i}")])
    assert table.write(table.read({"gamma.3": numbers(2)})).keys() == {"weight.3"}


def test_rules_move_into_a_larger_model():
    rules = (Alias("old", "new"), Rename("new", "x"), Tie(("a", "b"), "c"))
    table = KeyMap(within("vit.", rules))
    assert table.read({"vit.old": numbers(1), "vit.a": numbers(2), "vit.b": numbers(2)}).keys() == {"x", "c"}


@pytest.mark.parametrize(
    ("rules", "foreign", "sentence"),
    [
        ([Rename("a", "b")], {"a": 1, "z": 1}, "1 of 2 tensors have no meaning in this model: z"),
        ([Rename("a.{i}", "b")], {"a.0": 1, "a.1": 1}, "Two tensors of the file mean b"),
        ([Alias("old", "a"), Rename("a", "b")], {"a": 1, "old": 1}, "holds 'a' twice"),
        ([Split("a", ("q", "k", "v"))], {"a": 4}, r"shape \(4,\), which does not split into 3"),
        ([Join(("a", "b"), "c")], {"a": 1}, "'a' is there, but b, which belongs with it, is not"),
        ([Join(("a", "b"), "c")], {"a": 1, "b": 2}, "should be alike"),
        ([Tie(("a", "b"), "c")], {"a": 1, "b": 2}, "differ in the file"),
        ([Rearrange("a", "b", "x y -> y x")], {"a": 3}, "expected axes x y"),
        ([Rename("a", "c"), Again("b", "a")], {"a": 1, "b": 2}, "a and b are one tensor in this model, and differ"),
        ([Rename("a", "c"), Again("b", "a")], {"b": 2}, "a and b are one tensor in this model, and differ"),
        ([Split("a", ("q", "k"), transposed=True)], {"a": 4}, r"shape \(4,\), which does not split into 2"),
    ],
)
def test_a_file_that_a_table_cannot_read_is_a_sentence(rules, foreign, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        KeyMap(rules).read({name: numbers(length) for name, length in foreign.items()})


def test_what_the_foreign_format_has_no_place_for_is_a_sentence():
    with pytest.raises(CheckpointError, match="no place for 1 of 2 tensors: extra"):
        KeyMap([Rename("a", "b")]).write({"b": numbers(1), "extra": numbers(1)})


def filled(template: str) -> str:
    """A name that a template of a rule means."""
    return template.format(i="3", j="1", p="weight", rest="some.thing")


@pytest.mark.parametrize(("family", "number"), FORMATS)
def test_every_name_of_a_table_is_claimed_by_one_rule_on_either_side(family, number):
    table = family.formats[number].keymap
    for template in (name for rule in table.rules for name in rule.foreign):
        assert len(table.claims(filled(template))) == 1, template
    ours = [filled(name) for rule in table.rules for name in rule.ours]
    assert len(ours) == len(set(ours))
    for alias in table.aliases:
        assert table.spelled(filled(alias.old)) != filled(alias.old)
    for rule in table.rules:
        assert not isinstance(rule, Ignore) or rule.reason


def small(config: ViTConfig) -> ViTConfig:
    """The same kind of model in a size that is made at once."""
    heads = 2
    dim, mlp_dim = 24, 64 if config.gated else 48
    patch = 2 ** len(config.stem) if config.stem else 4
    patch = patch if config.backbone is None else config.backbone.stride
    return replace(
        config,
        dim=dim,
        heads=heads,
        mlp_dim=mlp_dim,
        depth=2,
        classes=config.classes and 3,
        image=4 * patch,
        patch=patch,
    )


@cache
def kinds() -> list[ViTConfig]:
    """Every kind of model that the variants are, and what published relatives of them vary."""
    plain = VARIANTS["vit-base-16"]
    large = ("vit-base-hybrid", "vit-large-hybrid")  # whose backbones are of no other kind than those of the small ones
    found = [small(config) for name, config in VARIANTS.items() if not name.startswith(large)]
    found += [
        small(replace(plain, **fields))
        for fields in (
            {"classes": 0},
            {"classes": 0, "representation": 24},
            {"representation": 10},
            {"bias": False},
            {"pool": "mean"},
            {"pool": "mean", "norm_pooled": True},
            {"pool": "mean", "norm_pooled": True, "gated": True},
            {"gated": True, "layer_scale": 1e-5},
            {"registers": 4},
            {"registers": 4, "positions_for": "patches", "layer_scale": 1e-5},
            {"class_token": False, "pool": "mean", "position": "none"},
            {"class_token": False, "pool": "mean", "position": "relative-log"},
            {"position": "relative", "norm": "branch"},
            {"distillation_token": True},
            {"distillation_token": True, "classes": 0},
            {"stem": (4, 8), "patch": 4, "stem_last": "bias"},
            {"channels": 1, "activation": "gelu-tanh"},
        )
    ]
    for name in ("dinov2-base-14", "dinov2-base-registers-14", "dinov2-giant-14"):
        for fields in ({"mask_token": True}, {"mask_token": True, "classes": 0, "pool": "class"}):
            found.append(small(replace(VARIANTS[name], **fields)))
            found.append(small(replace(VARIANTS[name], gated=True, **fields)))
    return list(dict.fromkeys(found))


@cache
def tensors_of(config: ViTConfig) -> dict[str, Tensor]:
    """The tensors of a model of that configuration."""
    return dict(ViT(config).state_dict())


@pytest.mark.parametrize("number", range(len(FAMILY.formats)))
def test_every_kind_of_vit_that_fits_a_format_is_written_and_read_back(number):
    """Total on our side: each of our tensors is written. Reversible: the same bytes come back, under the same names."""
    format = FAMILY.formats[number]
    written = 0
    for config in kinds():
        try:
            if format.write_config is not None and format.misfits(replace(config, eps=1e-6)):
                continue
            tensors = tensors_of(config)
            foreign = format.keymap.write(tensors, {"heads": config.heads})
        except CheckpointError:
            assert format.write_config is None, "a format that fits writes every tensor"
            continue
        assert same(format.keymap.read(foreign), tensors)
        written += 1
    assert written, "nothing fits this format"


@pytest.mark.parametrize("number", [n for n, one in enumerate(FAMILY.formats) if one.write_config is not None])
def test_every_config_that_fits_a_format_is_written_and_read_back(number):
    format = FAMILY.formats[number]
    for plain in kinds():
        config = replace(plain, eps=format.defaults["eps"], dialect=format.defaults["dialect"])
        if format.misfits(config):
            continue
        shapes = {name: tuple(tensor.shape) for name, tensor in format.keymap.write(tensors_of(plain)).items()}
        again = ViTConfig(**format.read_config(format.write_config(config) | {"num_labels": config.classes}, shapes))
        if config.positioned == again.positioned:
            again = replace(again, positions_for=config.positions_for)  # without registers, the same said otherwise
        if config.position == "none" or config.position.startswith("relative"):
            again = replace(again, positions_for=config.positions_for)
        assert again == config


def test_the_heads_of_a_family_are_names_of_its_models():
    for family in FAMILIES:
        if not family.heads:
            continue
        config = family.change(next(iter(family.variants.values())), {"classes": 3})
        with torch.device("meta"):
            names = set(family.build(config).state_dict())
        assert fnmatch.filter(names, family.heads[0])


def test_shapes_tell_what_a_config_says():
    """What a bare file is taken for agrees with what made it, for every kind of model."""
    for config in kinds():
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(config).items()}
        guess = {name: getattr(config, name) for name in ViTConfig.__dataclass_fields__}
        told = FAMILY.infer(
            shapes, guess | {"dim": 1, "depth": 1, "mlp_dim": 1, "classes": 1, "patch": 1, "channels": 9}
        )
        assert [*disagreements(config, told)] == []


RESNETS = [
    ResNetConfig(block=block, layers=(2, 1, 1, 1), stem=stem, widths=(2, 3, 4, 5), classes=classes, norm=norm)
    for block in ("basic", "bottleneck")
    for stem, classes, norm in ((64, 3, "batch"), (8, 3, "frozen"), (64, 0, "batch"))
]


@pytest.mark.parametrize("config", RESNETS, ids=lambda config: f"{config.block}-{config.norm}-{config.classes}")
def test_every_resnet_that_fits_a_format_is_written_and_read_back(config):
    resnet = catalog.load(catalog.FAMILIES["resnet"])
    tensors = dict(ResNet(config).state_dict())
    told = resnet.infer({name: tuple(tensor.shape) for name, tensor in tensors.items()}, {})
    assert {name: value for name, value in told.items() if getattr(config, name) != value} == {}
    fitting = [one for one in resnet.formats if one.write_config is None or not one.misfits(config)]
    assert fitting
    for format in fitting:
        assert same(format.keymap.read(format.keymap.write(tensors)), tensors)
        if format.write_config is not None:
            again = format.read_config(format.write_config(config) | {"num_labels": config.classes}, {})
            same_kind = replace(config, norm="batch")  # that norms are frozen is not said in a foreign folder
            assert replace(same_kind, **{name: value for name, value in again.items() if name != "widths"}) == same_kind
            assert tuple(again["widths"]) == config.widths
