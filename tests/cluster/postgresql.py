"""A PostgreSQL primary and its synchronous standby, and what stands in front of them.

The images are the official ones. A server that starts looks at the other one first: beside a primary it becomes its
standby, from a fresh copy, so that an old primary never comes back as one. Nothing promotes by itself.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

from cluster.clusters import Start
from cluster.haproxy import haproxy
from embedding.pooler import pooler
from support.rivals import eventually
from support.servers import Server, execute_sql, with_parts

_NAMES = ("pg1", "pg2")
_ENTRYPOINT = """
export PGUSER=postgres PGPASSWORD="$POSTGRES_PASSWORD" PGCONNECT_TIMEOUT=3
if [ "$(psql -h "$OTHER" -d postgres -Atc 'SELECT pg_is_in_recovery()')" = f ]; then
    rm -rf "$PGDATA" && mkdir -p "$PGDATA" && pg_basebackup -h "$OTHER" -D "$PGDATA" -R -X stream -c fast || exit 1
fi
exec docker-entrypoint.sh "$@"
"""

# HAProxy asks as a user who may connect without a password; the last line is what a copy is made by.
_ADMISSION = """
{ echo 'host postgres check all trust'; cat "$PGDATA/pg_hba.conf"; echo 'host replication all all scram-sha-256'; } \
    > /tmp/pg_hba.conf && cat /tmp/pg_hba.conf > "$PGDATA/pg_hba.conf"
"""

# A server tells whether it is a standby as it accepts a connection, here of the user "check".
_HELLO = b"\0\0\0\x26\0\x03\0\0user\0check\0database\0postgres\0\0"
_IS_PRIMARY = b"in_hot_standby\0off\0"

_CHECK = (
    "option tcp-check",
    "tcp-check connect",
    f"tcp-check send-binary {_HELLO.hex()}",
    f"tcp-check expect binary {_IS_PRIMARY.hex()}",
)


class Pair:
    """The two servers."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = list(servers)
        self.primary, self.standby = self.servers

    @property
    def ports(self) -> list[int]:
        return [urlsplit(server.url).port or 0 for server in self.servers]

    @contextlib.contextmanager
    def database(self, ports: Sequence[int]) -> Iterator[str]:
        """Make an empty database; its URL, by the ports of both servers or of what stands in front of them."""
        name = f"sessions_test_{uuid4().hex[:12]}"
        execute_sql(self.primary.url, f"CREATE DATABASE {name}")
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        before, _, _ = self.primary.url.rpartition("@")
        yield f"{before}@{hosts}/{name}?target_session_attrs=read-write"

    def promote(self) -> None:
        """Let the standby of a primary that is dead take its place; it waits for no standby of its own."""
        self.primary, self.standby = self.standby, self.primary
        assert execute_sql(self.primary.url, "SELECT pg_promote()") == [(True,)]

    def bring_back(self) -> None:
        """Start the old primary as the standby, and commit nothing without it from then on."""
        self.standby.start()
        self.make_synchronous()

    def stop(self) -> None:
        """End the primary in order: its standby has received everything."""
        self.primary.container.get_wrapped_container().stop(timeout=60)

    def make_synchronous(self) -> None:
        url = self.primary.url
        streaming = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
        # First, or writers would wait for it.
        assert eventually(lambda: execute_sql(url, streaming) == [("async",)])
        configure(url, synchronous_standby_names="*")
        assert eventually(lambda: execute_sql(url, streaming) == [("sync",)])
        # Of the standby, for the time after its promotion.
        configure(self.standby.url, synchronous_standby_names="")


def configure(url: str, **settings: str) -> None:
    for name, value in settings.items():
        execute_sql(url, f"ALTER SYSTEM SET {name} = '{value}'")
    execute_sql(url, "SELECT pg_reload_conf()")


@contextlib.contextmanager
def pair(start: Start, network: Any) -> Iterator[Pair]:
    """A primary, and a standby without which it commits nothing."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name in _NAMES:
            [other] = set(_NAMES) - {name}
            making = start(
                "postgresql",
                durable=True,
                network=network,
                host=name,
                environment={"OTHER": other},
                entrypoint=("bash", "-c", _ENTRYPOINT, "bash"),
                arguments=("-c", "wal_keep_size=1GB"),
            )
            servers.append(stack.enter_context(making))
            if len(servers) == 1:
                execute_sql(servers[0].url, 'CREATE USER "check"')
                servers[0].run("bash", "-c", _ADMISSION)
                execute_sql(servers[0].url, "SELECT pg_reload_conf()")
        made = Pair(servers)
        made.make_synchronous()
        yield made


@contextlib.contextmanager
def proxy(servers: Sequence[Server], directory: Path) -> Iterator[int]:
    """The port of an HAProxy that leads to the primary."""
    ports = [urlsplit(server.url).port or 0 for server in servers]

    def leads_to_primary(port: int) -> bool:
        return can_write(with_parts(servers[0].url, host="127.0.0.1", port=port))

    with haproxy(ports, directory, leads_to_primary, check=_CHECK) as port:
        yield port


@contextlib.contextmanager
def pgbouncer(server: Server, port: int) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode that reaches the primary through another port."""
    behind = Server("postgresql", with_parts(server.url, host="127.0.0.1", port=port), server.version)
    with pooler(behind, SERVER_LOGIN_RETRY="1", QUERY_WAIT_TIMEOUT="10", MAX_DB_CONNECTIONS="20") as (_, own_port):
        yield own_port


def can_write(url: str) -> bool:
    """Tell whether a fresh connection of the driver's own can commit something."""
    try:
        with contextlib.closing(psycopg.connect(url, connect_timeout=2, autocommit=True)) as connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'test', '')")
    except psycopg.Error:
        return False
    return True
