"""One conversation: what a caller may ask of it, the same on every backend.

The rule: everything is checked and serialised here, before a backend sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ._items import decode_item, encode_items
from .errors import closed_error, conflict_error

TYPE_CHECKING = False  # as in _items
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self, Unpack

    from ._options import Keywords
    from ._records import Item, Record
    from .backend import Backend, Row
else:
    # For typing.get_type_hints(), which frameworks ask about what they call.
    Any, Item, Record = object, dict, tuple

_MAX_SESSION_ID = 255
_MAX_LIMIT = 2**63 - 1

# How many rows are read at a time beyond corrupt ones.
_NEXT_ROWS = 100

# The pages of records(): the rows of the first one, and what a later one has at most, by the mean of the one before.
_FIRST_PAGE = 20
_PAGE_ROWS = 1000
_PAGE_CHARACTERS = 4_000_000


class Session:
    """The history of one conversation, named by session_id.

    A handle may be used from many threads. It holds no connection. Every
    operation raises ClosedError after close(), ConnectionFailedError when the
    database cannot be reached, and a SessionsError for whatever else fails.
    """

    def __init__(self, session_id: str, backend: Backend, *, owns_backend: bool = False) -> None:
        _check_session_id(session_id)
        self.session_id = session_id
        self._backend = backend
        self._owns_backend = owns_backend
        self._closed = False
        # An id that the conversation is known to have reached; None: nothing is known.
        self._seen: int | None = None

    @classmethod
    def from_url(cls, session_id: str, url: str, **options: Unpack[Keywords]) -> Self:
        """Make a session on a backend of its own, which close() closes; the options are those of connect()."""
        from ._open import connect

        _check_session_id(session_id)
        return cls(session_id, connect(url, **options), owns_backend=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.session_id!r} on {self._backend!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a session cannot be pickled; send its session_id and make a new handle there")

    def close(self) -> None:
        """Close the handle, and the backend if from_url() made it. May be called twice."""
        self._closed = True
        if self._owns_backend:
            self._backend.close()

    def get_items(self, limit: int | None = None) -> list[Item]:
        """Return the newest limit items, oldest first; all of them, or default_limit, when limit is None.

        Corrupt rows are skipped, do not count, and are logged with their id.
        Raises ValueError for a negative limit, TypeError for what is no int.
        """
        if limit == 0 and not isinstance(limit, bool):
            self._check_open()
            return []
        return self._get_items_at(limit)[0]

    def add_items(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> None:
        """Append the items in order, all or none of them.

        With if_position, append only if the newest row still has this id (see
        position()), else raise ConflictError and write nothing. Raises
        InvalidItemError before anything is written when an item is no JSON object,
        OutcomeUnknownError when the connection was lost and it cannot be settled
        whether the items were written.
        """
        self._add_items_at(items, if_position=if_position)

    def pop_item(self) -> Item | None:
        """Remove the newest item and return it; None when there is none.

        Two callers never receive the same item. Corrupt rows that are newer than it
        are removed on the way. Raises OutcomeUnknownError when the connection was lost
        before the answer came.
        """
        return self._pop_item_at()[0]

    def clear_session(self) -> None:
        """Remove all items and the session itself; nothing happens to an unused session."""
        self._check_open()
        self._backend.delete_session(self.session_id)

    def position(self) -> int:
        """Return the id of the newest row, 0 when the session is empty."""
        self._check_open()
        rows = self._backend.newest_rows(self.session_id, count=1)
        position = rows[0][0] if rows else 0
        self._saw(position)
        return position

    def replace_items(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> None:
        """Put the items in place of the whole history, atomically; if_position as in add_items()."""
        self._replace_items_at(items, if_position=if_position)

    def records(self, limit: int | None = None) -> Iterator[Record]:
        """Iterate over the newest limit rows, all of them when limit is None, oldest first.

        Corrupt rows are among them and count, with item None. Rows are read in pages,
        as they are asked for: a history of any length takes little memory, and between
        two pages neither a connection nor a transaction is held. Rows that others add
        after the second page was begun, or remove before their page is read, are not seen.
        Raises ValueError and TypeError as get_items() does.
        """
        self._check_open()
        if limit is not None:
            _check_limit(limit)
        return self._iterate_records(limit)

    @property
    def session_settings(self) -> None:
        """None. The OpenAI Agents SDK asks for it first: here one that is too old can be told."""
        from .openai_agents import check_direct_use

        check_direct_use()

    def _iterate_records(self, limit: int | None) -> Iterator[Record]:
        from ._records import make_record

        after, upto, count = 0, _MAX_LIMIT, _FIRST_PAGE
        if limit is not None:
            first, upto = self._backend.newest_range(self.session_id, min(limit, _MAX_LIMIT))
            after = max(first - 1, 0)
        while after < upto:
            self._check_open()
            rows = self._backend.record_rows(self.session_id, after=after, upto=upto, count=count)
            yield from map(make_record, rows)
            if len(rows) < count:
                return
            after = rows[-1][0]
            if upto == _MAX_LIMIT:
                upto = self.position()
            mean = sum(len(str(text)) for _, _, text in rows) // len(rows) + 1
            count = min(_PAGE_ROWS, _PAGE_CHARACTERS // mean + 1)

    # The same, and the position that was read or reached, without another round trip.

    def _get_items_at(self, limit: int | None = None) -> tuple[list[Item], int]:
        self._check_open()
        if limit is None:
            limit = self._backend.default_limit
        if limit is None:
            limit = _MAX_LIMIT
        _check_limit(limit)
        limit = min(limit, _MAX_LIMIT)
        if limit == 0:
            return [], self.position()
        count = limit
        rows = self._backend.newest_rows(self.session_id, count=count)
        position = rows[0][0] if rows else 0
        self._saw(position)
        items = self._readable(rows)
        # Further rows are needed only where corrupt ones stood in for readable ones.
        while len(items) < limit and len(rows) == count:
            count = max(limit, _NEXT_ROWS)
            rows = self._backend.newest_rows(self.session_id, count=count, before=rows[-1][0])
            items += self._readable(rows)
        items = items[:limit]
        items.reverse()
        return items, position

    def _add_items_at(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> int:
        self._check_open()
        _check_position(if_position)
        texts = encode_items(items, ensure_ascii=self._backend.ensure_ascii)
        if not texts:
            return self._seen or 0 if if_position is None else self._check_position_is(if_position)
        position = self._backend.append_rows(self.session_id, texts, seen=self._seen, if_position=if_position)
        self._saw(position)
        return position

    def _pop_item_at(self) -> tuple[Item | None, int]:
        """Also return the id of the item, 0 when there was none."""
        self._check_open()
        while row := self._backend.pop_row(self.session_id):
            self._saw(row[0])
            if (item := self._decode(row)) is not None:
                return item, row[0]
        return None, 0

    def _replace_items_at(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> int:
        self._check_open()
        _check_position(if_position)
        texts = encode_items(items, ensure_ascii=self._backend.ensure_ascii)
        position = self._backend.replace_rows(self.session_id, texts, seen=self._seen, if_position=if_position)
        self._saw(position)
        return position

    def _readable(self, rows: list[Row]) -> list[Item]:
        items = [decode_item(text) for _, text in rows]
        if None in items:
            return [item for row in rows if (item := self._decode(row)) is not None]
        return items  # type: ignore[return-value]

    def _decode(self, row: Row) -> Item | None:
        item = decode_item(row[1])
        if item is None:
            import logging  # a third of what `import sessions` would cost

            logging.getLogger("sessions").warning(
                "session %r: row %d is no JSON object and was skipped", self.session_id, row[0]
            )
        return item

    def _saw(self, row_id: int) -> None:
        # Threads may race here: an older id is less exact, never wrong.
        self._seen = max(row_id, self._seen or 0)

    def _check_open(self) -> None:
        if self._closed or self._backend.closed:
            raise closed_error()

    def _check_position_is(self, expected: int) -> int:
        position = self.position()
        if position != expected:
            raise conflict_error(self.session_id, expected=expected, position=position)
        return position


class InMemorySession(Session):
    """A conversation in the memory of this process, with the contract of the databases."""

    def __init__(self, session_id: str, *, default_limit: int | None = None) -> None:
        from ._open import connect

        options: Keywords = {} if default_limit is None else {"default_limit": default_limit}
        super().__init__(session_id, connect("memory:", **options), owns_backend=True)


def _check_session_id(session_id: object) -> None:
    if not isinstance(session_id, str):
        raise TypeError(f"session_id is a {type(session_id).__name__}; pass a str")
    if not 1 <= len(session_id) <= _MAX_SESSION_ID:
        raise ValueError(f"session_id has {len(session_id)} characters; use 1 to {_MAX_SESSION_ID}")
    if "\0" in session_id:
        raise ValueError(f"session_id {session_id!r} contains a NUL character; remove it")
    if not session_id.isascii():
        try:
            session_id.encode()
        except UnicodeEncodeError:
            raise ValueError(f"session_id {session_id!r} contains a lone surrogate; use valid Unicode") from None


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit is a {type(limit).__name__}; pass an int or None")
    if limit < 0:
        raise ValueError(f"limit is {limit}; pass 0 or more, or None for all items")


def _check_position(position: object) -> None:
    if position is None:
        return
    if isinstance(position, bool) or not isinstance(position, int):
        raise TypeError(f"if_position is a {type(position).__name__}; pass what position() returned")
    if not 0 <= position <= _MAX_LIMIT:
        raise ValueError(f"if_position is {position}; pass what position() returned")
