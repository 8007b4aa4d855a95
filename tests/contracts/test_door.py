"""What `import vitrail` gives, and what it costs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import vitrail

ROOT = Path(__file__).parents[2]


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh Python holds after a statement."""
    command = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_importing_vitrail_imports_nothing_heavy():
    loaded = modules_after("import vitrail")
    assert "vitrail" in loaded
    assert not loaded & {"torch", "numpy", "PIL", "rich", "tyro", "matplotlib", "huggingface_hub"}


def test_a_vitrail_error_costs_no_torch():
    assert "torch" not in modules_after("from vitrail import VitrailError")


@pytest.mark.parametrize("name", vitrail.__all__)
def test_every_public_name_leads_somewhere_and_says_what_it_does(name):
    assert getattr(vitrail, name).__doc__


@pytest.mark.parametrize("name", vitrail.__all__)
def test_every_public_name_stands_in_the_manual(name):
    assert f"`{name}" in (ROOT / "docs" / "api.md").read_text()


def test_type_checkers_and_python_find_the_same_names_in_the_same_places():
    tree = ast.parse(Path(vitrail.__file__).read_text())
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: vitrail.HOMES.get(name, "vitrail.errors") for name in vitrail.__all__}
    assert typed == homes


def test_a_name_that_is_not_there_says_which_are():
    with pytest.raises(AttributeError, match="from_pretrained"):
        importlib.import_module("vitrail").form_pretrained


def test_every_kind_of_error_is_a_vitrail_error():
    kinds = [getattr(vitrail, name) for name in vitrail.__all__ if name.endswith("Error")]
    assert all(issubclass(kind, vitrail.VitrailError) for kind in kinds)
    assert len(kinds) == 8
