"""Fixtures that every test may ask for; a server is started when the first test needs it."""

import contextlib
import gc
import itertools
import os
import platform
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from support import servers
from support.servers import Server, ServerUnavailableError

BACKENDS = ("memory", "sqlite", "sqlite-memory", "postgresql", "mysql", "mariadb")
SQL_BACKENDS = ("sqlite", "postgresql", "mysql", "mariadb")

# Deadlines are for CPU-bound properties; here a server answers. The fixtures are one database for
# all examples of a property, which then tells its examples apart by session id.
hypothesis.settings.register_profile(
    "sessions",
    deadline=None,
    print_blob=True,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("sessions")


# --- choosing the backends


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backends",
        default=",".join(BACKENDS),
        metavar="NAME,...",
        help="run only the tests of these backends: %(default)s (tests of none always run)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Ended from outside, as by `timeout`, a run removes its containers as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.stash[_VERSIONS], config.stash[_MISSING], config.stash[_SECTIONS] = {}, {}, {}
    unknown = set(_chosen(config)) - set(BACKENDS)
    if unknown:
        raise pytest.UsageError(f"--backends: {', '.join(sorted(unknown))} is none of {BACKENDS}")


def _chosen(config: pytest.Config) -> list[str]:
    return [name.strip() for name in config.getoption("--backends").split(",") if name.strip()]


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = set(_chosen(config))
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        needed = _backends_of(item)
        for name in needed:
            item.add_marker(name.replace("-", "_"))
        if demanded := sorted(needed & set(servers.DIALECTS)):
            # One worker of pytest-xdist has all tests of a server: it is started once, and nobody else looks into it.
            item.add_marker(pytest.mark.xdist_group(demanded[0]))
        (kept if needed <= chosen else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _backends_of(item: pytest.Item) -> set[str]:
    """The backends that a test needs: by its fixtures, a marker of its own, or what it may make of its parameters."""
    fixtures = set(getattr(item, "fixturenames", ()))
    needed = {
        name
        for name in BACKENDS
        if fixtures & {f"{name}_url", f"{name}_server"} or item.get_closest_marker(name.replace("-", "_"))
    }
    callspec = getattr(item, "callspec", None)
    if callspec and fixtures & {"make_url", "start_server"}:
        needed |= {value for value in callspec.params.values() if isinstance(value, str) and value in BACKENDS}
    return needed


# --- servers


@pytest.fixture(scope="session")
def postgresql_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """PostgreSQL, shared by the whole run: do not stop it, do not change its settings."""
    yield from _server(request, "postgresql")


@pytest.fixture(scope="session")
def mysql_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """MySQL, shared by the whole run: do not stop it, do not change its settings."""
    yield from _server(request, "mysql")


@pytest.fixture(scope="session")
def mariadb_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """MariaDB, shared by the whole run: do not stop it, do not change its settings."""
    yield from _server(request, "mariadb")


def _server(request: pytest.FixtureRequest, dialect: str) -> Iterator[Server]:
    with _demanded(request.config, dialect, servers.shared_server(dialect)) as server:
        request.config.stash[_VERSIONS][dialect] = server.version
        yield server


@contextlib.contextmanager
def _demanded(
    config: pytest.Config, dialect: str, making: contextlib.AbstractContextManager[Server]
) -> Iterator[Server]:
    """The server, or the end of the test that asked for it."""
    if dialect not in _chosen(config):
        pytest.fail(f"a test that needs {dialect} says so by a fixture or a marker: --backends leaves it out")
    reason = ""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(making)
        except ServerUnavailableError as exc:
            reason = str(exc)
        if reason:  # outside the except clause, whose traceback would bury the reason
            _refuse(config, dialect, reason)
        yield server


def _refuse(config: pytest.Config, dialect: str, reason: str) -> NoReturn:
    """Skip on a laptop, fail where every server is demanded."""
    if servers.are_required():
        pytest.fail(reason, pytrace=False)
    config.stash[_MISSING][reason] = dialect
    pytest.skip(reason)


@pytest.fixture(scope="session")
def start_server(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`servers.fresh_server`, a context manager, that skips or fails as the shared servers do."""

    def start(dialect: str, **options: Any) -> contextlib.AbstractContextManager[Server]:
        return _demanded(request.config, dialect, servers.fresh_server(dialect, **options))

    return start


# Not for the whole run: as long as it lives, Playwright's event loop runs in this thread.
@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Chromium, for the tests of a module."""
    from support.browser import chromium

    reason = ""
    with contextlib.ExitStack() as stack:
        try:
            browser = stack.enter_context(chromium())
        except ServerUnavailableError as exc:
            reason = str(exc)
        if reason:  # as in _demanded
            _refuse(request.config, "Chromium", reason)
        request.config.stash[_VERSIONS]["Chromium"] = browser.version
        yield browser


# --- databases


@pytest.fixture
def make_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A function from a backend's name to the URL of a new, empty database, dropped at the end."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:

        def make(name: str) -> str:
            if name == "memory":
                return "memory:"
            if name == "sqlite-memory":
                return "sqlite::memory:"
            if name == "sqlite":
                return f"sqlite:///{tmp_path}/chat{next(numbers)}.db"
            server: Server = request.getfixturevalue(f"{name}_server")
            return stack.enter_context(server.database())

        yield make


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> str:
    """An empty database of each backend in turn."""
    return make_url(request.param)


@pytest.fixture(params=SQL_BACKENDS)
def sql_url(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> str:
    """An empty database of each backend that `execute_sql` can look into."""
    return make_url(request.param)


@pytest.fixture(params=servers.DIALECTS)
def server_url(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> str:
    """An empty database of each server."""
    return make_url(request.param)


@pytest.fixture
def sqlite_url(make_url: Callable[[str], str]) -> str:
    return make_url("sqlite")


@pytest.fixture
def postgresql_url(make_url: Callable[[str], str]) -> str:
    return make_url("postgresql")


@pytest.fixture
def mysql_url(make_url: Callable[[str], str]) -> str:
    return make_url("mysql")


@pytest.fixture
def mariadb_url(make_url: Callable[[str], str]) -> str:
    return make_url("mariadb")


@pytest.fixture
def backend(url: str) -> Iterator[Any]:
    """`sessions.connect(url)`, closed at the end."""
    import sessions

    with sessions.connect(url) as backend:
        yield backend


@pytest.fixture
def session(backend: Any) -> Any:
    """The session `chat_1` of that backend."""
    return backend.session("chat_1")


@pytest.fixture(params=["json", "msgspec"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read by each of the two readers."""
    from sessions import _items
    from sessions._quick_json import quick_reader

    quick = quick_reader() if request.param == "msgspec" else None
    assert (quick is None) == (request.param == "json")
    _items.find_quick_reader()  # or the first store would, and put its own in the place of this one
    monkeypatch.setattr(_items, "_read_quickly", quick)


# --- processes


@pytest.fixture(params=["forked by Python", "forked in C"])
def each_fork(request: pytest.FixtureRequest) -> Iterator[None]:
    """Children made in each of the two ways."""
    from support.children import forking_in_c

    with forking_in_c() if request.param == "forked in C" else contextlib.nullcontext():
        yield


# --- what was tested, and what was not

_VERSIONS = pytest.StashKey[dict[str, str]]()
_MISSING = pytest.StashKey[dict[str, str]]()  # by the reason, which is what a skipped test has
_SECTIONS = pytest.StashKey[dict[str, list[str]]]()


@pytest.fixture(scope="session")
def sections(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """Lines for the end of the output, by the titles of their sections."""
    return request.config.stash[_SECTIONS]


def pytest_collection_finish() -> None:
    """Let no collection look at the tests themselves: among 16,000 of them each took 50 ms."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist; the other process sums up
        session.config.workeroutput["versions"] = session.config.stash[_VERSIONS]
        session.config.workeroutput["sections"] = session.config.stash[_SECTIONS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})  # a worker that crashed has none
    node.config.stash[_VERSIONS].update(output.get("versions", {}))
    for title, lines in output.get("sections", {}).items():
        node.config.stash[_SECTIONS].setdefault(title, []).extend(lines)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    reason = str(call.excinfo.value) if report.skipped and call.excinfo else ""
    if dialect := item.config.stash[_MISSING].get(reason):
        # A property, since pytest-xdist sends those from its workers to the process that sums up.
        report.user_properties.append(("missing server", [dialect, reason]))
    return report


def pytest_report_header(config: pytest.Config) -> list[str]:
    import sqlite3

    lines = [f"backends: {', '.join(_chosen(config))}; SQLite {sqlite3.sqlite_version}"]
    for dialect in servers.DIALECTS:
        variable = f"SESSIONS_TEST_{dialect.upper()}_URL"
        if dialect in _chosen(config) and variable in os.environ:
            try:
                with servers.shared_server(dialect) as server:
                    lines.append(f"{dialect}: {server.version} ({variable})")
            except ServerUnavailableError as exc:
                lines.append(f"{dialect}: {exc}")
    return lines


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for title, lines in config.stash[_SECTIONS].items():
        loud = title.startswith("SKIPPED")
        terminalreporter.section(title, sep="!" if loud else "=", red=loud, bold=loud)
        for line in lines:
            terminalreporter.write_line(line, red=loud)
    for dialect, version in sorted(config.stash[_VERSIONS].items()):
        terminalreporter.write_line(f"{dialect} {version}, Python {platform.python_version()}")
    missing = Counter(
        tuple(value)
        for report in terminalreporter.stats.get("skipped", [])
        for name, value in getattr(report, "user_properties", ())  # a module that was skipped has none
        if name == "missing server"
    )
    if missing:
        terminalreporter.section("SKIPPED: no server", sep="!", red=True, bold=True)
    for (dialect, reason), count in sorted(missing.items()):
        terminalreporter.write_line(f"{count} tests need {dialect}: {reason}", red=True)
