"""Imports look only down, as docs/architecture.md draws it."""

import ast
import re
from pathlib import Path

import pytest

import vitrail

PACKAGE = Path(vitrail.__file__).parent
ROWS = (
    {"errors", "environment", "fields", "outputs", "samples", "geometry", "writing"},
    {"core", "decoding", "generation", "pixels", "preprocessing", "tokenizing"},
    {"models", "tasks", "data", "weights"},
    {"catalog", "loading"},
    {"description", "flow", "explain", "export", "words"},
    {"predict", "predict_objects", "predict_texts", "evaluate"},
    {"train"},
    {"recipes"},
    {"cli"},
)
SIBLINGS = ROWS[2]  # of which none imports another, with one exception
EXCEPTION = ("models", "vitrail.weights.keymap")
DOORS = {"", "__main__"}  # the package itself and `python -m vitrail`
FILES = sorted(PACKAGE.rglob("*.py"))


def part(module: str) -> str:
    """The second word of a dotted name: `models` for `vitrail.models.vit`."""
    return module.split(".")[1] if "." in module else ""


def module_of(file: Path) -> str:
    words = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def imported(source: str) -> set[str]:
    """The modules of vitrail that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            whole = node.module == "vitrail"
            found |= {f"vitrail.{name.name}" for name in node.names} if whole else {node.module}
    return {module for module in found if module.split(".")[0] == "vitrail"}


def row(name: str) -> int:
    """Where a part stands, counted from the top; the public door, which no part walks through, has no row."""
    rows = [number for number, names in enumerate(ROWS) if name in names]
    assert rows, f"{name} stands in no row: give it one here and in docs/architecture.md"
    return rows[0]


def may_import(importer: str, module: str) -> bool:
    """Whether one module may import another: from its own part, from rows above its own, and the one exception."""
    mine, theirs = part(importer), part(module)
    if mine == theirs or (mine, module) == EXCEPTION:
        return True
    return row(theirs) < row(mine) or (row(theirs) == row(mine) and mine not in SIBLINGS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_look_only_down(file):
    importer = module_of(file)
    if part(importer) in DOORS:
        return
    upward = {module for module in imported(file.read_text()) if not may_import(importer, module)}
    assert not upward, f"{importer} imports {sorted(upward)}, which stand beside it or below"


@pytest.mark.parametrize(
    ("importer", "module", "allowed"),
    [
        ("vitrail.core.blocks", "vitrail.errors", True),
        ("vitrail.core.blocks", "vitrail.core.attention", True),
        ("vitrail.core.blocks", "vitrail.models.vit", False),
        ("vitrail.models.vit_formats", "vitrail.weights.keymap", True),
        ("vitrail.models.vit_formats", "vitrail.weights.card", False),
        ("vitrail.tasks.classify", "vitrail.data.loader", False),
        ("vitrail.evaluate.judge", "vitrail.predict", True),
        ("vitrail.train.fit", "vitrail.cli.main", False),
    ],
)
def test_the_rule_itself_can_say_no(importer, module, allowed):
    assert may_import(importer, module) is allowed


def test_late_imports_are_seen():
    assert imported("def f():\n    from vitrail.train import fit\n    import vitrail.cli.main") == {
        "vitrail.train",
        "vitrail.cli.main",
    }


def test_the_architecture_page_draws_the_same_rows():
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    drawn = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in page.splitlines() if line.startswith("| `")]
    assert drawn == [row & {part(module_of(file)) for file in FILES} for row in ROWS]
