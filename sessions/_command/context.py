"""What a command works with, and how it finds a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from sessions import SessionInfo, SQLiteBackend
from sessions._history import History
from sessions._listing import pages
from sessions._paging import RewrittenError
from sessions.session import known_session_id

from .progress import Progress
from .terminal import Stream

if TYPE_CHECKING:
    from argparse import Namespace

    from sessions import Backend, Record, Session

_PAGE = 500

# How often the beginning of a conversation is read, and how many characters of it are kept until it is handed out.
_READINGS = 5
_BEGINNING = 1_000_000

# The cursor of what is in no listing.
NO_ROW = ""


class CommandFailedError(Exception):
    """What a command cannot do; the text is the message."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def history_of(backend: Backend, session_id: str) -> History:
    """Return what a conversation holds, also one of another program whose id is none of ours."""
    return History(known_session_id(session_id), backend._store)  # noqa: SLF001  (session() refuses it)


def records_of(backend: Backend, session_id: str) -> Iterator[Record]:
    """Read a conversation; again where it is rewritten while its beginning is read, which most often is all of it."""
    for left in reversed(range(_READINGS)):
        records = history_of(backend, session_id).records()
        begun: list[Record] = []
        characters = 0
        try:
            for record in records:
                begun.append(record)
                characters += len(record.text)
                if characters > _BEGINNING:
                    break
        except RewrittenError:
            if not left:
                raise
            continue
        yield from begun
        yield from records
        return


@dataclass
class Context:
    """What a command works with."""

    backend: Backend
    where: str
    arguments: Namespace
    out: Stream
    err: Stream

    @property
    def utc(self) -> bool:
        """Whether the times are of UTC; a server's are in the zone of whoever wrote them."""
        return isinstance(self.backend, SQLiteBackend)

    def say(self, text: str) -> None:
        """Write what was done."""
        if not self.arguments.quiet:
            self.err.line(text)

    def progress(self, verb: str, *, quiet: bool = False) -> Progress:
        """Count first what is to be done with those that are chosen, where somebody looks."""
        quiet = quiet or self.arguments.quiet
        total = None
        if self.err.is_terminal and not quiet:
            infos = self.named or chain.from_iterable(self.pages(order="id", count_limit=None))
            total = sum(info.items for info in infos)
        return Progress(self.err, verb, total=total, quiet=quiet)

    def session(self, session_id: str) -> Session:
        """Return the conversation of an id; raise CommandFailedError when there is none."""
        return self.backend.session(self.known(session_id).session_id)

    def chosen(self) -> Iterable[SessionInfo]:
        """Those whose ids are given, or all of them: by their ids, and behind them those that are in no listing."""
        if self.named:
            return self.named
        unlisted = (SessionInfo(found, None, None, 0, NO_ROW, None) for found in self.backend.unlisted_sessions())
        return chain(chain.from_iterable(self.pages(order="id", count_limit=1)), unlisted)

    @cached_property
    def named(self) -> list[SessionInfo]:
        """Those whose ids are given, each once."""
        return [self.known(session_id) for session_id in dict.fromkeys(self.arguments.session_ids)]

    def pages(self, *, most: int | None = None, **query: Any) -> Iterator[list[SessionInfo]]:
        """A listing page by page, no more of it than is wanted; query is for list_sessions()."""
        left = most

        def page_behind(after: SessionInfo | None) -> list[SessionInfo]:
            limit = _PAGE if left is None else min(_PAGE, left)
            return self.backend.list_sessions(**query, limit=limit, after=after) if limit else []

        for page in pages(page_behind):
            left = None if left is None else left - len(page)
            yield page

    def found(self, session_id: str) -> SessionInfo | None:
        """Return what is there of a conversation, listed or not; None when there is none."""

        def page_behind(after: SessionInfo | None) -> list[SessionInfo]:
            return self.backend.list_sessions(prefix=session_id, order="id", limit=1, count_limit=None, after=after)

        for [info] in pages(page_behind):
            if info.session_id == session_id:
                return info
            # A collation that pads with blanks has what goes on with a control character before it.
            if info.session_id[len(session_id)] >= " ":
                break
        history = history_of(self.backend, session_id)
        if history.position():
            # Another program removed its row alone: what it says is there all the same, and `grep` finds it.
            items = sum(1 for _ in history.records())
            return SessionInfo(session_id, None, None, items, NO_ROW, None)
        return None

    def known(self, session_id: str) -> SessionInfo:
        """Return what is there of a conversation; raise CommandFailedError with ids that are like it."""
        if (info := self.found(session_id)) is not None:
            return info
        from difflib import get_close_matches

        near = [info.session_id for info in self.backend.list_sessions(prefix=session_id[:3], order="id", limit=_PAGE)]
        close = get_close_matches(session_id, near, n=3)
        hint = (
            f"close: {', '.join(map(repr, close))}"
            if close
            else "`ls` lists them, `grep TEXT` finds one by what was said"
        )
        if "\\" in session_id and not self.arguments.escaped:
            hint = "pass --escaped if the id is written as `ls` writes it"
        raise CommandFailedError(f"no session {session_id!r} in {self.where}; {hint}")
