"""Clause 9: many threads on one backend, and children made by fork(), whoever calls it."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions._connections.pool import Pool
from support.children import Child, fork
from support.rivals import connection_of, eventually, lender_of, others
from support.samples import assert_contiguous_and_ordered, batch, in_threads, items, texts
from support.servers import dialect_of, execute_sql

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")


@pytest.fixture(autouse=True, scope="module")
def quick_collector() -> Iterator[None]:
    """Let the collector look at what the tests make, not at all that pytest has imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def connections(server_url: str) -> Callable[[], set[int]]:
    """A function that tells the server's own numbers of the connections to the database."""
    return lambda: set(others(server_url))


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


Connections = Callable[[], set[int]]


@pytest.mark.parametrize("size", [1, 3])
def test_no_more_connections_than_the_pool_size_are_open(server_url: str, connections: Connections, size: int) -> None:
    counts: list[int] = []
    with sessions.connect(server_url, pool_size=size) as backend:

        def work(number: int) -> None:
            for _ in range(5):
                backend.session(f"chat_{number}").add_items(items("a"))
                if number == 0:
                    counts.append(len(connections()))

        in_threads(8, work)
        in_threads(8, work)  # the threads of before are dead, and leave none
    assert 1 <= max(counts) <= size


def test_a_connection_is_made_when_needed_and_one_thread_needs_one(server_url: str, connections: Connections) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("chat_1")
        assert connections() == set()
        for number in range(10):
            backend.session(f"chat_{number}").add_items(items("a"))
            backend.session("chat_0").get_items()
        assert len(connections()) == 1


def test_closing_the_backend_closes_its_connections(server_url: str, connections: Connections) -> None:
    with sessions.connect(server_url) as backend:
        in_threads(6, lambda number: backend.session(f"chat_{number}").add_items(items("a")))
        assert connections()
    assert eventually(lambda: not connections())


@needs_proc
@pytest.mark.parametrize("what", ["dead threads", "closed backends", "failed operations"])
def test_nothing_leaves_a_descriptor(sql_url: str, what: str) -> None:
    def fail() -> None:
        with pytest.raises(sessions.SchemaError):
            backend.session("chat_1").get_items()

    def use(backend: sessions.Backend) -> None:
        in_threads(4, lambda number: backend.session(f"chat_{number}").add_items(items("a")))

    def use_another() -> None:
        with sessions.connect(sql_url) as another:
            use(another)

    options: Any = {"create_tables": False} if what == "failed operations" else {}
    with sessions.connect(sql_url, pool_size=4, **options) as backend:
        work = {"dead threads": lambda: use(backend), "closed backends": use_another, "failed operations": fail}[what]
        work()
        before = descriptors()
        for _ in range(6):
            work()
        # The rest of a pool of 4, and what SQLite keeps beside.
        assert descriptors() <= before + 8 * (what == "dead threads")


# --- fork


