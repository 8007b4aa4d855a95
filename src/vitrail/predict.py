"""Pictures in, answers out: preprocessing, model and task, put together once and called often."""

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vitrail import catalog
from vitrail.core.devices import fastest_device, usable_device
from vitrail.core.memory import keep_freed_memory
from vitrail.core.packing import packed
from vitrail.core.precision import fast_float32
from vitrail.core.tokens import Tokens
from vitrail.data.files import is_picture_name, pictures_below
from vitrail.data.images import ImageFile, PictureArray
from vitrail.data.open import open_dataset
from vitrail.errors import CheckpointError, ConfigError, DataError, ExplanationError, ImageError, unknown
from vitrail.explain.attention import Head, Look, Point, detector_in, look
from vitrail.explain.evidence import Evidence, evidence, find_class
from vitrail.explain.faithfulness import Pointing, as_read, pointing
from vitrail.explain.objects import (
    MOST,
    ObjectLook,
    ObjectSheet,
    detector,
    evidence_of_query,
    look_for_objects,
    with_threshold,
)
from vitrail.explain.recording import Layers
from vitrail.geometry.placement import Placement
from vitrail.loading import from_pretrained, say
from vitrail.pixels import MODES, channels_first
from vitrail.predict_texts import OnError, TextPredictor, check_asked, described
from vitrail.preprocessing import Prepared, Preprocessing
from vitrail.samples import Picture
from vitrail.tasks.task import Task
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.card import Card, classes_of
from vitrail.weights.hub import is_id
from vitrail.weights.nearby import is_place, nothing_at
from vitrail.words.predictor import WordPredictor, vectors_at

Shown = Picture | Tensor  # a tensor where a picture has channels that no picture file has
Images = Any  # a path, folder or pattern; a Pillow image, array or tensor; a Picture; or an iterable of these
BARE = (".safetensors", ".pt", ".pth", ".bin", ".npz")  # files of weights
READERS = min(8, os.cpu_count() or 1)  # threads that decode the pictures of a batch


@runtime_checkable
class Embeds(Protocol):
    """A model that can say what it knows of a picture before it names it."""

    def encode(self, images: Tensor) -> Tokens: ...

    def pool(self, tokens: Tokens) -> Tensor: ...


def files_at(path: Path) -> list[Path]:
    """The pictures that a path means: itself, all in and below a folder, or whatever matches a pattern.

    Raises:
        DataError: there are none.
    """
    if path.is_dir():
        found = list(pictures_below(path))
        if not found:
            raise DataError(f"There are no pictures in {path}.")
        return found
    if glob.has_magic(str(path)) and not path.exists():
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        found = [file for match in matches for file in (pictures_below(match) if match.is_dir() else [match])]
        if not found:
            raise DataError(f"No picture matches {path}.")
        return found
    return [path]


def from_memory(pixels: Image.Image | np.ndarray | Tensor) -> list[Shown]:
    """One picture, or each of a batch: uint8 arrays end with the channels, uint8 tensors put them before the rows."""
    if isinstance(pixels, Image.Image):
        return [PictureArray(pixels)]
    if pixels.ndim == 4:
        return [picture for one in pixels for picture in from_memory(one)]
    whole = channels_first(pixels)
    return [PictureArray(whole) if whole.shape[0] in MODES else whole]


def pictures(images: Images) -> Iterator[Shown]:
    """The pictures that somebody means, one by one and in their order; files are not opened yet.

    Args:
        images: a path, a folder (all pictures in and below it, by name), a pattern with `*`; a Pillow image; a uint8
            array (rows, columns, channels) or tensor (channels, rows, columns), or a batch of them; a `Picture`; or
            any iterable of these.

    Raises:
        DataError: a folder without pictures, or a pattern that matches none.
        ConfigError: something else.
    """
    if isinstance(images, str) and not images.strip():
        raise DataError("No picture was named: the path is empty.")
    if isinstance(images, str | os.PathLike):
        yield from map(ImageFile, files_at(Path(images)))
    elif isinstance(images, Image.Image | np.ndarray | Tensor):
        yield from from_memory(images)
    elif isinstance(images, Picture):
        yield images
    elif isinstance(images, Iterable):
        for one in images:
            yield from pictures(one)
    else:
        raise ConfigError(
            f"{type(images).__name__} is no picture. Give a path, a folder, a pattern, a Pillow image, a uint8 array "
            f"or tensor, or a list of these."
        )


