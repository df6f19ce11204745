"""Threads that write to one session, each in a way of its own, and events instead of waiting."""

import contextlib
import functools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import sessions
from faults.oracle import Figures, Ledger, Slate, batch

_PATIENCE = 120.0


class _Book(Protocol):
    """Where the answer to a write is noted."""

    def acknowledge(self, writer: str, number: int) -> None: ...
    def refuse(self, writer: str, number: int) -> None: ...
    def overtake(self, writer: str, number: int) -> None: ...
    def doubt(self, writer: str, number: int) -> None: ...


class Writers:
    """Write to one session until told to stop, a thread for each of the ways."""

    def __init__(
        self, backend: sessions.Backend, session_id: str, rng: random.Random, *, ways: Sequence[str] | None = None
    ) -> None:
        self.ledger = Ledger()
        self.slate = Slate()
        # What was refused; an unknown outcome is in the ledger.
        self.errors: list[sessions.SessionsError] = []
        self.doubts: list[str] = []
        # The most seconds between two answers of the database to one who writes all the time.
        self.longest_gap = 0.0
        self._answered: dict[str, float] = {}
        self._backend = backend
        self._session_id = session_id
        self._ways = list(ways or _STEPS)
        self._seeds = [rng.random() for _ in self._ways]
        self._counts = [0] * len(self._ways)
        self._stopped = threading.Event()
        self._progress = threading.Condition()
        self._running: list[Future[None]] = []

    @contextlib.contextmanager
    def working(self) -> Iterator["Writers"]:
        """Write while the block runs; what escaped a thread is raised at its end."""
        with ThreadPoolExecutor(len(self._ways)) as pool:
            self._running = [pool.submit(self._work, thread) for thread in range(len(self._ways))]
            try:
                yield self
            finally:
                self._stopped.set()
                with self._progress:
                    self._progress.notify_all()
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

    def judge(self, backend: sessions.Backend, figures: Figures, dialect: str, across: str) -> None:
        """Compare what is stored with what was told, note how much it was, and assert that nothing is wrong."""
        ledger, slate = self.ledger, self.slate
        slate.look(backend.session(self._own_session_id).get_items())
        verdict = ledger.verdict(backend.session(self._session_id).get_items()) + slate.found
        # A pop in between may have taken the batch for all that the library can see, though here it has not.
        unknown = ledger.unknown - ledger.unknown_beside_pops
        counts = {
            f"items_acknowledged_across_{across}": ledger.items,
            f"replacements_acknowledged_across_{across}": slate.acknowledged,
            **verdict.counts(),
            "adds_of_unknown_outcome": unknown,
            "adds_of_unknown_outcome_beside_a_pop": ledger.unknown_beside_pops,
            "replacements_of_unknown_outcome": slate.unknown,
            "conflicts": ledger.conflicts,
            f"items_popped_across_{across}": ledger.popped,
            "pops_of_unknown_outcome": ledger.unknown_pops,
        }
        figures.add(dialect, **counts)
        assert verdict, f"{self._session_id}: {verdict}"
        assert (unknown, slate.unknown) == (0, 0), f"{self._session_id}: {self.doubts}"

    @property
    def _own_session_id(self) -> str:
        return f"{self._session_id}_alone"

    def _work(self, thread: int) -> None:
        rng, way = random.Random(self._seeds[thread]), self._ways[thread]
        step, kept, number = _STEPS[way], self._backend.session(self._session_id), 0
        while not self._stopped.is_set():
            step(self, f"{way} {thread}", number, rng, kept)
            number += 1
            with self._progress:
                self._counts[thread] += 1
                self._progress.notify_all()

    def _note(self, book: _Book, name: str, number: int, write: Callable[[], None]) -> None:
        try:
            write()
        except sessions.OutcomeUnknownError as exc:
            self.doubts.append(f"{name}: {exc}")
            book.doubt(name, number)
        except sessions.ConflictError:
            book.overtake(name, number)
            self._note_answer(name)
        except sessions.SessionsError as exc:
            self.errors.append(exc)
            book.refuse(name, number)
        else:
            book.acknowledge(name, number)
            self._note_answer(name)

    def _note_answer(self, name: str) -> None:
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self._answered.get(name, now))
        self._answered[name] = now

    # The ways to write

    def _add(
        self,
        name: str,
        number: int,
        rng: random.Random,
        kept: sessions.Session,
        *,
        fresh: bool = False,
        equal: bool = False,
        at_position: bool = False,
    ) -> None:
        session = self._backend.session(self._session_id) if fresh else kept
        items = self.ledger.begin(name, number, rng.randint(2, 5), equal=equal)

        def write() -> None:
            session.add_items(items, if_position=session.position() if at_position else None)

        self._note(self.ledger, name, number, write)

    def _pop(self, _: str, __: int, rng: random.Random, kept: sessions.Session) -> None:
        """Wait for a few answers to the others, and pop one item.

        Each waits until a batch lies on what the one before left, and no batch has less than two
        items: so none is ever popped as a whole before it has been looked for. Where that happens
        and others write behind it, the library takes it for one that was never written.
        """
        target = sum(self._counts) + rng.randint(2, 8)

        def due() -> bool:
            return self._stopped.is_set() or (self.ledger.is_covered and sum(self._counts) >= target)

        with self._progress:
            assert self._progress.wait_for(due, _PATIENCE), "the writers hang"
        self.ledger.begin_pop()
        try:
            self.ledger.end_pop(kept.pop_item())
        except sessions.OutcomeUnknownError:
            self.ledger.doubt_pop()
        except sessions.SessionsError as exc:
            self.errors.append(exc)
            self.ledger.end_pop(None)

    def _replace(self, name: str, number: int, rng: random.Random, _: sessions.Session) -> None:
        """Replace the history of another session, where nobody else writes; by its own beginning, too."""
        session = self._backend.session(self._own_session_id)
        size, shorter, at_position = rng.randint(0, 4), rng.random() < 0.3, rng.random() < 0.5

        def write() -> None:
            history = session.get_items()
            self.slate.look(history)
            items = history[: len(history) // 2] if shorter else batch(name, number, size)
            position = session.position() if at_position else None
            self.slate.begin(items)
            session.replace_items(items, if_position=position)

        self._note(self.slate, name, number, write)


_Step = Callable[[Writers, str, int, random.Random, sessions.Session], None]
_STEPS: dict[str, _Step] = {
    "kept": Writers._add,
    "fresh": functools.partial(Writers._add, fresh=True),
    "equal": functools.partial(Writers._add, equal=True),
    "fresh equal": functools.partial(Writers._add, fresh=True, equal=True),
    "at position": functools.partial(Writers._add, at_position=True),
    "pop": Writers._pop,
    "replace": Writers._replace,
}


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
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)  # collisions too
    try:
        yield handler
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
