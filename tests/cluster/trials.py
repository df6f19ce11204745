"""What writers and a reader saw while something happened to a cluster, beside what a plain connection saw."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import SupportsFloat

import sessions
from faults.oracle import Figures
from faults.writers import Writers


class Reader:
    """Reads a conversation all the time."""

    def __init__(self, backend: sessions.Backend, session_id: str) -> None:
        self.reads = 0
        self.errors: list[sessions.SessionsError] = []
        self._session = backend.session(session_id)
        self._stopped = threading.Event()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read while the block runs."""
        thread = threading.Thread(target=self._read)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _read(self) -> None:
        while not self._stopped.is_set():
            try:
                self._session.get_items(limit=50)
                self.reads += 1
            except sessions.SessionsError as exc:
                self.errors.append(exc)


class Outage:
    """The longest time in which no fresh connection could write; a float, when it is asked for."""

    def __init__(self, can_write: Callable[[], bool], act: Callable[[], object]) -> None:
        self._can_write = can_write
        self._longest = 0.0
        self._over = threading.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        self._began.wait()
        act()

    def _look(self) -> None:
        last = time.monotonic()
        self._began.set()
        while not self._over.wait(0.02):
            if self._can_write():
                now = time.monotonic()
                self._longest, last = max(self._longest, now - last), now

    def __float__(self) -> float:
        self._over.set()
        self._thread.join()
        return self._longest


class Trials:
    """Lets things happen under writers, and keeps what came of it."""

    def __init__(self, figures: Figures, rng: random.Random, name: str) -> None:
        self.gaps: list[tuple[float, float]] = []
        self._figures = figures
        self._rng = rng
        self._name = name

    def run(
        self,
        backend: sessions.Backend,
        event: Callable[[], SupportsFloat],
        mend: Callable[[], object],
        *,
        batches: int = 10,
    ) -> None:
        """Let an event happen, which returns how many seconds the cluster took no writes; nothing may come of it."""
        session_id = f"{self._name} {len(self.gaps)}"
        writers, reader = Writers(backend, session_id, self._rng), Reader(backend, session_id)
        with writers.working(), reader.reading():
            writers.wait_for(batches)
            outage = event()
            try:
                writers.wait_for(batches // 2)
                mend()
                writers.wait_for(batches)
            finally:
                own = float(outage)
        self.gaps.append((writers.longest_gap, own))
        self._figures.add(
            self._name, events=1, refused=len(writers.errors) + len(reader.errors), batches=writers.ledger.acknowledged
        )
        writers.judge(backend, self._figures, self._name, "events")
        errors = [*writers.errors, *reader.errors]
        assert not errors, errors

    def __str__(self) -> str:
        """Say how long nobody was answered, and for how long that was the cluster's own doing."""
        longest, own = max(self.gaps)
        worst = max(gap - own for gap, own in self.gaps)
        return (
            f"{self._name}: longest gap {longest:.1f} s of {own:.1f} s of the cluster's own; at most {worst:.1f} s more"
        )
