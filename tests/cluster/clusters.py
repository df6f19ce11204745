"""Three servers as one cluster, and writers on all of them.

The images are the official ones and know nothing of clusters: what makes one are arguments of the servers, and
statements.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import pymysql

import sessions
from support.rivals import eventually
from support.servers import PASSWORD, Server, execute_sql, with_parts

NAMES = ("node1", "node2", "node3")

# Makes a server: support.servers.fresh_server(), which skips or fails where there is no Docker.
Start = Callable[..., contextlib.AbstractContextManager[Server]]

_GALERA = (
    "--wsrep-on=ON",
    "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
    "--wsrep-sst-method=mariabackup",
    f"--wsrep-sst-auth=root:{PASSWORD}",
    "--binlog-format=ROW",
    "--innodb-autoinc-lock-mode=2",
    "--host-cache-size=0",
    "--innodb-flush-log-at-trx-commit=0",
)
_GROUP = (
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--mysqlx=OFF",
    "--host-cache-size=0",
    "--plugin-load-add=group_replication.so",
    "--loose-group-replication-start-on-boot=OFF",
    "--loose-group-replication-group-name=0d5dbb6b-34a9-4b11-9f0c-9c1a5d1f8a51",
    f"--loose-group-replication-group-seeds={','.join(f'{name}:33061' for name in NAMES)}",
    "--loose-group-replication-recovery-get-public-key=ON",
)


@contextlib.contextmanager
def network_of(start: Start, dialect: str) -> Iterator[Any]:
    """A network of Docker's, removed afterwards."""
    try:
        from testcontainers.core.network import Network

        network = Network().create()
    except Exception:
        with start(dialect):  # says what is missing
            raise
    try:
        yield network
    finally:
        network.remove()


class Cluster:
    """Its servers, and what brings one of them back."""

    def __init__(self, nodes: Sequence[Server], size: Callable[[str], int], join: Callable[[str], object]) -> None:
        self.nodes = nodes
        self._size = size
        self._join = join

    def wait_for(self, size: int) -> None:
        """Return when every one of so many members sees all of them at work."""
        seen = [(0, "")] * len(self.nodes)

        def complete() -> bool:
            for number, node in enumerate(self.nodes):
                try:
                    seen[number] = self._size(node.url), ""
                except Exception as exc:
                    seen[number] = 0, repr(exc)
            return [count for count, _ in seen].count(size) == size

        assert eventually(complete, 120), seen

    def bring_back(self, node: Server) -> None:
        """Start a killed member, and let it join."""
        node.start()
        # As long as the others hold it for a member that is silent they refuse it.
        assert eventually(lambda: self._joins(node)), node
        self.wait_for(len(self.nodes))

    def _joins(self, node: Server) -> bool:
        try:
            self._join(node.url)
        except pymysql.Error:
            return False
        return True

    def url(self, database: str, *, first: int = 0, query: str = "") -> str:
        """A URL of all members, one of them first."""
        nodes = [*self.nodes[first:], *self.nodes[:first]]
        hosts = ",".join(f"127.0.0.1:{urlsplit(node.url).port}" for node in nodes)
        before, _, _ = with_parts(nodes[0].url, database=database).rpartition("@")
        return f"{before}@{hosts}/{database}{query}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and give its name."""
        name = f"sessions_test_{uuid4().hex[:12]}"
        primary = next(node.url for node in self.nodes if not execute_sql(node.url, "SELECT @@read_only")[0][0])
        execute_sql(primary, f"CREATE DATABASE {name}")
        for node in self.nodes:
            assert eventually(partial(_has_database, node.url, name))
        yield name


def _has_database(url: str, name: str) -> bool:
    return bool(execute_sql(url, f"SHOW DATABASES LIKE '{name}'"))


@contextlib.contextmanager
def galera(start: Start, network: Any) -> Iterator[Cluster]:
    """A Galera cluster, of which the first node stays: only it may found the cluster."""
    address = f"--wsrep-cluster-address=gcomm://{','.join(NAMES)}"
    with contextlib.ExitStack() as stack:
        nodes = []
        for name in NAMES:
            own = ["--wsrep-new-cluster"] if name == NAMES[0] else []
            arguments = (*_GALERA, address, f"--wsrep-node-name={name}", *own)
            making = start("mariadb", durable=True, network=network, host=name, arguments=arguments)
            nodes.append(stack.enter_context(making))
        cluster = Cluster(nodes, _galera_size, lambda _: None)
        cluster.wait_for(len(NAMES))
        yield cluster


def _galera_size(url: str) -> int:
    status = dict(execute_sql(url, "SHOW STATUS LIKE 'wsrep%'"))
    return int(status["wsrep_cluster_size"]) if status["wsrep_local_state_comment"] == "Synced" else 0


@contextlib.contextmanager
def group(start: Start, network: Any, *, several_primaries: bool) -> Iterator[Cluster]:
    """A group of MySQL servers."""
    mode = (
        f"--loose-group-replication-single-primary-mode={'OFF' if several_primaries else 'ON'}",
        f"--loose-group-replication-enforce-update-everywhere-checks={'ON' if several_primaries else 'OFF'}",
    )
    with contextlib.ExitStack() as stack:
        nodes = []
        for number, name in enumerate(NAMES, 1):
            local = f"--loose-group-replication-local-address={name}:33061"
            arguments = (*_GROUP, *mode, local, f"--server-id={number}", f"--report-host={name}")
            making = start("mysql", durable=True, network=network, host=name, arguments=arguments)
            nodes.append(stack.enter_context(making))
        for node in nodes:
            # What each has done so far would be foreign to the group.
            execute_sql(node.url, "RESET BINARY LOGS AND GTIDS")
            execute_sql(
                node.url,
                f"CHANGE REPLICATION SOURCE TO SOURCE_USER='root', SOURCE_PASSWORD='{PASSWORD}' "
                "FOR CHANNEL 'group_replication_recovery'",
            )
            founds = "ON" if node is nodes[0] else "OFF"
            execute_sql(node.url, f"SET GLOBAL group_replication_bootstrap_group = {founds}")
            _join_group(node.url)
            execute_sql(node.url, "SET GLOBAL group_replication_bootstrap_group = OFF")
        cluster = Cluster(nodes, _group_size, _join_group)
        cluster.wait_for(len(NAMES))
        for node in nodes:
            # Of one that comes back, until it is in the group: it would take writes that no other has.
            execute_sql(node.url, "SET PERSIST_ONLY super_read_only = ON")
        yield cluster


def _join_group(url: str) -> None:
    execute_sql(url, "START GROUP_REPLICATION")


def _group_size(url: str) -> int:
    members = "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE member_state = 'ONLINE'"
    return int(execute_sql(url, members)[0][0])


class Everywhere:
    """A backend for writers, of which each handle is another member's in turn."""

    def __init__(self, backends: Sequence[sessions.Backend]) -> None:
        self._turns = itertools.cycle(backends)

    def session(self, session_id: str) -> sessions.Session:
        return next(self._turns).session(session_id)


def everywhere(backends: Sequence[sessions.Backend]) -> sessions.Backend:
    """All of them as what faults.writers takes."""
    return cast("sessions.Backend", Everywhere(backends))


@contextlib.contextmanager
def backends_of(cluster: Cluster, database: str, **options: Any) -> Iterator[list[sessions.Backend]]:
    """A backend for each member, which goes to another when its own is gone."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(sessions.connect(cluster.url(database, first=number), **options))
            for number in range(len(cluster.nodes))
        ]
