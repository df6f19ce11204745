"""Write for a person where a stream is a terminal, and for a program where it is none.

Whatever is written passes the escapes here, but for what is asked for as it is stored.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TextIO

from .escapes import COLOUR_CODE, cell, harmless, harmless_json

_COLOURS = {"user": 36, "assistant": 32, "tool": 35, "reasoning": 33, "handoff": 34, "failed": 31, "dim": 2, "bold": 1}

# A column of texts is left out before it is narrower than this.
_LEAST_TEXT = 20
# Where a terminal does not say it.
_WIDTH = 80
_UNITS = ("kB", "MB", "GB", "TB")


def cut(text: str, width: int) -> str:
    """Cut a text in its middle: the question stands at the end."""
    if len(text) <= width:
        return text
    end = max(0, (width - 1) // 2)
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def columns(text: str) -> int:
    """Say how many columns of a terminal a text takes: two for most characters of East Asia, none for marks."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(character) in "WF" else int(not unicodedata.combining(character))
        for character in text
    )


def size(count: int) -> str:
    """Say a number of bytes in powers of 1000."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in _UNITS:
        amount /= 1000
        if amount < 999.95 or unit == _UNITS[-1]:
            break
    return f"{amount:.1f} {unit}"


def age(passed: float | None) -> str:
    """Say how many seconds have passed, in their largest unit."""
    if passed is None:
        return "?"
    seconds = max(0, int(passed))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


class OutputError(Exception):
    """What was to be shown cannot be written; the text is the message."""


class Stream:
    """An output, and what it can show. Where it is closed from the start the first word for it is an error.

    aside: it is for what is said beside a command's work, which goes on when nobody can read that.
    """

    def __init__(self, file: TextIO | None, *, colour: str = "auto", aside: bool = False) -> None:
        is_closed = file is None
        file = file or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (as long as the process)
        self._aside = aside
        self._is_closed = is_closed and not aside
        self._file = file
        self.is_terminal = file.isatty()
        self.width = _width(file) if self.is_terminal else 0
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self.has_colour = colour == "always" or (colour == "auto" and self.is_terminal and not plain)
        # What the encoding lacks is no reason to stop.
        reconfigure = getattr(file, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")

    def line(self, text: str = "") -> None:
        """Write a text, and end the line. Nothing in it acts on a terminal but colours, where the stream has them."""
        if not (text.isascii() and text.isprintable()):
            parts = COLOUR_CODE.split(text)
            codes = COLOUR_CODE.findall(text) if self.has_colour else []
            text = "".join(map("".join, zip_longest(map(harmless, parts), codes, fillvalue="")))
        self._write(text + "\n")

    def row(self, cells: Iterable[str]) -> None:
        """Write a line of cells for a program: each is one, whatever it holds."""
        self.line("\t".join(map(cell, cells)))

    def stored(self, text: str) -> None:
        """Write a text as it is stored; on a terminal in the escapes of JSON, which leaves JSON the same."""
        self._write((harmless_json(text) if self.is_terminal else text) + "\n")

    def _write(self, text: str) -> None:
        if self._is_closed:
            raise OutputError("standard output is closed; send it to a file, or to /dev/null")
        with self._telling_failures():
            self._file.write(text)

    def again(self, text: str) -> None:
        """Write a line in place of the one before, on a terminal only."""
        if self.is_terminal:
            with self._telling_failures():
                self._file.write(f"\r\x1b[K{cut(cell(text), self.width - 1)}")
                self._file.flush()

    def flush(self) -> None:
        with self._telling_failures():
            self._file.flush()

    def abandon(self) -> None:
        """Give up what is not written yet."""
        drop_unwritten(self._file)

    @contextmanager
    def _telling_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if self._aside:
                self.abandon()
                return
            if isinstance(exc, BrokenPipeError):
                raise
            text = f"the output ends early: {exc.strerror}; make room for it, and give the command again"
            raise OutputError(text) from exc

    def painted(self, text: str, *styles: str) -> str:
        """Return a text in colours, where the stream has them."""
        if not self.has_colour or not styles or not text:
            return text
        codes = ";".join(str(_COLOURS[style]) for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m"

    def table(
        self,
        heading: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        right: Collection[str] = (),
        texts: Collection[str] = (),
        spare: Sequence[str] = (),
    ) -> None:
        """Write rows on a terminal, aligned below a heading; those of right to the right.

        The first column is never cut. Where there is too little room the last one, if it is one of texts, is cut to
        what is left; else columns are left out: those of spare in this order, then from the end.
        """
        cells = [list(heading), *(list(map(cell, row)) for row in rows)]
        widths = {place: max(columns(row[place]) for row in cells) for place in range(len(heading))}
        while len(widths) > 1 and (left := self.width - sum(widths.values()) - 2 * (len(widths) - 1)) < 0:
            last = max(widths)
            if heading[last] in texts and widths[last] + left >= _LEAST_TEXT:
                widths[last] += left
            else:
                del widths[next((place for name in spare for place in widths if heading[place] == name), last)]
        for number, row in enumerate(cells):
            aligned = [
                _aligned(cut(row[place], width) if place else row[place], width, right=heading[place] in right)
                for place, width in widths.items()
            ]
            text = "  ".join(aligned).rstrip()
            self.line(self.painted(text, "dim") if number == 0 else text)


def drop_unwritten(file: TextIO) -> None:
    """Drop what is not written yet, of which Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def _aligned(text: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - columns(text))
    return blanks + text if right else text + blanks


def _width(file: TextIO) -> int:
    """The columns of a terminal; COLUMNS wins."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(file.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH


def ask(question: str) -> str:
    """Ask on the terminal; empty when nobody answers."""
    sys.stderr.write(cell(question))
    sys.stderr.flush()
    return sys.stdin.readline().strip()
