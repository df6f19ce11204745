"""SQLite: writers killed, files that cannot be written, are damaged, or change under the backend."""

import contextlib
import gc
import os
import random
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
from sessions import ConnectionFailedError, DatabaseError, Session
from support.samples import items, texts
from support.servers import execute_sql

_HERE = Path(__file__).parent
QUICK = {"retry_delay": 0.01, "max_retries": 1, "statement_timeout": 1.0}
_NOBODY = 65534

as_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can mount a small file system")


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


# --- files and directories that cannot be written


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
        os.seteuid(user)
        shutil.rmtree(directory)


def conversation(directory: Path) -> str:
    url = f"sqlite:///{directory}/chat.db"
    with Session.from_url("chat_1", url) as session:
        session.add_items(items("a", "b"))
    return url


def writes(session: Session) -> list[Callable[[], object]]:
    return [
        lambda: session.add_items(items("c")),
        session.pop_item,
        session.clear_session,
        lambda: session.replace_items(items("d")),
    ]


def test_a_read_only_file_is_read_and_not_written(ordinary_directory: Path) -> None:
    url = conversation(ordinary_directory)
    (ordinary_directory / "chat.db").chmod(0o444)
    with Session.from_url("chat_1", url, **QUICK) as session:  # type: ignore[arg-type]
        assert texts(session.get_items()) == ["a", "b"]
        for write in writes(session):
            with pytest.raises(DatabaseError, match="right to write"):
                write()
        assert texts(session.get_items()) == ["a", "b"]


def test_a_read_only_file_in_a_read_only_directory_is_not_written(ordinary_directory: Path) -> None:
    """A write-ahead log needs a directory that can be written, even for a reader."""
    url = conversation(ordinary_directory)
    before = (ordinary_directory / "chat.db").read_bytes()
    (ordinary_directory / "chat.db").chmod(0o444)
    ordinary_directory.chmod(0o555)
    try:
        with Session.from_url("chat_1", url, **QUICK) as session:  # type: ignore[arg-type]
            # SQLite may read what it may not lock, if no log is left; whether it does depends on its version.
            with contextlib.suppress(sessions.SessionsError):
                assert texts(session.get_items()) == ["a", "b"]
            for write in writes(session):
                with pytest.raises(sessions.SessionsError, match="directory"):
                    write()
        assert (ordinary_directory / "chat.db").read_bytes() == before
    finally:
        ordinary_directory.chmod(0o755)


def test_a_new_file_in_a_read_only_directory_is_a_connection_error(ordinary_directory: Path) -> None:
    ordinary_directory.chmod(0o555)
    try:
        with (
            Session.from_url("chat_1", f"sqlite:///{ordinary_directory}/chat.db", **QUICK) as session,  # type: ignore[arg-type]
            pytest.raises(ConnectionFailedError, match="directory"),
        ):
            session.get_items()
        assert list(ordinary_directory.iterdir()) == []
    finally:
        ordinary_directory.chmod(0o755)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sessions-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        directory.rmdir()
        pytest.skip("this machine lets nobody mount a file system")
    yield directory
    gc.collect()  # an error's traceback keeps statements of a closed connection, and so its files, for a moment
    subprocess.run(["umount", str(directory)], check=True)
    directory.rmdir()


@as_root
def test_a_full_disk_is_a_database_error_and_nothing_is_lost(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 200_000)
    with Session.from_url("chat_1", f"sqlite:///{small_disk}/chat.db", **QUICK) as session:  # type: ignore[arg-type]
        kept: list[Item] = []

        def fill() -> None:
            for number in range(1000):
                new = batch("w", number, 3, filling="x" * 2000)
                session.add_items(new)
                kept.extend(new)

        with pytest.raises(DatabaseError, match="space"):
            fill()
        assert kept
        assert session.get_items() == kept
    with Session.from_url("chat_1", f"sqlite:///{small_disk}/chat.db", **QUICK) as session:  # type: ignore[arg-type]
        assert session.get_items() == kept
        (small_disk / "ballast").unlink()
        session.add_items(items("there is room again"))
        assert session.get_items() == [*kept, *items("there is room again")]


# --- damaged files


def overwritten(path: Path, data: bytes, at: int = 0) -> bytes:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return path.read_bytes()


def filled(tmp_path: Path) -> tuple[str, Path]:
    url = f"sqlite:///{tmp_path}/chat.db"
    with Session.from_url("chat_1", url) as session:
        session.add_items([{"n": n, "filling": "x" * 500} for n in range(200)])
    assert not (tmp_path / "chat.db-wal").exists()
    return url, tmp_path / "chat.db"


@pytest.mark.parametrize("text", [b"Dear diary, this is no database.\n" * 100, b"\x00" * 5000, b"\xff" * 4096])
def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    path.write_bytes(text)
    with Session.from_url("chat_1", f"sqlite:///{path}", **QUICK) as session:  # type: ignore[arg-type]
        for operation in (session.get_items, *writes(session)):
            with pytest.raises(sessions.SessionsError, match="nothing was overwritten"):
                operation()
    assert path.read_bytes() == text


@pytest.mark.parametrize("where", ["the schema", "the pages"])
def test_a_damaged_file_is_an_error_and_stays_as_it_is(where: str, tmp_path: Path) -> None:
    url, path = filled(tmp_path)
    if where == "the schema":
        damaged = overwritten(path, b"\xa5" * 3000, at=100)
    else:
        damaged = overwritten(path, b"\xa5" * (path.stat().st_size - 8192), at=8192)
    with Session.from_url("chat_1", url, **QUICK) as session:  # type: ignore[arg-type]
        for operation in (session.get_items, lambda: session.add_items(items("c")), session.clear_session):
            with pytest.raises(DatabaseError, match="restore the file"):
                operation()
    assert path.read_bytes() == damaged


def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    url, path = filled(tmp_path)
    os.truncate(path, path.stat().st_size // 2)
    damaged = path.read_bytes()
    with Session.from_url("chat_1", url, **QUICK) as session, pytest.raises(DatabaseError):  # type: ignore[arg-type]
        session.get_items()
    assert path.read_bytes() == damaged


# --- files that change under the backend


def test_a_removed_file_is_made_anew(tmp_path: Path) -> None:
    url, path = filled(tmp_path)
    with Session.from_url("chat_1", url, **QUICK) as session:  # type: ignore[arg-type]
        assert len(session.get_items()) == 200
        path.unlink()
        session.add_items(items("new"))
        assert texts(session.get_items()) == ["new"]
    with Session.from_url("chat_1", url) as session:
        assert texts(session.get_items()) == ["new"]
    assert execute_sql(url, "PRAGMA integrity_check") == [("ok",)]


def test_what_is_written_after_a_file_was_replaced_is_in_the_new_file(tmp_path: Path) -> None:
    """As a restore from a backup replaces it: the write-ahead log of the old file goes with it."""
    url, path = filled(tmp_path)
    with Session.from_url("chat_1", f"sqlite:///{tmp_path}/backup.db") as backup:
        backup.add_items(items("restored"))
    with Session.from_url("chat_1", url, **QUICK) as session:  # type: ignore[arg-type]
        session.add_items(items("lost with the old file"))
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"chat.db{suffix}").unlink(missing_ok=True)
        (tmp_path / "backup.db").replace(path)
        assert texts(session.get_items()) == ["restored"]
        session.add_items(items("new"))
        assert texts(session.get_items()) == ["restored", "new"]
    with Session.from_url("chat_1", url) as session:
        assert texts(session.get_items()) == ["restored", "new"]
    assert execute_sql(url, "PRAGMA integrity_check") == [("ok",)]


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
