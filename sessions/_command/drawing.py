"""Draw a transcript: for a person on a terminal, folded and wrapped; whole in a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

from .context import Context
from .escapes import harmless, one_line, written_id
from .forms import moment, zone
from .markdown import drawn
from .terminal import columns, size
from .transcript import Entry, Run

if TYPE_CHECKING:
    from sessions import Record, SessionInfo

# How much of a text is shown: below so many lines all of it, else the first and the last ones.
_FOLD = {"message": (40, 30, 5), "reasoning": (12, 8, 3), "tool": (12, 8, 3), "failed": (40, 30, 5)}

# How many lines of a terminal one line of a text may take.
_WRAPPED = 6

_COLOURED = {"user", "assistant", "tool", "reasoning", "handoff"}


def draw_heading(info: SessionInfo, records: Sequence[Record], context: Context) -> None:
    """Say whose records these are, on a terminal."""
    out = context.out
    if not out.is_terminal or not records:
        return
    times = [record.created_at for record in (records[0], records[-1]) if record.created_at]
    held = size(sum(len(record.text.encode(errors="replace")) for record in records))
    of = f" of {info.items:,}" if len(records) < info.items else ""
    words = [
        f"{len(records):,}{of} item{'s' * (info.items != 1)}",
        held,
        " to ".join(f"{time:%Y-%m-%d %H:%M}" for time in times),
        zone(context),
    ]
    out.line(f"{out.painted(written_id(info.session_id), 'bold')}   {out.painted(' · '.join(words), 'dim')}")
    out.line(out.painted("─" * out.width, "dim"))


class Drawing:
    """Draws entries, one behind the other."""

    def __init__(self, context: Context, *, folded: bool) -> None:
        self._out = context.out
        self._utc = context.utc
        self._folded = folded and self._out.is_terminal
        self._day: date | None = None
        self._run: Run | None = None

    def draw(self, entry: Entry) -> None:
        """Write an entry: its heading, what was said, and the output of a call."""
        out = self._out
        if out.is_terminal:
            self._draw_day(entry)
            if entry.run and entry.run.calls > 1 and entry.run is not self._run:
                out.line(out.painted(f"{entry.run.calls} calls in parallel", "dim"))
        self._run = entry.run
        self._draw_head(entry)
        fold = entry.kind if entry.kind in ("tool", "reasoning") else "message"
        style = ("dim",) if entry.kind == "reasoning" else ()
        lines = drawn(entry.text, out) if entry.kind == "assistant" else None
        for line in self._fold(self._lines(entry.text, 2) if lines is None else [[line] for line in lines], fold):
            out.line(f"  {out.painted(line, *style)}" if line else "")
        if entry.output is not None:
            style = ("failed",) if entry.failed else ()
            bar = out.painted("│", "dim") if out.is_terminal else "|"
            for line in self._fold(self._lines(entry.output, 4), "failed" if entry.failed else "tool"):
                out.line(f"  {bar} {out.painted(line, *style)}")
        out.line()

    def _draw_day(self, entry: Entry) -> None:
        day = entry.created_at.date() if entry.created_at else self._day
        if self._day and day and day != self._day:
            self._out.line(self._out.painted(f"── {day.isoformat()}", "dim"))
        self._day = day

    def _draw_head(self, entry: Entry) -> None:
        out = self._out
        styles = ("bold", entry.kind) if entry.kind in _COLOURED else ("bold",)
        left = [
            (harmless(entry.kind), styles),
            (one_line(entry.title), ()),
            *((note, ("dim",)) for note in entry.notes),
        ]
        if entry.failed:
            left.append(("FAILED", ("failed",)))
        left = [(text, style) for text, style in left if text]
        numbers = "→".join(f"#{number}" for number in dict.fromkeys(entry.ids))
        time = moment(entry.created_at, out, utc=self._utc)
        if out.is_terminal and entry.created_at:
            time = f"{entry.created_at:%H:%M:%S}"
        right = f"{numbers}  {time}"
        taken = sum(columns(text) + 2 for text, _ in left)
        gap = " " * max(2, out.width - taken - len(right) + 2) if out.is_terminal else "  "
        out.line("  ".join(out.painted(text, *style) for text, style in left) + gap + out.painted(right, "dim"))

    def _lines(self, text: str, indent: int) -> list[list[str]]:
        """The lines of a text, harmless, each as the lines of a terminal that it takes."""
        if not text:
            return []
        lines = [harmless(line) for line in text.split("\n")]
        if not self._out.is_terminal:
            return [[line] for line in lines]
        return [self._wrapped(line, max(20, self._out.width - indent)) for line in lines]

    def _wrapped(self, line: str, width: int) -> list[str]:
        if len(line) <= width:
            return [line]
        margin = line[: len(line) - len(line.lstrip(" "))][: width // 2]
        wrapped = textwrap.wrap(line, width, subsequent_indent=margin, replace_whitespace=False) or [line]
        if self._folded and len(wrapped) > _WRAPPED:
            left = sum(map(len, wrapped[_WRAPPED:]))
            return [*wrapped[:_WRAPPED], f"… {left:,} more characters (--full)"]
        return wrapped

    def _fold(self, lines: Sequence[list[str]], kind: str) -> Iterator[str]:
        """The middle of many lines left out and counted."""
        most, first, last = _FOLD[kind]
        if not self._folded or len(lines) <= most:
            yield from _flat(lines)
            return
        yield from _flat(lines[:first])
        left = lines[first:-last]
        held = size(sum(len(line.encode(errors="replace")) + 1 for line in _flat(left)))
        yield f"… {len(left):,} more lines, {held} (--full)"
        yield from _flat(lines[-last:])


def _flat(lines: Iterable[list[str]]) -> Iterator[str]:
    for line in lines:
        yield from line
