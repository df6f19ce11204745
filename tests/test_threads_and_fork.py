"""Clause 9: many threads on one backend, and children made by fork()."""

import contextlib
import faulthandler
import gc
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import sessions
from support.samples import assert_contiguous_and_ordered, batch, in_threads, items, texts
from support.servers import connect_raw, dialect_of, execute_sql

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()"),
    # Python 3.12 warns of fork() beside threads; that it works beside ours is what is tested.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


class Child:
    """A forked child that runs one function and reports what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reader)
            _run_and_exit(work, writer)
        os.close(writer)
        self._reader = reader

    def result(self) -> Any:
        with os.fdopen(self._reader, "rb") as stream:
            report = stream.read()
        _, status = os.waitpid(self.pid, 0)
        assert report, f"the child died without a word, status {status}"
        assert status == 0, f"the child hung in:\n{report.decode()}"
        worked, value = pickle.loads(report)  # noqa: S301 -- our own child wrote it
        assert worked, f"in the child:\n{value}"
        return value


def _run_and_exit(work: Callable[[], Any], writer: int) -> None:
    """Never return into pytest; a child that hangs reports its stacks and ends."""
    faulthandler.register(signal.SIGALRM, file=writer, chain=True)
    signal.alarm(60)
    try:
        report: tuple[bool, Any] = (True, work())
    except BaseException:
        report = (False, traceback.format_exc())
    gc.collect()  # what the child inherited and dropped must do no harm
    signal.alarm(0)
    with os.fdopen(writer, "wb") as stream:
        stream.write(pickle.dumps(report))
    os._exit(0)


class Watcher:
    """Sees the server's own numbers of the connections to a database, its own one aside."""

    def __init__(self, url: str) -> None:
        if dialect_of(url) == "postgresql":
            number = "SELECT pg_backend_pid()"
            self._statement = (
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend'"
            )
        else:
            number = "SELECT CONNECTION_ID()"
            self._statement = "SELECT id FROM information_schema.processlist WHERE db = DATABASE()"
        # One connection for all looks: a server sees that one has gone only a moment later.
        self._connection = connect_raw(url)
        self.own = self._ask(number)

    def _ask(self, statement: str) -> set[int]:
        cursor = self._connection.cursor()
        cursor.execute(statement)
        return {row[0] for row in cursor.fetchall()}

    def __call__(self) -> set[int]:
        return self._ask(self._statement) - self.own

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def connections(server_url: str) -> Iterator[Watcher]:
    watcher = Watcher(server_url)
    yield watcher
    watcher.close()


def eventually(condition: Callable[[], bool]) -> bool:
    """Ask until it is so: a server notices a moment later that a client has gone."""
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


def descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="this system has no /proc to count descriptors in"
)


# --- threads


def test_many_threads_use_one_handle(session: sessions.Session) -> None:
    def work(number: int) -> None:
        for count in range(5):
            session.add_items(batch(f"w{number}", count, 2))
            assert session.get_items(limit=1)

    in_threads(12, work)
    assert_contiguous_and_ordered(session.get_items(), [f"w{n}" for n in range(12)], batches=5, size=2)


def test_many_threads_use_one_backend_for_sessions_of_their_own(
    backend: sessions.Backend,
) -> None:
    def work(number: int) -> list[str]:
        session = backend.session(f"chat_{number}")
        for count in range(4):
            session.add_items(items(f"{number}.{count}"))
        session.pop_item()
        return texts(session.get_items())

    for number, history in enumerate(in_threads(16, work)):
        assert history == [f"{number}.{count}" for count in range(3)]


def test_a_handle_may_be_used_by_one_thread_after_another(session: sessions.Session) -> None:
    for number in range(20):
        thread = threading.Thread(target=session.add_items, args=(items(str(number)),))
        thread.start()
        thread.join()
    assert texts(session.get_items()) == [str(number) for number in range(20)]


def test_closing_beside_working_threads_ends_them_with_closed_error(url: str) -> None:
    backend = sessions.connect(url)
    started = threading.Barrier(5)

    def work(number: int) -> str:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        started.wait()
        if number == 0:
            backend.close()
            return "closed"
        with contextlib.suppress(sessions.ClosedError):
            for _ in range(10_000):
                session.add_items(items("a"))
            return "was never told"
        return "was told"

    assert in_threads(5, work) == ["closed", *["was told"] * 4]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_more_connections_than_the_pool_size_are_open(server_url: str, connections: Watcher, size: int) -> None:
    counts: list[int] = []
    with sessions.connect(server_url, pool_size=size) as backend:

        def work(number: int) -> None:
            for _ in range(5):
                backend.session(f"chat_{number}").add_items(items("a"))
                if number == 0:
                    counts.append(len(connections()))

        in_threads(8, work)
    assert 1 <= max(counts) <= size


