"""Nothing in src runs what a file says, starts a program or opens a connection of its own."""

import ast
from collections.abc import Collection
from pathlib import Path

import pytest

import vitrail

PACKAGE = Path(vitrail.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    "asyncio", "cloudpickle", "ctypes", "dill", "ftplib", "http", "joblib", "marshal", "pickle", "requests", "runpy",
    "shelve", "socket", "subprocess", "telnetlib", "urllib", "webbrowser",
}  # fmt: skip
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "torch.hub.load",
}
EXCEPTIONS = {
    "core/memory.py": {"ctypes"},  # tells the C library already loaded to keep freed memory; opens no other
    "data/decoding.py": {"ctypes"},  # tells the libtiff that Pillow has loaded to be silent; opens nothing else
    "evaluate/background.py": {"urllib.parse"},  # quotes the address of a file beside a page; opens none
}
LATE_IMPORTS = {"catalog.py", "__init__.py", "cli/main.py"}  # import a module by a name from their own tables


def spoken(node: ast.expr) -> str:
    """`a.b.c` as written; empty for anything else."""
    if isinstance(node, ast.Attribute):
        owner = spoken(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


def banned_import(node: ast.AST) -> str | None:
    names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    return next((name for name in names if name.split(".")[0] in MODULES), None)


def banned_call(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    name, given = spoken(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
    trusting = ast.unparse(given["allow_pickle"]) != "False" if "allow_pickle" in given else False
    unpickles = name == "torch.load" and ast.unparse(given.get("weights_only", ast.Constant(False))) != "True"
    return name or "a call" if name in CALLS or trusting or unpickles else None


def faults(source: str, excepted: Collection[str] = ()) -> list[str]:
    found = [(node, banned_import(node) or banned_call(node)) for node in ast.walk(ast.parse(source))]
    return [f"line {node.lineno}: {fault}" for node, fault in found if fault and fault not in excepted]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_are_data_and_never_programs(file):
    assert not faults(file.read_text(), EXCEPTIONS.get(str(file.relative_to(PACKAGE)), ()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_modules_are_found_by_name_only_where_the_names_are_our_own(file):
    if str(file.relative_to(PACKAGE)) not in LATE_IMPORTS:
        assert "import_module" not in file.read_text()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from subprocess import run",
        "import urllib.request",
        "eval('1')",
        "yaml.load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert faults(source)


@pytest.mark.parametrize("source", ["model.eval()", "torch.load(path, weights_only=True)", "yaml.safe_load(text)"])
def test_the_search_leaves_the_rest_alone(source):
    assert not faults(source)
