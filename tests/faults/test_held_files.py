"""SQLite: an application that reads its own database file, which lets go of all locks that its process has on it.

Another process that closes the file takes itself for the last one then, and removes the log that is in use.
"""

import contextlib
import fcntl
import gc
import os
import shutil
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
from sessions import ConnectionFailedError, DatabaseError, Session
from sessions._dialects.sqlite import holds
from sessions._dialects.sqlite.connection import FileConnection
from sessions._dialects.sqlite.connector import FileConnector
from sessions._dialects.sqlite.files import identity_of
from sessions._dialects.sqlite.held_file import is_unlocked_index
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


@contextlib.contextmanager
def another_process(program: str, *arguments: str) -> Iterator[None]:
    """Have a program that has printed a line, and waits for one, beside the block."""
    command = [sys.executable, "-P", "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            yield
        finally:
            other.communicate(b"\n")


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


def test_a_lock_that_an_application_takes_on_a_file_in_the_making_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_it = os.open

    def opened(where: str, flags: int, *mode: int) -> int:
        descriptor = open_it(where, flags, *mode)
        if flags & os.O_EXCL and where == str(path):
            application.append(sqlite3.connect(path, isolation_level=None))
            application[0].execute("BEGIN IMMEDIATE")
        return descriptor

    application: list[sqlite3.Connection] = []
    monkeypatch.setattr(os, "open", opened)
    with sessions.connect(f"sqlite:///{path}", max_retries=0, statement_timeout=0.1) as backend:
        with refused(DatabaseError):
            backend.session("chat_1").add_items(items("a"))
        rival = "import sys, sqlite3; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        found = subprocess.run([sys.executable, "-c", rival, str(path)], stderr=subprocess.PIPE, check=False)
        assert b"database is locked" in found.stderr
        application[0].execute("CREATE TABLE orders (id INTEGER)")
        application[0].execute("COMMIT")
        application[0].close()
        backend.session("chat_1").add_items(items("a"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert not descriptors(path)


def test_many_files_leave_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number in range(50):
        with Session.from_url("chat_1", f"sqlite:///{tmp_path}/{number}.db") as session:
            session.add_items(items("a"))
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


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


# --- when it begins and ends


def test_the_log_stays_as_soon_as_it_is_open(
    path: Path, backend: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.close()
    prepare, kept = FileConnector._prepare, []

    def read_behind(connector: FileConnector, connection: FileConnection) -> bool:
        found = prepare(connector, connection)
        monkeypatch.undo()
        kept.append(is_kept(path))
        return found

    monkeypatch.setattr(FileConnector, "_prepare", read_behind)
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("b"))
    assert kept == [True]


def test_the_log_stays_until_it_is_closed(
    path: Path, backend: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, close = [], FileConnection.close

    def read_before(connection: FileConnection) -> None:
        monkeypatch.undo()
        kept.append(is_kept(path))
        close(connection)

    monkeypatch.setattr(FileConnection, "close", read_before, raising=False)
    backend.close()
    assert kept == [True]
    assert not log_of(path).exists()


def test_the_file_alone_is_whole_behind_the_last_close(path: Path, backend: sessions.Backend) -> None:
    with contextlib.closing(sqlite3.connect(path)) as application:
        application.execute("SELECT * FROM agent_messages").fetchall()
        backend.close()
        copy = path.with_name("copy.db")
        subprocess.run(["cp", str(path), str(copy)], check=True)
    assert another_process_reads(copy) == ["a"]


def test_who_opens_a_file_waits_for_who_has_it_alone(
    path: Path, backend: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.close()
    have_alone = (
        "import sys, sqlite3; connection = sqlite3.connect(sys.argv[1]); connection.execute('PRAGMA locking_mode = "
        "EXCLUSIVE'); connection.execute('SELECT * FROM agent_messages').fetchall(); print(flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", have_alone, str(path)], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with (
            Session.from_url("chat_1", f"sqlite:///{path}", statement_timeout=0.01, max_retries=0) as session,
            refused(sessions.DatabaseError, match="kept the file locked"),
        ):
            session.get_items()
        monkeypatch.setattr("sessions._dialects.sqlite.connector.sleep", lambda seconds: other.communicate(b"\n"))
        with Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session:
            assert texts(session.get_items()) == ["a"]


def at_our_close(path: Path, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Act once just before our own descriptor of a file is closed."""
    close, acts = os.close, [act]

    def acting(number: int) -> None:
        if acts and os.path.samestat(os.fstat(number), path.stat()):
            monkeypatch.undo()
            acts.pop()()
        close(number)

    monkeypatch.setattr(os, "close", acting)


def test_a_lock_that_an_application_takes_at_our_close_stays(
    path: Path, backend: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as application:

        def read() -> None:
            with contextlib.suppress(sqlite3.OperationalError):
                application.execute("SELECT * FROM agent_messages").fetchall()

        at_our_close(path, read, monkeypatch)
        backend.close()
        read()
        another_process_reads(path)
        assert log_of(path).exists()


def test_a_log_that_somebody_has_open_without_locks_is_not_removed(path: Path, backend: sessions.Backend) -> None:
    with contextlib.closing(sqlite3.connect(path)) as application:
        application.execute("SELECT * FROM agent_messages").fetchall()
        path.read_bytes()
        backend.close()
        assert log_of(path).exists()


def test_files_that_another_process_has_open_leave_no_descriptor(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.db") for number in range(5)]
    have_open = (
        "import sys, sessions; kept = [sessions.Session.from_url('chat_1', f'sqlite:///{path}') for path in "
        "sys.argv[1:]]; [session.get_items() for session in kept]; print(flush=True); input()"
    )
    with another_process(have_open, *paths):
        for path in paths:
            with Session.from_url("chat_1", f"sqlite:///{path}") as session:
                session.get_items()
            assert not descriptors(Path(path))


def test_a_file_that_somebody_keeps_locked_costs_no_further_descriptors(tmp_path: Path) -> None:
    locked, other = tmp_path / "locked.db", f"sqlite:///{tmp_path}/other.db"
    lock = (
        "import sys, sqlite3; kept = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "kept.execute('CREATE TABLE t (a)'); kept.execute('BEGIN EXCLUSIVE'); print(flush=True); input()"
    )
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with another_process(lock, str(locked)):
        waits_for_nobody: dict[str, Any] = {"statement_timeout": 0.01, "max_retries": 0}
        session = Session.from_url("chat_1", f"sqlite:///{locked}", **waits_for_nobody)
        with session, refused(sessions.DatabaseError, match="locked"):
            session.get_items()
        for _ in range(20):
            with Session.from_url("chat_1", other) as session:
                session.get_items()
        assert len(os.listdir("/proc/self/fd")) < before + 10  # noqa: PTH208
    with Session.from_url("chat_1", other) as session:
        session.get_items()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_collection_in_the_middle_disturbs_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[Any] = []
    for number in range(40):
        circle: list[Any] = [Session.from_url("chat_1", f"sqlite:///{path}.{number % 3}")]
        circle[0].get_items()
        circle.append(circle)
        forgotten.append(circle)

    def collect_and_identify(found: os.stat_result | None) -> Any:
        if forgotten:
            del forgotten[-1]
            gc.collect()
        return identity_of(found)

    del circle
    monkeypatch.setattr(holds, "identity_of", collect_and_identify)
    while forgotten:
        with Session.from_url("chat_1", f"sqlite:///{path}") as session:
            session.add_items(items("a"))
            assert is_kept(path)
    assert is_closed(path)


# --- forks


FORKS_BEFORE_IT_KNOWS_US = """
import os, sqlite3, sys

application = sqlite3.connect(sys.argv[2])
application.execute("SELECT * FROM agent_messages").fetchall()
child = os.fork()
if not child:
    import sessions

    try:
        sessions.Session.from_url("chat_1", f"sqlite:///{sys.argv[1]}", max_retries=0).get_items()
    except sessions.ConnectionFailedError as exc:
        os._exit(7 if "before the fork" in str(exc) else 1)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def forking_before_it_knows_us(path: Path, opened: Path) -> list[str]:
    return [sys.executable, "-P", "-W", "ignore", "-c", FORKS_BEFORE_IT_KNOWS_US, str(path), str(opened)]


def test_a_child_is_refused_whose_parent_did_not_know_us(path: Path, backend: sessions.Backend) -> None:
    assert subprocess.run(forking_before_it_knows_us(path, path), check=False).returncode == 7


def test_a_child_is_refused_whose_parent_has_the_file_open_on_another_mount(
    path: Path, backend: sessions.Backend, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    mounted = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount --bind "$1" "$2" && shift 2 && exec "$@"',
        "sh",
    ]
    mounted += [str(path.parent), str(elsewhere)]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    command = [*mounted, *forking_before_it_knows_us(path, elsewhere / path.name)]
    assert subprocess.run(command, check=False).returncode == 7


def test_a_child_with_many_descriptors_is_refused(path: Path, backend: sessions.Backend) -> None:
    have_many = "import os; [os.open('/dev/null', os.O_RDONLY) for _ in range(1500)]"
    command = forking_before_it_knows_us(path, path)
    command[-3] = f"{have_many}\n{command[-3]}"
    limited = ["sh", "-c", 'ulimit -n 4096 && exec "$@"', "sh", *command]
    assert subprocess.run(limited, check=False).returncode == 7


def test_an_index_that_a_thread_is_about_to_lock_is_not_a_parents(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have_open = "import sys, sqlite3; kept = sqlite3.connect(sys.argv[1]); kept.execute('SELECT * FROM agent_messages')"
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("a"))

    def work() -> list[str]:
        about_to_lock = os.open(f"{path}-shm", os.O_RDWR)
        monkeypatch.setattr(holds, "sleep", lambda seconds: os.close(about_to_lock))
        with Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session:
            history = texts(session.get_items())
        with pytest.raises(OSError, match="descriptor"):  # it had to be looked at again
            os.close(about_to_lock)
        return history

    with another_process(f"{have_open}.fetchall(); print(flush=True); input()", str(path)):
        # Only who was forked looks.
        assert Child(work).result() == ["a"]


def test_an_index_is_locked_also_where_its_neighbours_are(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.db-shm")
    index = os.open(path, os.O_CREAT | os.O_RDWR)
    assert is_unlocked_index(index, path)
    # A reader's mark is beside it, and the system tells of both as of one lock.
    fcntl.lockf(index, fcntl.LOCK_SH, 5, 124)
    assert not is_unlocked_index(index, path)
    os.close(index)
    index = os.open(path, os.O_RDONLY)
    assert not is_unlocked_index(index, path)
    os.close(index)


def test_where_nothing_tells_what_is_open_the_file_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(where: str) -> list[str]:
        raise FileNotFoundError(2, "No such file or directory", where)

    monkeypatch.setattr(os, "listdir", listdir)
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize("told", [True, False], ids=["by Python", "in C"])
def test_a_child_beside_an_applications_connection_is_refused(
    path: Path, backend: sessions.Backend, *, told: bool
) -> None:
    application = sqlite3.connect(path)
    application.execute("SELECT * FROM agent_messages").fetchall()
    url = f"sqlite:///{path}"

    def work() -> list[str]:
        with Session.from_url("chat_1", url, max_retries=0) as session:
            with refused(ConnectionFailedError, match="before the fork"):
                session.get_items()
            application.close()
            session.add_items(items("b"))
            with contextlib.closing(sqlite3.connect(path)) as its_own:
                its_own.execute("SELECT * FROM agent_messages").fetchall()
                with Session.from_url("chat_1", url) as other:
                    return texts(other.get_items())

    with contextlib.nullcontext() if told else forking_in_c():
        child = Child(work)
    application.close()
    assert child.result() == ["a", "b"]


def test_a_child_is_refused_whose_parent_had_the_file_open_by_another_name(path: Path) -> None:
    built = path.with_suffix(".new")
    with Session.from_url("chat_1", f"sqlite:///{built}") as session:
        session.add_items(items("a"))
    application = sqlite3.connect(built)
    application.execute("SELECT * FROM agent_messages").fetchall()
    reader, writer = os.pipe()

    def work() -> None:
        os.read(reader, 1)
        with Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session, refused(ConnectionFailedError):
            session.add_items(items("b"))

    child = Child(work)
    application.close()
    built.rename(path)
    have_open = "import sys, sqlite3; kept = sqlite3.connect(sys.argv[1]); kept.execute('SELECT * FROM agent_messages')"
    with another_process(f"{have_open}.fetchall(); print(flush=True); input()", str(path)):
        os.write(writer, b"x")
        child.result()
    os.close(reader)
    os.close(writer)


def test_a_child_that_opens_two_at_once_is_refused_both(
    path: Path, backend: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = sqlite3.connect(path)
    application.execute("SELECT * FROM agent_messages").fetchall()
    slept: list[float] = []

    def open_one() -> None:
        with (
            Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session,
            refused(ConnectionFailedError, match="before the fork"),
        ):
            session.get_items()

    def open_another(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            open_one()

    def work() -> None:
        monkeypatch.setattr(holds, "sleep", open_another)
        open_one()
        assert len(slept) > 1

    child = Child(work)
    application.close()
    child.result()


def test_a_child_that_is_forked_at_our_close_locks_nobody_out(
    path: Path, backend: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    children: list[Child] = []
    at_our_close(path, lambda: children.append(Child(lambda: os.read(reader, 1))), monkeypatch)
    backend.close()
    assert is_closed(path)
    os.write(writer, b"x")
    assert children[0].result() == b"x"
    os.close(reader)
    os.close(writer)


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


@pytest.mark.parametrize("forks", [1, 2])
@pytest.mark.parametrize("told", [True, False], ids=["by Python", "in C"])
def test_a_fork_lets_go_of_no_log_that_the_application_has_open(
    path: Path, backend: sessions.Backend, *, told: bool, forks: int
) -> None:
    with contextlib.closing(sqlite3.connect(path)) as application:
        session = sessions.bind(application).session("chat_1")
        for number in range(forks):
            session.add_items(items(f"before {number}"))
            application.commit()
            with contextlib.nullcontext() if told else forking_in_c():
                assert Child(os.getpid).result() != os.getpid()
        assert is_kept(path)
        session.add_items(items("b"))
        application.commit()
    assert another_process_reads(path) == ["a", *(f"before {number}" for number in range(forks)), "b"]
    backend.close()
    with contextlib.closing(sqlite3.connect(path)) as last:
        assert last.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert is_closed(path)


def test_a_fork_lets_go_of_no_log_that_another_thread_reads_the_file_of(
    path: Path, backend: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    close = FileConnector.close

    def close_and_read(connector: FileConnector, connection: FileConnection) -> None:
        close(connector, connection)
        kept.append(is_kept(path))

    with contextlib.closing(sqlite3.connect(path)) as application:
        application.execute("SELECT * FROM agent_messages").fetchall()
        with monkeypatch.context() as patch:
            patch.setattr(FileConnector, "close", close_and_read)
            Child(os.getpid).result()
    assert kept == [True]
    backend.close()
    assert is_closed(path)


def test_behind_a_fork_the_log_goes_with_the_backend(path: Path, backend: sessions.Backend) -> None:
    with contextlib.closing(sqlite3.connect(path)) as application:
        application.execute("SELECT * FROM agent_messages").fetchall()
        Child(os.getpid).result()
    command = [sys.executable, "-c", _ADD, f"sqlite:///{path}"]
    subprocess.run(command, check=True)
    assert log_of(path).exists()
    backend.close()
    assert not log_of(path).exists()
    shutil.copy(path, path.with_suffix(".copy"))
    with Session.from_url("chat_1", f"sqlite:///{path.with_suffix('.copy')}") as copied:
        assert texts(copied.get_items()) == ["a", "b"]
    assert is_closed(path)


def test_a_fork_holds_no_file_that_nobody_else_in_the_process_has_open(path: Path, backend: sessions.Backend) -> None:
    in_threads(4, lambda number: backend.session(f"chat_{number}").add_items(items("b")))
    Child(os.getpid).result()
    assert not log_of(path).exists()
    assert not descriptors(path)
    another_process_reads(path)
    assert not log_of(path).exists()


_ADD = """
import sys, sessions
with sessions.Session.from_url("chat_1", sys.argv[1]) as session:
    session.add_items([{"role": "user", "content": "b"}])
"""


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
    # What two processes have closed at the same moment may be kept until the next file is opened.
    with Session.from_url("chat_1", f"sqlite:///{path}.other") as session:
        session.get_items()
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
        # No signal is handled while a generator is closed, and what is raised there goes nowhere, as in __del__.
        ours = code.co_filename.endswith(
            ("holds.py", "held_file.py", "connection.py", "connector.py", "files.py")
        ) and code.co_name not in ("__del__", "<genexpr>")
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
