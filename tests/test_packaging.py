"""What is built holds what it needs, and every way to install it works."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
DIALECTS = ("sqlite", "postgresql", "mysql")
PAGES = {f"sessions/_command/pages/{name}" for name in ("page.css", "index.js")}
SQL = {f"{dialect}/{name}.sql" for dialect in DIALECTS for name in ("schema", "queries")}


def _run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def _build(outdir: Path, kind: str, source: Path = ROOT) -> Path:
    """What is built, of that kind: "--wheel" or "--sdist"."""
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", outdir, kind, source, cwd=outdir.parent)
    (path,) = outdir.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("sdist"), "--sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """A function that installs into an empty environment; the environment's python."""

    def install(*what: object) -> Path:
        folder = tmp_path / "environment"
        _run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=tmp_path)
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        # Lends the build backend to an editable install, which is built inside its environment.
        (site,) = folder.glob("**/site-packages")
        lent = site / "lent.pth"
        lent.write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        command = (sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps")
        _run(*command, "--no-build-isolation", "--force-reinstall", "--ignore-installed", *what, cwd=tmp_path)
        lent.unlink()
        return python

    return install


_CONVERSATION = """
import sessions
from sessions._dialects.statements import _blocks
assert all(_blocks(dialect) for dialect in ("sqlite", "postgresql", "mysql"))
with sessions.Session.from_url("chat_1", "sqlite:chat.db") as session:
    session.add_items([{"role": "user", "content": "Hello"}])
    assert session.get_items() == [{"role": "user", "content": "Hello"}]
print(sessions.__file__)
"""


def _talk(python: Path, folder: Path) -> Path:
    """Hold a conversation with what is installed there; where that lies."""
    return Path(_run(python, "-c", _CONVERSATION, cwd=folder).strip())


def test_an_installed_wheel_finds_its_statements(wheel: Path, install: Callable[..., Path], tmp_path: Path) -> None:
    assert tmp_path in _talk(install(wheel), tmp_path).parents


def test_an_installed_sdist_finds_its_statements(sdist: Path, install: Callable[..., Path], tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("agent_sql_sessions-*")
    built = _build(tmp_path / "wheel", "--wheel", source)
    shutil.rmtree(source)
    assert tmp_path / "environment" in _talk(install(built), tmp_path).parents


def test_an_editable_install_finds_its_statements(install: Callable[..., Path], tmp_path: Path) -> None:
    assert _talk(install("--editable", ROOT), tmp_path) == ROOT / "sessions" / "__init__.py"


def test_the_wheel_holds_the_package_its_statements_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {f"sessions/sql/{name}" for name in SQL} | PAGES <= names
    assert "sessions/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"sessions"}


def test_the_sdist_holds_what_builds_and_tests_the_package_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    tops = {"sessions", "sql", "tests", "Makefile", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {name.partition("/")[0] for name in names} == tops
    assert {f"sql/{name}" for name in SQL} | PAGES | {"tests/conftest.py", "sessions/py.typed"} <= names
    assert {Path(name).suffix for name in names if "/" in name} <= {".py", ".sql", ".typed", ".css", ".js"}


_METADATA = """
import importlib.metadata, sessions
assert importlib.metadata.version("agent-sql-sessions") == sessions.__version__
print(*importlib.metadata.requires("agent-sql-sessions") or [], sep="\\n")
"""


def test_the_package_needs_nothing_but_its_extras(wheel: Path, install: Callable[..., Path], tmp_path: Path) -> None:
    requirements = _run(install(wheel), "-c", _METADATA, cwd=tmp_path).splitlines()
    assert len(requirements) > 2
    assert [line for line in requirements if "extra ==" not in line] == []


_LOADED = """
import sys
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before))
"""
_USE = "import sessions; sessions.InMemorySession('chat_1').get_items(); sessions.connect('sqlite::memory:').close()"


@pytest.mark.parametrize(
    ("statement", "expected", "heavy"),
    [
        ("import sessions", "sessions.errors", {"sqlite3", "json", "dataclasses", "inspect", "logging"}),
        (_USE, "sessions.session", set()),
    ],
    ids=["imported", "used"],
)
def test_only_what_is_used_is_loaded(
    wheel: Path, install: Callable[..., Path], tmp_path: Path, statement: str, expected: str, heavy: set[str]
) -> None:
    loaded = set(_run(install(wheel), "-c", _LOADED.format(statement=statement), cwd=tmp_path).split())
    assert expected in loaded
    assert loaded & (heavy | {"psycopg", "pymysql", "agents", "ssl", "asyncio", "importlib.metadata"}) == set()
