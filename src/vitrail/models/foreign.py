"""What the formats of several families share: foreign words for ours, and what is refused as it changes answers."""

from collections.abc import Mapping
from typing import Any

from vitrail.errors import ConfigError

Fields = Mapping[str, Any]

TRANSFORMERS_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "quick_gelu": "quick-gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def one_of(table: Mapping[str, Any], value: Any, field: str) -> Any:
    """What a foreign word means here.

    Raises:
        ConfigError: a word we do not know.
    """
    if value not in table:
        raise ConfigError(f"{field}={value!r} is not supported. Supported: {', '.join(map(str, table))}.")
    return table[value]


def foreign_word(table: Mapping[str, str], value: str) -> str:
    """The first foreign word for one of ours."""
    return next(theirs for theirs, ours in table.items() if ours == value)


def refuse_others(config: Fields, **supported: Any) -> None:
    """Refuse a foreign configuration that would answer otherwise than we do.

    Args:
        config: what is said.
        supported: by field, the one value that is read; a field that is not there, or empty, has it.

    Raises:
        ConfigError: names the field.
    """
    for field, value in supported.items():
        if config.get(field) not in (None, value, {}, []):
            raise ConfigError(f"{field}={config[field]!r:.60} is not supported. Supported: {value!r}.")


def read_classes(config: Fields) -> int:
    """How many classes a config of transformers names; two where it says nothing."""
    if isinstance(config.get("id2label"), dict):
        return len(config["id2label"])
    return config.get("num_labels", 2)


def refuse_number(config: Fields, *, alone: bool = False) -> None:
    """Refuse a head of transformers that answers a number, where ours tells classes apart.

    Args:
        alone: there is but one class, which then has to say that it is no number.

    Raises:
        ConfigError: it is a regression.
    """
    problem = config.get("problem_type")
    if problem == "regression" or (alone and problem is None):
        raise ConfigError(
            f"num_labels={read_classes(config)} and problem_type={problem!r} answer a number, as a cross-encoder or a "
            "regression does, and only classes are read."
        )


def read_told_apart(config: Fields) -> int:
    """How many classes a classifier of transformers tells apart.

    Raises:
        ConfigError: it answers a number.
    """
    refuse_number(config)
    return read_classes(config)
