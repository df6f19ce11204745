"""Claims about many writers: the order of a conversation, whole batches, one taker for each item."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import groupby
from typing import NamedTuple

from sessions.errors import ConflictError

from .place import Place, in_threads, refuted

WRITERS = 6

# Of each writer; enough for a fault to show, and few enough to be read back at once.
_MOST = 60

_ORDER = (
    "give the id's sequence no cache (CACHE 1, AUTO_ID_CACHE 1), or let every program write to the same server; "
    "see README, Scaling out"
)
_LOST = "look for a trigger or a rule, for asynchronous replication, and for reads of a replica"
_LOCKS = "the engine does not keep locks on rows until the commit; see README, Scaling out"


class _Written(NamedTuple):
    writer: int
    number: int
    begin: float
    end: float


def order(place: Place) -> str:
    """The order of a conversation is the order in which its items were written."""
    count = 20
    for number in range(count):
        place.session("by turns", number).add_items([{"number": number}])
    found = [item["number"] for item in place.session("by turns").get_items()]
    if sorted(found) != list(range(count)):
        raise refuted(f"of {count} items that were added one after the other {sorted(found)} are there", _LOST)
    if found != sorted(found):
        raise refuted(
            f"items that were added one after the other, over {len(place.backends)} backends, stand in another order: "
            f"{found}",
            _ORDER,
        )
    written = _write(place, "order", size=1)
    rows = [(item["writer"], item["number"]) for item in place.session("order").get_items()]
    _check_all_there(rows, written, size=1)
    times = {(one.writer, one.number): one for one in written}
    latest = 0.0
    for row in rows:
        if times[row].end < latest:
            raise refuted(
                f"item {row[1]} of writer {row[0]} stands behind one whose call began when its own had ended", _ORDER
            )
        latest = max(latest, times[row].begin)
    return f"{count} items by turns and {len(rows)} of {WRITERS} writers{_over(place)} stand as they were written"


def whole_batches(place: Place) -> str:
    """A batch is written as a whole, and no other writer's rows come between."""
    size = 5
    written = _write(place, "whole batches", size=size)
    rows = [(item["writer"], item["number"]) for item in place.session("whole batches").get_items()]
    _check_all_there(rows, written, size=size)
    batches = [(batch, len(list(group))) for batch, group in groupby(rows)]
    if split := [batch for batch, count in batches if count != size]:
        raise refuted(f"{len(set(split))} of {len(written)} batches have items of others between their own", _LOCKS)
    parts = [item["part"] for item in place.session("whole batches").get_items()]
    if parts != list(range(size)) * len(written):
        raise refuted("the items of a batch stand in another order than they were given in", _ORDER)
    return f"{len(written)} batches of {size}, by {WRITERS} writers{_over(place)}, stand together and in order"


def pop_once(place: Place) -> str:
    """No item is given to two who pop at the same time, and none is lost."""
    count = 60
    place.session("pop once").add_items([{"number": number} for number in range(count)])

    def pop(number: int, stop: threading.Event) -> list[int]:
        session, taken = place.session("pop once", number), []
        while not stop.is_set() and (item := session.pop_item()) is not None:
            taken.append(item["number"])
        return taken

    taken = in_threads(WRITERS, pop)
    times = Counter(number for numbers in taken for number in numbers)
    if twice := [number for number, often in times.items() if often > 1]:
        raise refuted(f"{len(twice)} of {count} items were given to more than one", _LOCKS)
    left = {item["number"] for item in place.session("pop once").get_items()}
    if left or len(times) != count:
        raise refuted(f"of {count} items {len(times)} were given to somebody, and {len(left)} are left", _LOST)
    if any(numbers != sorted(numbers, reverse=True) for numbers in taken):
        raise refuted("somebody was given an older item before a newer one", _ORDER)
    return f"{WRITERS} at once{_over(place)} were given {count} items, each once, the newest first"


def if_position(place: Place) -> str:
    """Of those who write at one position, one wins and the others are told."""
    rounds, session = 8, place.session("if_position")
    for turn in range(rounds):
        position = session.position()

        def write(number: int, _: threading.Event, position: int = position, turn: int = turn) -> bool:
            try:
                place.session("if_position", number).add_items([{"turn": turn, "writer": number}], if_position=position)
            except ConflictError:
                return False
            return True

        won = in_threads(WRITERS, write)
        if won.count(True) != 1:
            raise refuted(f"{won.count(True)} of {WRITERS} who wrote at position {position} were told they had", _LOCKS)
        if len(found := session.get_items()) != turn + 1 or won[found[-1]["writer"]] is not True:
            raise refuted("what stands at a position is not what its winner wrote", _LOCKS)
    return f"in {rounds} rounds of {WRITERS} rivals{_over(place)} one won, and the others got a ConflictError"


def _write(place: Place, name: str, *, size: int) -> list[_Written]:
    """Let the writers add batches for a while; what each batch was, and when its call began and ended."""
    until = time.monotonic() + place.seconds

    def add(writer: int, stop: threading.Event) -> list[_Written]:
        session, written = place.session(name, writer), []
        for number in range(_MOST):
            begin = time.monotonic()
            if stop.is_set() or (number and begin > until):
                break
            session.add_items([{"writer": writer, "number": number, "part": part} for part in range(size)])
            written.append(_Written(writer, number, begin, time.monotonic()))
        return written

    return [one for written in in_threads(WRITERS, add) for one in written]


def _check_all_there(rows: list[tuple[int, int]], written: list[_Written], *, size: int) -> None:
    """Refute when an item is missing or there twice."""
    there = Counter(rows)
    meant = Counter({(one.writer, one.number): size for one in written})
    lost, doubled = (meant - there).total(), (there - meant).total()
    if lost or doubled:
        raise refuted(f"of {meant.total()} items {lost} are missing, and {doubled} are there more often", _LOST)


def _over(place: Place) -> str:
    return f" over {len(place.backends)} hosts" if len(place.address.hosts) > 1 else ""