def test_one_thread_needs_one_connection(server_url: str, connections: Watcher) -> None:
    with sessions.connect(server_url) as backend:
        for number in range(10):
            backend.session(f"chat_{number}").add_items(items("a"))
            backend.session("chat_0").get_items()
        assert len(connections()) == 1


def test_no_connection_is_made_before_it_is_needed(server_url: str, connections: Watcher) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("chat_1")
        assert connections() == set()


def test_closing_the_backend_closes_its_connections(server_url: str, connections: Watcher) -> None:
    with sessions.connect(server_url) as backend:
        in_threads(6, lambda number: backend.session(f"chat_{number}").add_items(items("a")))
        assert connections()
    assert eventually(lambda: not connections())


def test_dead_threads_leave_no_connections(server_url: str, connections: Watcher) -> None:
    with sessions.connect(server_url, pool_size=4) as backend:
        for _ in range(10):
            in_threads(4, lambda number: backend.session(f"chat_{number}").add_items(items("a")))
        assert len(connections()) <= 4


@needs_proc
def test_dead_threads_leave_no_descriptors(sql_url: str) -> None:
    with sessions.connect(sql_url, pool_size=4) as backend:
        in_threads(4, lambda number: backend.session(f"chat_{number}").add_items(items("a")))
        before = descriptors()
        for _ in range(10):
            in_threads(4, lambda number: backend.session(f"chat_{number}").get_items())
        assert descriptors() <= before + 8  # the rest of a pool of 4, and what SQLite keeps beside


@needs_proc
def test_closing_gives_every_descriptor_back(sql_url: str) -> None:
    def use() -> None:
        with sessions.connect(sql_url) as backend:
            in_threads(4, lambda number: backend.session(f"chat_{number}").add_items(items("a")))

    use()
    before = descriptors()
    for _ in range(5):
        use()
    assert descriptors() <= before


@needs_proc
def test_failed_operations_leave_no_descriptors(sql_url: str) -> None:
    with sessions.connect(sql_url, create_tables=False) as backend:

        def fail() -> None:
            with pytest.raises(sessions.SchemaError):
                backend.session("chat_1").get_items()

        fail()
        before = descriptors()
        for _ in range(10):
            fail()
        assert descriptors() <= before


# --- fork


def test_a_child_reads_and_writes_the_parents_conversation(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("parent"))

        def work() -> list[str]:
            session.add_items(items("child"))
            return texts(session.get_items())

        assert Child(work).result() == ["parent", "child"]
        session.add_items(items("parent again"))
        assert texts(session.get_items()) == ["parent", "child", "parent again"]


def test_parent_and_children_write_at_the_same_time(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items([])
        session.get_items()

        def write(writer: str) -> None:
            for count in range(8):
                session.add_items(batch(writer, count, 3))
                assert session.get_items(limit=1)

        children = [Child(partial(write, name)) for name in ("c1", "c2", "c3")]
        write("parent")
        for child in children:
            child.result()
        assert_contiguous_and_ordered(session.get_items(), ["parent", "c1", "c2", "c3"], batches=8, size=3)


@pytest.mark.parametrize("end", ["close", "drop", "nothing"])
def test_a_child_leaves_the_parents_connection_alone(server_url: str, connections: Watcher, end: str) -> None:
    holder = {"backend": sessions.connect(server_url)}
    backend = holder["backend"]
    backend.session("chat_1").add_items(items("a"))
    before = connections()

    def work() -> None:
        if end == "close":
            holder["backend"].close()
        elif end == "drop":
            holder.clear()

    del backend
    Child(work).result()
    with holder["backend"] as backend:
        assert connections() == before
        assert texts(backend.session("chat_1").get_items()) == ["a"]
        assert connections() == before


def test_a_childs_connections_are_its_own(server_url: str, connections: Watcher) -> None:
    with sessions.connect(server_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        before = connections()

        def work() -> set[int]:
            session.get_items()
            return Watcher(server_url)()

        assert len(Child(work).result() - before - connections.own) == 1
        assert eventually(lambda: connections() == before)


def test_a_child_may_close_what_it_inherited_and_used(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))

        def work() -> str:
            session.add_items(items("b"))
            backend.close()
            try:
                session.get_items()
            except sessions.ClosedError:
                return "closed"
            return "open"

        assert Child(work).result() == "closed"
        assert texts(session.get_items()) == ["a", "b"]


def test_a_closed_backend_is_closed_in_the_child(sql_url: str) -> None:
    backend = sessions.connect(sql_url)
    session = backend.session("chat_1")
    session.add_items(items("a"))
    backend.close()

    def work() -> None:
        with pytest.raises(sessions.ClosedError):
            session.get_items()

    Child(work).result()


def test_a_grandchild_works_like_a_child(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("parent"))

        def child() -> None:
            session.add_items(items("child"))
            Child(lambda: session.add_items(items("grandchild"))).result()
            session.add_items(items("child again"))

        Child(child).result()
        assert texts(session.get_items()) == ["parent", "child", "grandchild", "child again"]


def test_forking_beside_writing_threads_harms_neither_side(sql_url: str) -> None:
    stop = threading.Event()
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("first"))
        written = [0, 0, 0]

        def write(number: int) -> None:
            session = backend.session(f"chat_w{number}")
            while not stop.is_set() and written[number] < 500:
                session.add_items(batch("w", written[number], 3))
                written[number] += 1

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(6):

                def work() -> list[str]:
                    backend.session("chat_c").add_items(items("child"))
                    history = texts(backend.session("chat_1").get_items())
                    backend.close()
                    return history

                assert Child(work).result() == ["first"]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert len(backend.session("chat_c").get_items()) == 6
        for number, count in enumerate(written):
            assert_contiguous_and_ordered(backend.session(f"chat_w{number}").get_items(), ["w"], batches=count, size=3)
    if dialect_of(sql_url) == "sqlite":
        assert execute_sql(sql_url, "PRAGMA integrity_check") == [("ok",)]


