"""From a recipe, or from what a checkpoint tells, to a network."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vitrail import catalog
from vitrail.core.stacks import Blocks
from vitrail.data.dataset import Dataset
from vitrail.errors import CheckpointError, ConfigError, many
from vitrail.loading import change_config, create_model, family_of, from_pretrained, look_up
from vitrail.tokenizing import TextPreprocessing
from vitrail.train.optim import freeze, freeze_all_but, train_mode
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.sameness import seed_of
from vitrail.weights.card import Card
from vitrail.weights.configs import build, differences, written
from vitrail.weights.names import no_family, no_model
from vitrail.words.embedding import initialise
from vitrail.words.files import read_vectors
from vitrail.words.predictor import vectors_at


def build_model(recipe: Recipe, data: Dataset, say: Callable[[str], None]) -> nn.Module:
    """The network as it is before the first step, with a card that knows the classes."""
    choice = recipe.model
    torch.manual_seed(seed_of(recipe.seed, "weights"))
    if choice.init is None:
        family = catalog.family_of_model(choice.name)
        equipment = recipe.data.equipped(
            data, change_config(family, family.variants[choice.name], dict(choice.changes))
        )
        model: Any = create_model(choice.name, **{**choice.changes, **equipment.changes})
        model.card = replace(model.card, **equipment.card)
        if choice.words is not None:
            begin_with_words(model, choice, say)
    else:
        source = choice.name if choice.init == "default" else choice.init
        bare = {"format": choice.format, "model": choice.name} if Path(source).is_file() else {}
        if not bare:
            refuse_other_texts(source, choice.name)
        model = from_pretrained(
            source,
            **bare,
            missing=choice.missing,
            announce=say,
            dtype=torch.float32,
            into=choice.name,
            **choice.changes,
        )
        say_differences(model, choice, say)
    task, labels = recipe.data.meaning(data), data.classes
    answering = {name: getattr(recipe.task, name) for name in getattr(recipe.task, "answering", ())}
    model.card = replace(
        model.card,
        preprocessing=recipe.data.reads(model.card.preprocessing),
        labels=labels,
        class_ids=getattr(data, "class_ids", ()),
        things=getattr(recipe.task, "things", ()),
        task=task,
        multi_label=getattr(recipe.task, "multi_label", data.multi_label),
        answering=answering,
        scores={},
    )
    return model


@runtime_checkable
class ReadsWords(Protocol):
    """A model with a vector for each word that it reads."""

    card: Card

    @property
    def source_table(self) -> Tensor: ...


def begin_with_words(model: Any, choice: ModelChoice, say: Callable[[str], None]) -> None:
    """Put word vectors into the word embedding of fresh weights.

    Raises:
        ConfigError: the model reads pictures, or the vectors are of another width or language.
        CheckpointError: there are no vectors.
    """
    source = choice.words or ""
    if not isinstance(model, ReadsWords):
        raise ConfigError(
            f"model.words={source} is for models that read words, and {choice.name} does not. Leave it out."
        )
    path = vectors_at(source)
    if path is None:
        raise CheckpointError(
            f"There are no word vectors at {source}. Give a run of word2vec, or a file of word2vec or GloVe."
        )
    filled = initialise(model.source_table, model.card.preprocessing.vocabulary, read_vectors(path))
    say(f"{filled.rows:,} of {many(filled.pieces, 'piece')} that are whole words begin with the vectors in {source}.")


def say_differences(model: Any, choice: ModelChoice, say: Callable[[str], None]) -> None:
    """Say where weights have another shape than the model whose name was given; the weights decide."""
    published = catalog.family_of_model(choice.name).variants[choice.name]
    if type(published) is not type(model.config):
        refuse_other_inputs(model, choice)
        say(f"{choice.init} is not of the family of {choice.name}; it is taken as it is.")
        return
    asked = change_config(catalog.family_of_model(choice.name), published, dict(choice.changes))
    changed = {one.path for one in differences(published, asked)}
    differing = [
        f"{one.path} is {one.after} ({one.before})"
        for one in differences(published, model.config)
        if one.path.split(".")[0] not in choice.changes and one.path not in changed
    ]
    if differing:
        say(f"{choice.init} is not {choice.name} as published: {', '.join(differing)}. It is taken as it is.")


def refuse_other_texts(source: str, name: str) -> None:
    """Refuse weights of another family for a model of texts, as each reads and answers otherwise.

    Raises:
        ConfigError: says what they are of.
    """
    wanted = catalog.family_of_model(name)
    if wanted.reads is TextPreprocessing and (there := look_up(source).family.name) != wanted.name:
        raise ConfigError(
            f"{source} holds a {there}, which {name} cannot start from. Give --init the run or the weights of a "
            f"{wanted.name} model, or leave it out."
        )


def refuse_other_inputs(model: Any, choice: ModelChoice) -> None:
    """Refuse weights of a family that reads otherwise than the one that was asked for.

    Raises:
        ConfigError: says what they are of.
    """
    wanted = catalog.family_of_model(choice.name)
    if not isinstance(model.card.preprocessing, wanted.reads):
        raise ConfigError(
            f"{choice.init} holds a {type(model).__name__}, which {choice.name} cannot start from. Give --init the run "
            f"or the weights of a {wanted.name} model, or leave it out."
        )


def side(pair: tuple[int, int]) -> str:
    """A size in words: one number for a square."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} x {pair[1]}"


