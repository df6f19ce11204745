"""What is asked of a driver's connection: statements, transactions, the server's sessions, and what failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

from sessions._engines import check_name
from sessions._reentry import note_held, suppress_own
from sessions._settings.options import Options

from .failures import Failure, Opened, printable, without_values
from .statements import leases_table, load_statements, seals_table

C = TypeVar("C")
T = TypeVar("T")
Parameters = Mapping[str, Any]


class Driver(ABC, Generic[C]):
    """The statements of one database and how they get to it; C is its driver's connection."""

    name: ClassVar[str]
    identifier_quote: ClassVar[str]
    driver_error: ClassVar[type[Exception]]
    # What is around the server, such as a cluster, and how it is dealt with; empty where there is nothing to say.
    surroundings: str = ""

    def __init__(self, options: Options) -> None:
        check_name(options.engine, self.name)
        self.engine = options.engine
        self.tables = (options.sessions_table, options.messages_table)
        self.leases_table = leases_table(options.sessions_table)
        self.seals_table = seals_table(options.sessions_table)
        # Conversations are deleted with their end seals.
        self.seals = options.integrity_key is not None
        self.statements = load_statements(
            self.name, options.sessions_table, options.messages_table, quote=self.identifier_quote
        )

    # Statements

    @abstractmethod
    def execute(self, connection: C, name: str, parameters: Parameters) -> list[Any]:
        """Execute a statement by name and return its rows, if any, as tuples."""

    @abstractmethod
    def change(self, connection: C, name: str, parameters: Parameters) -> int:
        """Execute a statement by name and return how many rows it has written, removed or locked."""

    def change_alone(self, connection: C, name: str, parameters: Parameters) -> int:
        """Execute a statement that is a transaction of its own, unless one is open."""
        return self.change(connection, name, parameters)

    def locked(self, connection: C, name: str, parameters: Parameters) -> list[Any]:
        """Execute a statement that locks what it finds, by an id in its first column; return the rows."""
        return self.execute(connection, name, parameters)

    def may_lack_a_part(self, connection: C) -> bool:
        """Tell whether a part of an answer, such as one of a UNION's, may be missing without an error."""
        return False

    def list_parameter(self, connection: C, texts: Sequence[str]) -> object:
        """Return texts as one parameter, in the form that the statements want."""
        return list(texts)

    def or_else(self, connection: C, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """Ask what a server whose tables are distributed may refuse to ask about several sessions; then otherwise."""
        return ask()

    def for_ids_that_can_be(
        self, connection: C, session_ids: Sequence[str], do: Callable[[Sequence[str]], T], nothing: T
    ) -> T:
        """Do something about sessions, without those whose ids the columns cannot hold; nothing where none is left."""
        return do(session_ids)

    def named(self, table: str) -> dict[str, Any]:
        """Return the parameters by which a table is looked for in the database's catalogue."""
        schema, _, name = table.rpartition(".")
        return {"schema": schema or None, "name": name, "table": self._quoted(table)}

    def _quoted(self, table: str) -> str:
        return ".".join(f"{self.identifier_quote}{part}{self.identifier_quote}" for part in table.split("."))

    def check_lent(self, connection: C) -> None:
        """Raise ConfigurationError for a connection of the application that is in a state we cannot work in.

        The driver's error for one that was closed while it was idle, as far as that can be seen from here.
        """

    # Transactions

    def transaction(self, connection: C) -> Transaction[C]:
        """Make the block one transaction that may write, or a part of the one that is open."""
        return Transaction(self, connection)

    def joins(self, connection: C) -> bool:
        """Tell whether a block is a part of what is open, or of what the driver begins by itself."""
        return self.in_transaction(connection)

    def begin(self, connection: C) -> None:
        """Begin a transaction that may write."""
        self.execute(connection, "begin", {})

    def finish(self, connection: C) -> None:
        """Commit the transaction of a block."""
        self.commit(connection)

    def undo(self, connection: C, exc: BaseException) -> None:
        """Take back the transaction of a block after an exception; nothing where none is open."""
        self.close_if_interrupted(connection, exc)
        with suppress_own(self.driver_error):
            self.roll_back(connection)

    def end_turn(self, connection: C) -> None:
        """Let other threads write, where an interrupted transaction on the connection keeps them from it."""

    def commit(self, connection: C) -> None:
        """End the open transaction."""
        connection.commit()  # type: ignore[attr-defined]  # every driver's has it

    def roll_back(self, connection: C) -> None:
        """Undo the open transaction."""
        connection.rollback()  # type: ignore[attr-defined]

    def end_savepoint(self, connection: C, *, undo: bool = False) -> None:
        """Release our savepoint; undo: go back to it before."""
        if undo:
            self.execute(connection, "rollback_to_savepoint", {})
        self.execute(connection, "release_savepoint", {})

    @abstractmethod
    def lacks_savepoint(self, exc: BaseException) -> bool:
        """Tell whether end_savepoint() has found none, as its transaction is no longer open."""

    @abstractmethod
    def in_transaction(self, connection: C) -> bool:
        """Tell whether a transaction is open."""

    def was_begun(self, connection: C) -> bool:
        """Tell whether a transaction is open; ask the server where the driver was not told."""
        return self.in_transaction(connection)

    def may_be_in_transaction(self, connection: C) -> bool:
        """Tell whether one may be open of which the driver does not know."""
        return self.in_transaction(connection)

    @abstractmethod
    def join_transaction(self, connection: C, *, writes: bool) -> bool:
        """Begin a transaction where the connection's driver would do so now; tell whether one is open then."""

    def close_if_interrupted(self, connection: C, exc: BaseException) -> None:
        """After a signal handler's exception close a connection that cannot tell which answer comes next."""

    def was_closed(self, connection: C) -> bool:
        """Tell whether a connection to a server was closed on this side."""
        return False

    # The server's sessions

    def server_session(self, connection: C) -> int | None:
        """Return the server's number for a connection; None without a server."""
        return None

    def server_of(self, connection: C) -> str:
        """Name the server that a connection leads to; the same name for all where there is one."""
        return ""

    def is_executing(self, connection: C, number: int, *, age: float, waiting: float) -> bool | None:
        """Tell whether a server session older than age seconds is executing something; None when it has ended.

        waiting is for how many seconds this has been asked.
        """
        parameters = {"id": number, "age": age, "waiting": waiting, "own": self.server_session(connection)}
        rows = self.execute(connection, "orphan_is_busy", parameters)
        return bool(rows[0][0]) if rows else None

    def opened(self, connection: C) -> Opened | None:
        """Return when a connection was opened; None where nobody noted it, or nobody asks."""
        return None

    def end_session(self, connection: C, number: int, *, age: float, opened: Opened | None) -> None:
        """End an idle server session whose connection was lost, where that is allowed, if it began with that."""
        ages = opened.ages() if opened is not None else (None, None)
        parameters = {
            "id": number,
            "age": age,
            "own": self.server_session(connection),
            "monotonic_age": ages[0],
            "clock_age": ages[1],
        }
        with suppress_own(self.driver_error):
            self.execute(connection, "end_session", parameters)

    def tls_in_use(self, connection: C) -> str:
        """Say the version of TLS, where the statement `server` does not."""
        return ""

    # Failures

    @abstractmethod
    def failure(self, exc: Exception) -> Failure:
        """Say what an exception of the driver means."""

    def connect_failure(self, exc: Exception) -> Failure:
        """Say what an exception of the driver's in connecting means."""
        return self.failure(exc)

    def describe(self, exc: BaseException) -> str:
        """Say in the database's words what failed, without any value of a statement, in one line."""
        return printable(self.words_of(exc))

    def cause(self, exc: BaseException) -> BaseException:
        """Return what an error of ours may have as its cause: the driver's exception without any value of a row."""
        return without_values(exc) if isinstance(exc, self.driver_error) else exc

    @abstractmethod
    def words_of(self, exc: BaseException) -> str:
        """Return the database's words where they are known to quote nothing, and else the error's number."""


class Transaction(Generic[C]):
    """Commits at the end of its block, and takes back what fails or is interrupted.

    No generator: one that an exception of a signal handler, or of another thread, has left suspended goes on when that
    is forgotten, on a connection that is somebody else's by then. What is left open here, because the exception fell
    right before the end of the block, is ended by who lent the connection.
    """

    def __init__(self, driver: Driver[C], connection: C) -> None:
        self._driver = driver
        self._connection = connection
        self._joined = True

    def __enter__(self) -> None:
        self._joined = self._driver.joins(self._connection)
        if not self._joined:
            note_held()
            try:
                # Within: a signal handler may raise when it has been executed.
                self._driver.begin(self._connection)
            except BaseException as exc:
                self._driver.undo(self._connection, exc)
                raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._joined:
            return
        if exc is not None:
            self._driver.undo(self._connection, exc)
            return
        try:
            self._driver.finish(self._connection)
        except BaseException as failed:
            self._driver.undo(self._connection, failed)
            raise
