"""The list of the conversations, and the search over it.

What is known of each waits in a file without a name, since the list is in another order
than the pages are made.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, TextIO

from sessions._command.escapes import written_id
from sessions._command.terminal import size

from .conversation import Summary
from .markup import escaped, facts, heading, resource, start

if TYPE_CHECKING:
    from sessions import SessionInfo


class _Row(NamedTuple):
    time: str
    at: int
    markup: int
    data: int


class Index:
    """Collects what the list says."""

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115  (closed by __exit__)
        self._rows: list[_Row] = []
        self._is_searched_whole = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, info: SessionInfo, name: str, summary: Summary) -> None:
        """Take a conversation whose page is written."""
        time = info.updated_at.isoformat() if info.updated_at else ""
        markup = _row(info, name, summary).encode()
        # No text ends the script element, nor begins a comment in it.
        data = json.dumps([written_id(info.session_id), "\n".join(summary.said)]).replace("<", "\\u003c").encode()
        self._rows.append(_Row(time, self._file.tell(), len(markup), len(data)))
        self._file.write(markup + data)
        self._is_searched_whole = self._is_searched_whole and summary.is_searched_whole

    def write(self, file: TextIO, *, where: str, zone: str) -> None:
        """Write the list, the newest first."""
        rows = sorted(self._rows, key=lambda row: row.time, reverse=True)
        script = resource("index.js")
        file.write(start("Conversations", script))
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        pairs = [("Sessions", f"{len(rows):,}"), ("From", escaped(where)), ("Exported", now)]
        file.write(f'<header class="top"><h1>Conversations</h1>\n{facts(pairs)}\n{_FIND}</header>\n<main>')
        file.write('<ol class="sessions" id="sessions">\n' if rows else "<p>There are none.</p>")
        file.writelines(self._read(row.at, row.markup) for row in rows)
        file.write("</ol>\n" if rows else "")
        file.write(
            '<p id="none" hidden>None. <code>agent-sessions grep TEXT</code> searches tool calls too.</p></main>\n'
        )
        part = "" if self._is_searched_whole else " Of long conversations the beginning is searched."
        file.write(f"<footer>Newest first, {zone}. Nothing is loaded from anywhere.{part}</footer>\n")
        file.write('<script type="application/json" id="texts">[')
        for number, row in enumerate(rows):
            file.write(",\n" if number else "\n")
            file.write(self._read(row.at + row.markup, row.data))
        file.write(f"\n]</script>\n<script>{script}</script>\n</body>\n</html>\n")

    def _read(self, at: int, count: int) -> str:
        self._file.seek(at)
        return self._file.read(count).decode()


_FIND = """\
<div id="find" role="search" hidden>
<label for="q">Search ids, questions and answers</label>
<input type="search" id="q" autocomplete="off" spellcheck="false" aria-keyshortcuts="/"><p id="count" role="status"></p>
</div>
"""


def _row(info: SessionInfo, name: str, summary: Summary) -> str:
    time = info.updated_at
    when = f'<time datetime="{time.isoformat(timespec="seconds")}">{time:%Y-%m-%d %H:%M}</time>' if time else "?"
    shown = escaped(written_id(info.session_id))
    first = heading(summary.questions[0][1]) if summary.questions else ""
    return (
        f'<li><a href="{name}"><b dir="auto">{shown}</b><span dir="auto">{first}</span></a>'
        f'<p class="meta">{when} <span>{summary.items:,} item{"s" * (summary.items != 1)}</span> '
        f"<span>{size(summary.size)}</span></p></li>\n"
    )
