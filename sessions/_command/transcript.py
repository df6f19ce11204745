"""Turn the records of a conversation into a transcript: who said what, each call beside its output.

It knows the items of the OpenAI Responses API, chat messages and blocks of tools and
thinking in them; what it does not know is shown as it is stored. Nothing is left out
silently. How an entry looks is for those who show it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sessions._items import Record

from .content import Part, parts_of, words
from .reading import Call, Output, Said, read

# A call that still waits for its output holds back what follows: at most so many entries or characters.
_HELD_ENTRIES = 1000
_HELD_CHARACTERS = 4_000_000


class Place(NamedTuple):
    """Where something stands: its record, and what number it has among what the record holds."""

    record_id: int
    created_at: datetime | None
    number: int


@dataclass
class Run:
    """Calls that were made before the first of their outputs came."""

    calls: int = 0


@dataclass
class Entry:
    """One thing that happened: a heading, and what was said."""

    kind: str  # user, assistant, tool, reasoning, handoff, corrupt, encrypted, or the role or type as stored
    title: str  # what stands beside the kind
    place: Place
    parts: list[Part]
    is_known: bool = True
    notes: list[str] = field(default_factory=list)
    # Of a call: what its output comes under, while it has none; then the output.
    call_id: str | None = None
    output_parts: list[Part] | None = None
    output_place: Place | None = None
    failed: bool = False
    run: Run | None = None

    @property
    def ids(self) -> list[int]:
        return [place.record_id for place in (self.place, self.output_place) if place]

    @property
    def created_at(self) -> datetime | None:
        return self.place.created_at

    @property
    def text(self) -> str:
        return words(self.parts)

    @property
    def output(self) -> str | None:
        return None if self.output_parts is None else words(self.output_parts)


def entries(records: Iterable[Record]) -> Iterator[Entry]:
    """Make the entries of a transcript, in order; an output goes to its call.

    Little is held at a time: an output that comes long after its call stands alone.
    """
    waiting = _Waiting()
    for record in records:
        for number, found in enumerate(read(record)):
            waiting.take(found, Place(record.id, record.created_at, number), len(record.text))
        yield from waiting.ready()
    yield from waiting.rest()


class _Waiting:
    """Entries in order, those with calls that wait for their outputs and those behind them."""

    def __init__(self) -> None:
        self._held: deque[tuple[Entry, int]] = deque()
        self._characters = 0
        self._calls: dict[str, Entry] = {}
        self._run: Run | None = None

    def take(self, found: Said | Call | Output, place: Place, characters: int) -> None:
        if isinstance(found, Call):
            # A call that has its output with it was made when no other was waited for.
            self._run = None if found.call_id is None else self._run or Run()
            entry = Entry("tool", found.title, place, found.parts, call_id=found.call_id, run=self._run)
            entry.output_parts, entry.failed = found.output, found.failed
            if self._run is not None and found.call_id is not None:
                self._run.calls += 1
                self._give_up(found.call_id)
                self._calls[found.call_id] = entry
        elif isinstance(found, Output):
            self._run = None
            call = self._calls.pop(found.call_id, None)
            if call is not None:
                _answer(call, found, place)
                return
            note = "an output without its call"
            entry = Entry("tool", "", place, [], notes=[note], output_parts=found.parts, failed=found.failed)
        else:
            self._run = None
            entry = Entry(found.kind, found.title, place, found.parts, found.is_known, found.notes)
        self._held.append((entry, characters))
        self._characters += characters

    def ready(self) -> Iterator[Entry]:
        """Those that wait for nothing; and the oldest, when too many wait."""
        while self._held and (
            self._held[0][0].call_id is None or len(self._held) > _HELD_ENTRIES or self._characters > _HELD_CHARACTERS
        ):
            yield self._next()

    def rest(self) -> Iterator[Entry]:
        while self._held:
            yield self._next()

    def _next(self) -> Entry:
        entry, characters = self._held.popleft()
        self._characters -= characters
        if entry.call_id is not None:
            self._give_up(entry.call_id)
        return entry

    def _give_up(self, call_id: str) -> None:
        call = self._calls.pop(call_id, None)
        if call is not None:
            call.call_id = None
            call.notes.append("no output")


def _answer(call: Entry, output: Output, place: Place) -> None:
    call.call_id = None
    call.output_place, call.failed = place, output.failed
    if output.handoff_to and call.title.startswith("transfer_to_"):
        arguments = call.title.partition("(")[2][:-1]
        call.parts = call.parts or parts_of(arguments)
        call.kind, call.title = "handoff", f"→ {output.handoff_to}"
    else:
        call.output_parts = output.parts
