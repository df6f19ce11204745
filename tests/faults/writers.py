"""Threads that write to one session, and events instead of waiting."""

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import sessions
from faults.oracle import Ledger

_PATIENCE = 120.0


class Writers:
    """Append to one session until told to stop, each thread with a handle of its own."""

    def __init__(self, backend: sessions.Backend, session_id: str, rng: random.Random, *, threads: int = 3) -> None:
        self.ledger = Ledger()
        self.errors: list[sessions.SessionsError] = []
        self._backend = backend
        self._session_id = session_id
        self._seeds = [rng.random() for _ in range(threads)]
        self._counts = [0] * threads
        self._stopped = threading.Event()
        self._progress = threading.Condition()
        self._running: list[Future[None]] = []

    @contextlib.contextmanager
    def working(self) -> Iterator["Writers"]:
        """Write while the block runs; what escaped a thread is raised at its end."""
        with ThreadPoolExecutor(len(self._seeds)) as pool:
            self._running = [pool.submit(self._write, writer) for writer in range(len(self._seeds))]
            try:
                yield self
            finally:
                self._stopped.set()
        for future in self._running:
            future.result()

    def wait_for(self, batches: int) -> None:
        """Return when every thread has had its answer on that many more batches."""
        targets = [count + batches for count in self._counts]

        def reached() -> bool:
            for future in self._running:
                if future.done():
                    future.result()  # a thread that died raises here what it died of
            return all(count >= target for count, target in zip(self._counts, targets, strict=True))

        with self._progress:
            assert self._progress.wait_for(reached, _PATIENCE), "the writers hang"

    def _write(self, writer: int) -> None:
        rng, name, number = random.Random(self._seeds[writer]), f"w{writer}", 0
        session = self._backend.session(self._session_id)
        session.position()
        while not self._stopped.is_set():
            items = self.ledger.begin(name, number, rng.randint(1, 5))
            try:
                session.add_items(items)
            except sessions.SessionsError as exc:
                self.errors.append(exc)
                if not isinstance(exc, sessions.OutcomeUnknownError):
                    self.ledger.refuse(name, number)
            else:
                self.ledger.acknowledge(name, number)
            number += 1
            with self._progress:
                self._counts[writer] += 1
                self._progress.notify_all()


class Popper:
    """Pops from one session until told to stop, or until nothing is left."""

    def __init__(self, backend: sessions.Backend, session_id: str, count: int) -> None:
        self.popped: list[int] = []
        self.unknown = 0
        self._session = backend.session(session_id)
        self._stopped = threading.Event()
        self._session.add_items([{"n": n} for n in range(count)])
        self._count = count

    @contextlib.contextmanager
    def working(self) -> Iterator["Popper"]:
        """Pop while the block runs."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._pop)
            try:
                yield self
            finally:
                self._stopped.set()
        running.result()

    def _pop(self) -> None:
        while not self._stopped.is_set():
            try:
                item = self._session.pop_item()
            except sessions.OutcomeUnknownError:
                self.unknown += 1
                continue
            if item is None:
                return
            self.popped.append(item["n"])

    def check(self) -> None:
        """Nothing was popped twice, comes back, or is gone but for the pops of unknown outcome."""
        left = [item["n"] for item in self._session.get_items()]
        assert self.popped == sorted(set(self.popped), reverse=True), "popped twice, or out of order"
        assert not set(left) & set(self.popped), "popped and still there"
        assert left == list(range(len(left))), "gone from below the top"
        gone = set(range(self._count)) - set(left) - set(self.popped)
        assert len(gone) <= self.unknown, f"lost: {gone}"


class _AtFirst(logging.Handler):
    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act = act
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "trying again" in record.getMessage():
            self.count += 1
            if self.count == 1:
                self.act()


@contextlib.contextmanager
def at_first_retry(act: Callable[[], object] = lambda: None) -> Iterator[_AtFirst]:
    """Act when the library logs its first retry; the handler counts them."""
    handler = _AtFirst(act)
    logger = logging.getLogger("sessions")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
