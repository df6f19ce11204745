"""SQLite: an application that reads its own database file, which lets go of all locks that its process has on it.

Another process that closes the file takes itself for the last one then, and removes the log that is in use.
"""

import contextlib
import gc
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import sessions
from faults.test_replaced_files import another_process_reads, without_descriptors
from sessions import ConnectionFailedError, Session
from support.children import Child, forking_in_c
from support.claims import refused
from support.samples import in_threads, items, texts
from support.servers import execute_sql

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="locks of open file descriptions are Linux's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def backend(path: Path) -> Iterator[sessions.Backend]:
    with sessions.connect(f"sqlite:///{path}") as backend:
        backend.session("chat_1").add_items(items("a"))
        yield backend


@pytest.fixture
def session(backend: sessions.Backend) -> Session:
    return backend.session("chat_1")


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def is_kept(path: Path) -> bool:
    """Whether the log stays when the application has read the file, and another process opens and closes it."""
    before = log_of(path).stat().st_ino
    path.read_bytes()
    another_process_reads(path)
    return log_of(path).exists() and log_of(path).stat().st_ino == before


def descriptors(path: Path) -> int:
    """How many this process has of a file."""
    found = path.stat()
    count = 0
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            count += os.path.samestat(os.fstat(int(number)), found)
    return count


def is_closed(path: Path) -> bool:
    """Whether nobody has the file any more: who wants it alone gets it, and removes the log."""
    command = [sys.executable, "-c", "import sys, sqlite3; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version')"]
    subprocess.run([*command, str(path)], check=True)
    return not log_of(path).exists() and not descriptors(path)


def test_the_log_stays_when_the_application_has_read_the_file(path: Path, session: Session) -> None:
    assert is_kept(path)
    session.add_items(items("b"))
    assert another_process_reads(path) == ["a", "b"]


def test_the_log_stays_for_the_connections_that_are_left(path: Path, backend: sessions.Backend) -> None:
    in_threads(4, lambda number: backend.session(f"chat_{number}").get_items())
    with sessions.connect(f"sqlite:///{path}") as other:
        assert texts(other.session("chat_1").get_items()) == ["a"]
    assert is_kept(path)


def test_the_log_goes_with_the_last_connection(path: Path, backend: sessions.Backend) -> None:
    with sessions.connect(f"sqlite:///{path}") as other:
        other.session("chat_1").get_items()
        backend.close()
        assert log_of(path).exists()
    assert not log_of(path).exists()
    assert not descriptors(path)


def test_a_new_file_and_one_that_was_there_are_held(path: Path, backend: sessions.Backend) -> None:
    assert is_kept(path)  # made by this backend
    backend.close()
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.get_items()
        assert is_kept(path)


def test_an_applications_connection_keeps_its_locks(path: Path, backend: sessions.Backend) -> None:
    with contextlib.closing(sqlite3.connect(path)) as application:
        application.execute("SELECT * FROM agent_messages").fetchall()
        backend.close()
        another_process_reads(path)
        assert log_of(path).exists()
        kept = []
        for _ in range(3):
            with Session.from_url("chat_1", f"sqlite:///{path}") as session:
                session.get_items()
            kept.append(descriptors(path))
        another_process_reads(path)
        assert log_of(path).exists()
        assert len(set(kept)) == 1, kept  # to close one would let go of them
    assert not log_of(path).exists()
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.get_items()
    assert not descriptors(path)


def test_many_files_leave_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number in range(50):
        with Session.from_url("chat_1", f"sqlite:///{tmp_path}/{number}.db") as session:
            session.add_items(items("a"))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_without_a_log_writers_are_not_kept_out(path: Path, backend: sessions.Backend) -> None:
    backend.close()
    execute_sql(f"sqlite:///{path}", "PRAGMA journal_mode = DELETE")
    with sessions.connect(f"sqlite:///{path}", create_tables=False) as one:
        one.session("chat_1").add_items(items("b"))
        execute_sql(f"sqlite:///{path}", "UPDATE agent_sessions SET updated_at = created_at")
        [check] = [check for check in one.check(fix=True) if check.name == "journal mode"]
        assert check.found == "wal", check
        one.session("chat_1").add_items(items("c"))
        assert is_kept(path)


def test_the_journal_mode_is_not_changed_while_a_log_is_in_use(path: Path, session: Session) -> None:
    path.read_bytes()
    change = "import sys, sqlite3; sqlite3.connect(sys.argv[1], timeout=0).execute('PRAGMA journal_mode = DELETE')"
    done = subprocess.run([sys.executable, "-c", change, str(path)], capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr
    session.add_items(items("b"))
    assert another_process_reads(path) == ["a", "b"]


def test_a_moment_without_descriptors_is_an_error_and_passes(path: Path) -> None:
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("a"))
    with Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session:
        with without_descriptors(), refused(ConnectionFailedError, match="ulimit -n"):
            session.get_items()
        assert texts(session.get_items()) == ["a"]
        assert is_kept(path)
    assert is_closed(path)


# --- forks


@pytest.mark.parametrize("told", [True, False], ids=["by Python", "in C"])
def test_a_child_lets_go_of_none_of_its_parents_locks(path: Path, session: Session, *, told: bool) -> None:
    def work() -> list[Any]:
        session.add_items(items("b"))
        kept = is_kept(path)
        session._history.store.close()
        return [kept, descriptors(path)]

    with contextlib.nullcontext() if told else forking_in_c():
        child = Child(work)
    assert child.result() == [True, 0]
    session.get_items()
    assert is_kept(path)
    session.add_items(items("c"))
    assert another_process_reads(path) == ["a", "b", "c"]


@pytest.mark.parametrize("told", [True, False], ids=["by Python", "in C"])
def test_a_child_keeps_no_file_of_its_parent_open(path: Path, backend: sessions.Backend, *, told: bool) -> None:
    reader, writer = os.pipe()

    def work() -> list[str]:
        history = texts(backend.session("chat_1").get_items())
        backend.close()
        os.read(reader, 1)
        return history

    with contextlib.nullcontext() if told else forking_in_c():
        child = Child(work)
    # The child may close the file last.
    backend.session("chat_1").get_items()
    backend.close()
    os.write(writer, b"x")
    assert child.result() == ["a"]
    assert is_closed(path)
    os.close(reader)
    os.close(writer)


# --- Ctrl-C


def _interrupted_at(step: int, act: Callable[[], None]) -> bool:
    """Act, and raise as a signal handler does at a step of it; False where it has fewer steps."""
    steps = 0

    def handle(number: int, frame: FrameType | None) -> None:
        sys.setprofile(None)
        raise KeyboardInterrupt

    def profile(frame: FrameType, event: str, function: Any) -> None:
        nonlocal steps
        code = frame.f_code
        ours = code.co_filename.endswith(("holds.py", "connector.py")) and code.co_name != "__del__"
        if ours and event in ("c_return", "return"):
            steps += 1
            if steps == step:
                handle(signal.SIGINT, frame)

    sys.setprofile(profile)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_ctrl_c_at_any_step_leaves_neither_a_lock_nor_a_descriptor(path: Path) -> None:
    def act() -> None:
        with Session.from_url("chat_1", f"sqlite:///{path}") as session:
            session.get_items()

    act()
    step, stride = 1, 1 if "SESSIONS_TEST_FAULTS" in os.environ else 7
    while _interrupted_at(step, act):
        step += stride
        gc.collect()
        act()
        assert not log_of(path).exists(), step
        assert not descriptors(path), step
    assert step > 50
    assert is_closed(path)
