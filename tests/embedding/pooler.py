"""PgBouncer for the tests: in a container of our own, or a ready one named by the environment.

SESSIONS_TEST_PGBOUNCER_IMAGE names the image, which takes the variables of edoburu/pgbouncer;
SESSIONS_TEST_PGBOUNCER_URL a ready one, in front of the server of SESSIONS_TEST_POSTGRESQL_URL.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from embedding.application import wait_until
from support.servers import Server, ServerUnavailableError, _free_port, execute_sql, with_parts

SERVER_CONNECTIONS = 4


@contextmanager
def pooler(server: Server, **settings: str) -> Iterator[tuple[str, int]]:
    """Host and port of a PgBouncer that pools transactions in front of a server; with settings, one of our own."""
    if (ready := os.environ.get("SESSIONS_TEST_PGBOUNCER_URL")) and not settings:
        address = psycopg.conninfo.conninfo_to_dict(ready)
        yield str(address["host"]), int(address["port"] or 6432)
        return
    image = os.environ.get("SESSIONS_TEST_PGBOUNCER_IMAGE", "edoburu/pgbouncer:latest")
    target: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(server.url)
    port = _free_port()
    try:
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(image)
        # The host's network: the server's address is one that this machine knows.
        container.with_kwargs(network_mode="host")
        environment = {
            "DB_HOST": target["host"],
            "DB_PORT": str(target["port"]),
            "DB_USER": target["user"],
            "DB_PASSWORD": target["password"],
            "POOL_MODE": "transaction",
            "AUTH_TYPE": "scram-sha-256",
            "DEFAULT_POOL_SIZE": str(SERVER_CONNECTIONS),
            "LISTEN_PORT": str(port),
        }
        container.with_envs(**environment | settings)
        container.start()
    except Exception as exc:
        raise ServerUnavailableError(
            f"no PgBouncer: {str(exc).splitlines()[0][:120]}; name an image in SESSIONS_TEST_PGBOUNCER_IMAGE"
        ) from exc
    try:
        url = with_parts(server.url, host="127.0.0.1", port=port)
        wait_until(lambda: _answers(url), 60)
        yield "127.0.0.1", port
    finally:
        container.stop()


def _answers(url: str) -> bool:
    try:
        return execute_sql(url, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False
