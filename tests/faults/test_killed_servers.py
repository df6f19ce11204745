"""The server is killed with SIGKILL and started again while threads of this process write."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sessions
from faults.oracle import Figures, Ledger
from servers import Server

WRITERS = 3
PATIENT: dict[str, float] = {"retry_delay": 0.2, "connection_timeout": 5.0}


class Writers:
    """Threads that append to one session until told to stop, each with a handle of its own."""

    def __init__(self, backend: sessions.Backend, session_id: str, rng: random.Random) -> None:
        self.ledger = Ledger()
        self._backend = backend
        self._session_id = session_id
        self._seeds = [rng.random() for _ in range(WRITERS)]
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._counts = [0] * WRITERS
        self.errors: list[Exception] = []

    def run(self, writer: int) -> None:
        rng = random.Random(self._seeds[writer])
        session, number, name = self._backend.session(self._session_id), 0, f"w{writer}"
        session.position()
        while not self._stop.is_set():
            texts = self.ledger.begin(name, number, rng.randint(1, 5))
            try:
                session.add_items(texts)
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

    def wait_for(self, batches: int) -> None:
        """Return when every writer has had its answer on that many more batches."""
        with self._progress:
            targets = [count + batches for count in self._counts]
            reached = self._progress.wait_for(
                lambda: all(count >= target for count, target in zip(self._counts, targets, strict=True)), 120
            )
        assert reached, "the writers hang"

    def stop(self) -> None:
        self._stop.set()


def test_writers_outlive_killed_servers(
    own_server: Server, rng: random.Random, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    with own_server.database() as url, sessions.connect(url, max_retries=30, **PATIENT) as backend:  # type: ignore[arg-type]
        for kill in range(scaled(1, 1)):
            session_id = f"kill_{kill}"
            writers = Writers(backend, session_id, rng)
            with ThreadPoolExecutor(WRITERS) as pool:
                running = [pool.submit(writers.run, writer) for writer in range(WRITERS)]
                try:
                    writers.wait_for(rng.randint(1, 20))
                    own_server.kill()
                    own_server.start()
                    writers.wait_for(2)
                finally:
                    writers.stop()
            for future in running:
                future.result()
            verdict = writers.ledger.verdict(backend.session(session_id).get_items())
            figures.add(
                own_server.dialect,
                servers_killed=1,
                items_acknowledged_across_kills=writers.ledger.items,
                lost=len(verdict.lost),
                duplicated=len(verdict.duplicated),
                reordered=len(verdict.reordered),
                adds_of_unknown_outcome=writers.ledger.unknown,
            )
            assert verdict, f"kill {kill}: {verdict}"
            assert writers.errors == [], f"kill {kill}"
