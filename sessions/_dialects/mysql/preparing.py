"""What a new connection is told and asked: in one round trip, in a cluster in two or three."""

from __future__ import annotations

from collections.abc import Mapping

import pymysql

from sessions._reentry import own
from sessions._settings.options import Options
from sessions.errors import ConfigurationError

from .cluster import GALERA, GROUP, server_from, with_galera_status, with_members
from .connection import PacketConnection
from .errors import INIT_CONNECT, NO_RIGHT, errno_of
from .packets import check_engine, send

# The server gives up a lock so many seconds before we give up the server: its answer
# leaves nothing in doubt.
_HEAD_START = 2

# How many statements of a transaction wait for locks, at most.
_LOCKING_STATEMENTS = 3

# What about_server tells behind the limits.
_ABOUT = ("version", "hostname", "port", "server_id", "read_only", "super_read_only", "offline_mode")


def check_no_id_is_forced(insert_id: int) -> None:
    """Refuse a connection whose insert_id somebody has set, be it a server's init_connect."""
    if insert_id:
        raise ConfigurationError(
            f"the connection's insert_id is {insert_id}, which would number a message out of its turn; set it to 0"
        )


class Preparation:
    """Makes new connections ready."""

    def __init__(self, options: Options, statements: Mapping[str, str]) -> None:
        self._options = options
        self._statements = statements
        self._settings = [
            statements["use_utf8"],
            *([statements["use_utc"]] if options.integrity_key else []),
            self._lock_settings(together=options.multi_statements),
            statements["use_repeatable_read"],
        ]

    def _lock_settings(self, *, together: bool) -> str:
        timeout = int(self._options.statement_timeout) - _HEAD_START
        if not together:
            # What was sent ahead waits for the lock once more.
            timeout //= _LOCKING_STATEMENTS
        return self._statements["prepare_connection"] % {"lock_timeout": max(1, timeout)}

    def make_ready(self, connection: PacketConnection) -> None:
        """Send the settings, and learn what the server is and what it takes."""
        connection.multi_statements = self._options.multi_statements
        check_engine(connection, self._options.engine, comment=None)
        try:
            self._ask(connection)
        except own(pymysql.Error) as exc:
            if not connection.open or errno_of(exc) == INIT_CONNECT:
                raise
            self._ask_for_all(connection)
        if connection.server.cluster == GALERA:
            self._prepare_galera(connection)
        elif connection.server.cluster == GROUP:
            self._prepare_group(connection)
        if connection.server.ends_between_statements:
            connection.multi_statements = False
        connection.start(self._options.statement_timeout)

    def _ask(self, connection: PacketConnection) -> None:
        *_, about = send(connection, *self._settings, self._statements["about_server"])
        [(connection.packet_limit, connection.id_step, forced_id, comment, *values, clustered)] = about.rows
        check_no_id_is_forced(forced_id)
        check_engine(connection, self._options.engine, comment=comment)
        variables = list(zip(_ABOUT, values, strict=True))
        connection.server = server_from(variables)
        if clustered and connection.server.is_mariadb:
            connection.server = server_from([*variables, ("wsrep_on", "ON")])
        elif clustered:
            [answer] = send(connection, self._statements["server_variables"])
            connection.server = server_from(answer.rows)

    def _ask_for_all(self, connection: PacketConnection) -> None:
        """Ask a server that does not know of something what it does know."""
        variables, limit = self._statements["server_variables"], self._statements["packet_limit"]
        *_, answer, limits = send(connection, *self._settings, variables, limit)
        [(connection.packet_limit, connection.id_step, forced_id, comment)] = limits.rows
        check_no_id_is_forced(forced_id)
        check_engine(connection, self._options.engine, comment=comment)
        connection.server = server_from(answer.rows)

    def _prepare_galera(self, connection: PacketConnection) -> None:
        status, *_ = send(
            connection,
            self._statements["galera_status"],
            self._statements["prepare_galera"] % {"sync_wait": int(self._options.causal_reads)},
            self._lock_settings(together=False),
        )
        connection.server = with_galera_status(connection.server, status.rows)

    def _prepare_group(self, connection: PacketConnection) -> None:
        # Without the right to see the members what they are is not known.
        try:
            [members] = send(connection, self._statements["group_members"])
            connection.server = with_members(connection.server, members.rows)
        except own(pymysql.Error) as exc:
            if errno_of(exc) != NO_RIGHT:
                raise
        behind = connection.server.several_write or connection.server.read_only
        if behind and self._options.causal_reads:
            send(connection, self._statements["prepare_group"])
