"""What every page has: its policy, its head, and the one way in which a text gets into it.

A page runs nothing and loads nothing. Each text and each attribute goes through escaped(),
which also writes out what would turn or hide text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import shlex
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sessions._command.escapes import harmless, one_line, written_id

# Of one text so much of the beginning and of the end is shown.
_FIRST = 192_000
_LAST = 64_000

# A box of text scrolls from so many lines on, which are about so wide.
_LINES = 23
_WIDTH = 80

# Of a text in a heading.
_HEADING = 200


class Limits(NamedTuple):
    """How much of a text a page shows, and whose conversation it is."""

    session_id: str
    full: bool

    def split(self, text: str) -> tuple[str, str, str]:
        """Return the beginning of a text, markup that says what is left out, and the end; all of a short one first."""
        left_out = len(text) - _FIRST - _LAST
        if self.full or left_out <= 0:
            return text, "", ""
        written = written_id(self.session_id)
        flag = "" if written == self.session_id else "--escaped "
        command = f"agent-sessions show --all --full {flag}{shlex.quote(written)}"
        note = f'<p class="note">… {left_out:,} characters left out: <code>{escaped(command)}</code></p>'
        return text[:_FIRST], note, text[-_LAST:]


def escaped(text: str) -> str:
    """Write a text so that it stands in markup, or in a quoted attribute, as what it is."""
    return html.escape(harmless(text.replace("\r\n", "\n")))


def heading(text: str) -> str:
    """Write the beginning of a text in one line."""
    line = one_line(text[: 4 * _HEADING])
    return html.escape(line if len(line) <= _HEADING else f"{line[: _HEADING - 1]}…")


def is_long(text: str) -> bool:
    """Whether a heading shows not all of a text."""
    return len(text) > _HEADING


def prose(text: str, limits: Limits) -> str:
    """Write a text as paragraphs that keep their lines."""
    begin, note, end = limits.split(text)
    return "".join(
        found if found is note else f'<div class="text" dir="auto">{escaped(found)}</div>'
        for found in (begin, note, end)
        if found
    )


def box(text: str, limits: Limits, label: str) -> str:
    """Write a text as it is in a box, which scrolls where the text is long."""
    begin, note, end = limits.split(text)
    return "".join(found if found is note else _box(found, label) for found in (begin, note, end) if found)


def _box(text: str, label: str) -> str:
    # Only what scrolls is a stop of the Tab key.
    lines = sum(1 + len(line) // _WIDTH for line in text.split("\n", _LINES))
    scrolls = f' tabindex="0" role="region" aria-label="{escaped(label)}"' if lines > _LINES else ""
    # A parser drops the first line feed of a pre.
    return f'<pre dir="auto"{scrolls}>\n{escaped(text)}</pre>'


def time_of(moment: datetime | None, *, with_date: bool) -> str:
    """Write a time."""
    if moment is None:
        return "?"
    words = moment.strftime("%Y-%m-%d %H:%M:%S" if with_date else "%H:%M:%S")
    return f'<time datetime="{moment.isoformat(timespec="seconds")}">{words}</time>'


def facts(pairs: list[tuple[str, str]]) -> str:
    """Write what is known in short, from names and markup."""
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in pairs)}</dl>"


def start(title: str, script: str = "") -> str:
    """Write a page up to its body; script is the only one that may run in it."""
    allowed = _hash(script) if script else "none"
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(resource('page.css'))}'; "
        f"script-src '{allowed}'; base-uri 'none'; form-action 'none'"
    )
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta http-equiv="x-dns-prefetch-control" content="off">
<meta name="robots" content="noindex">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{heading(title)}</title>
<style>{resource("page.css")}</style>
</head>
<body>
"""


@cache
def resource(name: str) -> str:
    """Return a file that lies beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
