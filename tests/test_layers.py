"""Imports run one way: the tree of `sessions/` is in order, and nothing imports what stands above it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sessions"
# A file of the tree, as `      dialect.py   what it is for`.
_LINE = re.compile(r"( *)([\w/]+/|\w+\.py)(?:  .*)?")


def _layers() -> list[Path]:
    """The files of the tree in tests/README.md, top first."""
    readme = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    [tree] = re.findall(r"^```text\n(sessions/\n.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    layers: list[Path] = []
    folders: list[tuple[int, Path]] = []
    for line in tree.splitlines():
        match = _LINE.fullmatch(line)
        assert match, f"the tree has a line that is no file: {line!r}"
        depth, name = len(match[1]), match[2]
        folders = [(indent, folder) for indent, folder in folders if indent < depth]
        path = (folders[-1][1] if folders else ROOT) / name
        if name.endswith("/"):
            folders.append((depth, path))
        else:
            layers.append(path)
    return layers


def _imports(path: Path) -> Iterator[Path]:
    """What a file imports of the package: also inside functions, also for type checkers alone."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = list(package[: len(package) - node.level + 1]) if node.level else []
            module = above + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == PACKAGE.name:
                yield _file_of(name)


def _file_of(name: list[str]) -> Path:
    """The file that a name stands in: a module, a package, or what a module defines."""
    path = ROOT.joinpath(*name)
    if path.is_dir():
        return path / "__init__.py"
    module = path.with_suffix(".py")
    return module if module.is_file() else _file_of(name[:-1])


def _upward(layers: list[Path]) -> list[str]:
    order = {path: number for number, path in enumerate(layers)}
    return [
        f"{path.relative_to(ROOT)} imports {imported.relative_to(ROOT)}, which does not stand below it"
        for path in layers
        for imported in _imports(path)
        if order[imported] <= order[path]
    ]


def test_the_tree_names_every_file() -> None:
    files = {path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or _imported_or_not_empty(path)}
    assert set(_layers()) == files


def _imported_or_not_empty(path: Path) -> bool:
    """Whether an __init__.py holds more than its docstring."""
    return len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


def test_no_import_runs_up() -> None:
    assert _upward(_layers()) == []


@pytest.mark.parametrize("place", ["at the top", "in a function", "for type checkers"])
def test_an_import_that_runs_up_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    statement = "from . import upper"
    lower = {
        "at the top": statement,
        "in a function": f"def f():\n    {statement}",
        "for type checkers": f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {statement}",
    }
    files = {"upper": "from .lower import f", "lower": lower[place]}
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    package = tmp_path / PACKAGE.name
    package.mkdir()
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    expected = ["sessions/lower.py imports sessions/upper.py, which does not stand below it"]
    assert _upward([package / "upper.py", package / "lower.py"]) == expected
