"""What moves the weights: groups, layers, rates, averages, seeds and recipes, against answers known beforehand."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

import vitrail
from vitrail.core.stacks import Stack
from vitrail.data.material import Pictures
from vitrail.data.mixing import Mixing
from vitrail.errors import ConfigError
from vitrail.loading import create_model
from vitrail.tasks.classify import Classify
from vitrail.tasks.distill import Distil
from vitrail.train.ema import Average, LastAverage
from vitrail.train.optim import (
    AdamW,
    build_optimiser,
    clip,
    decays,
    freeze,
    freeze_all_but,
    gradient_norm,
    layers,
    parameter_groups,
    set_rate,
    train_mode,
)
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.recipe_text import recipe_from_json, recipe_to_json, set_path
from vitrail.train.sameness import seed_of
from vitrail.train.schedules import Cosine

TINY = {"image": 16, "patch": 8, "dim": 16, "depth": 3, "heads": 2, "mlp_dim": 32, "classes": 4}


def tiny_vit(**changes) -> nn.Module:
    return vitrail.create_model("vit-tiny-16", **TINY | changes)


# groups


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_scale": 1e-4, "registers": 2, "distillation_token": True, "distillation_head": True},
        {"position": "relative", "representation": 8},
        {"position": "axes", "pool": "mean", "norm_pooled": True},
        {"stem": (4, 8, 16), "gated": True},
    ],
    ids=str,
)
def test_weight_decay_is_for_matrices_and_for_nothing_else(changes):
    model = tiny_vit(**changes)
    pulled = decays(model)
    for name, parameter in model.named_parameters():
        table = any(word in name for word in ("token", "registers", "positions", "bias", "norm", "layer_scale"))
        matrix = parameter.ndim >= 2 and not table
        assert (name in pulled) == matrix, name
    groups = parameter_groups(model, AdamW(decay=0.3))
    assert {group["weight_decay"] for group in groups} == {0.0, 0.3}
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_layers_are_counted_as_beit_counts_them():
    depth = layers(tiny_vit(registers=1))
    for name in ("class_token", "registers", "positions.table", "patch_embed.project.weight"):
        assert depth[name] == 0
    for block in range(3):
        assert {depth[name] for name in depth if name.startswith(f"blocks.{block}.")} == {block + 1}
    for name in ("norm.weight", "head.weight", "head.bias"):
        assert depth[name] == 4


def test_layers_of_several_stacks_are_counted_through():
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(2, 2)
            self.first = Stack([nn.Linear(2, 2), nn.Linear(2, 2)])
            self.down = nn.Linear(2, 2)
            self.second = Stack([nn.Linear(2, 2)])
            self.head = nn.Linear(2, 2)

    depth = layers(Stages())
    parts = ("stem", "first.0", "first.1", "down", "second.0", "head")
    assert [depth[f"{part}.weight"] for part in parts] == [0, 1, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("gpt-mini", ["blocks.0", "blocks.1"]),
     ("transformer-tiny", ["encoder.0", "encoder.1", "decoder.0", "decoder.1"]),
     ("parallel-transformer-tiny", ["encoder.0", "encoder.1", "decoder.0", "decoder.1"])],
)  # fmt: skip
def test_layers_of_texts_are_counted_through(name, blocks):
    depths = {"depth": 2} if name == "gpt-mini" else {}
    depth = layers(create_model(name, dim=16, **depths))
    for place, block in enumerate(blocks, 1):
        assert {depth[one] for one in depth if f"{block}." in one} == {place}
    assert max(depth.values()) == len(blocks) + 1


def test_each_layer_learns_slower_than_the_one_above():
    model = tiny_vit()
    optimiser = build_optimiser(model, AdamW(rate=1.0, layer_decay=0.5))
    set_rate(optimiser, 0.8)
    rates = {name: group["lr"] for group in optimiser.param_groups for name in group["names"]}
    assert rates["head.weight"] == rates["norm.bias"] == 0.8
    assert rates["blocks.2.mlp.expand.weight"] == pytest.approx(0.8 * 0.5)
    assert rates["blocks.0.mlp.expand.bias"] == pytest.approx(0.8 * 0.5**3)
    assert rates["class_token"] == rates["patch_embed.project.weight"] == pytest.approx(0.8 * 0.5**4)


def test_without_layer_decay_all_learn_alike():
    groups = parameter_groups(tiny_vit(), AdamW())
    assert {group["scale"] for group in groups} == {1.0}


def test_a_step_is_adamws_formula():
    """Loshchilov and Hutter 2019, algorithm 2, for one matrix that decays and one bias that does not."""
    model = nn.Sequential(nn.Linear(1, 1))
    weight, bias = (parameter.item() for parameter in model.parameters())
    optimiser = build_optimiser(model, AdamW(rate=0.1, decay=0.5, betas=(0.9, 0.99), eps=1e-8))
    moments = {"w": (0.0, 0.0), "b": (0.0, 0.0)}
    for step, rate in enumerate((0.1, 0.03), 1):
        set_rate(optimiser, rate)
        optimiser.zero_grad()
        (3 * model[0].weight.sum() - 2 * step * model[0].bias.sum()).backward()
        optimiser.step()
        for key, gradient, decay in (("w", 3.0, 0.5), ("b", -2.0 * step, 0.0)):
            mean, square = moments[key]
            mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
            moments[key] = mean, square
            move = (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.99**step)) + 1e-8)
            if key == "w":
                weight = weight * (1 - rate * decay) - rate * move
            else:
                bias = bias - rate * move
    assert model[0].weight.item() == pytest.approx(weight, rel=1e-5)
    assert model[0].bias.item() == pytest.approx(bias, rel=1e-5)


def test_the_optimiser_is_fused():
    assert build_optimiser(tiny_vit(), AdamW()).defaults["fused"]


# freezing


def test_a_linear_probe_learns_its_head_and_the_rest_behaves_as_in_use():
    model = tiny_vit(drop_path=0.5, dropout=0.5)
    freeze_all_but(model, ("head.weight", "head.bias"))
    train_mode(model)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "head.weight",
        "head.bias",
    ]
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(images), model(images))  # no dropout, no stochastic depth
    assert model.head.training


def test_frozen_names_may_have_stars_and_must_exist():
    model = tiny_vit()
    freeze(model, ("blocks.0.*", "class_token"))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        name for name, _ in model.named_parameters() if name.startswith("blocks.0.") or name == "class_token"
    }
    with pytest.raises(ConfigError, match=r"freeze='bolcks.\*' matches no parameter"):
        freeze(model, ("bolcks.*",))
    freeze(model, ("*",))
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimiser(model, AdamW())


def test_frozen_weights_do_not_decay():
    model = tiny_vit()
    freeze(model, ("blocks.*",))
    before = model.blocks[0].mlp.expand.weight.clone()
    optimiser = build_optimiser(model, AdamW(rate=1.0, decay=1.0))
    model(torch.rand(2, 3, 16, 16)).sum().backward()
    optimiser.step()
    assert torch.equal(model.blocks[0].mlp.expand.weight, before)


# clipping


def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one():
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    norm = gradient_norm(model)
    assert norm == pytest.approx(5)
    clip(model, norm, 10.0)
    assert gradient_norm(model) == pytest.approx(5)
    clip(model, norm, 1.0)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[0.6, 0.0]]))
    clip(model, 1.0, None)
    assert gradient_norm(model) == pytest.approx(1)


# schedule


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine():
    schedule = Cosine(warmup=0.1, floor=0.2)
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert torch.tensor(factors[:11]).diff().std() < 1e-6
    assert factors[10] == max(factors) == 1
    assert factors[55] == pytest.approx((1 + 0.2) / 2)
    assert factors[100] == pytest.approx(0.2)
    assert all(later < earlier for earlier, later in pairwise(factors[10:]))
    assert Cosine(warmup=0.0).factor(0, 1) == 1
    with pytest.raises(ConfigError, match=r"schedule.warmup=5 must be at least 0 and at most 1"):
        Cosine(warmup=5)


# averages


def test_the_mean_of_the_last_weights_comes_back_to_the_last_bit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, seen = LastAverage(model, 3), []
    for step in (4, 8, 12, 16, 20):
        with torch.no_grad():
            model[0].weight += torch.randn(2, 3)
            model[1].num_batches_tracked += 1
        seen.append(model[0].weight.detach().clone())
        average.gather(model, step)
        average.gather(model, step)  # a judgement that was interrupted is made again
    torch.testing.assert_close(average.model[0].weight, sum(seen[2:]) / 3)
    assert average.model[1].num_batches_tracked == 5
    again = LastAverage(model, 3)
    again.restore(dict(reversed(average.tensors().items())))  # files have an order of their own
    assert again.model[0].weight.equal(average.model[0].weight)
    again.gather(model, 24)
    average.gather(model, 24)
    assert again.model[0].weight.equal(average.model[0].weight)


def test_the_average_is_the_recursion_and_begins_fast():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, decay = Average(model, 0.9), 0.9
    expected = model[0].weight.detach().clone().double()
    for step in range(1, 200):
        with torch.no_grad():
            model[0].weight += torch.randn(2, 3)
            model[1].running_mean += 1
        average.update(model, step)
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * model[0].weight.detach().double()
    torch.testing.assert_close(average.model[0].weight, expected.float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


# seeds


def test_seeds_depend_on_every_part_of_their_key_and_on_nothing_else():
    keys = [(0, "step", 1, 0), (1, "step", 0, 0), (0, "step", 10, 0), (0, "step", 1, 1), (0, "task", 1, 0)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    code = "from vitrail.train.sameness import seed_of; print(seed_of(3, 'step', 4, 5))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == seed_of(3, "step", 4, 5)


# recipes


def recipe(**changes) -> Recipe:
    return replace(
        Recipe(
            model=ModelChoice(name="vit-tiny-16", changes={"image": 32, "patch": 8}),
            task=Classify(classes=("a", "b"), smoothing=0.1, weights=(1.0, 2.0)),
            data=Pictures(path="pictures", mixing=Mixing(mixup=0.2)),
        ),
        **changes,
    )


@pytest.mark.parametrize(
    "one",
    [
        recipe(),
        recipe(ema=0.99, steps=50, freeze=("blocks.*", "norm.*"), clip=None, patience=3),
        recipe(task=Distil(classes=("a", "b"), teacher="runs/classify/teacher", how="soft")),
    ],
)
def test_a_recipe_comes_back_from_json_as_it_was(one):
    assert recipe_from_json(json.loads(recipe_to_json(one))) == one


def test_a_bound_teacher_is_not_written_down():
    task = replace(Distil(classes=("a", "b"), teacher="runs/x"), network=lambda inputs: inputs)
    assert "network" not in json.loads(recipe_to_json(recipe(task=task)))["task"]


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("optimiser.rate", "1e-4", 1e-4),
        ("optimiser.betas", "0.9,0.95", (0.9, 0.95)),
        ("epochs", "7", 7),
        ("ema", "none", None),
        ("ema", "0.99", 0.99),
        ("keep", "last", "last"),
        ("data.balanced", "true", True),
        ("data.mixing", "none", None),
        ("data.mixing.cutmix", "0.5", 0.5),
        ("data.augment.scale", "[0.5, 1]", (0.5, 1)),
        ("data.augment.randaugment", "rand-m5-mstd0.5-inc1", "rand-m5-mstd0.5-inc1"),
        ("task.smoothing", "0", 0),
        ("task.weights", "1,5", (1, 5)),
        ("freeze", "blocks.*", ("blocks.*",)),
        ("freeze", "blocks.0.*,class_token", ("blocks.0.*", "class_token")),
        ("model.init", "default", "default"),
        ("data.path", "2024", "2024"),
    ],
)
def test_a_typed_value_gets_the_type_of_its_field(path, text, value):
    found = set_path(recipe(), path, text)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value) or isinstance(value, int)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("image", "48", 48), ("image", "48,32", (48, 32)), ("drop_path", "0.2", 0.2), ("pool", "mean", "mean")],
)
def test_fields_of_the_model_are_set_below_model(name, text, value):
    assert set_path(recipe(), f"model.{name}", text).model.changes[name] == value


def test_a_part_that_is_off_is_switched_on_by_setting_what_is_in_it():
    without = replace(recipe(), data=Pictures(path="pictures"))
    assert set_path(without, "data.mixing.mixup", "0.3").data.mixing == Mixing(mixup=0.3)


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("optimizer.rate", "1", "no field called 'optimizer'. Did you mean optimiser"),
        ("optimiser.rte", "1", "no field called 'rte'. Did you mean rate"),
        ("optimiser.rate", "fast", "optimiser.rate=fast is not a number"),
        ("optimiser.rate", "-1", "optimiser.rate=-1 must be above 0"),
        ("optimiser", "adam", "--set optimiser=adam: optimiser has fields of its own: rate, decay"),
        ("epochs", "1.5", "epochs=1.5 is not a whole number"),
        ("keep", "worst", "keep=worst is not one of 'best', 'last'"),
        ("epochs.count", "1", "epochs has no fields of its own"),
        ("model.imagee", "32", "no field called 'imagee'. Did you mean image"),
        ("model.image", "big", "model.image=big is not a whole number"),
        ("task.classes.0", "x", "classes has no fields of its own"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(path, text, sentence):
    with pytest.raises(ConfigError) as refused:
        set_path(recipe(), path, text)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": "many"}, "recipe.epochs='many' is not a whole number"),
        ({"_target_": "os.system"}, "no field called '_target_'"),
        ({"task": {"name": "os.system"}}, "no task called 'os.system'"),
        ({"task": "classify"}, "recipe.task"),
        ({"data": {"path": "x", "batch": 0}}, "batch=0 must be at least 1"),
        ({"model": {}}, "recipe.model"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
    ],
    ids=str,
)
def test_a_recipe_file_that_makes_no_sense_is_refused(change, sentence):
    values = json.loads(recipe_to_json(recipe())) | change
    with pytest.raises(ConfigError) as refused:
        recipe_from_json(values)
    assert sentence in str(refused.value)
