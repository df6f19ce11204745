"""Programs of an application's life, each run in an interpreter of its own: `python -m embedding.programs NAME URL`.

They must end by themselves, with status 0 and without a word on stderr.
"""

import gc
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sessions
from embedding.application import connect_as, run, someone_waits_for_a_lock, wait_until
from support.samples import items, texts

CHILDREN = 4


def descriptors() -> int:
    """Count the files and sockets of this process; 0 where that cannot be seen."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def report(**numbers: Any) -> None:
    print(json.dumps(numbers))


def wait_for(children: list[int]) -> None:
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0, f"a child ended with status {status}"


def forking_idle(url: str) -> None:
    """Fork with idle connections; the children work, and end as an ordinary program ends."""
    backend = sessions.connect(url)
    session = backend.session("chat_1")
    session.add_items(items("parent"))
    before = descriptors()
    children = []
    for number in range(CHILDREN):
        if not (child := os.fork()):
            signal.alarm(60)
            session.add_items(items(f"child {number}"))
            if number % 2:
                backend.close()
            sys.exit(0)
        children.append(child)
    session.add_items(items("parent again"))
    wait_for(children)
    report(stored=sorted(texts(session.get_items())), before=before, after=descriptors())


def forking_amid_a_wait(url: str) -> None:
    """Fork while another thread waits for the server's answer."""
    blocker = connect_as(url, autocommit=False)
    sessions.bind(blocker).session("chat_1").add_items(items("first"))
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
        thread = threading.Thread(target=session.add_items, args=(items("second"),))
        thread.start()
        wait_until(lambda: someone_waits_for_a_lock(url))
        if not (child := os.fork()):
            signal.alarm(60)
            backend.session("chat_c").add_items(items("child"))
            gc.collect()
            os._exit(0)  # the blocker is the application's to forget
        # The child ends while the thread is still waiting.
        wait_until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
        wait_for([child])
        blocker.commit()
        thread.join()
        stored = [texts(backend.session(name).get_items()) for name in ("chat_1", "chat_c")]
    blocker.close()
    report(stored=stored)


def bound_in_a_child(url: str) -> None:
    """Inherit a bound connection in the middle of a transaction: the child is refused, the parent unharmed."""
    connection = connect_as(url, autocommit=False)
    session = sessions.bind(connection).session("chat_1")
    session.add_items(items("parent"))
    refusals = []
    reader, writer = os.pipe()
    if not (child := os.fork()):
        signal.alarm(60)
        for operation in (session.get_items, session.pop_item, lambda: session.add_items(items("child"))):
            try:
                operation()
            except sessions.SessionsError as exc:
                refusals.append(f"{type(exc).__name__}: {exc}")
        os.write(writer, json.dumps(refusals).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        refusals = json.load(stream)
    wait_for([child])
    session.add_items(items("parent again"))
    connection.commit()
    stored = texts(session.get_items())
    connection.close()
    report(refusals=refusals, stored=stored)


def exit_with_open_backends(url: str) -> None:
    """Leave everything open: backends with idle connections, one in a cycle, a handle, a bound connection."""
    backend = sessions.connect(url)
    handles = [backend.session("chat_1"), sessions.Session.from_url("chat_2", url)]
    for session in handles:
        session.add_items(items("a"))
    cycle: Any = sessions.connect(url)
    cycle.session("chat_3").add_items(items("a"))
    cycle.itself = cycle
    in_memory = sqlite3.connect(":memory:")
    bound = sessions.bind(in_memory, create_tables=True)
    bound.session("chat_1").add_items(items("a"))
    in_memory.close()
    globals()["kept"] = [backend, *handles, bound, sessions.InMemorySession("chat_4")]
    report(stored=len(handles[0].get_items()))


def exit_beside_a_daemon_thread(url: str) -> None:
    """End while a daemon thread writes without end."""
    backend = sessions.connect(url)
    started = threading.Event()

    def write() -> None:
        while True:
            try:
                backend.session("chat_1").add_items(items("a"))
            except sessions.ClosedError:
                return
            started.set()

    threading.Thread(target=write, daemon=True).start()
    started.wait()
    report(stored=1)


def exit_by_an_error(url: str) -> None:
    """End by sys.exit() in the middle of a `with`, as scripts do."""
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items(items("a"))
        report(stored=1)
        sys.exit(0)


def spawned(url: str) -> None:
    """Pass a handle to a spawned process by mistake, then its names, which is right."""
    context = multiprocessing.get_context("spawn")
    refusals = []
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("parent"))
        for mistake in (session, backend, session.get_items):
            try:
                context.Process(target=print, args=(mistake,)).start()
            except TypeError as exc:
                refusals.append(str(exc))
        child = context.Process(target=_spawned_child, args=(url, session.session_id))
        child.start()
        child.join()
        assert child.exitcode == 0
        report(refusals=refusals, stored=texts(session.get_items()))


