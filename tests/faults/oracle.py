"""Judge what is stored by what the callers were told.

The rule: an acknowledged batch is there once, in one piece, after the batches that its writer
had acknowledged before; a refused one is not there; of an unknown one, all or nothing. What was
popped is there no more, and a pop of unknown outcome may have taken one item. Equal items are
counted.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

Item = dict[str, Any]
Key = tuple[str, int]

# In seconds: a pop that has ended so long before a call began is never taken for one that came behind it.
_APART = 6.0

# What equal batches are made of: nothing tells one from another.
EQUAL = {"role": "user", "content": "yes"}


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
    """What is wrong with a history; items, or for torn and reordered ones batches."""

    lost: list[Any] = field(default_factory=list)
    duplicated: list[Any] = field(default_factory=list)
    reordered: list[Any] = field(default_factory=list)
    torn: list[Any] = field(default_factory=list)
    unasked: list[Any] = field(default_factory=list)
    wrong_conflicts: list[Any] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Tell whether nothing is wrong."""
        return not any(vars(self).values())

    def counts(self) -> dict[str, int]:
        return {name: len(damage) for name, damage in vars(self).items()}

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(**{name: damage + vars(other)[name] for name, damage in vars(self).items()})


class _Traffic:
    """How many operations have begun and ended, and so whether one fell into a stretch of time."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    def any_since(self, ended: int, *, besides: int = 0) -> bool:
        """Tell whether an operation was under way since that many had ended."""
        return self.begun - besides > ended


class Ledger:
    """What the writers of one session, and one popper beside them, were told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._last_pop = float("-inf")
        self._sizes: dict[Key, int] = {}
        self._equal: set[Key] = set()
        self._acknowledged: dict[Key, None] = {}
        self._unknown: set[Key] = set()
        self._behind_pops: set[Key] = set()
        self._beside_pops: set[Key] = set()
        self._overtaken: set[Key] = set()
        self._not_overtaken: set[Key] = set()
        self._popped: list[Item] = []
        self._writes, self._pops = _Traffic(), _Traffic()
        # How many writes and pops had ended when a batch was begun.
        self._marks: dict[Key, tuple[int, int]] = {}
        # The batches that were begun since the last pop was answered.
        self._since_pop: set[Key] = set()
        self.is_covered = False
        self.unknown_pops = 0

    def begin(self, writer: str, number: int, size: int, *, equal: bool = False) -> list[Item]:
        """Note a batch that is about to be written; until it is settled here its outcome is unknown."""
        key = (writer, number)
        with self._lock:
            self._sizes[key] = size
            self._unknown.add(key)
            if self._clock() - self._last_pop < _APART:
                self._behind_pops.add(key)
            self._marks[key] = self._writes.ended, self._pops.ended
            self._since_pop.add(key)
            self._writes.begun += 1
            if equal:
                self._equal.add(key)
        return [EQUAL] * size if equal else batch(writer, number, size)

    def acknowledge(self, writer: str, number: int) -> None:
        with self._lock:
            self._settle((writer, number))
            self._acknowledged[writer, number] = None
            # It lies on what the last pop left.
            self.is_covered = self.is_covered or (writer, number) in self._since_pop

    def refuse(self, writer: str, number: int) -> None:
        with self._lock:
            self._settle((writer, number))

    def overtake(self, writer: str, number: int) -> None:
        """Note a batch that was refused because the position that was read after begin() is another by now."""
        key = (writer, number)
        with self._lock:
            writes, pops = self._marks[key]
            self._overtaken.add(key)
            if not self._writes.any_since(writes, besides=1) and not self._pops.any_since(pops):
                self._not_overtaken.add(key)
            self._settle(key)

    def doubt(self, writer: str, number: int) -> None:
        """Note that the outcome stays unknown, and whether a pop fell into the time of the call, or shortly before it.

        A pop notes the time at which it began to wait for its turn.
        """
        with self._lock:
            if (writer, number) in self._behind_pops or self._pops.any_since(self._marks[writer, number][1]):
                self._beside_pops.add((writer, number))

    def _settle(self, key: Key) -> None:
        self._unknown.discard(key)
        self._writes.ended += 1

    def begin_pop(self) -> None:
        with self._lock:
            self._pops.begun += 1

    def end_pop(self, item: Item | None) -> None:
        with self._lock:
            if item is not None:
                self._popped.append(item)
            # Those of unknown outcome before it too, which the server may have come to late.
            self._pops.ended = self._pops.begun
            self._last_pop = self._clock()
            self._uncover()

    def doubt_pop(self) -> None:
        with self._lock:
            self.unknown_pops += 1
            self._last_pop = self._clock()
            self._uncover()

    def _uncover(self) -> None:
        self.is_covered = False
        self._since_pop.clear()

    @property
    def acknowledged(self) -> int:
        with self._lock:
            return len(self._acknowledged)

    @property
    def unknown(self) -> int:
        with self._lock:
            return len(self._unknown)

    @property
    def unknown_beside_pops(self) -> int:
        """Those of the unknown ones whose items a pop may have taken, before anybody looked for them."""
        with self._lock:
            return len(self._beside_pops)

    @property
    def conflicts(self) -> int:
        with self._lock:
            return len(self._overtaken)

    @property
    def popped(self) -> int:
        with self._lock:
            return len(self._popped)

    @property
    def items(self) -> int:
        """How many acknowledged items there must be, popped ones included."""
        with self._lock:
            return sum(self._sizes[key] for key in self._acknowledged)

    def verdict(self, history: Sequence[Item]) -> Verdict:
        """Compare with the whole history."""
        found = Verdict()
        left, popped = _parts_of(history), Counter(_parts_of(self._popped))
        seen = Counter(left) + popped
        told = self._acknowledged.keys() | self._unknown
        found.duplicated += [part for part, count in seen.items() if count > 1]
        found.unasked += [part for part in seen if part[:2] not in told | self._overtaken]
        written = {part[:2] for part in seen}
        found.wrong_conflicts += sorted(self._not_overtaken | (self._overtaken & written))
        gone = [
            part
            for key in [*self._acknowledged, *sorted(self._unknown & written)]
            if key not in self._equal
            for part in _parts(key, self._sizes[key])
            if not seen[part]
        ]
        excused = set(gone[: self.unknown_pops])
        found.lost += gone[self.unknown_pops :]
        self._count_equal(history, found, self.unknown_pops - len(excused))
        found.torn += list(_torn(history, popped.keys() | excused))
        order = {key: place for place, key in enumerate(self._acknowledged)}
        last: dict[str, int] = {}
        for writer, number, part in left:
            place = order.get((writer, number))
            if place is not None and part == 0:
                if place < last.get(writer, -1):
                    found.reordered.append((writer, number))
                last[writer] = place
        return found

    def _count_equal(self, history: Sequence[Item], found: Verdict, excused: int) -> None:
        count = history.count(EQUAL) + self._popped.count(EQUAL)
        least = sum(self._sizes[key] for key in self._equal & self._acknowledged.keys())
        most = least + sum(self._sizes[key] for key in self._equal & self._unknown)
        found.duplicated += [EQUAL] * (count - most)
        found.lost += [EQUAL] * (least - excused - count)


