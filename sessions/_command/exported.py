"""Read an export: all of it is looked at before any of it is used, so that a bad one changes nothing.

Whoever wrote it may mean harm, or may have been cut off.
"""

from __future__ import annotations

import json
import reprlib
import shutil
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, NoReturn

from sessions._transfer import check_text
from sessions.errors import InvalidItemError
from sessions.session import checked_session_id

from .failing import BadFileError

VERSION = 1
# The first line of an export and the last one, without which it was cut.
HEADER, END = "agent_sessions_export", "agent_sessions_export_end"

# A larger number of lines is no number of lines.
_LARGE = 10**15

_AGAIN = "if the file was cut or changed, export once more"


class Head(NamedTuple):
    """The line before the records of a conversation."""

    session_id: str
    created_at: datetime | None
    updated_at: datetime | None
    # When that was, in Unix seconds; None where the time has no zone.
    moment: float | None


class Line(NamedTuple):
    """A record of an export."""

    session_id: str
    created_at: datetime | None
    text: str


class Export:
    """An export, from a file or, by the name -, from standard input."""

    def __init__(self, name: str) -> None:
        self._name = "standard input" if name == "-" else name
        if name == "-" and sys.stdin is None:
            raise ValueError("standard input is closed; give the name of a file")
        self._file: BinaryIO = open(sys.stdin.fileno() if name == "-" else name, "rb", closefd=name != "-")  # noqa: SIM115
        if not self._file.seekable():
            # It is read twice.
            kept = TemporaryFile()  # noqa: SIM115
            with self._file:
                shutil.copyfileobj(self._file, kept)
            kept.seek(0)
            self._file = kept
        self._start = self._file.tell()

    def session_ids(self) -> list[str]:
        """Look at all of it, and return whose conversations it holds; raise BadFileError where something is wrong."""
        found: dict[str, None] = {}
        current = None
        for number, line in self._lines():
            session_id = line.session_id
            if isinstance(line, Head):
                if session_id in found:
                    _refuse(number, f"session {session_id!r} comes a second time; rename one of the two")
                found[session_id] = None
                current = session_id
            elif session_id != current:
                what = "has a record apart from the others; keep them together"
                if session_id not in found:
                    what = "begins with a record; keep the line before, which has none"
                _refuse(number, f"session {session_id!r} {what}")
        return list(found)

    def conversations(self) -> Iterator[tuple[Head, Iterator[Line]]]:
        """Iterate over what session_ids() has looked at."""
        lines = (line for _, line in self._lines())
        for _, group in groupby(lines, lambda line: line.session_id):
            found: Iterator[Any] = iter(group)
            yield next(found), found

    def _lines(self) -> Iterator[tuple[int, Head | Line]]:
        self._file.seek(self._start)
        # Editors on Windows put a byte order mark before it.
        if _object(1, self._file.readline().removeprefix(BOM_UTF8)).get(HEADER) != VERSION:
            _refuse(1, f"{self._name} does not begin with the header of an export, version {VERSION}; {_AGAIN}")
        ended = False
        number = 1
        for number, written in enumerate(self._file, 2):
            found = _object(number, written)
            if ended or not found.keys() & {"session_id", END}:
                _refuse(number, f"this is no line of an export; {_AGAIN}")
            if END in found:
                ended = True
                count = found.get("lines", number - 2)
                if type(count) is not int or count != number - 2:
                    _refuse(number, f"{self._name} has {number - 2:,} lines of {_short(count)}; {_AGAIN}")
            else:
                yield number, _line(number, found)
        if not ended:
            _refuse(number + 1, f"{self._name} ends before its export did; export once more")

    def __enter__(self) -> Export:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def _refuse(number: int, what: str) -> NoReturn:
    raise BadFileError(f"line {number:,}: {what}")


def _short(value: object) -> str:
    return f"{value:,}" if type(value) is int and abs(value) < _LARGE else reprlib.repr(value)


def _object(number: int, line: bytes) -> dict[str, Any]:
    """Read a line; nothing where it is no object."""
    try:
        # In UTF-8 whatever the locale is, or the texts would be others.
        found = json.loads(line.decode())
    except UnicodeDecodeError:
        _refuse(number, "this is no text in UTF-8, as an export is; convert it, or export once more")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _line(number: int, found: dict[str, Any]) -> Head | Line:
    try:
        session_id = checked_session_id(found["session_id"])
        created_at = _moment(found, "created_at")
        updated_at = _moment(found, "updated_at")
        moment = _instant(found, updated_at)
    except (TypeError, ValueError) as exc:
        _refuse(number, str(exc))
    if "text" not in found:
        return Head(session_id, created_at, updated_at, moment)
    if not isinstance(found["text"], str):
        _refuse(number, f"a record of session {session_id!r} has no text; {_AGAIN}")
    try:
        check_text(found["text"], f"a record of session {session_id!r}")
    except InvalidItemError as exc:
        _refuse(number, str(exc))
    return Line(session_id, created_at, found["text"])


def _moment(found: dict[str, Any], name: str) -> datetime | None:
    written = found.get(name)
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(written)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} {reprlib.repr(written)} is no time; write it as 2026-03-14T09:26:04, in UTC"
        ) from None


def _instant(found: dict[str, Any], updated_at: datetime | None) -> float | None:
    if updated_at is None or datetime.fromisoformat(found["updated_at"]).tzinfo is None:
        return None
    return updated_at.replace(tzinfo=UTC).timestamp()
