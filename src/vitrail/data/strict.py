"""JSON, YAML and XML from anybody, read without surprises: limits to size and depth, no name twice, no references."""

import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from vitrail.data.files import shown
from vitrail.errors import DataError

LARGEST_JSON = 2 << 30  # bytes; COCO's training part has 450 million
LARGEST_YAML = 1 << 20
LARGEST_XML = 1 << 24
DEEPEST = 32  # levels of YAML
MOST_ALIASES = 100  # references inside a YAML file
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
BOM = b"\xef\xbb\xbf"


class FileError(DataError):
    """A file that cannot be understood as a whole.

    Args:
        code: a short, stable word for the kind of fault.
        path: the file.
        hint: what is wrong and what to do about it, in words.
    """

    def __init__(self, code: str, path: Path, hint: str) -> None:
        super().__init__(f"{shown(path)}: {hint}")
        self.code, self.path, self.hint = code, path, hint

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.path, self.hint)


class TwiceError(ValueError):
    """A name that stands twice in one object."""


def read_bytes(path: Path, most: int) -> bytes:
    """All of a file that is not larger than so many bytes.

    Raises:
        FileError: it is larger, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise FileError("unreadable", path, f"it cannot be read ({error.strerror}).") from error
    if len(content) > most:
        raise FileError("too-large", path, f"it has more than {most:,} bytes, the most that is read of such a file.")
    return content


def read_text(path: Path, most: int) -> str:
    """All of a UTF-8 file, without the mark that some programs put in front.

    Raises:
        FileError: it is something else, too large, or cannot be read.
    """
    content = read_bytes(path, most)
    if content[:2] in UTF_16:
        raise FileError("encoding", path, "this is UTF-16. Save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            "encoding", path, f"byte {error.start} is not UTF-8 ({error.reason}). Save it as UTF-8."
        ) from error


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names all differ."""
    record = dict(pairs)
    if len(record) != len(pairs):
        seen = set[str]()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise TwiceError(f"{twice!r} stands twice in one object")
    return record


def read_json(path: Path, pack: Callable[[dict[str, Any]], dict[str, Any]] = lambda record: record) -> Any:
    """What a JSON file holds. NaN and Infinity are let through, so that whoever meets one can say where.

    Args:
        path: the file.
        pack: called with each object as soon as it is read, to keep it in less memory.

    Raises:
        FileError: it is not JSON, says something twice, is nested too deeply, too large, or cannot be read.
    """
    text = read_text(path, LARGEST_JSON)
    if not text.strip():
        raise FileError("empty", path, "it is empty.")
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: pack(once(pairs)))
    except RecursionError as error:
        raise FileError("too-deep", path, "it is nested more deeply than any annotations are.") from error
    except TwiceError as error:
        raise FileError("duplicate-key", path, f"{error}. Remove one of them.") from error
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise FileError(
                "truncated", path, f"it ends in the middle ({error}). Copy or download it again."
            ) from error
        raise FileError("bad-json", path, f"it is not JSON ({error}).") from error
    except ValueError as error:
        raise FileError("bad-json", path, f"it is not JSON that is read here ({error}).") from error


class Plain(yaml.SafeLoader):
    """Reads YAML as data; no name twice, nothing deep, few references."""

    depth = aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.depth > DEEPEST or self.aliases > MOST_ALIASES:
            raise yaml.YAMLError("it is nested too deeply, or refers to itself too often")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} stands twice in one mapping")
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, as plain data.

    Raises:
        FileError: it is not YAML, says something twice, is nested too deeply, too large, or cannot be read.
    """
    text = read_text(path, LARGEST_YAML)
    try:
        return Plain(text).get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise FileError("bad-yaml", path, f"it is not YAML that is read here ({words}).") from error


class WithoutDoctype(ElementTree.TreeBuilder):
    """Builds a tree of a document that declares nothing."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type, which annotations have no use for")


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        FileError: it is not XML, declares entities, is too large, or cannot be read.
    """
    content = read_bytes(path, LARGEST_XML)
    if not content.strip():
        raise FileError("empty", path, "it is empty.")
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=WithoutDoctype()))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise FileError("bad-xml", path, f"it is not XML that is read here ({error}).") from error
