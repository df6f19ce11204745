"""SQLite: a file that is restored, replaced or moved while a backend has it open."""

import contextlib
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import sessions
from sessions import ConnectionFailedError, DatabaseError, OutcomeUnknownError, Session
from sessions._dialects.sqlite.files import directory_at
from support.claims import refused
from support.rivals import connection_of, eventually, lender_of
from support.samples import in_threads, items, texts
from support.servers import execute_sql

_READ = """
import sys, sessions
with sessions.Session.from_url("chat_1", sys.argv[1]) as session:
    print(*(item["content"] for item in session.get_items()), sep="\\n")
"""


def another_process_reads(path: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ, f"sqlite:///{path}"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def is_sound(path: Path) -> bool:
    return execute_sql(f"sqlite:///{path}", "PRAGMA integrity_check") == [("ok",)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "chat.db"


@pytest.fixture
def backend(path: Path) -> Iterator[sessions.Backend]:
    """A backend that has stored `kept`, of which a backup is made, and then `gone`."""
    with sessions.connect(f"sqlite:///{path}", retry_delay=0.01) as backend:
        session = backend.session("chat_1")
        session.add_items(items("kept"))
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(path.with_name("backup"))) as target,
        ):
            source.backup(target)
        session.add_items(items("gone"))
        yield backend


@pytest.fixture
def session(backend: sessions.Backend) -> Session:
    return backend.session("chat_1")


# --- ways to restore a file. A shell of its own: to close a file in this process would let go of SQLite's locks.


def shell(command: str, path: Path) -> None:
    subprocess.run(["sh", "-ec", command], cwd=path.parent, check=True)


