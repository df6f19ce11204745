"""One database that holds many conversations, and how to reach it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import NoneType, TracebackType
from typing import Any, Self, Unpack, overload

from ._checks import Check
from ._cursors import check_cursor
from ._listing import Order, SessionInfo, check_count, listing_from, moment_from, page_from
from ._plain import flag, plain
from ._rekeying import Rekeyed, rekey
from ._retention import Pruned, delete_sessions, prune
from ._sealing import Verified
from ._search import Match, search
from ._settings.options import BoundKeywords, Keywords, PoolKeywords
from ._statistics import SessionSize, Stats, first_messages, sizes, stats, unlisted_sessions
from ._stores.observing import observed
from ._stores.opening import open_beside, open_connection, open_pool, open_url
from ._stores.store import Store
from ._transfer import Row, load
from ._verifying import verify
from .errors import InvalidURLError, SealBrokenError, closed_error, kind_of
from .session import Session, checked_session_id, known_session_id


@overload
def connect(url: str, **options: Unpack[Keywords]) -> Backend: ...


@overload
def connect(url: str | None = None, *, pool: Any, **options: Unpack[PoolKeywords]) -> Backend: ...


def connect(url: str | None = None, *, pool: Any = None, **options: Unpack[Keywords]) -> Backend:
    """Make the backend for a URL; connections are opened when they are needed.

    With pool=, an object whose connection() is a context manager, such as
    psycopg_pool.ConnectionPool, connections are borrowed from there: each operation
    is committed, and whoever made the pool closes it. A URL then only names the database. One is
    borrowed at once, to learn whose it is; ConnectionFailedError where the pool lends none.

    Raises InvalidURLError, ConfigurationError (an option, a certificate or a key
    that cannot be used) or DriverNotInstalledError at once. What only the server
    can tell, such as a wrong password, comes with the first operation.

    The options, all by keyword; times are seconds:

    create_tables (True): create the tables when they are missing. With False no DDL is sent, and
        missing tables are a SchemaError.
    max_retries (10): at most so many further attempts after a failure that can pass. A collision with
        another transaction is not counted, and tried again after milliseconds; nor is one to look after a write
        whose answer was lost.
    retry_delay (1.0): before the first further attempt; doubled each time, with jitter, up to 30. Within
        that a server that is away, starting or read-only is asked again each half second or sooner.
    retry_timeout (30.0): how long after the first failure further attempts begin.
    connection_timeout (10.0): for one attempt to connect, to all hosts of the URL together (PostgreSQL: at
        least 2 for each), and to wait for a free connection of the pool.
    statement_timeout (30.0): to wait for the answer to one statement, for a lock, or for SQLite's other writers. A
        second later an answer that is on its way is read on only while it brings 256 KiB a second.
    ssl (None): False: no TLS; True: TLS, unverified; a mapping of "ca", "cert", "key", "key_password", "verify"
        and "check_hostname": TLS, verified by the system's roots or by "ca", a path, PEM text or bytes; or an
        ssl.SSLContext. None: what the URL says, else TLS if the server has it, unverified.
    password (that of the URL): a text, or a function that is asked at each new connection.
    sessions_table, messages_table ("agent_sessions", "agent_messages"): other names, also "schema.table".
    pool_size (10): the most connections that are open at once; each is opened when it is needed.
    max_idle (180.0): after which an idle connection is closed and replaced; below what load balancers forget.
    default_limit (None): what get_items() uses when it is called without a limit.
    whole_turns (False): get_items() returns only items that begin at a user's message and are complete.
    ensure_ascii (True): the stored JSON is ASCII.
    prepared_statements (True): PostgreSQL: the common statements are prepared, behind any pooler too, with libpq
        17 or newer; False: none is.
    multi_statements (True): MySQL and MariaDB: with False no CLIENT.MULTI_STATEMENTS is asked for; a write of
        MySQL's, and one of more than 64 KB of MariaDB's, then takes two round trips.
    causal_reads (True): Galera, and group replication on any member but the only primary: an operation begins
        when its member has applied what the others had acknowledged.
    on_operation (None): a function, or a list of them, that is given an Operation after each operation.
    operation_ids (False): tells it, and the log at level DEBUG, the session's id too.
    encryption_key (None): a text, or several: texts are encrypted with the first one and decrypted with any,
        as the SDK's EncryptedSession does. Needs the package cryptography.
    encryption_ttl (None): what was encrypted longer ago than so many seconds is not given, and not removed.
    integrity_key (None): a text or bytes, or several, of 16 bytes at least: histories are sealed with the first one,
        and a read of what was changed without them raises SealBrokenError.
    unsealed ("refuse"): what is done with rows that were written without that key; "accept" gives them.
    on_broken_seal ("raise"): "report" logs what is broken, and gives it.
    engine (None): "yugabytedb", "cockroachdb", "aurora-dsql", "tidb", "vitess" or "singlestore": use this
        engine, which is refused otherwise.
    """
    if pool is not None:
        return _backend_on(open_pool(pool, url, options))
    if url is None:
        raise InvalidURLError("neither a URL nor a pool is given; pass a URL such as 'sqlite:chat.db'")
    return _backend_on(open_url(url, options))


def bind(connection: object, **options: Unpack[BoundKeywords]) -> Backend:
    """Return a backend on the application's own sqlite3, psycopg or pymysql connection.

    Operations are a part of the connection's transaction: nothing is committed, and
    after an error nothing is undone beyond what the operation itself did. In autocommit
    each operation is a transaction. Nothing is retried, and tables are created only
    with create_tables=True (not on MySQL, where that would commit). Closing the backend
    leaves the connection open. Of the options only create_tables, sessions_table,
    messages_table, default_limit, whole_turns, ensure_ascii, engine, on_operation,
    operation_ids, encryption_key and encryption_ttl apply. Raises ConfigurationError for
    another kind of connection or option.
    """
    return _backend_on(open_connection(connection, options))


class Backend:
    """One database. May be used from many threads; made by sessions.connect()."""

    def __init__(self, store: Store) -> None:
        if not isinstance(store, Store):
            raise TypeError(f"store is a {kind_of(store)}; write sessions.connect(url), or sessions.bind(connection)")
        self._store = store

    def session(self, session_id: str) -> Session:
        """Make a handle for one conversation, without a round trip; closing it leaves the backend open."""
        if self.closed:
            raise closed_error()
        return Session(session_id, self._store)

    def list_sessions(
        self,
        *,
        prefix: str | None = None,
        idle_since: datetime | timedelta | None = None,
        order: Order = "updated",
        newest_first: bool | None = None,
        limit: int = 100,
        after: SessionInfo | str | None = None,
        count_limit: int | None = 1000,
    ) -> list[SessionInfo]:
        """Return at most limit conversations, in one round trip; an empty list when there are no more.

        after is the last one of the page before, or its cursor; the other arguments have to be those
        of that page. A conversation that is there throughout, and in order="updated" is not written
        to, is listed once, whatever others do meanwhile.
        order="updated" is by the time of the last write, the newest first, and order="id" by the
        code points of the ids (on MySQL and MariaDB by the column's collation), the first one first;
        newest_first turns either around. prefix is compared exactly. idle_since: only conversations
        without a write since then, or in the timedelta before now by the database's clock, which takes
        one round trip more. Rows are counted up to count_limit, None: all of them. Raises TypeError or ValueError for
        arguments that mean nothing.

        Ids that other programs have made may be empty, or longer than ours, and are taken by all that
        takes ids to read and to delete, but session() and load(). One that is no text (bytes that are not
        UTF-8, or with a NUL) is left out, with a warning in the log that names it.
        """
        if self.closed:
            raise closed_error()
        store = observed(self._store, "list_sessions")
        # What a listing has given is taken, whatever stands in a column there; by id its time counts for nothing.
        if isinstance(after, str) and order == "updated":
            check_cursor(after, store.listed_times)
        listing = listing_from(
            prefix=prefix,
            order=order,
            newest_first=newest_first,
            limit=limit,
            after=after,
            count_limit=count_limit,
        )
        if idle_since is not None:
            listing = replace(listing, idle=moment_from("idle_since", idle_since, store.clock).timestamp())
        return page_from(store.list_sessions, listing)

    def delete_sessions(self, session_ids: Iterable[str]) -> int:
        """Delete conversations with all that they hold; return how many of them there were.

        At most 100 of them go in one transaction: after an error some may be gone, and
        the call can be repeated. Raises OutcomeUnknownError when the connection was lost.
        """
        return delete_sessions(observed(self._store, "delete_sessions"), self._ids(session_ids))

    def prune(
        self, older_than: datetime | timedelta, *, keep_prefix: str | Collection[str] = (), dry_run: bool = False
    ) -> Pruned:
        """Delete the conversations without a write since older_than, a moment or a time before now.

        Now is by the database's clock. Those whose ids begin with keep_prefix stay. Deletes in batches of short
        transactions, the one that is idle for longest first, so it can be ended and
        called again; one that is written to meanwhile stays whole. With dry_run nothing is
        deleted, only counted. Raises DatabaseError at the end for what the database keeps, by a foreign key
        of others say, and OutcomeUnknownError where the answer to a batch was lost and nobody
        knows how many were deleted by it; to call it again does no harm.
        """
        if self.closed:
            raise closed_error()
        return prune(observed(self._store, "prune"), older_than, keep_prefix=keep_prefix, dry_run=dry_run)

    def search(self, text: str, *, prefix: str | None = None, ignore_case: bool = False) -> Iterator[Match]:
        """Iterate over the records of all conversations in which a text of the item contains text.

        In the order in which they were written, read in pages as they are asked for, in
        constant memory: every row is looked at. Items are decoded, so it does not matter
        how JSON has escaped a character; keys are not searched, nor an item's type, role and
        status; of a corrupt row the stored text is. prefix: only conversations whose ids begin
        so, exactly. Raises TypeError or ValueError for arguments that mean nothing.
        """
        if self.closed:
            raise closed_error()
        return search(observed(self._store, "search"), text, prefix=prefix, ignore_case=ignore_case)

    def sizes(self, session_ids: Iterable[str]) -> dict[str, SessionSize]:
        """Return how much each of these conversations holds, by id; those that hold nothing are left out.

        The database takes the lengths; 500 conversations are asked for in one round trip.
        """
        return sizes(observed(self._store, "sizes"), self._ids(session_ids))

    def first_messages(self, session_ids: Iterable[str]) -> dict[str, str]:
        """Return the first text of a user in each of these conversations, by id; a title for a listing.

        Of a long one the beginning; those without one are left out. 500 conversations are
        asked for in one round trip.
        """
        return first_messages(observed(self._store, "first_messages"), self._ids(session_ids))

    def unlisted_sessions(self) -> Iterator[str]:
        """Iterate over the ids of conversations that hold something and are in no listing.

        Programs that know of no foreign key, or delete with it switched off, leave such: their rows
        are there, that of the conversation is not. Every row is looked at; read in pages, in constant memory.
        """
        if self.closed:
            raise closed_error()
        return unlisted_sessions(observed(self._store, "unlisted_sessions"))

    def stats(self, *, prefix: str | None = None, biggest: int = 10) -> Stats:
        """Count conversations, items and bytes, in all and by day, and name the biggest conversations.

        Every row is counted by the database, page by page: what others write meanwhile may be
        in or not. prefix: only conversations whose ids begin so, exactly.
        """
        if self.closed:
            raise closed_error()
        check_count("biggest", biggest)
        return stats(observed(self._store, "stats"), prefix=prefix, biggest=plain(biggest))

    def load(
        self,
        session_id: str,
        records: Iterable[Row],
        *,
        created_at: datetime | None = None,
        updated_at: datetime | None = None,
        on_existing: str = "fail",
    ) -> int:
        """Write a conversation as it is elsewhere; return how many records were not there yet.

        records are those of another backend's records(), oldest first: texts, times and their
        order stay, to the second where the tables have whole seconds; ids are new ones.
        created_at and updated_at are those of its SessionInfo. Written in parts of short
        transactions: after an interruption the same call goes on where it ended. Raises
        ConflictError when something else is there already or somebody else writes to it at
        this moment, InvalidItemError for a text with a lone surrogate, and ValueError for
        a time with a time zone.

        With on_existing="replace" the records take the place of what is there, with "append" they
        stand behind it, in one transaction: until then, and after any failure, what is
        there is as it was. All of them are in memory at once. Called again, "append" writes them once
        more; behind what is there it is a write of now, whatever created_at and updated_at say, and
        what others write in that moment stands before it.
        """
        if self.closed:
            raise closed_error()
        session_id = checked_session_id(session_id)
        store = observed(self._store, "load")
        return load(store, session_id, records, created_at=created_at, updated_at=updated_at, on_existing=on_existing)

    def rekey(self, session_ids: Iterable[str] | None = None, *, adopt: bool = False) -> Rekeyed:
        """Bring conversations, or all of them, under the newest keys; return what was looked at and what was changed.

        Records keep their ids and times, and are as old as they were. In batches of short transactions:
        it can be ended and called again, while others read and write; a sealed conversation is one transaction.
        adopt: also encrypt what was written without a key, and seal conversations as they are now, by whomever they
        were written, but none whose end bears the seal of another key. Raises DecryptionError or SealBrokenError at
        the end for what no key opens or has sealed, which stays as it is, InvalidItemError or DatabaseError there for
        what cannot be encrypted or does not fit when it is, ConflictError for a sealed one that
        others wrote to all the time, and ConfigurationError without a key, on a bound connection, and
        for a sealed conversation whose integrity_key is not given, before it is changed.
        """
        ids = None if session_ids is None else self._ids(session_ids)
        if self.closed:
            raise closed_error()
        return rekey(self._store, ids, adopt=flag("adopt", adopt))

    def verify(
        self, session_ids: Iterable[str] | None = None, *, since: Mapping[str, str] | None = None
    ) -> Iterator[tuple[str, Verified | SealBrokenError]]:
        """Look at conversations, or at all of them, by their seals; iterate over each id and what was found.

        A SealBrokenError is given, not raised, where one is not as it was written under the integrity_key. since:
        what Session.seal() returned earlier, by id, which each has to go on from; one that is gone has not, nor has
        one whose keys were changed since.
        Raises ConfigurationError without an integrity_key.
        """
        ids = None if session_ids is None else self._ids(session_ids)
        if self.closed:
            raise closed_error()
        if not isinstance(since, (Mapping, NoneType)):
            raise TypeError(f"since is a {type(since).__name__}; pass a mapping of ids to what Session.seal() returned")
        seals = {plain(session_id): plain(seal) for session_id, seal in (since or {}).items()}
        return verify(self._store, ids, seals)

    def check(self, *, fix: bool = False) -> list[Check]:
        """Look whether the database is as it should be: what was asked, what is there, and what to do.

        Connection and version, TLS in use, clock, tables, types, collation, indexes, engine,
        journal mode, pooler, and whether a row can be written, which is taken back. With fix
        what has a Check.fix is mended first: missing tables and indexes are made, on PostgreSQL
        and on InnoDB while others write; give connect() a statement_timeout that is as long
        as making an index may take. Raises what any operation raises when the database cannot
        be reached, or refuses a fix, and with fix ConfigurationError in a transaction of the application.
        """
        if self.closed:
            raise closed_error()
        return observed(self._store, "check").check(fix=flag("fix", fix))

    def bind(self, connection: object) -> Backend:
        """Return a backend with these tables and limits on a connection of the application; see sessions.bind()."""
        return _backend_on(open_beside(self._store, connection))

    def _ids(self, session_ids: Iterable[str]) -> list[str]:
        """Check the ids that a method was given."""
        if self.closed:
            raise closed_error()
        if isinstance(session_ids, str):
            raise TypeError("session_ids is a str; pass a list of ids")
        return [known_session_id(session_id) for session_id in session_ids]

    @property
    def closed(self) -> bool:
        """True once close() was called."""
        return self._store.closed

    def close(self) -> None:
        """Close all connections; what is in use is closed when its operation ends. May be called twice."""
        self._store.close()

    def __repr__(self) -> str:
        surroundings = self._store.surroundings
        return f"<{type(self).__name__} {self._store.where}{f' ({surroundings})' if surroundings else ''}>"

    def __reduce__(self) -> str:
        raise TypeError("a backend cannot be pickled; send its URL and make a new one there")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class MemoryBackend(Backend):
    """Conversations in the memory of this process."""


class SQLiteBackend(Backend):
    """Conversations in one SQLite database."""


class PostgresBackend(Backend):
    """Conversations in one PostgreSQL database."""


class MySQLBackend(Backend):
    """Conversations in one MySQL or MariaDB database."""


_BACKENDS: dict[str, type[Backend]] = {
    "memory": MemoryBackend,
    "sqlite": SQLiteBackend,
    "postgresql": PostgresBackend,
    "mysql": MySQLBackend,
}


def _backend_on(store: Store) -> Backend:
    return _BACKENDS[store.dialect_name](store)
