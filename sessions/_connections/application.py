"""Work on a connection of the application.

The rule: what the application began, only the application ends. On its connection we
undo nothing beyond a savepoint of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from sessions._dialects.driver import Driver
from sessions._dialects.failures import ENDED, GONE, TRY_AGAIN, UNWRITTEN, AttemptFailed, Failure
from sessions._reentry import is_own, own, suppress_own
from sessions.errors import SessionsError, closed_error

from .sharing import check_owner, turns_on

T = TypeVar("T")

_LOST = "open another one and bind that; a transaction that was open is gone, and is to be run again from its start"
_COLLIDED = "another transaction was first: roll yours back, and run it again from its start"
_ALL_GONE = "your whole transaction is gone with it; run it again from its start"


class BoundConnection:
    """Lends the application's connection, each time within its transaction and a savepoint of ours."""

    def __init__(self, connection: Any, driver: Driver[Any]) -> None:
        self._connection = connection
        self._driver = driver
        self._process = os.getpid()
        self._turns = turns_on(connection)
        self._closed = False

    def lend(self, use: Callable[[Any], T], *, writes: bool) -> T:
        """Lend it to a function; an error takes back what that did and leaves the rest of the transaction."""
        if self._closed:
            raise closed_error()
        check_owner(self._process, "bound connection", "bind one of this process")
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
            failure = _of_the_applications(self._driver.failure(exc))
            remedy = f"{failure.remedy.removesuffix(UNWRITTEN)}{UNWRITTEN}"
            raise AttemptFailed(replace(failure, remedy=remedy), exc) from None
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