WAYS = {
    "copied over it": "rm chat.db-wal chat.db-shm; cp backup chat.db",
    "copied over it at last": "cp backup chat.db; rm chat.db-wal chat.db-shm",
    "moved over it": "rm chat.db-wal chat.db-shm; mv backup chat.db",
    "moved over it without its log": "mv backup chat.db",
    "made anew": "rm chat.db-wal chat.db-shm chat.db; cp backup chat.db",
    "the directory exchanged": "mkdir ../new; mv backup ../new/chat.db; mv ../data ../old; mv ../new ../data",
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@each_way
def test_what_is_acknowledged_after_a_restore_is_in_the_restored_file(path: Path, session: Session, way: str) -> None:
    shell(way, path)
    session.add_items(items("new"))
    assert another_process_reads(path) == ["kept", "new"]
    assert texts(session.get_items()) == ["kept", "new"]


@each_way
def test_a_restored_file_is_read_at_once(path: Path, session: Session, way: str) -> None:
    shell(way, path)
    assert texts(session.get_items()) == ["kept"]


@each_way
def test_closing_a_backend_undoes_no_restore(path: Path, backend: sessions.Backend, way: str) -> None:
    shell(way, path)
    backend.close()
    assert another_process_reads(path) == ["kept"]
    assert is_sound(path)


# A process that has not seen the exchange takes the log that was left behind for that of the new file.
@pytest.mark.parametrize("way", [way for way in WAYS.values() if "wal" in way or "data" in way])
def test_closing_a_backend_keeps_what_another_process_wrote_since(
    path: Path, backend: sessions.Backend, way: str
) -> None:
    shell(way, path)
    write = _READ.replace("print", "session.add_items([{'content': 'theirs'}]); print")
    subprocess.run([sys.executable, "-P", "-c", write, f"sqlite:///{path}"], stdout=subprocess.DEVNULL, check=True)
    backend.close()
    assert another_process_reads(path) == ["kept", "theirs"]
    assert is_sound(path)


_IDLE = """
import sys, sessions
backend = sessions.connect(sys.argv[1])
backend.session("chat_1").get_items()
print(flush=True)
if sys.stdin.readline() == "close\\n":
    backend.close()
"""
_WRITER = """
import sys, sessions
session = sessions.connect(sys.argv[1]).session("chat_1")
session.get_items()
print(flush=True)
sys.stdin.readline()
for content in ("new 1", "new 2"):
    session.add_items([{"content": content}])
print(flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("ending", ["close", "exit"])
@pytest.mark.parametrize("killed", [False, True], ids=["open", "killed"])
def test_what_another_process_wrote_since_is_wiped_by_none_that_had_the_file_before(
    path: Path, backend: sessions.Backend, ending: str, *, killed: bool
) -> None:
    """They have one log: a file that is moved over another one does not bring its own."""

    def say(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        process.stdout.readline()

    def start(program: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-c", program, f"sqlite:///{path}"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        say(process, "")
        return process

    with start(_IDLE) as idle, start(_WRITER) as writer:
        backend.close()
        shell("mv backup chat.db", path)
        say(writer, "write\n")
        if killed:
            writer.kill()
            writer.wait()
        idle.communicate(f"{ending}\n")
        if not killed:
            writer.communicate("\n")
    assert another_process_reads(path) == ["kept", "new 1", "new 2"]
    assert is_sound(path)


@each_way
def test_every_connection_of_a_pool_goes_on_with_the_restored_file(
    path: Path, backend: sessions.Backend, way: str
) -> None:
    with contextlib.ExitStack() as in_use:
        for _ in range(4):
            in_use.enter_context(connection_of(backend))
    shell(way, path)
    in_threads(4, lambda number: backend.session("chat_1").add_items(items(f"new {number}")))
    backend.close()
    assert sorted(another_process_reads(path)) == ["kept", *(f"new {number}" for number in range(4))]
    assert is_sound(path)


@each_way
def test_a_connection_in_use_during_a_restore_loses_nothing_acknowledged(
    path: Path, backend: sessions.Backend, session: Session, way: str
) -> None:
    written = []
    with connection_of(backend):
        shell(way, path)
        # Where the file itself is the same, nobody can have it anew before this connection has let go of it.
        with contextlib.suppress(ConnectionFailedError):
            session.add_items(items("first"))
            written.append("first")
    session.add_items(items("second"))
    backend.close()
    assert another_process_reads(path) == ["kept", *written, "second"]
    assert is_sound(path)


@each_way
def test_two_backends_of_a_process_agree_after_a_restore(path: Path, session: Session, way: str) -> None:
    """SQLite has one index of the log for all connections of a process to a file."""
    with sessions.connect(f"sqlite:///{path}", max_retries=0) as other:
        assert texts(other.session("chat_1").get_items()) == ["kept", "gone"]
        shell(way, path)
        written = []
        for number, one in enumerate([other.session("chat_1"), session] * 2):
            # Where the file itself is the same, the first waits for the second to let go of it.
            with contextlib.suppress(ConnectionFailedError):
                one.add_items(items(f"new {number}"))
                written.append(f"new {number}")
        assert {"new 1", "new 2", "new 3"} <= set(written)
    assert another_process_reads(path) == ["kept", *written]
    assert is_sound(path)


# --- a backup that is put beside the log of another file

_KILLED = """
import os, sqlite3, sys, sessions
with sessions.connect(sys.argv[1]) as backend:
    for number in range(200):
        if number == 100:  # what the log holds from here on is not the whole file
            sqlite3.connect(sys.argv[1].removeprefix("sqlite:///")).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        backend.session(f"chat_{number}").add_items([{"content": "gone"}] * 5)
    os._exit(9)
"""
COPIES: dict[str, Callable[[sqlite3.Connection, str], object]] = {
    "by VACUUM INTO": lambda source, name: source.execute("VACUUM INTO ?", (name,)),
    "by the backup API": lambda source, name: source.backup(sqlite3.connect(name)),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_the_log_that_a_killed_process_left_gets_into_no_backup(
    tmp_path: Path, copy: Callable[[sqlite3.Connection, str], object]
) -> None:
    path, backup = tmp_path / "chat.db", tmp_path / "backup"
    url = f"sqlite:///{path}"
    with Session.from_url("chat_1", url) as session:
        session.add_items(items("kept"))
    with contextlib.closing(sqlite3.connect(path)) as source:
        copy(source, str(backup))
    subprocess.run([sys.executable, "-P", "-c", _KILLED, url], check=False)
    log = path.with_name("chat.db-wal")
    assert log.stat().st_size
    left = log.read_bytes()
    shell("cp backup chat.db", path)
    with Session.from_url("chat_1", url, retry_timeout=0.1) as session:
        for operation in (session.get_items, lambda: session.add_items(items("new"))):
            with refused((ConnectionFailedError, DatabaseError), match="-shm"):
                operation()
    assert path.read_bytes() == backup.read_bytes()
    assert log.read_bytes() == left
    shell("rm chat.db-wal chat.db-shm", path)
    assert another_process_reads(path) == ["kept"]


# --- at the worst moment


def at(backend: sessions.Backend, statement: str, act: Callable[[], None]) -> None:
    """Act once when a connection of the backend begins to execute a statement."""
    [(connection, _)] = lender_of(backend)._idle

    def traced(text: str) -> None:
        if statement in text:
            connection.set_trace_callback(None)
            act()

    connection.set_trace_callback(traced)


def settle(backend: sessions.Backend, session: Session) -> None:
    """Write until the directory has not changed for a while, which is all that is looked at then."""
    [(connection, _)] = lender_of(backend)._idle
    while connection.directory is None:
        session.add_items(items("gone"))
        session.pop_item()


when_settled = pytest.mark.parametrize("settled", [False, True], ids=["at once", "behind many writes"])


@pytest.mark.parametrize("way", [*WAYS.values(), "rm chat.db-wal chat.db-shm"], ids=[*WAYS, "the log alone"])
def test_a_restore_is_noticed_also_when_the_directory_has_been_still_since(
    path: Path, backend: sessions.Backend, session: Session, way: str
) -> None:
    settle(backend, session)
    shell(way, path)
    assert eventually(lambda: directory_at(str(path.parent)) is not None)
    session.add_items(items("new"))
    assert another_process_reads(path)[-1:] == ["new"]
    backend.close()
    assert another_process_reads(path)[-1:] == ["new"]
    assert is_sound(path)


@each_way
@when_settled
def test_a_restore_within_a_transaction_leaves_the_batch_once(
    path: Path, backend: sessions.Backend, session: Session, way: str, *, settled: bool
) -> None:
    if settled:
        settle(backend, session)
    at(backend, "INSERT INTO", lambda: shell(way, path))
    session.add_items(items("a", "b"))
    backend.close()
    assert another_process_reads(path) == ["kept", "a", "b"]
    assert is_sound(path)


@each_way
@when_settled
def test_a_restore_within_a_commit_is_an_unknown_outcome(
    path: Path, backend: sessions.Backend, session: Session, way: str, *, settled: bool
) -> None:
    if settled:
        settle(backend, session)
    at(backend, "COMMIT", lambda: shell(way, path))
    with refused(OutcomeUnknownError):
        session.add_items(items("a", "b"))
    session.add_items(items("new"))
    backend.close()
    assert another_process_reads(path) == ["kept", "new"]
    assert is_sound(path)


_SWAP = """
import os, sys, sessions
path, other, link = sys.argv[1:]
swapped = []
def hook(event, arguments):
    # SQLite has the file open by then.
    if event == "sqlite3.connect/handle" and not swapped:
        swapped.append(True)
        os.replace(other, path)
sys.addaudithook(hook)
with sessions.Session.from_url("chat_1", f"sqlite:///{link}") as session:
    session.add_items([{"content": "new"}])
"""


@pytest.mark.parametrize("link", [False, True], ids=["by its name", "through a link"])
def test_a_file_that_is_swapped_while_it_is_opened_is_the_one_that_stays(tmp_path: Path, link: bool) -> None:
    path, other, name = tmp_path / "chat.db", tmp_path / "other.db", tmp_path / "link.db"
    for file in (path, other):
        with Session.from_url("chat_1", f"sqlite:///{file}") as session:
            session.add_items(items(file.stem))
    name.symlink_to(path)
    arguments = [str(path), str(other), str(name if link else path)]
    subprocess.run([sys.executable, "-P", "-c", _SWAP, *arguments], check=True)
    assert another_process_reads(path) == ["other", "new"]


_LEAVES_A_LOG = """
import os, sys, sessions
session = sessions.Session.from_url("chat_1", sys.argv[1])
session.add_items([{"content": "kept"}])
os._exit(9)
"""
_EXCHANGE = """
import os, sys, sessions
url, data, event = sys.argv[1:]
moments = []
def hook(name, arguments):
    if name == event and not moments:
        moments.append(name)
        os.rename(data, data + ".old")
        os.rename(data + ".new", data)
session = sessions.Session.from_url("chat_1", url)
session.add_items([{"content": "old"}])
if event == "sqlite3.connect/handle":
    session.close()
    sys.addaudithook(hook)
    session = sessions.Session.from_url("chat_1", url)
    session.add_items([{"content": "new"}])
sys.addaudithook(hook)
session.close()
assert moments
"""


@pytest.mark.parametrize(
    ("event", "there"), [("os.remove", ["kept"]), ("sqlite3.connect/handle", ["kept", "new"])], ids=["closed", "opened"]
)
def test_a_directory_that_comes_while_a_file_is_closed_or_opened_keeps_its_log(
    tmp_path: Path, event: str, there: list[str]
) -> None:
    data, coming = tmp_path / "data", tmp_path / "data.new"
    data.mkdir()
    coming.mkdir()
    subprocess.run([sys.executable, "-P", "-c", _LEAVES_A_LOG, f"sqlite:///{coming / 'chat.db'}"], check=False)
    assert (coming / "chat.db-wal").stat().st_size
    arguments = [f"sqlite:///{data / 'chat.db'}", str(data), event]
    subprocess.run([sys.executable, "-P", "-c", _EXCHANGE, *arguments], check=True)
    assert another_process_reads(data / "chat.db") == there
    assert is_sound(data / "chat.db")


_DISTURB = """
import os, sys, sessions
url, data = sys.argv[1:]
names = [data, data + ".bad"]
def hook(name, arguments):
    # SQLite has the file open by then, and not its log: that of the other directory cannot be opened.
    if name == "sqlite3.connect/handle" and names:
        os.rename(data, data + ".aside")
        os.rename(data + ".bad", data)
        os.rename(data + ".aside", data + ".bad")
        names.pop()
sys.addaudithook(hook)
with sessions.Session.from_url("chat_1", url, max_retries=0) as session:
    session.add_items([{"content": "new"}])
assert not names
"""


def test_an_opening_that_fails_because_the_directory_is_exchanged_is_tried_again(tmp_path: Path) -> None:
    data, bad = tmp_path / "data", tmp_path / "data.bad"
    url = f"sqlite:///{data / 'chat.db'}"
    data.mkdir()
    with Session.from_url("chat_1", url) as session:
        session.add_items(items("kept"))
    bad.mkdir()
    shutil.copy(data / "chat.db", bad)
    (bad / "chat.db-wal").mkdir()
    subprocess.run([sys.executable, "-P", "-c", _DISTURB, url, str(data)], check=True)
    assert another_process_reads(data / "chat.db") == ["kept", "new"]


def test_a_link_that_leads_elsewhere_now_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "chat.db"
    link.symlink_to(tmp_path / "old.db")
    with Session.from_url("chat_1", f"sqlite:///{link}") as session:
        session.add_items(items("old"))
        link.unlink()
        link.symlink_to(tmp_path / "new.db")
        session.add_items(items("new"))
    assert another_process_reads(tmp_path / "old.db") == ["old"]
    assert another_process_reads(tmp_path / "new.db") == ["new"]


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_part_of_the_log_that_is_removed_loses_nothing_acknowledged_later(
    path: Path, session: Session, suffix: str
) -> None:
    path.with_name(f"chat.db{suffix}").unlink()
    session.add_items(items("new"))
    assert another_process_reads(path)[-1] == "new"


# --- a file of two names, which would have two logs


def test_a_file_with_a_second_name_is_refused_by_both(tmp_path: Path) -> None:
    path, other = tmp_path / "chat.db", tmp_path / "other.db"
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("kept"))
    other.hardlink_to(path)
    for name in (path, other):
        with (
            Session.from_url("chat_1", f"sqlite:///{name}") as session,
            refused(ConnectionFailedError, match="2 names.*remove"),
        ):
            session.get_items()
    other.unlink()
    assert another_process_reads(path) == ["kept"]


def test_a_file_that_is_given_a_second_name_is_refused_until_that_is_gone(path: Path, session: Session) -> None:
    shell("ln chat.db other", path)
    for operation in (session.get_items, lambda: session.add_items(items("new"))):
        with refused(ConnectionFailedError, match="2 names"):
            operation()
    shell("rm other", path)
    session.add_items(items("new"))
    assert another_process_reads(path) == ["kept", "gone", "new"]


def test_a_file_that_is_given_a_second_name_within_a_transaction_is_not_written(
    path: Path, backend: sessions.Backend, session: Session
) -> None:
    at(backend, "INSERT INTO", lambda: shell("ln chat.db other", path))
    with refused(ConnectionFailedError, match="2 names"):
        session.add_items(items("new"))
    shell("rm other", path)
    assert another_process_reads(path) == ["kept", "gone"]


@contextlib.contextmanager
def bind_mounted(path: Path, mounted: Path) -> Iterator[None]:
    mounted.touch()
    if subprocess.run(["mount", "--bind", str(path), str(mounted)], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file")
    try:
        yield
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


@contextlib.contextmanager
def without_descriptors() -> Iterator[None]:
    """Nothing more can be opened in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("name", ["chat.db", "my chat\\\t.db"])
def test_a_file_that_is_mounted_without_its_directory_is_refused(tmp_path: Path, name: str) -> None:
    path, mounted, link = tmp_path / "chat.db", tmp_path / "app" / name, tmp_path / "link.db"
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("kept"))
    mounted.parent.mkdir()
    link.symlink_to(mounted)
    with bind_mounted(path, mounted):
        for way in (mounted, link):
            with (
                Session.from_url("chat_1", f"sqlite:///{quote(str(way))}") as session,
                refused(ConnectionFailedError, match="mount the directory"),
            ):
                session.get_items()
    assert [entry.name for entry in mounted.parent.iterdir()] == [name]
    assert another_process_reads(path) == ["kept"]


