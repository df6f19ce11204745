"""What is repeated, and when.

Only a transient failure is repeated. A write whose connection was lost is never
simply repeated: it is settled first, or its outcome is reported as unknown. Either way
what was sent has ended by then, where that can be brought about, or before the next operation on its
conversation, where a signal's exception or a limit did not let it be waited for.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, NoReturn, Protocol, TypeVar

from sessions._dialects.dialect import Dialect
from sessions._dialects.failures import (
    UNWRITTEN,
    AttemptFailed,
    Failure,
    Orphan,
    raised_by_a_handler,
    unless_descriptors_lack,
)
from sessions._operation import thread
from sessions._reentry import Write, own
from sessions._settings.options import Options
from sessions.errors import (
    COMPARE,
    ConnectionFailedError,
    DatabaseError,
    OutcomeUnknownError,
    SchemaError,
    SessionsError,
)

from .waits import Waits

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
T = TypeVar("T")

# How long a server session may stay idle after its connection was lost before it is
# taken for one that nobody has told of the loss.
_IDLE_ORPHAN_SECONDS = 5.0
_ORPHAN_POLL_SECONDS = 0.02
# How often is asked whether what was left has ended.
_QUESTIONS = 5
# So many of the writes of which nobody has seen the end are remembered, the newest.
_MAX_LEFT = 100

logger = logging.getLogger("sessions")


class Lender(Protocol[C_co]):
    """Where connections come from: a pool of ours or the application's, or one connection of its own."""

    def lend(self, use: Callable[[C_co], T], *, writes: bool) -> T:
        """Lend a connection to a function for one operation; writes: it is to change something.

        No context manager that a generator makes: an exception of a signal handler can leave that suspended.
        """

    def close(self) -> None:
        """Close what is ours; may be called twice."""

    def abandon(self) -> None:
        """Close, in a finalizer, which waits for nobody."""


