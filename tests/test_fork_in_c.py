"""Children that no hook of Python's has been told of, as uWSGI's are: what they alone can run into.

tests/test_threads_and_fork.py has what is the same for every child. No thread may run beside such a fork: the child
would wait for one that does not exist to take the interpreter's lock (drop_gil() of CPython).
"""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from sessions._connections import fork as ours
from sessions._dialects.sqlite import files
from support.children import Child, fork, forking_in_c
from support.rivals import connection_of, eventually, others
from support.samples import items, texts
from support.servers import execute_sql

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")


@pytest.fixture(autouse=True)
def in_c() -> Iterator[None]:
    with forking_in_c():
        yield


def _locks(backend: sessions.Backend) -> list[Any]:
    """Every lock of ours that a thread may hold at any moment."""
    store: Any = backend._store
    pool = getattr(getattr(store, "_attempts", None), "_lender", None)
    writers = getattr(getattr(store, "_dialect", None), "writers", None)
    found = [
        ours.process_lock(),
        getattr(store, "_lock", None),
        getattr(pool, "_lock", None),
        getattr(writers, "lock", None),
        files.making_lock(),
    ]
    return [lock for lock in found if lock is not None]


def test_a_child_waits_for_no_lock_that_a_thread_of_its_parent_held(url: str) -> None:
    backend = sessions.connect(url)
    backend.session("chat_1").add_items(items("a"))

    def hold_all() -> None:
        for lock in _locks(backend):
            lock.acquire()

    def use() -> list[str]:
        backend.session("chat_1").add_items(items("b"))
        history = texts(backend.session("chat_1").get_items())
        sessions.connect(url).close()
        backend.close()
        return history

    def parent() -> Any:
        thread = threading.Thread(target=hold_all)
        thread.start()
        thread.join()
        return Child(use).result()

    assert Child(parent).result() == ["a", "b"]
    backend.close()


def test_a_child_that_then_forks_by_python_is_a_parent_like_any_other(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))

        def work() -> None:
            grandchild = os.fork()
            session.add_items(items("grandchild" if not grandchild else "child"))
            if not grandchild:
                os._exit(0)
            os.waitpid(grandchild, 0)

        Child(work).result()
        assert sorted(texts(session.get_items())) == ["a", "child", "grandchild"]


def test_a_child_that_is_idle_and_ends_keeps_nothing_of_its_parent_open(server_url: str) -> None:
    backend = sessions.connect(server_url)
    backend.session("chat_1").add_items(items("a"))
    reader, writer = os.pipe()

    def work() -> None:
        backend.session("chat_1").get_items()
        os.read(reader, 1)

    child = Child(work)
    assert eventually(lambda: len(others(server_url)) == 2)
    backend.close()
    assert eventually(lambda: len(others(server_url)) == 1)
    os.write(writer, b"x")
    child.result()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("copied", [True, False], ids=["the log copied", "the log not copied"])
def test_a_child_that_is_used_late_removes_no_log_of_others(sqlite_url: str, *, copied: bool) -> None:
    """As a worker of uWSGI's without a master: what it inherits is of a log that was removed long ago."""
    reader, writer = os.pipe()
    answers, answer = os.pipe()

    def parent() -> None:
        backend = sessions.connect(sqlite_url)
        backend.session("chat_1").add_items(items("a"))
        if copied:
            with connection_of(backend) as connection:
                connection.execute("PRAGMA wal_checkpoint")
        if not fork():
            os.close(writer)
            os.read(reader, 1)
            os.write(answer, repr(texts(backend.session("chat_1").get_items())).encode())
            return
        backend.close()
        other = sessions.connect(sqlite_url)
        other.session("chat_1").add_items(items("acknowledged"))
        os._exit(0)  # as one that is killed

    if not (first := fork()):
        try:
            parent()
        finally:
            os._exit(0)
    os.close(answer)
    os.waitpid(first, 0)
    os.close(writer)
    assert os.read(answers, 1000) == b"['a', 'acknowledged']"
    os.close(reader)
    os.close(answers)
    with sessions.connect(sqlite_url) as backend:
        assert texts(backend.session("chat_1").get_items()) == ["a", "acknowledged"]
    assert execute_sql(sqlite_url, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("where", ["sqlite", "sqlite-memory"])
def test_what_was_in_use_is_refused_in_the_child_and_unharmed_in_the_parent(
    make_url: Callable[[str], str], where: str
) -> None:
    # SQLite alone: the child could only wait for its locks without end, or roll back the parent's transaction.
    url = make_url(where)
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))

        def work() -> list[str]:
            refusals = []
            for _ in range(2):
                with pytest.raises(sessions.ConnectionFailedError) as refused:
                    session.get_items()
                refusals.append(str(refused.value))
            if where == "sqlite":
                with pytest.raises(sessions.ConnectionFailedError) as refused:
                    sessions.Session.from_url("chat_1", url).get_items()
                refusals.append(str(refused.value))
            gc.collect()
            return refusals

        with connection_of(backend) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE agent_messages SET message_data = '{\"n\": 1}'")
            refusals = Child(work).result()
            connection.commit()
        assert all("fork while no operation is in progress" in text for text in refusals)
        assert session.get_items() == [{"n": 1}]
    if where == "sqlite":
        assert execute_sql(url, "PRAGMA integrity_check") == [("ok",)]
