"""How a detector is trained on somebody's own pictures, when nobody says otherwise."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vitrail import catalog
from vitrail.data.dataset import Dataset, Splits, typical_side
from vitrail.data.datasets import scenes
from vitrail.data.material import MarkedPictures
from vitrail.errors import ConfigError
from vitrail.loading import look_up
from vitrail.models.resnet import ResNetConfig
from vitrail.recipes.vit import clamp
from vitrail.tasks.detect import Detect
from vitrail.tasks.panoptic import Panoptic
from vitrail.train.optim import AdamW
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.schedules import Cosine
from vitrail.weights.formats import Loaded
from vitrail.weights.names import no_model

SEEN_FRESH, SEEN_TUNED = 60_000, 15_000  # pictures, counted each time they are seen
NMS = 0.7  # of small models, which have not learned to say each thing once; what Ultralytics' YOLO has by default
DENOISING = 5  # points near each object that training asks from, where queries are points
MASKS_ALONE = 2e-3  # rate at which masks of a small model learn on a detector that stays: faster than 5e-4
NARROW = 128  # width of a token up to which a model is one for a processor: it reads small pictures and learns fast
SMALL_SIDE = 320  # pixels of the shorter side that such a model reads, at most
JUDGED = 20  # times, about
MOST_OBJECTS = 0.9  # of the queries that the fullest picture may fill before a word is said
PUBLISHED = (800, 1333)  # pixels of the shorter side, and of the longer at most
DEFAULT_PANOPTIC = "detr-resnet-50-panoptic"
SCENES = "scenes:4000,size=120x160,objects=5"  # to learn before photographs
UNDECIDED: Mapping[str, Any] = MappingProxyType({})

Say = Callable[[str], None]


def say_numbers(data: Dataset, say: Say) -> None:
    """Print once which class of the file is which of the model."""
    numbers = getattr(data, "class_ids", ())
    if numbers and numbers != tuple(range(len(data.classes))):
        pairs = ", ".join(f"{number} {name}" for number, name in zip(numbers[:8], data.classes, strict=False))
        more = f" ... and {len(numbers) - 8} more" if len(numbers) > 8 else ""
        say(f"The numbers of the classes in the file are kept with the model: {pairs}{more}.")


def sides(data: Dataset, small: bool) -> dict[str, Any]:
    """How large pictures are read, where that is less than published; what it comes to is said with the data."""
    typical = typical_side(data)
    side = min(typical, SMALL_SIDE) if small else typical
    if side >= PUBLISHED[0]:
        return {}
    return {"shorter": side, "longer": max(round(side * PUBLISHED[1] / PUBLISHED[0]), side)}


def say_room(train: Dataset, queries: int, say: Say, *, fresh: bool, name: str = "model.queries") -> None:
    """Say where a picture has more objects than can be found."""
    most = getattr(train, "most_objects", 0)
    typed = f"--set {name}={2 * most}"
    change = f"Type {typed}, for example." if fresh else f"Weights keep theirs; from fresh ones, type {typed}."
    if most > MOST_OBJECTS * queries:
        say(
            f"The fullest picture has {most} objects, and the model {queries} queries: of more objects than queries "
            f"some cannot be found. {change}"
        )


def in_model(model: str) -> Any:
    """The configuration of a published size.

    Raises:
        ConfigError: there is no such model.
    """
    if model not in catalog.MODELS:
        raise ConfigError(no_model(model, catalog.MODELS))
    return catalog.family_of_model(model).variants[model]


def beginning(init: str | None, model: str) -> Loaded | None:
    """The weights that a model starts from; a file alone is taken for the model that is named, and not opened yet."""
    if init is None or Path(init).is_file():
        return None
    return look_up(model if init == "default" else init)


def lowest_layers(config: Any) -> tuple[str, ...]:
    """What stays as it is in fine-tuning, as published: the stem and the first stage of a ResNet with frozen norms."""
    backbone = getattr(config, "backbone", None)
    still = isinstance(backbone, ResNetConfig) and backbone.norm == "frozen"
    return ("backbone.stem*", "backbone.stages.0.*") if still else ()


def knows_no_photograph(loaded: Loaded | None, data: str) -> bool:
    """Whether weights come from the generated world, and are to learn another one."""
    return loaded is not None and loaded.card.generated and not scenes.recognises(data)


def detect(
    data: str,
    splits: Splits,
    *,
    model: str = "detr-resnet-50",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A detector on pictures with marked objects, fine-tuned where `init` gives weights and fresh otherwise.

    Run:     vitrail train detr-resnet-50 --data bccd_voc/ --init FOLDER
             vitrail train detr-tiny --data bccd_voc/
    Cost:    said before the first step, for the machine at hand
    Reached: fresh detr-tiny on BCCD's 205 pictures (data.shorter=240 data.longer=400 precision=bfloat16
             judge_every=10, 150 epochs, seed 0, commits bf9f169 and, resumed, 1684a06, one thread of an Intel Xeon with
             AMX beside other work, 87 min): AP 44.4, AP50 78.4 on the 87 of its part val, the best of 15 judgements by
             those very pictures; white cells AP50 99, red ones 79, platelets of 20 pixels 57. A hundred constant boxes,
             the likeliest of the training part, reach AP50 3.6 (benchmarks/constant_boxes.py).
             Fresh detr-tiny on 272 photographs of playing cards, 1.8 in each, as one class (60 epochs, 240 pixels, 30
             queries, bfloat16, seed 0, commit ebf33cc, one thread of an AMD EPYC beside other work, 41 min): AP 25.4,
             AP50 61.5 on the 67 of its part test, which chose nothing; thirty constant boxes 6.1.
             On 4,000 generated scenes first (12 epochs, AP 38.8 on others, 66 min), then 40 epochs of those cards
             (commands in docs/guides/objects.md, seed 0, commit 25f1f64, one thread of an Intel Xeon with AMX beside
             other work, 27 min): AP 59.8, AP50 90.5 on its part test; 61.9 and 96.5 with nms=0.7.
             From published weights: not yet verified

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
    train, config = splits.train, in_model(model)
    say_numbers(train, say)
    changed: dict[str, Any] = {"classes": len(train.classes), **changes}
    loaded, fresh, small = beginning(init, model), init is None, changed.get("dim", config.dim) <= NARROW
    anew = fresh or knows_no_photograph(loaded, data)
    if fresh and small and config.anchors and not scenes.recognises(data):
        first = f"vitrail train {model} --data {SCENES}"
        say(f"Weights that know generated scenes find objects sooner: `{first}` once, then --init with its run.")
    if anew and not fresh:
        say(f"{init} has seen generated scenes and no photograph: all of it learns, as fast as fresh weights.")
    began = config if loaded is None else loaded.config
    say_room(train, changed.get("queries", getattr(began, "queries", config.queries)), say, fresh=fresh)
    epochs = clamp((SEEN_FRESH if fresh else SEEN_TUNED) // len(train), 10, 300)
    rate = 5e-4 if anew and small else 1e-4
    return Recipe(
        model=ModelChoice(name=model, init=init, changes=changed),
        task=Detect(
            classes=train.classes,
            class_ids=getattr(train, "class_ids", ()),
            nms=NMS if small else 1.0,
            denoising=DENOISING if {"anchors": getattr(began, "anchors", False), **changes}["anchors"] else 0,
        ),
        data=MarkedPictures(path=data, batch=8 if small else 4, **(sides(train, small) if anew else {})),
        optimiser=AdamW(rate=rate, decay=1e-4, backbone=1.0 if anew else 0.1),
        schedule=Cosine(warmup=0.05 if anew else 0.02),
        epochs=epochs,
        judge_every=max(epochs // JUDGED, 1),
        freeze=() if anew else lowest_layers(began),
        clip=0.1,
        ema=0.999 if anew else None,
    )


def panoptic_of(loaded: Loaded | None) -> str:
    """The name of the panoptic model that weights are of, or that the detector which they are of grows into."""
    name = "" if loaded is None else f"{loaded.card.model.removesuffix('-panoptic')}-panoptic"
    return name if name in catalog.MODELS else DEFAULT_PANOPTIC


def panoptic(
    data: str,
    splits: Splits,
    *,
    model: str | None = None,
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """Segments of things and stuff. On a detector that finds the same classes only masks are learned, as published.

    Run:     vitrail train detr-resnet-50-panoptic --data coco-panoptic/ --init runs/detect/coco-panoptic
    Cost:    said before the first step, for the machine at hand
    Reached: on scenes:2000,size=96x128,panoptic, of which 400 others judged: detr-tiny for 8 epochs from weights that
             knew scenes (AP 41.2 of boxes around segments), then the masks for 4 epochs (1000 steps,
             optimiser.rate=2e-3, bfloat16, seed 0, the code of commit 8c5fb55, one thread of an Intel Xeon with AMX
             beside other work, about 25 min): PQ 19.3, of things 23.0, of stuff 6.9.
             On photographs: not yet verified

    Args:
        data: where the pictures are.
        splits: the pictures.
        model: a name from `vitrail models`; the panoptic one of the detector in `init`, or of DETR's, unless given.
        init: weights to start from, of a panoptic model or of a detector; `None` for fresh ones.
        changes: fields of the model's configuration that are decided already.
        say: told each guess.

    Raises:
        ConfigError: there is no such model, or the data has no segments.

    Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 4.4.
    """
    train = splits.train
    loaded = beginning(init, model or DEFAULT_PANOPTIC)
    model = model or panoptic_of(loaded)
    config = in_model(model)
    if train.task != "panoptic":
        raise ConfigError(f"{data} has no segments. `vitrail train detr-resnet-50 --data {data}` learns from boxes.")
    say_numbers(train, say)
    changed: dict[str, Any] = {"classes": len(train.classes), **changes}
    fresh, small = init is None, config.detr.dim <= NARROW
    say_room(train, config.queries, say, fresh=fresh, name="model.detr.queries")
    family = catalog.family_of_model(model)
    part = None if loaded is None else family.grows.get(loaded.family.name)
    stays = part is not None and loaded is not None and loaded.card.labels == train.classes
    if stays:
        say(f"{init} finds the same {len(train.classes)} classes: it stays as it is, and only masks are learned.")
    elif part is not None:
        say(f"{init} finds other classes, so all of it learns. A detector of these classes would stay as it is.")
    epochs = clamp((SEEN_FRESH if fresh else SEEN_TUNED) // len(train), 10, 300)
    rate = 1e-4 if not small else MASKS_ALONE if stays else 5e-4 if fresh else 1e-4
    return Recipe(
        model=ModelChoice(name=model, init=init, changes=changed),
        task=Panoptic(
            classes=train.classes,
            class_ids=getattr(train, "class_ids", ()),
            things=getattr(train, "things", ()),
            auxiliary=not stays,
        ),
        data=MarkedPictures(
            path=data, use="panoptic", batch=8 if small else 4, **(sides(train, small) if fresh else {})
        ),
        optimiser=AdamW(rate=rate, decay=1e-4, backbone=1.0 if fresh else 0.1),
        schedule=Cosine(warmup=0.05 if fresh else 0.02),
        epochs=epochs,
        judge_every=max(epochs // JUDGED, 1),
        freeze=(f"{part}.*",) if stays else (),
        clip=0.1,
        ema=0.999 if fresh else None,
    )
