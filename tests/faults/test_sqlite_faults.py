"""SQLite: writers killed, files that cannot be written, are damaged, or change under the backend."""

import contextlib
import gc
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sessions
from faults.oracle import Figures, Item, Ledger, batch
from sessions import ConnectionFailedError, DatabaseError, OutcomeUnknownError, Session
from support.claims import OPERATIONS, WRITES, refused
from support.rivals import connection_of
from support.samples import items, texts
from support.servers import connect_raw, execute_sql

_HERE = Path(__file__).parent
_NOBODY = 65534


def program(name: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(_HERE / name), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


# --- killed writers


def test_a_killed_writer_loses_nothing_that_was_acknowledged(
    sqlite_url: str, tmp_path: Path, rng: random.Random, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    kills = scaled(8, 5)
    for kill in range(kills):
        session_id, ledger = f"chat_{kill}", Ledger()
        process = program("sqlite_writer.py", sqlite_url, session_id, str(rng.random()))
        try:
            assert line(process) == "ready\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=rng.uniform(0, 0.1))
        finally:
            process.kill()
            process.wait()
            output = process.stdout.read() if process.stdout else ""
            end(process)
        for what, number, size in (entry.split() for entry in output.split("\n")[:-1]):
            if what == "begin":
                ledger.begin("w", int(number), int(size))
            else:
                ledger.acknowledge("w", int(number))
        with Session.from_url(session_id, sqlite_url) as session:
            verdict = ledger.verdict([item | {"filling": None} for item in session.get_items()])
            figures.add(
                "sqlite",
                writers_killed=1,
                items_acknowledged_by_killed_writers=ledger.items,
                lost=len(verdict.lost),
                duplicated=len(verdict.duplicated),
                reordered=len(verdict.reordered),
            )
            assert verdict, f"kill {kill}: {verdict}"
            session.add_items([{"after": "the kill"}])
        if kill % 20 == 19 or kill == kills - 1:
            assert execute_sql(sqlite_url, "PRAGMA integrity_check") == [("ok",)]
            (tmp_path / "chat1.db").unlink()
            for suffix in ("-wal", "-shm"):
                (tmp_path / f"chat1.db{suffix}").unlink(missing_ok=True)


def test_processes_that_open_a_new_file_at_once(
    make_url: Callable[[str], str], scaled: Callable[[int, int], int]
) -> None:
    count = 6
    for _ in range(min(scaled(2, 1), 30)):
        url, ledger = make_url("sqlite"), Ledger()
        openers = [program("sqlite_opener.py", url, f"w{number}") for number in range(count)]
        try:
            for opener in openers:
                assert line(opener) == "ready\n"
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.write("go\n")
                opener.stdin.flush()
            for number, opener in enumerate(openers):
                assert line(opener) == "done\n"
                for place in range(3):
                    ledger.begin(f"w{number}", place, 2)
                    ledger.acknowledge(f"w{number}", place)
        finally:
            for opener in openers:
                end(opener)
        with Session.from_url("chat_1", url) as session:
            assert ledger.verdict(session.get_items())
        assert execute_sql(url, "PRAGMA journal_mode") == [("wal",)]


class OnePool:
    """A pool of the application's that lends one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        yield self._connection


# --- files and directories that cannot be written


def quick(folder: Path) -> Session:
    """A session in chat.db of that folder that gives up soon."""
    url = f"sqlite:///{folder}/chat.db"
    return Session.from_url("chat_1", url, retry_delay=0.01, max_retries=1, statement_timeout=1.0)


def conversation(folder: Path) -> bytes:
    """Store two items; what is in the file."""
    with quick(folder) as session:
        session.add_items(items("a", "b"))
    return (folder / "chat.db").read_bytes()


@pytest.fixture
def ordinary_directory() -> Iterator[Path]:
    """A directory of its own, and for root the rights of an ordinary user: root may write anything."""
    directory = Path(tempfile.mkdtemp(prefix="sessions-"))
    user = os.geteuid()
    try:
        if user == 0:
            os.chown(directory, _NOBODY, _NOBODY)
            os.seteuid(_NOBODY)
        yield directory
    finally:
        directory.chmod(0o755)
        os.seteuid(user)
        shutil.rmtree(directory)


def test_a_read_only_file_is_read_and_not_written(ordinary_directory: Path) -> None:
    conversation(ordinary_directory)
    (ordinary_directory / "chat.db").chmod(0o444)
    with quick(ordinary_directory) as session:
        for name in WRITES:
            with refused(DatabaseError, match="right to write"):
                OPERATIONS[name](session)
        assert texts(session.get_items()) == ["a", "b"]


def test_a_read_only_file_in_a_read_only_directory_is_not_written(ordinary_directory: Path) -> None:
    """A write-ahead log needs a directory that can be written, even for a reader."""
    before = conversation(ordinary_directory)
    (ordinary_directory / "chat.db").chmod(0o444)
    ordinary_directory.chmod(0o555)
    with quick(ordinary_directory) as session:
        # SQLite may read what it may not lock, if no log is left; whether it does depends on its version.
        with contextlib.suppress(sessions.SessionsError):
            assert texts(session.get_items()) == ["a", "b"]
        for name in WRITES:
            with refused(sessions.SessionsError, match="directory"):
                OPERATIONS[name](session)
    assert (ordinary_directory / "chat.db").read_bytes() == before


@pytest.mark.parametrize("folder", ["", "missing"], ids=["read-only", "missing"])
def test_a_new_file_where_none_can_be_made_is_a_connection_error(ordinary_directory: Path, folder: str) -> None:
    ordinary_directory.chmod(0o755 if folder else 0o555)
    with quick(ordinary_directory / folder) as session, refused(ConnectionFailedError, match="directory"):
        session.get_items()
    assert list(ordinary_directory.iterdir()) == []


@pytest.fixture
def small_disk() -> Iterator[Path]:
    if getattr(os, "geteuid", lambda: 1)() != 0:
        pytest.skip("only root can mount a small file system")
    directory = Path(tempfile.mkdtemp(prefix="sessions-"))
    if mount(directory, "size=512k"):
        directory.rmdir()
        pytest.skip("this machine lets nobody mount a file system")
    yield directory
    gc.collect()  # an error's traceback keeps statements of a closed connection, and so its files, for a moment
    subprocess.run(["umount", str(directory)], check=True)
    directory.rmdir()


def mount(directory: Path, options: str) -> int:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_a_full_disk_is_a_database_error_and_nothing_is_lost(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 200_000)
    with quick(small_disk) as session:
        kept: list[Item] = []

        def fill() -> None:
            for number in range(1000):
                new = batch("w", number, 3, filling="x" * 2000)
                session.add_items(new)
                kept.extend(new)

        with refused(DatabaseError, match="space"):
            fill()
        assert kept
        assert session.get_items() == kept
    with quick(small_disk) as session:
        assert session.get_items() == kept
        (small_disk / "ballast").unlink()
        session.add_items(items("there is room again"))
        assert session.get_items() == [*kept, *items("there is room again")]
    assert execute_sql(f"sqlite:///{small_disk}/chat.db", "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_read_only_file_system_refuses_writes_and_can_be_read_without_a_log(small_disk: Path, journal: str) -> None:
    conversation(small_disk)
    execute_sql(f"sqlite:///{small_disk}/chat.db", f"PRAGMA journal_mode = {journal}")
    before = (small_disk / "chat.db").read_bytes()
    assert mount(small_disk, "remount,ro") == 0
    with quick(small_disk) as session:
        if journal == "delete":
            assert texts(session.get_items()) == ["a", "b"]
        # The log's index is a file that even a reader has to make.
        for name in WRITES if journal == "delete" else OPERATIONS:
            with refused((DatabaseError, ConnectionFailedError)):
                OPERATIONS[name](session)
    assert [path.name for path in small_disk.iterdir()] == ["chat.db"]
    assert (small_disk / "chat.db").read_bytes() == before


@contextlib.contextmanager
def no_file_grows(size: int) -> Iterator[None]:
    """Nobody in this process can write beyond this size: an I/O error for SQLite."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("lent", ["by a pool of ours", "in autocommit", "by the application's pool"])
def test_a_disk_that_fails_during_a_commit_is_an_unknown_outcome(name: str, lent: str, sqlite_url: str) -> None:
    """The log may hold the whole transaction: who repairs the file after a crash commits it."""
    with sessions.connect(sqlite_url) as owner, contextlib.closing(connect_raw(sqlite_url)) as connection:
        owner.session("chat_1").add_items(items("a", "b"))
        if lent == "in autocommit":
            connection.isolation_level = None
            backend = sessions.bind(connection)
        elif lent == "by the application's pool":
            backend = sessions.connect(pool=OnePool(connection))
        else:
            backend = owner
        log = Path(sqlite_url.removeprefix("sqlite:///") + "-wal")
        with no_file_grows(log.stat().st_size), refused(OutcomeUnknownError, match="a crash may bring it back"):
            OPERATIONS[name](backend.session("chat_1"))
        backend.session("chat_1").add_items(items("c"))
        assert texts(backend.session("chat_1").get_items()) == ["a", "b", "c"]


# --- damaged files


def filled(tmp_path: Path) -> Path:
    with quick(tmp_path) as session:
        session.add_items([{"n": n, "filling": "x" * 500} for n in range(200)])
    assert not (tmp_path / "chat.db-wal").exists()
    return tmp_path / "chat.db"


def overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


NO_DATABASES: dict[str, bytes] = {
    "text": b"Dear diary, this is no database.\n" * 100,
    "zeros": b"\x00" * 5000,
    "ones": b"\xff" * 4096,
    "a header alone": b"SQLite format 3\0" + bytes(8000),
}
DAMAGES: dict[str, Callable[[Path], None]] = {
    "the schema": lambda path: overwrite(path, 100, 3000),
    "the pages": lambda path: overwrite(path, 8192, path.stat().st_size - 8192),
    "all but the first page": lambda path: os.truncate(path, 4096),
}


@pytest.mark.parametrize("text", NO_DATABASES.values(), ids=NO_DATABASES)
def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "chat.db").write_bytes(text)
    with quick(tmp_path) as session:
        for operation in OPERATIONS.values():
            with refused(DatabaseError, match="nothing was overwritten|restore the file"):
                operation(session)
    assert (tmp_path / "chat.db").read_bytes() == text


def test_a_directory_in_the_place_of_a_file_is_a_connection_error(tmp_path: Path) -> None:
    (tmp_path / "chat.db").mkdir()
    with quick(tmp_path) as session:
        for operation in OPERATIONS.values():
            with refused(ConnectionFailedError):
                operation(session)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = filled(tmp_path)
    damage(path)
    damaged = path.read_bytes()
    with quick(tmp_path) as session:
        for name in ("get_items", "add_items", "clear_session"):
            with refused(DatabaseError, match="restore the file"):
                OPERATIONS[name](session)
    assert path.read_bytes() == damaged


def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    path = filled(tmp_path)
    os.truncate(path, path.stat().st_size // 2)
    damaged = path.read_bytes()
    with quick(tmp_path) as session, refused(DatabaseError):
        session.get_items()
    assert path.read_bytes() == damaged


# --- files that change under the backend


@pytest.mark.parametrize("restored", [False, True], ids=["removed", "replaced"])
def test_a_file_that_is_removed_or_replaced_is_the_new_one(restored: bool, tmp_path: Path) -> None:
    """As a restore from a backup replaces it: the write-ahead log of the old file goes with it."""
    path, expected = filled(tmp_path), []
    (tmp_path / "backup").mkdir()
    with quick(tmp_path) as session:
        session.add_items(items("lost with the old file"))
        if restored:
            expected = ["a", "b"]
            conversation(tmp_path / "backup")
            for suffix in ("-wal", "-shm"):
                (tmp_path / f"chat.db{suffix}").unlink(missing_ok=True)
            (tmp_path / "backup" / "chat.db").replace(path)
            assert texts(session.get_items()) == expected
        else:
            path.unlink()
        session.add_items(items("new"))
        assert texts(session.get_items()) == [*expected, "new"]
    with quick(tmp_path) as session:
        assert texts(session.get_items()) == [*expected, "new"]
    assert execute_sql(f"sqlite:///{path}", "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_the_removal_of_a_journal_is_synced_too(journal: str, sqlite_url: str) -> None:
    """sqlite.org/pragma.html#pragma_synchronous: after a power cut the journal would be back, and undo the commit."""
    with Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("a"))
    execute_sql(sqlite_url, f"PRAGMA journal_mode = {journal}")
    with sessions.connect(sqlite_url, create_tables=False) as backend, connection_of(backend) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (journal,)
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)


# --- no write-ahead log


def test_a_file_system_without_shared_memory_works_and_is_logged(tmp_path: Path) -> None:
    """SQLite's own lock files of network file systems (the VFS unix-dotfile), which refuse a write-ahead log."""
    done = subprocess.run(
        [sys.executable, str(_HERE / "sqlite_without_wal.py"), f"sqlite:///{tmp_path}/chat.db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "cannot be told" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert "no write-ahead log" in done.stdout
    assert done.stdout.endswith("[{'n': 1}]\n")
    connection = sqlite3.connect(tmp_path / "chat.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_a_process_that_was_killed_while_a_file_got_its_log_leaves_one_that_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with sessions.Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("kept"))
    # The header says by then that there is a log, and the journal of that change is still there.
    path.with_name("chat.db-journal").write_bytes(bytes.fromhex("d9d505f920a163d7").ljust(512, b"\0"))
    url = f"sqlite:///{path}"
    with sessions.Session.from_url("chat_1", url, statement_timeout=1.0, retry_timeout=0.1) as session:
        session.add_items(items("new"))
        assert texts(session.get_items()) == ["kept", "new"]
    assert not path.with_name("chat.db-journal").exists()


def test_a_journal_beside_a_log_that_is_in_use_asks_nobody_to_remove_that(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with sessions.Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("kept"))
        assert path.with_name("chat.db-wal").stat().st_size
        path.with_name("chat.db-journal").write_bytes(bytes.fromhex("d9d505f920a163d7").ljust(512, b"\0"))
        another = [sys.executable, "-P", "-c", _READS, f"sqlite:///{path}"]
        done = subprocess.run(another, capture_output=True, text=True, check=False)
        assert "stands beside a file that has none" not in done.stdout
        path.with_name("chat.db-journal").unlink()
        assert texts(session.get_items()) == ["kept"]


_READS = """
import sys, sessions
with sessions.Session.from_url("chat_1", sys.argv[1], statement_timeout=0.5, retry_timeout=0.1) as session:
    try:
        print(session.get_items())
    except sessions.SessionsError as exc:
        print(exc)
"""
