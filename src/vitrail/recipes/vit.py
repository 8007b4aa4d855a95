"""How a classifier is trained on somebody's own pictures, when nobody says otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from vitrail import catalog
from vitrail.data.dataset import Dataset, Splits, typical_side
from vitrail.data.material import Pictures
from vitrail.data.mixing import Mixing
from vitrail.data.transforms import Augment
from vitrail.errors import ConfigError, many
from vitrail.tasks.classify import Classify
from vitrail.train.optim import AdamW
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.schedules import Cosine
from vitrail.weights.names import no_model

LEAST_GRID = 7  # patches along a side below which a picture is too coarse to be read
SEEN_FRESH, SEEN_TUNED = 200_000, 20_000  # pictures, counted each time they are seen

UNDECIDED: Mapping[str, Any] = MappingProxyType({})

Say = Callable[[str], None]


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def size_for(config: Any, side: int, given: Mapping[str, Any] = UNDECIDED) -> dict[str, int]:
    """The image size, and the patch size, for pictures that are smaller than what a model was published for.

    Reading them enlarged would cost much and show nothing. Patches become smaller too where there would be fewer
    than 7 x 7 of them.

    Args:
        config: of a model that reads squares.
        side: of a typical picture, pixels.
        given: fields that the person has decided.

    Returns:
        The fields to change; none where the pictures are large enough.
    """
    published, patch = config.size[0], given.get("patch", config.patch_size[0])
    if len({*config.size}) > 1 or not isinstance(patch, int) or side >= published:
        return {}
    convolutions = given.get("stem", config.stem) or given.get("backbone", config.backbone)  # decide the patch
    free = "patch" not in given and not convolutions
    while free and side < LEAST_GRID * patch and patch % 2 == 0:
        patch //= 2
    fitting = {"image": max(side // patch, 1) * patch} | ({"patch": patch} if free else {})
    return {name: value for name, value in fitting.items() if name not in given}


def fit_to_size(config: Any, given: Mapping[str, Any], say: Say) -> dict[str, int]:
    """The patch for the image size that the person has decided, with a guess said."""
    asked = given["image"]
    fitting = size_for(config, asked if isinstance(asked, int) else min(asked), given)
    if fitting.get("patch", config.patch) != config.patch:
        say(
            f"Patches of {config.patch} pixels would be few in so small a picture, so they are of {fitting['patch']} "
            f"(--set model.patch={config.patch} keeps them)."
        )
    return fitting


def fit_to_pictures(config: Any, data: Dataset, given: Mapping[str, Any], say: Say) -> dict[str, int]:
    """The image, and the patch where the person has not decided it, for pictures of this size, with each guess said."""
    side = typical_side(data)
    fitting = size_for(config, side, given)
    if fitting:
        patch = fitting.get("patch", given.get("patch", config.patch))
        otherwise = " ".join(f"--set model.{name}={getattr(config, name)}" for name in fitting)
        say(
            f"The shorter side of the pictures is about {side} pixels, so the model reads {fitting['image']} x "
            f"{fitting['image']} in patches of {patch}. Published: {config.image} in patches of {config.patch} "
            f"({otherwise})."
        )
    return fitting


def fit_to_convolutions(config: Any, data: Dataset, given: Mapping[str, Any], say: Say) -> dict[str, int]:
    """The image, of a model without patches, for pictures smaller than it was published for, with the guess said."""
    side, step = typical_side(data), config.strides[-1]
    if "image" in given or len({*config.size}) > 1 or side >= config.size[0]:
        return {}
    image = max(side // step, 1) * step
    say(
        f"The shorter side of the pictures is about {side} pixels, so the model reads {image} x {image}. Published: "
        f"{config.image} (--set model.image={config.image})."
    )
    return {"image": image}


def model_changes(model: str, data: Dataset, *, fresh: bool, given: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """What must be otherwise than published for this data, with each guess said."""
    config = catalog.family_of_model(model).variants[model]
    known = {field.name for field in fields(config)}
    changes: dict[str, Any] = {"classes": len(data.classes), "drop_path": 0.1}
    if data.channels != 3:
        changes["channels"] = data.channels
        if "channels" not in given:
            say(f"The pictures have {many(data.channels, 'channel')}; so does the model's stem.")
    if fresh and {"image", "patch", "stem"} <= known:
        changes |= fit_to_size(config, given, say) if "image" in given else fit_to_pictures(config, data, given, say)
    if fresh and "image" in known and "patch" not in known and hasattr(config, "strides"):
        changes |= fit_to_convolutions(config, data, given, say)
    return {**{name: value for name, value in changes.items() if name in known}, **given}


def classify(
    data: str,
    splits: Splits,
    *,
    model: str = "vit-small-16",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A classifier on labelled pictures, fine-tuned where `init` gives weights and fresh otherwise.

    Run:     vitrail train vit-small-16 --data flowers5/ [--init default]
    Cost:    said before the first step, for the machine at hand
    Reached: fresh vit-tiny-16 on 2,167 pictures of 5 flowers (128 pixels, 92 epochs, seed 0, commit 8b044ca, one thread
             of an AMD EPYC, 2 h 42 min at lowest priority): top-1 0.649 on 430 others, the best of 92 judgements by
             those very pictures; 0.644 at the end. Fine-tuning from published weights: not yet verified

    Args:
        data: where the pictures are.
        splits: the pictures.
        model: a name from `vitrail models`.
        init: weights to start from; `None` for fresh ones.
        changes: fields of the model's configuration that are decided already.
        say: told each guess.

    Raises:
        ConfigError: there is no such model.
    """
    if model not in catalog.MODELS:
        raise ConfigError(no_model(model, catalog.MODELS))
    train = splits.train
    task = Classify(classes=train.classes, smoothing=0.0 if train.multi_label else 0.1, multi_label=train.multi_label)
    changed = model_changes(model, train, fresh=init is None, given=changes, say=say)
    choice = ModelChoice(name=model, init=init, changes=changed)
    batch = clamp(len(train) // 10, 4, 32)
    if init is None:
        return Recipe(
            model=choice,
            task=task,
            data=Pictures(
                path=data,
                batch=batch,
                augment=Augment(scale=(0.25, 1.0), randaugment="rand-m7-mstd0.5-inc1"),
                mixing=None if train.multi_label else Mixing(mixup=0.2, cutmix=1.0, chance=0.5),
            ),
            optimiser=AdamW(rate=5e-4, decay=0.05),
            schedule=Cosine(warmup=0.1),
            epochs=clamp(SEEN_FRESH // len(train), 20, 100),
            ema=0.998,
        )
    return Recipe(
        model=choice,
        task=task,
        data=Pictures(path=data, batch=batch, augment=Augment(scale=(0.35, 1.0))),
        optimiser=AdamW(rate=2e-4, decay=0.05, layer_decay=0.75),
        schedule=Cosine(warmup=0.1),
        epochs=clamp(SEEN_TUNED // len(train), 5, 20),
    )
