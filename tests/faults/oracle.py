"""Judge what is stored by what the callers were told.

The rule: an acknowledged batch is there once, in one piece, after the batches that its writer
had acknowledged before; a refused one is not there; of an unknown one, all or nothing.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Item = dict[str, Any]
Key = tuple[str, int]


def batch(writer: str, number: int, size: int, **extra: Any) -> list[Item]:
    """Items that say where they belong."""
    return [{"writer": writer, "batch": number, "part": part, "of": size, **extra} for part in range(size)]


class Figures:
    """Counts by dialect, of the whole run."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, dialect: str, **counts: int) -> None:
        self._counts[dialect].update(counts)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def lines(self) -> Iterator[str]:
        for dialect, counts in sorted(self._counts.items()):
            yield f"{dialect}: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())


@dataclass
class Verdict:
    """What is wrong with a history; items, or for reordered batches."""

    lost: list[Any] = field(default_factory=list)
    duplicated: list[Any] = field(default_factory=list)
    reordered: list[Any] = field(default_factory=list)
    torn: list[Any] = field(default_factory=list)
    unasked: list[Any] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Tell whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.reordered or self.torn or self.unasked)


class Ledger:
    """What the writers of one session were told about their batches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[Key, int] = {}
        self._acknowledged: dict[Key, None] = {}
        self._unknown: set[Key] = set()

    def begin(self, writer: str, number: int, size: int) -> list[Item]:
        """Note a batch that is about to be written; until it is settled here its outcome is unknown."""
        with self._lock:
            self._sizes[writer, number] = size
            self._unknown.add((writer, number))
        return batch(writer, number, size)

    def acknowledge(self, writer: str, number: int) -> None:
        with self._lock:
            self._unknown.discard((writer, number))
            self._acknowledged[writer, number] = None

    def refuse(self, writer: str, number: int) -> None:
        with self._lock:
            self._unknown.discard((writer, number))

    @property
    def acknowledged(self) -> int:
        with self._lock:
            return len(self._acknowledged)

    @property
    def unknown(self) -> int:
        with self._lock:
            return len(self._unknown)

    @property
    def items(self) -> int:
        """How many acknowledged items there must be."""
        with self._lock:
            return sum(self._sizes[key] for key in self._acknowledged)

    def verdict(self, history: Sequence[Item]) -> Verdict:
        """Compare with the whole history."""
        found = Verdict()
        seen = Counter((item["writer"], item["batch"], item["part"]) for item in history)
        for key in self._acknowledged:
            found.lost += [part for part in _parts(key, self._sizes[key]) if not seen[part]]
        found.duplicated += [part for part, count in seen.items() if count > 1]
        found.unasked += [part for part in seen if part[:2] not in self._acknowledged and part[:2] not in self._unknown]
        found.torn += list(_torn(history))
        order = {key: place for place, key in enumerate(self._acknowledged)}
        last: dict[str, int] = {}
        for item in history:
            writer, place = item["writer"], order.get((item["writer"], item["batch"]))
            if place is not None and item["part"] == 0:
                if place < last.get(writer, -1):
                    found.reordered.append((writer, item["batch"]))
                last[writer] = place
        return found


def _parts(key: Key, size: int) -> list[tuple[str, int, int]]:
    return [(*key, part) for part in range(size)]


def _torn(history: Sequence[Item]) -> Iterator[Key]:
    """The batches that are not there in one piece."""
    expected: tuple[Any, ...] | None = None
    for item in history:
        here = (item["writer"], item["batch"], item["part"])
        if here != expected and (expected is not None or item["part"] != 0):
            yield here[:2]
        rest = item["part"] + 1 < item["of"]
        expected = (item["writer"], item["batch"], item["part"] + 1) if rest else None
    if expected is not None:
        yield expected[0], expected[1]