def test_a_mounted_file_is_refused_after_a_moment_without_descriptors(tmp_path: Path) -> None:
    path, mounted = tmp_path / "chat.db", tmp_path / "app" / "chat.db"
    with Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("kept"))
    mounted.parent.mkdir()
    url = f"sqlite:///{mounted}"
    with bind_mounted(path, mounted), Session.from_url("chat_1", url, max_retries=0) as session:
        with without_descriptors(), refused(ConnectionFailedError, match="ulimit -n"):
            session.get_items()
        with refused(ConnectionFailedError, match="mount the directory"):
            session.get_items()
    assert [entry.name for entry in mounted.parent.iterdir()] == ["chat.db"]


# --- new files


def test_a_file_made_through_a_link_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    link, target = tmp_path / "link.db", tmp_path / "target.db"
    link.symlink_to(target)
    before = os.umask(0)
    try:
        with Session.from_url("chat_1", f"sqlite:///{link}") as session:
            session.add_items(items("a"))
            for file in tmp_path.glob("target.db*"):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert target.is_file()


def test_a_missing_directory_of_a_relative_path_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (f"sqlite:///{tmp_path}/x/chat.db".replace("////", "///"), "sqlite:x/chat.db"):
        with (
            Session.from_url("chat_1", url) as session,
            refused(ConnectionFailedError, match=r"current directory; write sqlite:////"),
        ):
            session.get_items()
    with (
        Session.from_url("chat_1", f"sqlite:////{tmp_path}/x/chat.db") as session,
        refused(ConnectionFailedError) as exc,
    ):
        session.get_items()
    assert "current directory" not in str(exc.value)
    with Session.from_url("chat_1", "sqlite:~/chat.db") as session, refused(ConnectionFailedError, match="expanduser"):
        session.get_items()
    shutil.rmtree(tmp_path)


def test_a_name_that_is_too_long_is_to_be_shortened(tmp_path: Path) -> None:
    with (
        Session.from_url("chat_1", f"sqlite:///{tmp_path}/{'x' * 300}") as session,
        refused(ConnectionFailedError, match="give a shorter path"),
    ):
        session.get_items()


def test_a_file_that_others_made_in_rollback_mode_was_not_replaced(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "
            "updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP); CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, "
            "session_id TEXT NOT NULL, message_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
        )
    with Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
