"""The ways to a cluster of MySQL or MariaDB: a URL of all its members, or HAProxy in front of them."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pymysql

from cluster.haproxy import haproxy
from support.rivals import eventually
from support.servers import Server, connect_raw, execute_sql, with_parts

ROUTES = ("hosts", "haproxy")
UrlBy = Callable[[str, Sequence[Server], str], str]


@contextlib.contextmanager
def route(name: str, nodes: Sequence[Server], database: str, directory: Path) -> Iterator[str]:
    """A URL that leads to whichever member takes writes."""
    ports = [urlsplit(node.url).port or 0 for node in nodes]
    url = with_parts(nodes[0].url, host="127.0.0.1", database=database, query="target_session_attrs=read-write")
    if name == "hosts":
        before, _, after = url.rpartition("@")
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield f"{before}@{hosts}/{after.partition('/')[2]}"
        return
    with haproxy(ports, directory, lambda port: _answers(with_parts(url, port=port))) as port:
        yield with_parts(url, port=port)


def can_write(url: str) -> bool:
    """Tell whether a fresh connection of the driver's own can commit something; our tables are there."""
    try:
        with contextlib.closing(connect_raw(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@read_only")
            if cursor.fetchall() != ((0,),):
                return False  # it would let an administrator write all the same
            cursor.execute("REPLACE INTO agent_sessions (session_id) VALUES ('can write')")
    except pymysql.Error:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        return execute_sql(url, "SELECT 1") == [(1,)]
    except pymysql.Error:
        return False


def outage(nodes: Sequence[Server], database: str, act: Callable[[], object]) -> float:
    """How many seconds no fresh connection to any member could write, from the beginning of what puts an end to it."""
    urls = [with_parts(node.url, database=database) for node in nodes]
    began = time.monotonic()
    act()
    assert eventually(lambda: any(can_write(url) for url in urls), 120)
    return time.monotonic() - began
