"""How many operations a second several threads do on one backend, each in a conversation of its own."""

import sys
import threading
import time
from collections.abc import Callable, Iterator

import sessions
from benchmarks.corpus import make_items

_THREADS = (1, 2, 8)
_ITEMS = make_items(1000)
_OPERATIONS: dict[str, Callable[[sessions.Session], object]] = {
    "read 1,000": lambda session: session.get_items(limit=1000),
    "read 20": lambda session: session.get_items(limit=20),
    "add 1": lambda session: session.add_items(_ITEMS[:1]),
}


def measure(url: str, seconds: float) -> Iterator[str]:
    """Yield a table, line by line: the operations a second, and the fewest and most of a thread."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    yield f"Python {sys.version.split()[0]}, {'with the GIL' if gil else 'free-threaded'}"
    yield f"| operation | {' | '.join(f'threads: {count}' for count in _THREADS)} |"
    yield "| --- |" + " ---: |" * len(_THREADS)
    with sessions.connect(url, pool_size=max(_THREADS)) as backend:
        for number in range(max(_THREADS)):
            backend.session(f"thread {number}").add_items(_ITEMS)
        for name, operation in _OPERATIONS.items():
            cells = []
            for count in _THREADS:
                done = _count(backend, count, seconds, operation)
                cells.append(f"{sum(done) / seconds:,.0f} ({min(done) / seconds:,.0f} to {max(done) / seconds:,.0f})")
            yield f"| {name} | {' | '.join(cells)} |"


def _count(
    backend: sessions.Backend, threads: int, seconds: float, operation: Callable[[sessions.Session], object]
) -> list[int]:
    counts = [0] * threads
    ready = threading.Barrier(threads)

    def work(number: int) -> None:
        session = backend.session(f"thread {number}")
        operation(session)  # opens a connection
        ready.wait()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            operation(session)
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counts
