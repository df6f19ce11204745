"""The ways to a cluster of MySQL or MariaDB: a URL of all its members, or HAProxy in front of them."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pymysql

from cluster.haproxy import haproxy
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
    with contextlib.ExitStack() as stack:
        asked = [stack.enter_context(_checker(node.url)) for node in nodes]
        making = haproxy(
            ports,
            directory,
            lambda port: _takes_writes(with_parts(url, port=port)),
            check=("option httpchk GET /", "http-check expect status 200"),
            check_ports=asked,
        )
        yield with_parts(url, port=stack.enter_context(making))


@contextlib.contextmanager
def _checker(url: str) -> Iterator[int]:
    """The port of what tells over HTTP whether a server takes writes, as small programs beside real ones do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if _takes_writes(url) else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _takes_writes(url: str) -> bool:
    try:
        return execute_sql(url, "SELECT @@read_only") == [(0,)]
    except pymysql.Error:
        return False


def any_can_write(url: str) -> bool:
    """Tell whether one of the hosts of a URL lets a fresh connection of the driver's own commit something."""
    before, _, rest = url.rpartition("@")
    hosts, _, path = rest.partition("/")
    return any(can_write(f"{before}@{host}/{path}") for host in hosts.split(","))


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