def test_a_child_of_a_conversation_in_memory_has_a_copy_of_its_own() -> None:
    with sessions.InMemorySession("chat_1") as session:
        session.add_items(items("a"))

        def work() -> list[str]:
            session.add_items(items("child"))
            return texts(session.get_items())

        assert Child(work).result() == ["a", "child"]
        assert texts(session.get_items()) == ["a"]


def test_a_child_never_touches_the_parents_database_in_memory(
    make_url: Callable[[str], str],
) -> None:
    with sessions.Session.from_url("chat_1", make_url("sqlite-memory")) as session:
        session.add_items(items("a"))

        def work() -> None:
            # It cannot have the parent's data: an empty database or an error of ours are both honest.
            with contextlib.suppress(sessions.SessionsError):
                session.add_items(items("child"))

        Child(work).result()
        assert texts(session.get_items()) == ["a"]


def test_a_child_inherits_no_write_in_progress(sqlite_url: str) -> None:
    # SQLite alone: a connection inherited inside a transaction could roll it back or tear the file.
    with sessions.connect(sqlite_url) as backend:
        big = [{"n": n, "fill": "x" * 1000} for n in range(300)]
        stop = threading.Event()
        done: list[int] = []

        def write() -> None:
            while not stop.is_set() and len(done) < 100:
                backend.session("chat_1").add_items(big)
                done.append(len(big))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(8):
                Child(gc.collect).result()
        finally:
            stop.set()
            thread.join()
        assert len(backend.session("chat_1").get_items()) == sum(done)
    assert execute_sql(sqlite_url, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("ends", ["closes its backend", "exits"])
def test_what_a_child_acknowledged_survives_the_end_of_its_parent(sqlite_url: str, ends: str) -> None:
    # SQLite removes the write-ahead log when the last connection that it knows of is closed, as the parent's
    # would be although its child goes on.
    go_on, end = os.pipe(), os.pipe()
    parent = os.fork()
    if not parent:
        backend = sessions.connect(sqlite_url)
        session = backend.session("chat_1")
        session.add_items(items("parent"))
        if not os.fork():
            session.get_items()
            os.read(go_on[0], 1)
            session.add_items(items("child"))
            os.write(end[1], b"1")
            os.read(go_on[0], 1)
            session.add_items(items("child again"))
            os.write(end[1], b"2")
            os._exit(0)
        if ends == "closes its backend":
            backend.close()
        os._exit(0)
    os.waitpid(parent, 0)
    for expected in (["parent", "child"], ["parent", "child", "child again"]):
        os.write(go_on[1], b"x")
        os.read(end[0], 1)
        with sessions.Session.from_url("chat_1", sqlite_url) as other:
            assert texts(other.get_items()) == expected
    for descriptor in (*go_on, *end):
        os.close(descriptor)


def test_a_place_that_is_forgotten_is_free_again(sqlite_url: str) -> None:
    # As after a Ctrl-C between two steps of ours: nobody gives the place back, and nobody says so.
    with sessions.connect(sqlite_url, pool_size=1, connection_timeout=0.5) as backend:
        pool: Any = backend._store._attempts._lender  # type: ignore[attr-defined]
        lease = pool.connection(writes=False)
        pool.take(lease)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(backend.session("chat_1").get_items()))
        thread.start()
        while not pool._waiting:
            pass
        del lease
        gc.collect()
        thread.join()
        assert found == [[]]
