"""How a classifier is trained on somebody's own pictures, when nobody says otherwise."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from statistics import median
from typing import Any

from vitrail import catalog
from vitrail.data.dataset import Dataset, Splits
from vitrail.data.mixing import Mixing
from vitrail.data.transforms import Augment
from vitrail.errors import ConfigError, unknown
from vitrail.tasks.classify import Classify
from vitrail.train.optim import AdamW
from vitrail.train.recipe import ModelChoice, Pictures, Recipe
from vitrail.train.schedules import Cosine

LOOKED_AT = 64  # pictures whose size is read before the model's is chosen
LEAST_GRID = 7  # patches along a side below which a picture is too coarse to be read
SEEN_FRESH, SEEN_TUNED = 200_000, 20_000  # pictures, counted each time they are seen
UNEVEN = 5  # how much more frequent the largest class must be for a hint

Say = Callable[[str], None]


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def typical_side(dataset: Dataset) -> int:
    """The shorter side of a typical picture, in pixels; only headers are read."""
    stride = max(1, len(dataset) // LOOKED_AT)
    return int(median(min(dataset[index].picture.size) for index in range(0, len(dataset), stride)))


def size_for(config: Any, side: int) -> dict[str, int]:
    """The image size, and the patch size, for pictures that are smaller than what a model was published for.

    Reading them enlarged would cost much and show nothing. Patches become smaller too where there would be fewer
    than 7 x 7 of them.

    Args:
        config: of a model that reads squares.
        side: of a typical picture, pixels.

    Returns:
        The fields to change; none where the pictures are large enough.
    """
    published, patch = config.size[0], config.patch_size[0]
    if len({*config.size}) > 1 or len({*config.patch_size}) > 1 or side >= published:
        return {}
    if config.stem:  # its convolutions decide the patch
        return {"image": max(side // patch, 1) * patch}
    while side < LEAST_GRID * patch and patch % 2 == 0:
        patch //= 2
    return {"image": max(side // patch, 1) * patch, "patch": patch}


def model_changes(model: str, data: Dataset, *, fresh: bool, say: Say) -> dict[str, Any]:
    """What must be otherwise than published for this data, with each guess said."""
    if model not in catalog.MODELS:
        raise ConfigError(unknown("model", model, catalog.MODELS))
    config = catalog.family_of_model(model).variants[model]
    known = {field.name for field in fields(config)}
    changes: dict[str, Any] = {"classes": len(data.classes), "drop_path": 0.1}
    if data.channels != 3:
        changes["channels"] = data.channels
        say(f"The pictures have {data.channels} channel{'s' if data.channels > 1 else ''}; so does the model's stem.")
    if fresh and {"image", "patch", "stem"} <= known:
        side = typical_side(data)
        fitting = size_for(config, side)
        if fitting:
            say(
                f"The pictures are about {side} pixels high and wide, so the model reads {fitting['image']} x "
                f"{fitting['image']} in patches of {fitting.get('patch', config.patch)}. Published: "
                f"{config.image} in patches of {config.patch} (--set model.image={config.image} "
                f"--set model.patch={config.patch})."
            )
        changes |= fitting
    return {name: value for name, value in changes.items() if name in known}


def hint_at_imbalance(data: Dataset, say: Say) -> None:
    """Say when some classes are much rarer than others."""
    if data.multi_label:
        return
    counts = Counter(label for label in data.labels() if isinstance(label, int))
    most, least = max(counts.values()), min(counts.values())
    if most > UNEVEN * least:
        common, rare = (data.classes[counts.most_common()[place][0]] for place in (0, -1))
        say(f"{common!r} has {most} pictures and {rare!r} {least}. --set data.balanced=true shows all equally often.")


def classify(
    data: str, splits: Splits, *, model: str = "vit-small-16", init: str | None = None, say: Say = print
) -> Recipe:
    """A classifier on labelled pictures, fine-tuned where `init` gives weights and fresh otherwise.

    Run:     vitrail train vit-small-16 --data flowers5/ [--init default]
    Cost:    said before the first step, for the machine at hand
    Reached: not yet verified

    Args:
        data: where the pictures are.
        splits: the pictures.
        model: a name from `vitrail models`.
        init: weights to start from; `None` for fresh ones.
        say: told each guess.
    """
    train = splits.train
    hint_at_imbalance(train, say)
    task = Classify(classes=train.classes, smoothing=0.0 if train.multi_label else 0.1, multi_label=train.multi_label)
    choice = ModelChoice(name=model, init=init, changes=model_changes(model, train, fresh=init is None, say=say))
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
