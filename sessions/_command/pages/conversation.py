"""The page of one conversation.

It is written record by record; what its head says of it is known only at the end, so its
body waits in a file without a name.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, TextIO

from sessions._command.content import words
from sessions._command.escapes import harmless, written_id
from sessions._command.terminal import size
from sessions._command.transcript import Entry, Place, Run, entries

from .entry import Look, anchor, markup_of
from .markup import Limits, escaped, facts, heading, start

if TYPE_CHECKING:
    from sessions import Record

# Smaller bodies wait in memory.
_IN_MEMORY = 1_000_000

# So many of the user's messages are listed at the top, and the index searches so much of a conversation.
_QUESTIONS = 500
_SEARCHED = 16_000
_SEARCHED_OF_A_TEXT = 2_000

# Marks of Markdown that say nothing in a line of a list.
_MARKS = re.compile(r"\*\*|^[ |:-]+$", re.MULTILINE)


@dataclass
class Summary:
    """What a conversation holds, in short."""

    items: int = 0
    size: int = 0
    calls: int = 0
    failed: int = 0
    times: list[datetime] = field(default_factory=list)  # the first and the last
    asked: int = 0
    questions: list[tuple[Place, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    searched: int = 0
    is_searched_whole: bool = True

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on, and count them."""
        for record in records:
            self.items += 1
            self.size += len(record.text.encode(errors="replace"))
            if record.created_at is not None:
                self.times = [*self.times[:1], record.created_at]
            yield record

    def note(self, entry: Entry) -> None:
        """Take what the head and the index say of an entry."""
        if not entry.is_known:
            return
        self.calls += entry.kind == "tool" and entry.title != ""
        self.failed += entry.failed
        if entry.kind not in ("user", "assistant"):
            return
        text = words([part for part in entry.parts if part.kind in ("text", "refusal")])
        if entry.kind == "user":
            self.asked += 1
            if len(self.questions) < _QUESTIONS:
                self.questions.append((entry.place, text[:1000] or entry.text))
        room = min(_SEARCHED_OF_A_TEXT, _SEARCHED - self.searched)
        self.is_searched_whole = self.is_searched_whole and len(text) <= room
        if room > 0:
            self.said.append(" ".join(harmless(_MARKS.sub("", text[:room])).split()))
            self.searched += len(self.said[-1])


def write_page(file: TextIO, limits: Limits, records: Iterable[Record], *, zone: str, folder: Path) -> Summary:
    """Write a conversation; return what it holds."""
    summary = Summary()
    with SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="\n", dir=str(folder)) as body:
        day: date | None = None
        run: Run | None = None
        for entry in entries(summary.counted(records)):
            today = entry.created_at.date() if entry.created_at else day
            body.write(markup_of(entry, Look(limits, today != day and day is not None, entry.run is not run)))
            summary.note(entry)
            day, run = today, entry.run
        body.seek(0)
        file.write(start(written_id(limits.session_id)))
        file.write(_top(limits.session_id, summary, zone))
        shutil.copyfileobj(body, file)
    file.write(
        f"</main>\n<footer>Exported {_now()} by agent-sql-sessions. Times are when an item was stored.</footer>\n"
    )
    file.write("</body>\n</html>\n")
    return summary


def _top(session_id: str, summary: Summary, zone: str) -> str:
    failed = f', <span class="bad">{summary.failed:,} failed</span>' if summary.failed else ""
    pairs = [
        ("Items", f"{summary.items:,}"),
        ("Size", size(summary.size)),
        ("Written", f"{_span(summary.times)} {zone}" if summary.times else "?"),
        *([("Tool calls", f"{summary.calls:,}{failed}")] if summary.calls or failed else []),
    ]
    boxes = "".join(
        f'<label><input type="checkbox" id="show-{name}" checked> {label}</label>'
        for name, label in (("tools", "tool calls"), ("reasoning", "reasoning"), ("other", "other items"))
    )
    return (
        '<a class="skip" href="#conversation">Skip to the conversation</a>\n'
        '<header class="top"><p class="crumb"><a href="index.html">All conversations</a></p>'
        f'<h1 dir="auto">{escaped(written_id(session_id))}</h1>\n{facts(pairs)}\n'
        f'<fieldset class="show"><legend>Show</legend>{boxes}</fieldset>\n{_questions(summary)}</header>\n'
        '<main id="conversation" tabindex="-1">\n'
    )


def _questions(summary: Summary) -> str:
    if summary.asked < 2:
        return ""
    links = "".join(
        f'<li><a href="#{anchor(place)}" dir="auto">{heading(text) or "(no text)"}</a></li>'
        for place, text in summary.questions
    )
    more = f"<p>The first {_QUESTIONS} of them.</p>" if summary.asked > _QUESTIONS else ""
    return (
        f'<details class="asked"><summary>{summary.asked:,} messages of the user</summary><ol>{links}</ol>{more}'
        "</details>\n"
    )


def _span(times: list[datetime]) -> str:
    first, last = times[0], times[-1]
    begin = first.strftime("%Y-%m-%d %H:%M")
    end = last.strftime("%H:%M" if last.date() == first.date() else "%Y-%m-%d %H:%M")
    return begin if begin.endswith(end) else f"{begin} \N{EN DASH} {end}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
