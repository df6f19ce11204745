"""Work on the connections of an application's pool.

The rule: what the application began on one of them, only the application ends; what we begin ends with the operation.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar

from sessions._dialects.connector import unwrap
from sessions._dialects.driver import Driver
from sessions._dialects.failures import AttemptFailed, Failure, raised_by_a_handler
from sessions._reentry import own, suppress_own
from sessions.errors import ConfigurationError, ConnectionFailedError, SessionsError, closed_error

from .sharing import check_owner, turns_on

T = TypeVar("T")
D = TypeVar("D", bound=Driver[Any])

logger = logging.getLogger("sessions")

_NAME_WITH_AT = re.compile(r"""(host|name|on) (["'])[^"']*@[^"']*\2""")
_NOT_LENT = Failure(ConnectionFailedError, "see the pool's words")
_LENT = "the connection that the pool has lent"

# So many dead connections are passed over at once: as many as a pool may have idle.
_MAX_DEAD = 1000


class _DeadError(AttemptFailed):
    """What the pool has lent was dead by then."""

    def __init__(self, failure: Failure, cause: Exception, connection: object) -> None:
        super().__init__(failure, cause)
        self.connection = connection


class _Loan(ExitStack):
    """What a pool lends, until it is given back."""

    _is_its_own_block = False

    def borrow(self, pool: Any) -> Any:
        """Borrow a connection until the loan ends."""
        block = pool.connection()
        if not (hasattr(block, "__enter__") and hasattr(block, "__exit__")):
            raise ConfigurationError(
                f"connection() of the {type(pool).__name__} is no context manager; pass a synchronous pool"
            )
        lent = self.enter_context(block)
        self._is_its_own_block = lent is block
        return unwrap(lent)

    def check(self, connection: Any, driver: Driver[Any]) -> None:
        """Raise ConfigurationError for a connection that we cannot work on without harm to what was begun there."""
        try:
            driver.check_lent(connection)
            was_begun = driver.was_begun(connection)
        except ConfigurationError:
            self._leave()
            raise
        if was_begun:
            self._leave()
            by_then = "" if self._is_its_own_block else "; the pool, which has it back, may have rolled that back"
            raise ConfigurationError(
                "the pool has lent a connection with an open transaction, which the operation would end; end it before "
                f"or, for work that is to be a part of it, use bind(){by_then}"
            )

    def _leave(self) -> None:
        """Give back as it is what lends itself, as DBUtils' do, which is done by forgetting it.

        The end of such a block may give nothing back, and end the transaction.
        """
        if self._is_its_own_block:
            self.pop_all()


def driver_of(pool: Any, driver_for: Callable[[Any], D], driver_behind: Callable[[Exception], Driver[Any] | None]) -> D:
    """Borrow a connection to learn what it takes; raise ConfigurationError for what is no synchronous pool.

    driver_behind tells whose an exception is. Raises AttemptFailed where the pool lends none.
    """
    if not callable(getattr(pool, "connection", None)):
        raise ConfigurationError(
            f"pool is a {type(pool).__name__} without connection(); pass a pool whose connection() is a context manager"
        )
    try:
        with _Loan() as loan:
            connection = loan.borrow(pool)
            driver = driver_for(connection)
            turns = turns_on(connection)
            turns.lock.refuse_reentry(_LENT)
            # One that was lost meanwhile is found by the first operation, which borrows another one.
            with turns.lock, loan, suppress_own(driver.driver_error):
                loan.check(connection, driver)
            return driver
    except Exception as exc:
        if isinstance(exc, SessionsError) or raised_by_a_handler(exc):
            raise
        refused = _refused(exc, driver_behind)
    # Out here, or it would have the pool's own exception as its context.
    raise refused


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
        check_owner(self._process, "pool", "make one in each process")
        dead: list[object] = []
        while True:
            try:
                return self._lend(use)
            except _DeadError as exc:
                # All that was idle may have died at once. One that is lent again says that there is no other.
                if len(dead) == _MAX_DEAD or any(one is exc.connection for one in dead):
                    raise
                dead.append(exc.connection)

    def _lend(self, use: Callable[[Any], T]) -> T:
        loan = _Loan()
        try:
            connection = self._borrow(loan)
            # A pool may lend one to several threads, and end what is open there when one of them gives it back.
            turns = turns_on(connection)
            turns.lock.refuse_reentry(_LENT)
        except BaseException as exc:
            self._give_back(loan, exc)
            raise
        with turns.lock:
            try:
                result = self._work(loan, connection, use)
            except BaseException as exc:
                self._give_back(loan, exc)
                raise
            self._give_back(loan, None)
            return result

    def _work(self, loan: _Loan, connection: Any, use: Callable[[Any], T]) -> T:
        is_ours = False
        try:
            self._check(loan, connection)
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

    def _borrow(self, loan: _Loan) -> Any:
        """Borrow a connection until the loan ends; what the pool raises has happened before anything was sent."""
        try:
            connection = loan.borrow(self._pool)
        except Exception as exc:
            if isinstance(exc, SessionsError) or raised_by_a_handler(exc):
                raise
            raise _refused(exc, self._driver_behind) from None
        self._check_kind(connection)
        return connection

    def _driver_behind(self, exc: Exception) -> Driver[Any] | None:
        package, ours = (kind.__module__.partition(".")[0] for kind in (type(exc), self._driver.driver_error))
        return self._driver if package == ours else None

    def _check(self, loan: _Loan, connection: Any) -> None:
        try:
            loan.check(connection, self._driver)
        except own(self._driver.driver_error) as exc:
            failure = _not_lent(self._driver.failure(exc))
            if failure.is_away:
                raise _DeadError(failure, exc, connection) from None
            raise AttemptFailed(failure, exc) from None

    def _give_back(self, loan: _Loan, exc: BaseException | None) -> None:
        """Give the connection back: what has come of the operation stands, whatever the pool says by then."""
        try:
            if exc is None:
                loan.close()
            else:
                loan.__exit__(type(exc), exc, exc.__traceback__)
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


def _refused(exc: Exception, driver_behind: Callable[[Exception], Driver[Any] | None]) -> AttemptFailed:
    """Say what an exception of the pool means: its own may be of any kind, a driver's passes or does not."""
    driver = driver_behind(_raised(exc))
    failure = _NOT_LENT if driver is None else _not_lent(driver.connect_failure(_raised(exc)))
    return AttemptFailed(failure, _without_password(exc))


def _raised(exc: Exception) -> Exception:
    """Return what the driver has raised, which SQLAlchemy's are around."""
    return getattr(exc, "orig", None) or exc


def _not_lent(failure: Failure) -> Failure:
    """Say that the pool lends nothing, for now or for good as its driver says."""
    return replace(_NOT_LENT, transient=failure.transient, is_away=failure.is_away)


def _without_password(exc: Exception) -> Exception:
    """Return what may be seen of an exception of connecting.

    psycopg's own hold the connection's settings, and so do their frames; its words quote a string of them that cannot
    be read, and what stands behind an '@' in the password as a host's name. A driver's are known by PEP 249.
    """
    exc = _raised(exc)
    names = [cls.__name__ for cls in type(exc).__mro__]
    if "Error" not in names and not (exc.__cause__ or exc.__context__):
        return exc
    words = [
        _NAME_WITH_AT.sub(r"\1 '...'", argument) if isinstance(argument, str) else argument for argument in exc.args
    ]
    is_of_transaction = str(exc).startswith("can't change ")
    if "ProgrammingError" in names and getattr(exc, "sqlstate", "") is None and not is_of_transaction:
        words = ["the connection string cannot be read"]
    if "Error" in names:
        with suppress(TypeError):
            return type(exc)(*words)
    return ConnectionError(f"{type(exc).__name__}: {' '.join(map(str, words))}")
