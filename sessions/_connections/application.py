"""Work on connections that belong to the application: one of its own, or those of its pool.

The rule: what the application began, only the application ends. On its connection we
undo nothing beyond a savepoint of ours.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sessions._dialects.connector import unwrap
from sessions._dialects.driver import Driver
from sessions._dialects.failures import ENDED, GONE, TRY_AGAIN, AttemptFailed, Failure, raised_by_a_handler
from sessions._reentry import Lock, is_own, own, suppress_own
from sessions.errors import ClosedError, ConfigurationError, ConnectionFailedError, SessionsError, closed_error

from .fork import process_lock

T = TypeVar("T")

logger = logging.getLogger("sessions")

_NAME_WITH_AT = re.compile(r"""(host|name|on) (["'])[^"']*@[^"']*\2""")
_NOT_LENT = Failure(ConnectionFailedError, "see the pool's words")
_LOST = "open another one and bind that; a transaction that was open is gone, and is to be run again from its start"
_COLLIDED = "another transaction was first: roll yours back, and run it again from its start"
_ALL_GONE = "your whole transaction is gone with it; run it again from its start"


def connection_of(pool: Any) -> Any:
    """Borrow a connection to learn its kind; raise ConfigurationError for what is no synchronous pool."""
    if not callable(getattr(pool, "connection", None)):
        raise ConfigurationError(
            f"pool is a {type(pool).__name__} without connection(); pass a pool whose connection() is a context manager"
        )
    try:
        with pool.connection() as lent:
            return unwrap(lent)
    except Exception as exc:
        if isinstance(exc, SessionsError) or raised_by_a_handler(exc):
            raise
        if isinstance(exc, (TypeError, AttributeError)):
            raise ConfigurationError(
                f"connection() of the {type(pool).__name__} is no context manager; pass a synchronous pool"
            ) from None
        cause = _without_password(exc)
    # Out here, or it would have the pool's own exception as its context.
    raise ConnectionFailedError(f"the pool lends no connection ({cause}); see the cause") from cause


def _not_lent(failure: Failure) -> Failure:
    """Say that the pool lends nothing, for now or for good as its driver says."""
    return replace(_NOT_LENT, transient=failure.transient, is_away=failure.is_away)


def _without_password(exc: Exception) -> Exception:
    """Return what may be seen of an exception of connecting.

    psycopg's own hold the connection's settings, and so do their frames; its words quote a string of them that cannot
    be read, and what stands behind an '@' in the password as a host's name. A driver's are known by PEP 249.
    """
    exc = getattr(exc, "orig", None) or exc  # SQLAlchemy's are around it
    names = [cls.__name__ for cls in type(exc).__mro__]
    if "Error" not in names and not (exc.__cause__ or exc.__context__):
        return exc
    words = [
        _NAME_WITH_AT.sub(r"\1 '...'", argument) if isinstance(argument, str) else argument for argument in exc.args
    ]
    if "ProgrammingError" in names and getattr(exc, "sqlstate", "") is None:
        words = ["the connection string cannot be read"]
    if "Error" in names:
        with suppress(TypeError):
            return type(exc)(*words)
    return ConnectionError(f"{type(exc).__name__}: {' '.join(map(str, words))}")


def _check_process(process: int, what: str, remedy: str) -> None:
    """Raise ClosedError in a forked child, where the parent's connection would give the parent's answers."""
    if process != os.getpid():
        raise ClosedError(f"the {what} belongs to the process that forked; {remedy}")


class _Turns:
    """What operations on one connection take in turn, whoever's they are."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection  # kept, so that its id stays its own
        self.lock = Lock()


_turns: WeakValueDictionary[tuple[int, int], _Turns] = WeakValueDictionary()


def _turns_on(connection: Any) -> _Turns:
    """Return the turns of a connection: of threads that share a handle, or have one each.

    Whether threads may share a connection its driver says. A forked child has turns of its own.
    """
    key = (os.getpid(), id(connection))
    with process_lock():
        found = _turns.get(key)
        if found is None:
            found = _turns[key] = _Turns(connection)
        return found


class BoundConnection:
    """Lends the application's connection, each time within its transaction and a savepoint of ours."""

    def __init__(self, connection: Any, driver: Driver[Any]) -> None:
        self._connection = connection
        self._driver = driver
        self._process = os.getpid()
        self._turns = _turns_on(connection)
        self._closed = False

    def lend(self, use: Callable[[Any], T], *, writes: bool) -> T:
        """Lend it to a function; an error takes back what that did and leaves the rest of the transaction."""
        if self._closed:
            raise closed_error()
        _check_process(self._process, "bound connection", "bind one of this process")
        self._turns.lock.refuse_reentry("the bound connection")
        with self._turns.lock:
            try:
                goes_on = self._join(writes=writes)
                return self._in_savepoint(use) if goes_on is None else self._in_transaction(use, goes_on=goes_on)
            except AttemptFailed as exc:
                exc.failure = _of_the_applications(exc.failure)
                raise
            except own(self._driver.driver_error) as exc:
                raise AttemptFailed(_of_the_applications(self._driver.failure(exc)), exc, sent=True) from None
            finally:
                self._driver.end_turn(self._connection)

    def _join(self, *, writes: bool) -> bool | None:
        """Become a part of the application's transaction, or of the one that its driver would begin now.

        None: in a savepoint; else whether there is one that goes on behind the operation.
        """
        connection = self._connection
        try:
            self._driver.check_lent(connection)
            if self._driver.may_be_in_transaction(connection):
                self._driver.execute(connection, "savepoint", {})
                # Only from that answer PyMySQL learns that a query has begun one, or a deadlock has ended it.
                if self._driver.in_transaction(connection):
                    return None
            return self._driver.join_transaction(connection, writes=writes)
        except own(self._driver.driver_error) as exc:
            raise AttemptFailed(self._driver.failure(exc), exc) from None
        except own(SessionsError):
            raise  # said by check_lent() before anything was sent
        except BaseException as exc:
            self._driver.close_if_interrupted(connection, exc)
            raise

    def _in_savepoint(self, use: Callable[[Any], T]) -> T:
        done = False
        try:
            result = use(self._connection)
            done = True
            self._driver.end_savepoint(self._connection)
        except BaseException as exc:
            self._driver.close_if_interrupted(self._connection, exc)
            if done and not is_own(exc, self._driver.driver_error):
                raise  # behind the operation: where the savepoint is gone, PostgreSQL would give up the transaction
            # The connection was lost, a deadlock took the transaction, savepoints and all, or another thread ended it.
            gone = exc if done and self._driver.lacks_savepoint(exc) else self._undo()
            if gone is not None and is_own(exc, self._driver.driver_error):
                is_ended = done and self._driver.lacks_savepoint(gone)
                failure = ENDED if is_ended else replace(self._driver.failure(exc), remedy=_ALL_GONE)
                raise AttemptFailed(failure, exc, sent=is_ended) from None
            raise
        return result

    def _undo(self) -> Exception | None:
        """Go back to before the savepoint; return what the driver raises where that cannot be done."""
        try:
            self._driver.end_savepoint(self._connection, undo=True)
        except own(self._driver.driver_error) as exc:
            return exc
        return None

    def _in_transaction(self, use: Callable[[Any], T], *, goes_on: bool) -> T:
        """Undo what fails or is interrupted; goes_on: what succeeds the application is to commit, with all of its own.

        In autocommit an operation is a transaction of its own, which it has ended itself unless it was interrupted.
        """
        try:
            return use(self._connection)
        except BaseException as exc:
            # An answer that nobody has read would be taken for the next statement's.
            self._driver.close_if_interrupted(self._connection, exc)
            with suppress_own(self._driver.driver_error):
                if goes_on or self._driver.in_transaction(self._connection):
                    self._driver.roll_back(self._connection)
            if goes_on and is_own(exc, self._driver.driver_error):
                # Nothing of it can have been committed.
                raise AttemptFailed(self._driver.failure(exc), exc) from None
            raise

    def close(self) -> None:
        """Let go of the connection, which stays open."""
        self._closed = True

    abandon = close


def _of_the_applications(failure: Failure) -> Failure:
    """Say what the owner of a connection can do; some failures have a remedy of their own."""
    remedies = {GONE.remedy: _LOST, TRY_AGAIN.remedy: _COLLIDED}
    return replace(failure, remedy=remedies.get(failure.remedy, failure.remedy))


class ApplicationPool:
    """Lends connections of the application's pool, and gives each back without an open transaction."""

    def __init__(self, pool: Any, driver: Driver[Any], check_kind: Callable[[Any], object]) -> None:
        self._pool = pool
        self._check_kind = check_kind  # raises ConfigurationError for a connection of another driver
        self._driver = driver
        self._process = os.getpid()
        self._closed = False

    def lend(self, use: Callable[[Any], T], *, writes: bool) -> T:
        """Lend a connection to a function; what that has done is committed or rolled back."""
        if self._closed:
            raise closed_error()
        _check_process(self._process, "pool", "make one in each process")
        stack = ExitStack()
        try:
            result = self._lend(stack, use)
        except BaseException as exc:
            self._give_back(stack, exc)
            raise
        self._give_back(stack, None)
        return result

    def _lend(self, stack: ExitStack, use: Callable[[Any], T]) -> T:
        connection = self._borrow(stack)
        # A pool may lend one to several threads.
        turns = _turns_on(connection)
        turns.lock.refuse_reentry("the connection that the pool has lent")
        with turns.lock:
            is_ours = False
            try:
                self._check(connection)
                is_ours = True
                result = use(connection)
                if self._driver.may_be_in_transaction(connection):
                    self._driver.commit(connection)
                return result
            except BaseException as exc:
                self._driver.close_if_interrupted(connection, exc)
                with suppress_own(self._driver.driver_error):
                    if is_ours and self._driver.may_be_in_transaction(connection):
                        self._driver.roll_back(connection)
                raise
            finally:
                self._driver.end_turn(connection)

    def _borrow(self, stack: ExitStack) -> Any:
        """Borrow a connection until the stack ends; what the pool raises has happened before anything was sent."""
        try:
            connection = unwrap(stack.enter_context(self._pool.connection()))
        except Exception as exc:
            if isinstance(exc, SessionsError) or raised_by_a_handler(exc):
                raise
            raise AttemptFailed(self._failure_of(exc), _without_password(exc)) from None
        self._check_kind(connection)
        return connection

    def _failure_of(self, exc: Exception) -> Failure:
        """Say what an exception of the pool means: its own may be of any kind, the driver's passes or does not."""
        exc = getattr(exc, "orig", None) or exc  # SQLAlchemy's are around it
        package, drivers = (kind.__module__.partition(".")[0] for kind in (type(exc), self._driver.driver_error))
        return _not_lent(self._driver.connect_failure(exc)) if package == drivers else _NOT_LENT

    def _check(self, connection: Any) -> None:
        try:
            self._driver.check_lent(connection)
        except own(self._driver.driver_error) as exc:
            raise AttemptFailed(_not_lent(self._driver.failure(exc)), exc) from None
        if self._driver.was_begun(connection):
            raise ConfigurationError(
                "the pool has lent a connection with an open transaction, which the operation would end; end it before "
                "or, for work that is to be a part of it, use bind()"
            )

    def _give_back(self, stack: ExitStack, exc: BaseException | None) -> None:
        """Give the connection back: what has come of the operation stands, whatever the pool says by then."""
        try:
            if exc is None:
                stack.close()
            else:
                stack.__exit__(type(exc), exc, exc.__traceback__)
        except Exception as said:
            if said is exc or raised_by_a_handler(said):
                raise
            # It may repeat what has failed, and that a value.
            words = "" if exc else f": {_without_password(said)}"
            logger.warning("the pool raised a %s for a connection that came back%s", type(said).__name__, words)

    def close(self) -> None:
        """Let go of the pool; whoever made it closes it."""
        self._closed = True

    abandon = close