def in_groups(items: Iterable[Shown], size: int) -> Iterator[list[Shown]]:
    """So many at a time; the last group may be smaller."""
    items = iter(items)
    while group := list(itertools.islice(items, size)):
        yield group


class Predictor:
    """A model that is shown pictures. Several threads may use one.

    Args:
        model: with its card. It is put into eval mode.
        device: where it runs; where it is unless given.
        fast: compute float32 on a processor by its fastest kernels, with the same numbers within rounding, and where
            the model reads all pictures in one size, keep memory that is freed for the next ones (`core.memory`; for
            the rest of the process). What is explained is always the plain model.
    """

    def __init__(self, model: nn.Module, device: str | None = None, fast: bool = True) -> None:
        card = getattr(model, "card", None)
        if not isinstance(card, Card):
            raise ConfigError(
                f"This {type(model).__name__} has no card to say how pictures are prepared for it. Take it from "
                f"create_model or from_pretrained, or set model.card."
            )
        self.model = (model if device is None else model.to(usable_device(device))).eval()
        self.quick, self.speed = (packed(self.model), fast_float32) if fast else (self.model, nullcontext)
        self.card, self.fast = card, fast
        if fast and isinstance(card.preprocessing, Preprocessing):
            keep_freed_memory()

    def __repr__(self) -> str:
        return described(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, which lays the weights out for itself."""
        return type(self), (self.model, None, self.fast)

    @property
    def task(self) -> Task:
        """What the model's answers mean.

        Raises:
            ConfigError: its card names a task that there is not, or it has no classes.
        """
        if self.card.task not in catalog.TASKS:
            raise ConfigError(unknown("task", self.card.task, catalog.TASKS))
        task = catalog.load(catalog.TASKS[self.card.task])
        asked = {field.name for field in fields(task)}  # of a task, what a card can tell
        told = {
            "multi_label": self.card.multi_label,
            "class_ids": self.card.class_ids,
            "things": self.card.things,
            **self.card.answering,
        }
        told = {name: value for name, value in told.items() if name in asked}
        if "classes" in asked:
            told["classes"] = classes_of(self.model)
        return task(**told)

    def __call__(self, images: Images, batch: int = 32, on_error: OnError = "raise") -> list[Any]:
        """What pictures show: one result for each, in their order.

        Args:
            images: see `pictures`.
            batch: how many are looked at together; it changes how long that takes and not what is answered.
            on_error: what becomes of a file that cannot be read: `raise` its error, or `keep` it as the result.

        Raises:
            ImageError: a file cannot be read, unless `on_error` is `keep`.
            DataError, ConfigError: no pictures, or something that is none.
        """
        task = self.task
        return list(self.answers(images, lambda pixels: task.predict(self.quick, pixels), batch, on_error))

    def features(self, images: Images, batch: int = 32, on_error: OnError = "raise") -> list[Any]:
        """What the head would read of each picture, a vector for each; alike pictures have alike vectors.

        Arguments and errors are those of a call.
        """
        model = self.quick
        if not isinstance(model, Embeds):
            raise ConfigError(
                f"{type(model).__name__} has no features to give: it does not sum up a picture in one vector."
            )
        vectors = self.answers(images, lambda pixels: model.pool(model.encode(pixels)).cpu(), batch, on_error)
        return [vector.clone() if isinstance(vector, Tensor) else vector for vector in vectors]

    def explain(
        self,
        image: Images,
        at: Point | None = None,
        layer: int | str = -1,
        head: Head = "mean",
        *,
        query: int | None = None,
        method: str = "attention",
        target: str | int | None = None,
    ) -> Any:
        """Where the model looked in one picture, or what its answer rests on.

        Args:
            image: one picture.
            at: the pixel to ask about; see `vitrail.explain.attention.look`, also for the next two. Of a detector it
                asks the encoder.
            layer: which layer.
            head: which head.
            query: of a detector, the query to ask about, counted from 0 as in its results; the objects that it has
                found unless given. See `vitrail.explain.objects.look_for_objects`.
            method: `attention` for one token in one layer; for the whole model `rollout`, `relevance`, `attribution`
                or `gradient`; of a detector the last.
            target: the class to explain, by name or number; what the model answers unless given.

        Returns:
            A `Look` for attention, an `ObjectSheet` where several objects are asked about, else an `Evidence`; all have
            `.figure()` and `.save(path)`, and all but the second `.map`.
        """
        if at is not None and query is not None:
            raise ExplanationError("at asks the encoder and query the decoder. Give one of them.")
        if not isinstance(layer, int | str):
            raise ExplanationError(
                f"layer={layer!r} is no single layer. Give one, such as -1; predict.look(image, layers=...) takes "
                f"several."
            )
        if method != "attention" or target is not None:
            return self.evidence(image, method, target, query=query)
        if query is not None or (at is None and detector_in(self.model) is not None):
            return self.look_for(image, () if query is None else (query,), layers=layer, head=head)
        return self.look(image, at=[at], layers=layer, head=head)[0]

    def look_for(
        self,
        image: Images,
        queries: Sequence[int] = (),
        layers: Layers | None = -1,
        head: Head = "mean",
        *,
        most: int | None = MOST,
        threshold: float | None = None,
    ) -> ObjectLook | ObjectSheet:
        """Where a detector looked for some of its boxes; see `vitrail.explain.objects.look_for_objects`.

        Args:
            image: one picture.
            queries: by number, counted from 0; those of the objects that were found unless given.
            layers: of the decoder.
            head: which head.
            most: of the objects that were found, how many.
            threshold: score from which something is one; as the task has it unless given.
        """
        detector(self.model)
        picture, task = one_picture(image), with_threshold(finding(self.task), threshold)
        found = look_for_objects(
            self.model,
            task,
            self.card.preprocessing,
            picture,
            queries=queries,
            most=most,
            layers=layers,
            head=head,
        )
        return replace(found, answer=self.answer(picture, task))

    def look(
        self, image: Images, at: Sequence[Point | None] = (None,), layers: Layers | None = None, head: Head = "mean"
    ) -> list[Look]:
        """Where the model looked in one picture, several questions at once; see `vitrail.explain.attention.look`."""
        picture = one_picture(image)
        looks = look(self.model, self.card.preprocessing, picture, at=at, layers=layers, head=head)
        answer = self.answer(picture)
        return [replace(one, answer=answer) for one in looks]

    def evidence(
        self,
        image: Images,
        method: str = "relevance",
        target: str | int | None = None,
        *,
        faithful: bool = False,
        query: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Evidence:
        """What an answer about one picture rests on; see `vitrail.explain.evidence.evidence`.

        Args:
            image: one picture.
            method: `attention`, `rollout`, `relevance`, `attribution` or `gradient`.
            target: the class to explain, by name or number; what the model answers unless given.
            faithful: find out how far the map can be trusted, as its `.found` then says.
            query: of a detector, whose answer; that of the object it believes in most unless given.
            say: is told how far it is, where `faithful` takes long.
        """
        picture, labels = one_picture(image), self.card.labels
        if query is not None or detector_in(self.model) is not None:
            known = classes_of(self.model)
            found = evidence_of_query(
                self.model,
                finding(self.task),
                self.card.preprocessing,
                picture,
                method=method,
                target=None if target is None else find_class(target, known),
                query=query,
                faithful=faithful,
                say=say,
            )
            return replace(found, answer=self.answer(picture))
        found = evidence(
            self.model,
            self.card.preprocessing,
            picture,
            method=method,
            target=None if target is None else find_class(target, classes_of(self.model)),
            labels=labels,
            faithful=faithful,
            say=say,
        )
        return replace(found, answer=self.answer(picture))

    def pointing(self, scenes: str = "scenes:", method: str = "relevance", count: int = 100) -> Pointing:
        """How often a map points at the object in generated scenes that were not trained on.

        Args:
            scenes: which; see `vitrail.data.open.open_dataset`. Their classes are the model's.
            method: `attention`, `rollout`, `relevance`, `attribution` or `gradient`.
            count: how many scenes, at most.
        """
        unseen = open_dataset(scenes, "test", self.card.labels)
        like = next(self.model.parameters())

        def shown() -> Iterator[tuple[Tensor, int, Tensor]]:
            for index in range(min(count, len(unseen))):
                scene = unseen[index]
                assert scene.extras is not None, "generated scenes know their masks"
                assert isinstance(scene.label, int), "and have one class each"
                prepared = self.card.preprocessing(scene.picture)
                mask = torch.from_numpy(scene.extras["masks"]).any(dim=0)
                yield prepared.pixels.to(like), scene.label, as_read(mask, prepared.placement)

        return pointing(self.model, shown(), method)

    def answer(self, picture: Shown, task: Task | None = None) -> str:
        """What the model says of a picture, and what its folder is called where that names a class."""
        if not getattr(getattr(self.model, "config", None), "classes", 0):  # it still looks at something
            return ""
        task = task or self.task
        [result] = self.answers(picture, lambda pixels: task.predict(self.quick, pixels), 1, "raise")
        folder = Path(picture.name).absolute().parent.name if isinstance(picture, Picture) else ""
        truth = f"; the picture lies in a folder called {folder}" if folder in self.card.labels else ""
        return f"The model's answer: {result.summary()}{truth}"

    def answers(
        self, images: Images, ask: Callable[[Tensor], Iterable[Any]], batch: int, on_error: OnError
    ) -> Iterator[Any]:
        """What `ask` says of each picture, a batch at a time; the pictures of a batch are decoded side by side."""
        check_asked(batch, on_error)
        like, preprocessing = next(self.model.parameters()), self.card.preprocessing
        with ThreadPoolExecutor(READERS) as readers:
            for group in in_groups(pictures(images), min(batch, getattr(preprocessing, "at_once", batch))):
                if len(group) == 1:  # it would wait for a thread, and for those that torch starts there
                    prepared = [self.prepare(group[0], on_error)]
                else:
                    prepared = list(readers.map(lambda picture: self.prepare(picture, on_error), group))
                pixels = [one.pixels for one in prepared if isinstance(one, Prepared)]
                with torch.inference_mode(), self.speed():
                    results = iter(ask(preprocessing.together(pixels).to(like.device, like.dtype)) if pixels else ())
                for one in prepared:
                    yield in_pixels(next(results), one) if isinstance(one, Prepared) else one

    def prepare(self, picture: Shown, on_error: OnError) -> Prepared | ImageError:
        """What the model reads, or why there is nothing."""
        try:
            return self.card.preprocessing(picture)
        except ImageError as error:
            if on_error == "raise":
                raise
            return error


@runtime_checkable
class Placed(Protocol):
    """A result with places in it, in parts of what the model reads."""

    def placed(self, placement: Placement) -> Any:
        """The same in pixels of the file."""
        ...


def finding(task: Task) -> Task:
    """A task that answers with boxes: the one in it, of a task that makes more of the same queries."""
    return getattr(task, "detector", task)


def in_pixels(result: Any, prepared: Prepared) -> Any:
    """A result with its places, if it has any, in pixels of the file as displayed."""
    return result.placed(prepared.placement) if isinstance(result, Placed) else result


def one_picture(image: Images) -> Shown:
    """The only picture of what was given.

    Raises:
        ConfigError: there are several.
    """
    found = list(pictures(image))
    if len(found) == 1:
        return found[0]
    if isinstance(image, str | os.PathLike) and isinstance(found[0], Picture):
        verb = "has" if Path(image).is_dir() else "matches"
        raise ConfigError(
            f"{image} {verb} {len(found)} pictures, and one is explained at a time. Name one, such as {found[0].name}."
        )
    raise ConfigError(f"One picture is explained at a time, and {len(found)} were given.")


def refuse_no_model(source: Path) -> None:
    """Say of a path that holds no model what it is and what to type, and of one that might pass for a hub id.

    Raises:
        CheckpointError: a picture, a run without weights, weights alone, pictures, or any other folder without a model;
            or nothing at all, where the folder in front is here.
    """
    if not source.exists() and is_id(str(source)) and is_place(str(source)):
        raise CheckpointError(nothing_at(str(source)))
    if source.is_file() and is_picture_name(source.name):
        what = "is a picture"
    elif source.is_file() and vectors_at(source) is not None:
        raise CheckpointError(
            f"{source} holds word vectors and no network. vitrail predict {source} WORD names the nearest words."
        )
    elif not source.is_dir() or (source / "config.json").exists():
        return
    elif vectors_at(source) is not None:
        raise CheckpointError(
            f"{source} holds word vectors and no network. vitrail predict {source} WORD names the nearest words."
        )
    elif (source / "recipe.json").exists():
        raise CheckpointError(
            f"{source} is a run that was stopped before it had weights to keep. `vitrail resume {source}` goes on with "
            f"it."
        )
    elif alone := next(filter(is_bare, sorted(source.iterdir())), None):
        raise CheckpointError(
            f"{source} holds weights and no config.json. Say what {alone.name} is: vitrail convert {alone} --from timm "
            f"--model vit-base-16 OUT, for example."
        )
    else:
        what = "is a folder of pictures" if next(pictures_below(source), None) else "holds no model: no config.json"
    raise CheckpointError(
        f"{source} {what}. A model is expected here: a run that `vitrail train` has left, such as "
        f"runs/classify/flowers5, a folder of weights, a name from `vitrail models`, or a hub id."
    )


def is_bare(file: Path) -> bool:
    """Whether a file may hold weights alone; the arrays beside a drawing of `explain` do not."""
    beside_a_drawing = file.suffix == ".npz" and file.with_suffix(".png").exists()
    return file.suffix in BARE and not beside_a_drawing


def predictor(
    source: str | Path | nn.Module,
    device: str | None = None,
    fast: bool = True,
    announce: Callable[[str], None] = say,
) -> Any:
    """Make something that is shown pictures and says what they are: a `Predictor`; or that is given texts, for a model
    that reads them: a `TextPredictor`; or that is asked for near words, for word vectors: a `WordPredictor`.

    Args:
        source: a run, a folder, a name from `list_models` or a hub id, as for `from_pretrained`; a file of word
            vectors; or a model, which is put into eval mode.
        device: `cpu`, `cuda`, `cuda:1` or `mps`. Unless given, the fastest there is; a model stays where it is.
        fast: see `Predictor`.
        announce: is told what was chosen on the way.

    Raises:
        CheckpointError, ConfigError: there is no model, or whatever is wrong with it, in a sentence.
    """
    if isinstance(source, nn.Module):
        return kind_for(source)(source, device, fast)
    if (vectors := vectors_at(source)) is not None:
        return WordPredictor.read(vectors)
    refuse_no_model(Path(source))
    model = from_pretrained(source, announce=announce)
    return kind_for(model)(model, device or fastest_device(), fast)


def kind_for(model: nn.Module) -> type[Predictor] | type[TextPredictor]:
    """The kind of predictor for what a model reads."""
    reads = getattr(getattr(model, "card", None), "preprocessing", None)
    return TextPredictor if isinstance(reads, TextPreprocessing) else Predictor
