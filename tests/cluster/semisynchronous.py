"""Two servers of MySQL's or MariaDB's of which one is read-only and replicates the other, semisynchronously.

The images are the official ones. A server starts read-only, so an old primary never comes back as one; what it had not
sent is thrown away with all else that it had.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from cluster.clusters import Start
from support.rivals import eventually
from support.servers import PASSWORD, Server, connect_raw, execute_sql

_NAMES = ("db1", "db2")

# What a killed process has written is not lost with it: only a machine's end would take it.
_ARGUMENTS = ("--read-only=ON", "--host-cache-size=0", "--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0")


@dataclass(frozen=True)
class _Words:
    """What replication is called."""

    arguments: tuple[str, ...]
    follow: str
    stop: tuple[str, ...]
    forget: tuple[str, ...]
    status: str
    require: str
    followers: str
    position: str
    wait_for: str
    read_only: str


_WORDS: Mapping[str, _Words] = {
    "mysql": _Words(
        arguments=(
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--mysqlx=OFF",
            "--plugin-load-add=semisync_source.so",
            "--plugin-load-add=semisync_replica.so",
            "--loose-rpl-semi-sync-source-timeout=3600000",
            "--loose-rpl-semi-sync-replica-enabled=ON",
        ),
        follow="CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_USER='root', SOURCE_PASSWORD='{password}', "
        "SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1; START REPLICA",
        stop=("STOP REPLICA", "RESET REPLICA ALL"),
        forget=("RESET BINARY LOGS AND GTIDS",),
        status="SHOW REPLICA STATUS",
        require="SET GLOBAL rpl_semi_sync_source_enabled = ON",
        followers="Rpl_semi_sync_source_clients",
        position="SELECT @@gtid_executed",
        wait_for="SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 300)",
        read_only="super_read_only",
    ),
    "mariadb": _Words(
        arguments=(
            "--log-bin",
            "--log-slave-updates",
            "--binlog-format=ROW",
            "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
            "--rpl-semi-sync-master-timeout=3600000",
            "--rpl-semi-sync-slave-enabled=ON",
            "--slave-parallel-threads=4",
            "--slave-net-timeout=4",
        ),
        follow="CHANGE MASTER TO MASTER_HOST='{host}', MASTER_USER='root', MASTER_PASSWORD='{password}', "
        "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; START SLAVE",
        stop=("STOP SLAVE", "RESET SLAVE ALL"),
        forget=("RESET MASTER", "SET GLOBAL gtid_slave_pos = ''"),
        status="SHOW SLAVE STATUS",
        require="SET GLOBAL rpl_semi_sync_master_enabled = ON",
        followers="Rpl_semi_sync_master_clients",
        position="SELECT @@gtid_binlog_pos",
        wait_for="SELECT MASTER_GTID_WAIT(%s, 300)",
        read_only="read_only",
    ),
}


class Replicated:
    """The two servers."""

    def __init__(self, nodes: Sequence[Server]) -> None:
        self.nodes = list(nodes)
        self.primary, self.replica = self.nodes
        self._words = _WORDS[self.primary.dialect]
        self._server_ids = itertools.count(10)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and give its name."""
        name = f"sessions_test_{uuid4().hex[:12]}"
        execute_sql(self.primary.url, f"CREATE DATABASE {name}")
        assert eventually(lambda: bool(execute_sql(self.replica.url, f"SHOW DATABASES LIKE '{name}'")))
        yield name

    def kill(self) -> None:
        self.primary.kill()

    def promote(self) -> None:
        """Let the replica of a primary that is dead take its place, with all that it has been sent."""
        self.primary, self.replica = self.replica, self.primary
        assert eventually(self._has_applied_all), self._status(self.primary.url)
        _execute(self.primary.url, *self._words.stop)
        self._make_read_only(self.primary, "OFF")

    def bring_back(self) -> None:
        """Start the old primary as the replica, and commit nothing without it from then on."""
        self.replica.start()
        self.replicate()

    def replicate(self) -> None:
        url = self.replica.url
        self._make_read_only(self.replica, "OFF")
        names = execute_sql(url, "SHOW DATABASES LIKE 'sessions\\_test\\_%'")
        _execute(url, *self._words.stop, *(f"DROP DATABASE {name}" for (name,) in names), *self._words.forget)
        self._make_read_only(self.replica, "ON")
        # By another number: of its own it would skip what it once wrote.
        _execute(url, f"SET GLOBAL server_id = {next(self._server_ids)}")
        # By its address: a name that is gone is looked up for ten seconds, in which nothing can be stopped.
        host = _address_of(self.primary)
        _execute(url, *self._words.follow.format(host=host, password=PASSWORD).split("; "))
        # First, or writers would wait for all of it.
        [(position,)] = execute_sql(self.primary.url, self._words.position)
        assert execute_sql(url, self._words.wait_for, (position,)) == [(0,)], self._status(url)
        _execute(self.primary.url, self._words.require)
        assert eventually(self._is_followed, 60), self._status(url)

    def _make_read_only(self, node: Server, switch: str) -> None:
        _execute(node.url, f"SET GLOBAL {self._words.read_only} = {switch}", f"SET GLOBAL read_only = {switch}")

    def _is_followed(self) -> bool:
        return bool(execute_sql(self.primary.url, f"SHOW STATUS LIKE '{self._words.followers}'")[0][1] == "1")

    def _has_applied_all(self) -> bool:
        return "has read all relay log" in str(self._status(self.primary.url))

    def _status(self, url: str) -> Any:
        with contextlib.closing(connect_raw(url)) as connection, connection.cursor() as cursor:
            cursor.execute(self._words.status)
            return cursor.fetchall()


def _address_of(node: Server) -> str:
    container = node.container.get_wrapped_container()
    container.reload()
    [network] = container.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def _execute(url: str, *statements: str) -> None:
    for statement in statements:
        execute_sql(url, statement)


@contextlib.contextmanager
def replicated(start: Start, network: Any, dialect: str) -> Iterator[Replicated]:
    """A primary, and a replica without whose receipt it acknowledges nothing."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for number, name in enumerate(_NAMES, 1):
            arguments = (*_ARGUMENTS, *_WORDS[dialect].arguments, f"--server-id={number}")
            making = start(dialect, durable=True, network=network, host=name, arguments=arguments)
            nodes.append(stack.enter_context(making))
        made = Replicated(nodes)
        _execute(nodes[0].url, *_WORDS[dialect].forget)
        made._make_read_only(nodes[0], "OFF")
        made.replicate()
        yield made
