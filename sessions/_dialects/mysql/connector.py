"""Connections to the first of some MySQL or MariaDB servers that will do."""

from __future__ import annotations

import encodings.idna  # noqa: F401  (that of a host's name: no fork is to fall into an import amid an operation)
import logging
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from sessions._dialects.failures import AttemptFailed, is_an_applications, raise_a_handlers
from sessions._dialects.sockets import is_readable
from sessions._reentry import own, suppress_own
from sessions._settings.options import password_of
from sessions._settings.settings import Settings
from sessions._settings.tls import TLS, make_context
from sessions.errors import ConfigurationError, ConnectionFailedError

from .answers import is_in_step
from .cluster import Server
from .connection import PacketConnection
from .errors import (
    CONNECT_ANEW_AFTER,
    WRONG_SERVER,
    errno_of,
)
from .packets import end_interrupted, roll_back
from .preparing import Preparation
from .refusals import CONNECT_ERRORS, connect_failure, elsewhere
from .values import DECODERS

# What is asked of a server in turn, by libpq's words (PostgreSQL manual, "target_session_attrs").
_WANTED = {
    "any": ("any",),
    "read-write": ("read-write",),
    "primary": ("read-write",),
    "read-only": ("read-only",),
    "standby": ("read-only",),
    "prefer-standby": ("read-only", "any"),
}

_CONVERSIONS: dict[Any, Any] = {**pymysql.converters.encoders, **DECODERS}

# Of the system, or forked processes would all go the same way.
_RANDOM = random.SystemRandom()

logger = logging.getLogger("sessions")


class MySQLConnector:
    """Opens connections to the first of some addresses that will do."""

    max_connections: int | None = None
    quiesce_at_fork = False

    def __init__(self, settings: Settings, statements: Mapping[str, str], meet: Callable[[Server], None]) -> None:
        address, options = settings.address, settings.options
        self._where = str(address)
        self._server, self._meet = Server(), meet  # that of the newest connection, and who is to know
        self._options = options
        self._statements = statements
        self._preparation = Preparation(options, statements)
        self._hosts = [(host, port or 3306) for host, port in address.hosts or (("localhost", None),)]
        # One alone may be a replica: it says so when something is written.
        default = "any" if len(self._hosts) == 1 else "read-write"
        self._wanted = _WANTED[address.parameters.get("target_session_attrs", default)]
        self._shuffles = address.parameters.get("load_balance_hosts") == "random"
        self._parameters: dict[str, Any] = {
            "user": address.user,
            "database": address.database,
            "unix_socket": address.parameters.get("unix_socket"),
            **_pymysql_tls(settings.tls),
        }

    def open(self) -> PacketConnection:
        # Asked for outside: its own errors are the application's.
        password = "" if self._options.password is None else password_of(self._options.password)
        hosts = _RANDOM.sample(self._hosts, len(self._hosts)) if self._shuffles else list(self._hosts)
        turns = [(host, wanted) for wanted in self._wanted for host in hosts]
        deadline = monotonic() + self._options.connection_timeout
        refused: list[AttemptFailed] = []
        for number, (host, wanted) in enumerate(turns):
            # One that is silent leaves the others their part of the time.
            timeout = max(deadline - monotonic(), 0.1) / (len(turns) - number)
            try:
                connection = self._open_at(host, wanted, password, timeout)
            except AttemptFailed as exc:
                if len(turns) == 1 or exc.failure.error is not ConnectionFailedError:
                    raise
                refused.append(exc)
            else:
                # The next one begins where this one ended.
                self._hosts = sorted(self._hosts, key=host.__ne__)
                return connection
        raise elsewhere([host for host, _ in turns], refused)

    def _open_at(self, host: tuple[str, int], wanted: str, password: str, timeout: float) -> PacketConnection:
        handled = sys.exc_info()[1]
        try:
            connection = PacketConnection(
                host=host[0],
                port=host[1],
                **self._parameters,
                # As bytes: PyMySQL would encode a str as Latin-1.
                password=password.encode(),
                charset="utf8mb4",
                use_unicode=False,
                conv=_CONVERSIONS,
                autocommit=None,
                client_flag=CLIENT.MULTI_STATEMENTS if self._options.multi_statements else 0,
                connect_timeout=timeout,
                # Without these a server that accepts and then hangs is waited for without end.
                read_timeout=timeout,
                write_timeout=timeout,
            )
            if callable(self._options.password):
                connection.new_password = partial(_password_of_now, self._options.password)
            try:
                self._preparation.make_ready(connection)
            except BaseException:
                connection.drop()
                raise
        except own(ConfigurationError):
            raise  # by what was understood: the next clause is for what was not
        except own(*CONNECT_ERRORS) as exc:
            if is_an_applications(exc):
                raise
            raise_a_handlers(exc, handled)
            # A copy: the frames behind the driver's own hold the password.
            cause = type(exc)(*exc.args) if isinstance(exc, pymysql.Error) else pymysql.OperationalError(str(exc))
            raise AttemptFailed(connect_failure(exc, self._parameters["unix_socket"]), cause) from None
        server = connection.server
        if wrong := server.wrong or _unwanted(server, wanted):
            self.close(connection)
            raise AttemptFailed(WRONG_SERVER, pymysql.OperationalError(0, wrong))
        if str(server) != str(self._server):
            logger.info("%s: %s", self._where, str(server) or "no cluster any more")
        self._server = server
        self._meet(server)
        return connection

    def close(self, connection: PacketConnection) -> None:
        with suppress_own(pymysql.Error):
            # Where restore() was interrupted before it began.
            end_interrupted(connection, KeyboardInterrupt(), self._statements["still_busy"])
            connection.close()

    def is_alive(self, connection: PacketConnection) -> bool:
        return connection.open and is_in_step(connection) and not is_readable(connection.fileno())

    def restore(self, connection: PacketConnection, exc: BaseException) -> bool:
        if end_interrupted(connection, exc, self._statements["still_busy"]):
            return False
        if not connection.open or errno_of(exc) in CONNECT_ANEW_AFTER:
            return False
        try:
            # After an error in the middle of a packet its transaction is still open.
            roll_back(connection)
        except own(pymysql.Error):
            return False
        return True

    def before_fork(self, idle: Iterator[PacketConnection]) -> None:
        pass

    def inherit(self, idle: Sequence[PacketConnection], busy: Sequence[PacketConnection | None]) -> None:
        for connection in (*idle, *busy):
            # One that the parent was about to drop must not keep the child from the rest.
            with suppress(Exception):
                if connection is not None:
                    connection.forget()

    def release(self) -> None:
        pass


def _password_of_now(password: Callable[[], str]) -> bytes:
    return password_of(password).encode()


def _unwanted(server: Server, wanted: str) -> str:
    """Say why a server is not what is wanted."""
    if wanted != "any" and server.read_only != (wanted == "read-only"):
        return f"it is {'' if server.read_only else 'not '}read-only"
    return "it is not in its group" if wanted == "read-write" and server.has_left else ""


def _pymysql_tls(tls: TLS | None) -> dict[str, Any]:
    # Exactly one of the two, or neither for the driver's default: PyMySQL takes an empty
    # or misspelt setting for "TLS if the server has it, and never mind the certificate".
    if tls is None or tls.mode == "prefer":
        return {}
    if tls.context is not None and tls.crl is not None:
        raise ConfigurationError("the URL gives sslcrl beside an SSLContext; load the list into the context")
    return {"ssl": make_context(tls)} if tls.required else {"ssl_disabled": True}