class Attempts(Generic[C]):
    """Runs operations of a dialect on connections of a lender."""

    def __init__(self, dialect: Dialect[C], lender: Lender[C], options: Options, where: str) -> None:
        self._dialect = dialect
        self._lender = lender
        self._options = options
        self._where = where
        # What nobody has seen the end of: the server session of a write, and the conversation that it is about.
        self._left: deque[tuple[str | None, Orphan]] = deque(maxlen=_MAX_LEFT)

    def run(
        self,
        operation: Callable[[C], T],
        *,
        settle: Callable[[C], T] | None,
        writes: bool = True,
        may_create: bool = True,
        create: Callable[[C], None] | None = None,
        creates: bool = False,
        about: str | None = None,
    ) -> T:
        """Run operation on a connection, again after transient failures.

        settle takes operation's place once it may have been committed; None: nothing
        can find that out, so OutcomeUnknownError is raised once it has ended. create makes the tables
        that it finds missing; None: those of conversations. creates: that is what operation does. about is the
        conversation that it is about, if it is one.
        """
        waits: Waits | None = None
        may_create = may_create and self._options.create_tables
        attempt, unsettled, orphan = operation, False, None
        while True:
            began = time.monotonic()
            try:
                return self._attempt(attempt, writes=writes, about=about, orphan=orphan, unsettled=unsettled)
            except AttemptFailed as exc:
                failure, cause, orphan = unless_descriptors_lack(exc.failure), exc.cause, exc.orphan
            if failure.missing_tables and may_create:
                may_create = False
                self.create_missing_tables(create)
                continue
            waits = waits or Waits(self._options)
            if failure.in_doubt and settle is not operation and not unsettled:
                unsettled = True
                waits.allow_one()
                # What nothing settles is only to have ended before anybody compares.
                attempt = settle or _raiser(
                    self._error(failure, cause, writes=writes, unsettled=True, creates=creates),
                    self._dialect.cause(cause),
                )
            # An attempt to settle that the server refused, somebody cancelled, or a pool lent nothing for, is worth
            # another one.
            may_pass = failure.transient or (unsettled and failure.error in (DatabaseError, ConnectionFailedError))
            has_ended = unsettled and settle is None and orphan is None
            wait = waits.after(failure) if may_pass and not has_ended else None
            if wait is None:
                self._leave(about, orphan)
                error = self._error(failure, cause, writes=writes, unsettled=unsettled, creates=creates)
                raise error from self._dialect.cause(cause)
            level = logging.INFO if failure.is_collision else logging.WARNING
            what = "looking after it" if unsettled and settle is None else "trying again"
            try:
                logger.log(level, "%s: %s; %s in %.2f s", self._where, self._dialect.describe(cause), what, wait)
                time.sleep(wait)
            except BaseException:
                self._leave(about, orphan)
                raise
            thread.attempts += 1
            thread.waited += 0.0 if failure.is_collision else time.monotonic() - began

    def _attempt(
        self,
        operation: Callable[[C], T],
        *,
        writes: bool,
        about: str | None,
        orphan: Orphan | None,
        unsettled: bool,
    ) -> T:
        """Run operation once, after what was left has ended; raise AttemptFailed for what the driver raises."""
        session: Orphan | None = None
        used: C | None = None
        is_ready = not self._left

        def use(connection: C) -> T:
            nonlocal is_ready, used, orphan, session
            used = connection
            if orphan is not None:
                if self._is_busy_to_the_end(connection, orphan):
                    raise OutcomeUnknownError(
                        f"{self._where}: the connection was lost during a write that the server is still executing; "
                        f"{COMPARE} once it has ended"
                    )
                orphan = None
            if not is_ready:
                self._wait_for_what_was_left(connection, about)
                is_ready = True
            if writes and (number := self._dialect.server_session(connection)) is not None:
                server, opened = self._dialect.server_of(connection), self._dialect.opened(connection)
                session = Orphan(number, time.monotonic(), server, opened)
                # Without a server the one connection, or the one writer, refuses.
                with Write(self, about):
                    return operation(connection)
            return operation(connection)

        try:
            return self._lender.lend(use, writes=writes)
        except AttemptFailed as exc:
            exc.orphan = orphan
            raise
        except (RecursionError, MemoryError) as exc:
            # Where it has fallen says nothing of what was sent by then. Here, for own() wants more of what is used up.
            self._leave_what_was_closed(about, orphan, session, used)
            if session is None or _is_a_handlers(exc):
                raise
            raise self._unknown(f"{self._where}: {type(exc).__name__} {exc}") from exc
        except own(UnicodeEncodeError) as exc:
            self._leave(about, orphan)
            raise DatabaseError(f"{self._where}: {_unencodable(exc)}") from None  # it has the whole text in it
        except own(self._dialect.driver_error) as exc:
            failure = self._dialect.failure(exc)
            raise AttemptFailed(
                failure,
                exc,
                sent=is_ready,
                # One whose late answer came is idle, and in the pool.
                orphan=orphan or (session if failure.in_doubt and failure.is_away and self._was_closed(used) else None),
            ) from None
        except BaseException as exc:
            # What keeps a lost write from being looked for does not say that it has not happened.
            if unsettled and used is None and isinstance(exc, Exception) and not raised_by_a_handler(exc):
                raise self._unknown(f"{self._where}: {exc}") from exc
            self._leave_what_was_closed(about, orphan, None if isinstance(exc, SessionsError) else session, used)
            raise

    def _was_closed(self, used: C | None) -> bool:
        return used is not None and self._dialect.was_closed(used)

    def _leave(self, about: str | None, orphan: Orphan | None) -> None:
        """Let the next operation on a conversation wait for what nobody waits for any more."""
        if orphan is not None:
            self._left.append((about, orphan))

    def _leave_what_was_closed(
        self, about: str | None, orphan: Orphan | None, session: Orphan | None, used: C | None
    ) -> None:
        self._leave(about, orphan)
        # Who has given up what was interrupted may not have been heard.
        if self._was_closed(used):
            self._leave(about, session)

    def _wait_for_what_was_left(self, connection: C, about: str | None) -> None:
        for left in [left for left in self._left.copy() if left[0] == about]:
            # Again where somebody has cancelled the question; MySQL under SET NAMES swe7, say, never tells.
            for _ in range(_QUESTIONS):
                try:
                    self._is_busy_to_the_end(connection, left[1])
                    break
                except own(self._dialect.driver_error) as exc:
                    if self._dialect.failure(exc).is_away:
                        raise
            with suppress(ValueError):  # another thread has waited, too
                self._left.remove(left)

    def _is_busy_to_the_end(self, connection: C, orphan: Orphan) -> bool:
        """Wait until the server session whose connection was lost can write no more; tell whether that was in vain.

        What was sent on it may still be waiting for a lock, or to be read at all. Its end
        is seen at once where the server learns of the loss; an idle one that stays, for
        instance behind a cut cable, is ended, so that what is held up on its way to it is not done
        later. Where that is not allowed it has nothing left to do after a few seconds.
        Another server knows nothing of it, and may have given its number to somebody else.
        """
        if self._dialect.server_of(connection) != orphan.server:
            return False
        joins = self._dialect.in_transaction(connection)
        try:
            return self._look_to_the_end(connection, orphan)
        finally:
            # One that the driver has begun for the question would show what was there before it was answered.
            if not joins and self._dialect.in_transaction(connection):
                self._dialect.roll_back(connection)

    def _look_to_the_end(self, connection: C, orphan: Orphan) -> bool:
        now = time.monotonic()
        patience, idle_patience = now + self._options.statement_timeout, now + _IDLE_ORPHAN_SECONDS
        ended = False
        while True:
            age, waiting = time.monotonic() - orphan.seen, time.monotonic() - now
            busy = self._dialect.is_executing(connection, orphan.number, age=age, waiting=waiting)
            if busy is False and not ended:
                self._dialect.end_session(connection, orphan.number, age=age, opened=orphan.opened)
                ended = True
            if busy is None or time.monotonic() > (patience if busy else idle_patience):
                return bool(busy)
            time.sleep(_ORPHAN_POLL_SECONDS)

    def create_missing_tables(self, create: Callable[[C], None] | None = None) -> None:
        """Create the tables; raise SchemaError with the right that is missing."""
        create = create or self._dialect.create_tables
        self.run(create, settle=create, may_create=False, creates=True)

    def _error(
        self, failure: Failure, cause: BaseException, *, writes: bool, unsettled: bool, creates: bool
    ) -> SessionsError:
        if creates and failure.to_create and failure.error is DatabaseError:
            what = self._dialect.describe(cause)
            return SchemaError(
                f"{self._where}: the tables are missing and cannot be created: {what}; {failure.to_create}"
            )
        # What a read has not done goes without saying.
        is_told = writes and not unsettled
        remedy = failure.remedy if is_told else failure.remedy.removesuffix(UNWRITTEN)
        what = f"{self._where}: {self._dialect.describe(cause)}; {remedy}"
        return self._unknown(what) if unsettled and failure.error is not OutcomeUnknownError else failure.error(what)

    @staticmethod
    def _unknown(what: str) -> OutcomeUnknownError:
        return OutcomeUnknownError(f"{what}; the write was cut off, and may or may not have happened: {COMPARE}")


def _raiser(error: SessionsError, cause: BaseException | None) -> Callable[[object], NoReturn]:
    def report(_: object) -> NoReturn:
        raise error from cause

    return report


def _is_a_handlers(exc: BaseException) -> bool:
    try:
        return raised_by_a_handler(exc)
    except RecursionError:
        return False  # no stack is left to look


def _unencodable(exc: UnicodeEncodeError) -> str:
    if "\ud800" <= exc.object[exc.start] <= "\udfff":
        return "a text holds a lone surrogate, half of a character, which no database stores; use valid Unicode"
    return (
        "the connection's character set lacks a character; "
        "connect with utf8mb4 (MySQL) or utf8 (PostgreSQL), or use ensure_ascii=True"
    )