def in_words(choice: ModelChoice) -> str:
    """What a model reads, where its weights come from, and how it differs from the published size.

    Weights from elsewhere decide what nobody has changed, so of these only the changes are known.

    Raises:
        ConfigError: there is no such model, or its configuration makes no sense.
    """
    if choice.name not in catalog.MODELS:
        raise ConfigError(no_model(choice.name, catalog.MODELS))
    family = catalog.family_of_model(choice.name)
    unsaid = {"classes", *family.training}
    if choice.init not in (None, "default"):
        changes = [f"{name} {value}" for name, value in choice.changes.items() if name not in unsaid]
        return f"{choice.name}, weights from {choice.init}" + (f"; with {', '.join(changes)}" if changes else "")
    published = family.variants[choice.name]
    config = change_config(family, published, dict(choice.changes))
    parts = [choice.name, "fresh weights" if choice.init is None else "published weights"]
    if (size := getattr(config, "size", None)) is not None:
        patch = getattr(config, "patch_size", None)
        parts.insert(1, f"{size[0]} x {size[1]} pixels" + (f" in patches of {side(patch)}" if patch else ""))
        unsaid |= {"image", "patch"}
    others = [
        f"{one.path} {one.after} ({one.before or 'none'})"
        for one in differences(published, config)
        if one.path not in unsaid
    ]
    return ", ".join(parts) + (f"; other than published: {', '.join(others)}" if others else "")


def card_of(model: Any) -> Card:
    """The card that goes with a model."""
    return model.card


def rebuild_model(told: Mapping[str, Any]) -> nn.Module:
    """The network that a checkpoint is for, with weights still to come.

    Raises:
        ConfigError: it is of a family that nobody has registered.
    """
    if told["family"] not in catalog.FAMILIES:
        raise ConfigError(no_family(told["family"], catalog.FAMILIES))
    family = catalog.load(catalog.FAMILIES[told["family"]])
    model = family.build(build(family.config, told["config"], "the model's configuration"))
    model.card = Card.from_json(told["card"])
    return model


def tell_model(model: nn.Module) -> dict[str, Any]:
    """What `rebuild_model` needs."""
    return {"family": family_of(model).name, "config": written(model.config), "card": card_of(model).to_json()}


def prepare(model: nn.Module, recipe: Recipe) -> None:
    """Decide what in a model learns, and how its activations are kept."""
    if recipe.probe:
        freeze_all_but(model, family_of(model).heads)
    freeze(model, recipe.freeze)
    for part in model.modules():
        if isinstance(part, Blocks):
            part.checkpointing = recipe.checkpointing
    train_mode(model)
