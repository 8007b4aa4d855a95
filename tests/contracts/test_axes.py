"""Every axis that a type string names stands in the glossary."""

import ast
import re
from pathlib import Path

import vitrail

PACKAGE = Path(vitrail.__file__).parent
GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
ARRAYS = {"Bool", "Complex", "Float", "Inexact", "Int", "Integer", "Num", "Real", "Shaped", "UInt8"}


def axes_in(source: str) -> set[str]:
    """The names in `Float[Tensor, "batch tokens dim"]`, without numbers, arithmetic and jaxtyping's own marks."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in ARRAYS:
            shape = node.slice.elts[1].value if isinstance(node.slice, ast.Tuple) else ""
            found |= {word.lstrip("*#?") for word in shape.split()}
    return {word for word in found if re.fullmatch(r"[a-z]\w*", word)}


def test_every_axis_name_stands_in_the_glossary():
    explained = set(re.findall(r"^\| `(\w+)` \|", GLOSSARY.read_text(), flags=re.MULTILINE))
    used = set().union(*(axes_in(file.read_text()) for file in PACKAGE.rglob("*.py")))
    assert used - explained == set(), "give these a row in docs/glossary.md"
    assert explained - used == set(), "no type string uses these any more"


def test_marks_and_numbers_are_not_names():
    assert axes_in('x: Float[Tensor, "#batch *rest 3 rows 2*dim"]') == {"batch", "rest", "rows"}