class Slate:
    """What the one who replaces the history of a session, all alone, was told."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.unknown = 0
        self.found = Verdict()
        self._settled: list[list[Item]] = [[]]
        self._begun: list[Item] = []

    def begin(self, items: list[Item]) -> None:
        self._begun = items

    def acknowledge(self, _: str, __: int) -> None:
        self.acknowledged += 1
        self._settled = [self._begun]

    def refuse(self, _: str, __: int) -> None:
        """Expect what was there before."""

    def overtake(self, writer: str, number: int) -> None:
        """There is nobody who could have overtaken."""
        self.found.wrong_conflicts.append((writer, number))

    def doubt(self, _: str, __: int) -> None:
        self.unknown += 1
        self._settled.append(self._begun)

    def look(self, history: list[Item]) -> None:
        """Compare with the history as it is between two replacements."""
        if history in self._settled:
            return
        expected = self._settled[-1]
        lost = [item for item in expected if item not in history]
        unasked = [item for item in history if item not in expected]
        self.found += Verdict(lost=lost, unasked=unasked, reordered=[] if lost or unasked else history)


def _parts(key: Key, size: int) -> list[tuple[str, int, int]]:
    return [(*key, part) for part in range(size)]


def _parts_of(items: Sequence[Item]) -> list[tuple[str, int, int]]:
    return [(item["writer"], item["batch"], item["part"]) for item in items if item != EQUAL]


def _torn(history: Sequence[Item], popped: Set[tuple[str, int, int]]) -> Iterator[Key]:
    """The batches that are not there in one piece; what was popped is no part of them."""
    expected: tuple[str, int, int] | None = None
    for item in history:
        here = None if item == EQUAL else (item["writer"], item["batch"], item["part"])
        if expected not in (here, None):
            yield expected[:2]
        if here is None:
            expected = None
            continue
        if here != expected and here[2] != 0:
            yield here[:2]
        after = (*here[:2], here[2] + 1)
        expected = after if after[2] < item["of"] and after not in popped else None
    if expected is not None:
        yield expected[:2]