@pytest.mark.usefixtures("each_fork")
def test_parent_and_children_write_at_the_same_time(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items([])
        session.get_items()

        def write(writer: str) -> None:
            for count in range(8):
                session.add_items(batch(writer, count, 3))
                assert session.get_items(limit=1)

        children = [Child(partial(write, name)) for name in ("c1", "c2")]
        write("parent")
        for child in children:
            child.result()
        assert_contiguous_and_ordered(session.get_items(), ["parent", "c1", "c2"], batches=8, size=3)


@pytest.mark.parametrize("end", ["close", "drop", "nothing"])
@pytest.mark.usefixtures("each_fork")
def test_a_child_leaves_the_parents_connection_alone(server_url: str, connections: Connections, end: str) -> None:
    holder = [sessions.connect(server_url)]
    holder[0].session("chat_1").add_items(items("a"))
    before = connections()

    def work() -> None:
        if end == "close":
            holder[0].close()
        elif end == "drop":
            holder.clear()

    Child(work).result()
    with holder[0] as backend:
        assert connections() == before
        assert texts(backend.session("chat_1").get_items()) == ["a"]
        assert connections() == before


@pytest.mark.usefixtures("each_fork")
def test_a_childs_connections_are_its_own(server_url: str, connections: Connections) -> None:
    with sessions.connect(server_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        before = connections()

        def work() -> set[int]:
            session.get_items()
            return connections()

        assert len(Child(work).result() - before) == 1
        assert eventually(lambda: connections() == before)


@pytest.mark.usefixtures("each_fork")
def test_what_a_child_closes_is_closed_there_and_what_was_closed_stays_so(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))

        def is_closed() -> None:
            with pytest.raises(sessions.ClosedError):
                session.get_items()

        def work() -> None:
            session.add_items(items("b"))
            backend.close()
            is_closed()

        Child(work).result()
        assert texts(session.get_items()) == ["a", "b"]
    Child(is_closed).result()


@pytest.mark.usefixtures("each_fork")
def test_children_and_grandchildren_read_and_write_the_parents_conversation(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("parent"))

        def child() -> None:
            session.add_items(items("child"))
            Child(lambda: session.add_items(items("grandchild"))).result()
            session.add_items(items("child again"))
            assert texts(session.get_items()) == ["parent", "child", "grandchild", "child again"]

        Child(child).result()
        session.add_items(items("parent again"))
        assert texts(session.get_items()) == ["parent", "child", "grandchild", "child again", "parent again"]


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
            for _ in range(4):

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
        assert len(backend.session("chat_c").get_items()) == 4
        for number, count in enumerate(written):
            assert_contiguous_and_ordered(backend.session(f"chat_w{number}").get_items(), ["w"], batches=count, size=3)
    if dialect_of(sql_url) == "sqlite":
        assert execute_sql(sql_url, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.usefixtures("each_fork")
def test_a_child_of_a_conversation_in_memory_has_a_copy_of_its_own() -> None:
    with sessions.InMemorySession("chat_1") as session:
        session.add_items(items("a"))

        def work() -> list[str]:
            session.add_items(items("child"))
            return texts(session.get_items())

        assert Child(work).result() == ["a", "child"]
        assert texts(session.get_items()) == ["a"]


@pytest.mark.usefixtures("each_fork")
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
            while not stop.is_set() and len(done) < 200:
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


@pytest.mark.usefixtures("each_fork")
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
        if not fork():
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
    with sessions.connect(sqlite_url, pool_size=1, connection_timeout=0.2) as backend:
        pool = lender_of(backend)
        lease = pool.lease()
        pool.take(lease)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(backend.session("chat_1").get_items()))
        thread.start()
        while not pool._queue:
            pass
        del lease
        gc.collect()
        thread.join()
        assert found == [[]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("behind", "times"), [(False, 1), (True, 1), (True, 100)])
def test_an_exception_of_a_handler_behind_a_fork_leaves_nothing_locked(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, *, behind: bool, times: int
) -> None:
    unlock, raises = Pool.after_fork_in_parent, iter([True] * times)

    def interrupted(pool: Any) -> None:
        if behind:
            unlock(pool)
        if next(raises, False):
            raise KeyboardInterrupt
        unlock(pool)

    with sessions.connect(sqlite_url) as backend, sessions.connect("memory:") as other:
        backend.session("chat_1").add_items(items("a"))
        monkeypatch.setattr(Pool, "after_fork_in_parent", interrupted)
        Child(os.getpid).result()
        found: list[Any] = []
        for one in (backend, other):
            reader = threading.Thread(
                target=lambda one=one: found.append(one.session("chat_1").get_items()), daemon=True
            )
            reader.start()
            reader.join(60)
    assert found == [items("a"), []]


def test_a_connection_that_takes_long_to_close_keeps_nobody_waiting(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, go_on = threading.Event(), threading.Event()
    with sessions.connect(sqlite_url) as backend:
        pool = lender_of(backend)
        close = pool._connector.close

        def close_slowly(connection: Any) -> None:
            closing.set()
            go_on.wait()
            close(connection)

        lease = pool.lease()
        pool.take(lease)
        monkeypatch.setattr(pool._connector, "close", close_slowly)
        closer = threading.Thread(target=pool.give_back, args=(lease,), kwargs={"keep": False})
        closer.start()
        assert closing.wait(60)
        monkeypatch.undo()
        reader = threading.Thread(target=backend.session("chat_1").get_items, daemon=True)
        reader.start()
        reader.join(60)
        assert not reader.is_alive()
        go_on.set()
        closer.join()


def _wait_in(pool: Any, count: int) -> bool:
    return len(pool._queue) == count


def test_who_waits_longest_for_a_connection_is_served_first(sqlite_url: str) -> None:
    served: list[str] = []
    with sessions.connect(sqlite_url, pool_size=1) as backend:
        pool = lender_of(backend)

        def use(name: str) -> None:
            with connection_of(backend):
                served.append(name)

        threads = [threading.Thread(target=use, args=(f"thread {number}",)) for number in range(3)]
        with connection_of(backend):
            for number, thread in enumerate(threads, 1):
                thread.start()
                assert eventually(partial(_wait_in, pool, number))
            assert eventually(pool._is_late)
        # At once: they have only been told by now.
        use("latecomer")
        for thread in threads:
            thread.join()
    assert served == ["thread 0", "thread 1", "thread 2", "latecomer"]


@contextlib.contextmanager
def _on_signal(handle: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Let a signal's handler do this in the main thread; what is handed out sends the signal."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: handle())
    try:
        yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_who_is_interrupted_while_waiting_for_a_connection_keeps_nobody_else_waiting(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, pool_size=1) as backend:
        pool, served = lender_of(backend), threading.Event()
        backend.session("chat_1").add_items(items("a"))
        in_handler, found = threading.Event(), []

        def use() -> None:
            backend.session("chat_1").get_items()
            served.set()

        def handle() -> None:
            in_handler.set()
            found.append(served.wait(20))  # as a handler that goes on for long

        def hold() -> None:
            with connection_of(backend):
                held.set()
                assert eventually(partial(_wait_in, pool, 1))
                interrupt()
                in_handler.wait()
                other.start()
                assert eventually(partial(_wait_in, pool, 2))

        held = threading.Event()
        holder = threading.Thread(target=hold)
        other = threading.Thread(target=use)
        with _on_signal(handle) as interrupt:
            holder.start()
            held.wait()
            assert texts(backend.session("chat_1").get_items()) == ["a"]
        holder.join()
        other.join()
        assert found == [True]


def test_a_handler_is_served_before_what_it_has_interrupted(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, pool_size=1, connection_timeout=20.0) as backend:
        pool, found = lender_of(backend), []
        backend.session("chat_1").add_items(items("a"))

        def hold() -> None:
            with connection_of(backend):
                held.set()
                assert eventually(partial(_wait_in, pool, 1))
                interrupt()
                assert eventually(partial(_wait_in, pool, 2))

        held = threading.Event()
        holder = threading.Thread(target=hold)
        with _on_signal(lambda: found.append(texts(backend.session("chat_1").get_items()))) as interrupt:
            holder.start()
            held.wait()
            assert texts(backend.session("chat_1").get_items()) == ["a"]
        holder.join()
        assert found == [["a"]]


_IMPORTS = """
import sys, sessions
backend = sessions.connect(sys.argv[1], **eval(sys.argv[2]))
before = set(sys.modules)
session = backend.session("chat_1")
session.add_items([{"role": "user", "content": "\\ud83d"}, {"role": "user", "content": "b"}])
session.get_items(limit=1, whole_turns=True)
list(session.records())
session.pop_item()
with session.exclusive():
    session.replace_items([])
backend.list_sessions(), list(backend.search("b")), backend.stats(), backend.check()
session.clear_session()
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("keys", [{}, {"encryption_key": "k" * 32, "integrity_key": "k" * 32}], ids=["plain", "keys"])
def test_no_operation_imports_anything(url: str, keys: dict[str, str]) -> None:
    """A child forked amid an import by another thread would wait for that without end."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _IMPORTS, url, repr(keys)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_backend_that_is_dropped_during_a_fork_waits_for_nobody(sql_url: str) -> None:
    dropped = [sessions.connect(sql_url)]
    pool, held, go_on = lender_of(dropped[0]), threading.Event(), threading.Event()
    dropped[0].session("chat_1").add_items(items("a"))

    def fork() -> None:
        pool.before_fork()
        held.set()
        go_on.wait()
        pool.after_fork_in_parent()

    def collect() -> None:
        dropped.clear()
        gc.collect()

    forking, collecting = threading.Thread(target=fork), threading.Thread(target=collect, daemon=True)
    forking.start()
    held.wait()
    collecting.start()
    collecting.join(20)
    waits = collecting.is_alive()
    go_on.set()
    forking.join()
    assert not waits
    assert pool._closed
    assert not pool._idle
