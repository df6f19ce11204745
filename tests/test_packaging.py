"""What is built holds what it needs, and every way to install it works."""

import contextlib
import functools
import hashlib
import html
import os
import re
import shutil
import sys
import sysconfig
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.building import ROOT, build, run

pytestmark = pytest.mark.slow

DIALECTS = ("sqlite", "postgresql", "mysql")
PAGES = {f"sessions/_command/pages/{name}" for name in ("page.css", "index.js")}
SQL = {f"{dialect}/{name}.sql" for dialect in DIALECTS for name in ("schema", "queries")}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sdist"), "--sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """A function that installs into an empty environment; the environment's python."""

    def install(*what: object) -> Path:
        folder = tmp_path / "environment"
        run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=tmp_path)
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        # Lends the build backend to an editable install, which is built inside its environment.
        (site,) = folder.glob("**/site-packages")
        lent = site / "lent.pth"
        lent.write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        command = (sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps")
        run(*command, "--no-build-isolation", "--force-reinstall", "--ignore-installed", *what, cwd=tmp_path)
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
    return Path(run(python, "-c", _CONVERSATION, cwd=folder).strip())


def test_an_installed_wheel_finds_its_statements(wheel: Path, install: Callable[..., Path], tmp_path: Path) -> None:
    assert tmp_path in _talk(install(wheel), tmp_path).parents


def test_an_installed_sdist_finds_its_statements(sdist: Path, install: Callable[..., Path], tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("agent_sql_sessions-*")
    built = build(tmp_path / "wheel", "--wheel", source)
    shutil.rmtree(source)
    assert tmp_path / "environment" in _talk(install(built), tmp_path).parents


def test_an_editable_install_finds_its_statements(install: Callable[..., Path], tmp_path: Path) -> None:
    assert _talk(install("--editable", ROOT), tmp_path) == ROOT / "sessions" / "__init__.py"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name there)
        """Tell nobody of each request."""


@contextlib.contextmanager
def _index(folder: Path, *files: Path) -> Iterator[str]:
    """An index of the files on loopback, by https://packaging.python.org/en/latest/specifications/simple-repository-api/."""
    page = folder / "simple" / "agent-sql-sessions"
    page.mkdir(parents=True)
    requires = html.escape(">=3.11")
    links = []
    for file in files:
        shutil.copy(file, page)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        links.append(f'<a href="{file.name}#sha256={digest}" data-requires-python="{requires}">{file.name}</a><br>')
    (page / "index.html").write_text("<!DOCTYPE html>\n" + "\n".join(links), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple/"
        finally:
            server.shutdown()
            thread.join()


_CHAPTER = re.compile(r"^## Quickstart\n(.*?)^## ", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_quickstart_runs_on_what_an_index_page_gives(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "environment", cwd=tmp_path)
    python = tmp_path / "environment" / ("Scripts" if os.name == "nt" else "bin") / "python"
    with _index(tmp_path / "index", wheel) as url:
        pip = (sys.executable, "-m", "pip", "--isolated", "--python", python)
        options = ("--no-cache-dir", "--disable-pip-version-check", "-i", url)
        run(
            *pip,
            "install",
            *options,
            "agent-sql-sessions",
            cwd=tmp_path,
            PIP_CONFIG_FILE=os.devnull,
            NO_PROXY="127.0.0.1",
        )
    [chapter] = _CHAPTER.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    examples = _EXAMPLE.findall(chapter)
    assert examples
    for example in examples:
        module = run(python, "-c", example + "\nprint(sessions.__file__)", cwd=tmp_path)
        assert tmp_path / "environment" in Path(module.strip()).parents
    assert (tmp_path / "chat.db").exists()


def test_the_wheel_holds_the_package_its_statements_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {f"sessions/sql/{name}" for name in SQL} | PAGES <= names
    assert "sessions/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"sessions"}


_METADATA = """
import importlib.metadata, sessions
assert importlib.metadata.version("agent-sql-sessions") == sessions.__version__
print(*importlib.metadata.requires("agent-sql-sessions") or [], sep="\\n")
"""


def test_the_package_needs_nothing_but_its_extras(wheel: Path, install: Callable[..., Path], tmp_path: Path) -> None:
    requirements = run(install(wheel), "-c", _METADATA, cwd=tmp_path).splitlines()
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
    loaded = set(run(install(wheel), "-c", _LOADED.format(statement=statement), cwd=tmp_path).split())
    assert expected in loaded
    assert loaded & (heavy | {"psycopg", "pymysql", "agents", "ssl", "asyncio", "importlib.metadata"}) == set()
