"""What every contestant offers: conversations in one database, and the same operations on them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from benchmarks.corpus import Item


class Handle(Protocol):
    """One conversation."""

    def get(self, limit: int | None = None) -> list[Any]: ...
    def stream(self) -> Iterator[Any]: ...
    def add(self, items: list[Item]) -> None: ...
    def pop(self) -> Any: ...
    def clear(self) -> None: ...


class Store:
    """One contestant on one database, made ready before anything is measured."""

    name: str
    needs: tuple[str, ...] = ()  # packages
    limits = True  # whether it can read the newest few, pop, and use our tables

    def __init__(self, url: str) -> None:
        self.url = url
        # Kept, so that a thread's connection is there when its turn comes again.
        self.threads = ThreadPoolExecutor(8)
        self._kept: dict[str, Any] = {}

    def handle(self, session_id: str) -> Any:
        """Make a handle that satisfies Handle."""
        raise NotImplementedError

    def kept(self, session_id: str) -> Any:
        """Return the same handle for the same session, as a program that goes on with it would."""
        if session_id not in self._kept:
            self._kept[session_id] = self.handle(session_id)
        return self._kept[session_id]

    def close(self) -> None:
        """Close everything."""

    def run_at_once(self, handles: Sequence[Any], turns: int, batch: list[Item]) -> None:
        """Let every handle do its turns, all at the same time."""

        def work(handle: Handle) -> None:
            for _ in range(turns):
                handle.get(20) if self.limits else handle.get()
                handle.add(batch)

        list(self.threads.map(work, handles))

    def open_read_close(self, session_id: str) -> None:
        """Do what a script does that starts, reads and ends."""
        store = type(self)(self.url)
        try:
            store.handle(session_id).get()
        finally:
            store.close()