def _spawned_child(url: str, session_id: str) -> None:
    with sessions.Session.from_url(session_id, url) as session:
        session.add_items(items("child"))


class _AlarmError(Exception):
    pass


def _raise(*_: object) -> None:
    raise _AlarmError


def interrupted(url: str) -> None:
    """Let a timer's signal raise in the middle of operations, again and again."""

    acknowledged, interruptions = 0, 0
    with sessions.connect(url, pool_size=4, connection_timeout=5) as backend:
        session = backend.session("chat_1")
        session.add_items([{"n": 0}] * 3)
        before = descriptors()
        for number in range(1, 121):
            if number % 4:
                session.get_items(limit=1)  # else the connection may have to be opened, and is interrupted there
            rung = _ring_after(0.0001 + 0.00008 * (number % 60), partial(session.add_items, [{"n": number}] * 3))
            interruptions += rung
            acknowledged += not rung
        history = session.get_items()
        after = descriptors()
    numbers = [item["n"] for item in history]
    whole = all(numbers[at : at + 3] == [numbers[at]] * 3 for at in range(0, len(numbers), 3))
    counts = {"acknowledged": acknowledged, "interruptions": interruptions, "batches": len(numbers) / 3}
    report(**counts, whole=whole, before=before, after=after)


def _ring_after(seconds: float, work: Callable[[], object]) -> bool:
    """Do the work with a timer running; tell whether the timer's exception ended it."""
    signal.signal(signal.SIGALRM, _raise)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _AlarmError:
        return True
    return False


def interrupted_on_the_applications_connection(url: str, how: str) -> None:
    """Interrupt operations on a connection of the application; it then answers truly, or not at all."""

    connections = [connect_as(url, autocommit=False)]

    @contextmanager
    def lend() -> Iterator[Any]:
        yield connections[-1]

    def open_backend() -> sessions.Backend:
        if how == "bind":
            return sessions.bind(connections[-1])
        return sessions.connect(pool=SimpleNamespace(connection=lend), max_retries=0)

    def write(backend: sessions.Backend) -> None:
        for _ in range(20):
            backend.session("chat_1").add_items(items("a", "b"))

    write(open_backend())
    interruptions, lost, wrong = 0, 0, 0
    for number in range(50):
        work = partial(write, open_backend())
        interruptions += _ring_after(0.0001 + 0.00005 * (number % 50), work)
        try:
            wrong += run(connections[-1], f"SELECT {number}") != [(number,)]
            connections[-1].rollback()
        except Exception:
            lost += 1
            with suppress(Exception):
                connections[-1].close()
            connections.append(connect_as(url, autocommit=False))
    connections[-1].close()
    report(interruptions=interruptions, lost=lost, wrong=wrong)


def handled(url: str) -> None:
    """Let a handler that returns run in the middle of operations: nothing of it is noticed."""
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for number in range(30):
            session.add_items([{"n": number}])
        signal.setitimer(signal.ITIMER_REAL, 0)
        report(rung=bool(rung), stored=len(session.get_items()))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
