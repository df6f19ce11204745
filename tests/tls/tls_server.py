"""Database servers whose TLS certificate can be changed while they run.

One container per kind of server serves every case: `present` writes another certificate and
lets the server reload, which takes a few hundredths of a second where a restart takes seconds.
"""

from __future__ import annotations

import abc
import contextlib
import datetime
import secrets
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import sessions
from embedding.application import wait_until
from support import servers
from support.servers import Server
from tls.authority import DAY, SECOND, Authority, Identity, self_signed
from tls.wire import SSL_REQUEST

PASSWORD = "correct/horse@battery"
ITEM = {"role": "user", "content": "hello"}
_NOTHING: Mapping[str, str] = MappingProxyType({})


class TLSServer(abc.ABC):
    """A server with the users app (any connection) and certified (client certificate needed).

    Both have the password PASSWORD and the database agents. The server is asked for as
    localhost or 127.0.0.1. `authority` signs its certificates, `clients` those of its clients.
    """

    dialect: str
    arguments: Sequence[str]

    def __init__(self, folder: Path, authority: Authority, clients: Authority) -> None:
        self.folder, self.authority, self.clients = folder, authority, clients
        self.good = authority.server("localhost", "127.0.0.1")
        self.other_name = authority.server("db.example.test", "192.0.2.1")
        self.address_only = authority.server("127.0.0.1")
        self.self_signed = self_signed("localhost", "127.0.0.1")
        self._presented: Identity | None = self.good
        folder.chmod(0o755)  # pytest's own is closed to the server's user
        self._write(self.good)

    def run_on(self, server: Server) -> None:
        """Prepare a started server, in whose container the folder is /tls."""
        self.server = server
        self._admin = servers.connect_raw(server.url)
        self.port = urlsplit(server.url).port or 0
        self._set_up()

    def close(self) -> None:
        self._admin.close()

    def url(
        self,
        user: str = "app",
        *,
        host: str = "localhost",
        port: int | None = None,
        query: Mapping[str, str] = _NOTHING,
    ) -> str:
        # In the query a path may hold a space, and a plus sign is itself: a URL is no form.
        words = urlencode(query, quote_via=quote)
        address = f"{self.dialect}://{host}:{port or self.port}/agents"
        return servers.with_parts(address, user=user, password=PASSWORD, query=words)

    def use(self, url: str, **options: Any) -> str | None:
        """Store and read an item; return the TLS version that the server says was used, or None."""
        before = self.connections()
        with sessions.connect(url, max_retries=0, **options) as backend:
            session = backend.session(secrets.token_hex(8))
            session.add_items([ITEM])
            assert session.get_items() == [ITEM]
            after = self.connections()
        (version,) = {after[number] for number in after if number not in before}
        return version or None

    def present(self, identity: Identity) -> None:
        """Serve with this certificate from now on."""
        if identity != self._presented:
            self._write(identity)
            self._reload(identity)
            self._presented = identity

    def present_expired(self) -> None:
        """Serve with a certificate whose time is over."""
        self.present(self.authority.server("localhost", since=-2 * DAY, until=-DAY))

    def _write(self, identity: Identity) -> None:
        # MySQL takes a server certificate only if its own ca file vouches for it, so the file that
        # says which clients are trusted names the server's issuers too, which may be itself.
        trusted = self.clients.cert + self.authority.cert + identity.cert
        for name, text in (("server.crt", identity.cert), ("server.key", identity.key), ("clients.crt", trusted)):
            (self.folder / name).write_text(text)

    @abc.abstractmethod
    def connections(self) -> dict[int, str]:
        """Return the TLS version, or "", of each open connection of a test's user."""

    @abc.abstractmethod
    def tls_only(self) -> contextlib.AbstractContextManager[str]:
        """Refuse connections in the clear; gives the URL to use."""

    @abc.abstractmethod
    def _set_up(self) -> None: ...

    @abc.abstractmethod
    def _reload(self, identity: Identity) -> None: ...


class PostgreSQL(TLSServer):
    dialect = "postgresql"
    arguments = ("-c", "hba_file=/tls/pg_hba.conf")
    # secure has no line for plain connections, certified none without a certificate.
    _HBA = """
    local   all all trust
    host    all postgres  all scram-sha-256
    host    all app       all scram-sha-256
    hostssl all secure    all scram-sha-256
    hostssl all certified all scram-sha-256 clientcert=verify-ca
    """

    def __init__(self, folder: Path, authority: Authority, clients: Authority) -> None:
        super().__init__(folder, authority, clients)
        (folder / "pg_hba.conf").write_text(self._HBA)

    def connections(self) -> dict[int, str]:
        rows = self._admin.execute(
            "SELECT pid, coalesce(version, '') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE usename IN ('app', 'secure', 'certified')"
        )
        return dict(rows.fetchall())

    def client_certificates(self) -> set[str]:
        """Return the subjects of the certificates that connected clients have shown."""
        rows = self._admin.execute("SELECT client_dn FROM pg_stat_ssl WHERE client_dn IS NOT NULL")
        return {name for (name,) in rows.fetchall()}

    @contextlib.contextmanager
    def tls_only(self) -> Iterator[str]:
        yield self.url("secure")

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Let nobody else use the table."""
        with self._admin.transaction():
            self._admin.execute(f"LOCK TABLE {table}")
            yield

    def is_idle(self, user: str) -> bool:
        """Tell whether none of the user's statements is running."""
        # A transaction sees one state of the view otherwise.
        self._admin.execute("SELECT pg_stat_clear_snapshot()")
        statement = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = %s"
        return bool(self._admin.execute(statement, [user]).fetchone() == (0,))

    def _set_up(self) -> None:
        self._admin.execute("CREATE DATABASE agents")
        self._admin.close()
        self._admin = servers.connect_raw(servers.with_parts(self.server.url, database="agents"))
        for user in ("app", "secure", "certified"):
            self._admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
            self._admin.execute(f"CREATE SCHEMA {user} AUTHORIZATION {user}")
        for setting in ("cert_file = 'server.crt'", "key_file = 'server.key'", "ca_file = 'clients.crt'"):
            self._admin.execute(f"ALTER SYSTEM SET ssl_{setting}")
        self._reload(self.good)

    def _reload(self, identity: Identity) -> None:
        # PostgreSQL refuses a key that others than its user may read.
        copy = 'cp /tls/* "$PGDATA" && chmod 600 "$PGDATA/server.key"'
        self.server.run("bash", "-c", copy, user="postgres")
        self._admin.execute("ALTER SYSTEM SET ssl = on")
        self._admin.execute("SELECT pg_reload_conf()")
        # The reload is asynchronous, and only a new connection tells of its end.
        wait_until(lambda: self._served() == identity.der)

    def _served(self) -> bytes | None:
        with socket.create_connection(("localhost", self.port), 10) as raw:
            raw.sendall(SSL_REQUEST)
            if raw.recv(1) != b"S":
                return None
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(raw) as wrapped:
                return wrapped.getpeercert(binary_form=True)


class _MySQLFamily(TLSServer):
    arguments: Sequence[str] = (
        "--ssl-ca=/tls/clients.crt",
        "--ssl-cert=/tls/server.crt",
        "--ssl-key=/tls/server.key",
        "--performance-schema=ON",
    )

    def connections(self) -> dict[int, str]:
        rows = self._query(
            "SELECT processlist_id, variable_value FROM performance_schema.threads"
            " JOIN performance_schema.status_by_thread USING (thread_id)"
            " WHERE variable_name = 'Ssl_version' AND processlist_user IN ('app', 'certified')"
        )
        return dict(rows)

    @contextlib.contextmanager
    def tls_only(self) -> Iterator[str]:
        self._query("SET GLOBAL require_secure_transport = ON")
        try:
            yield self.url()
        finally:
            self._query("SET GLOBAL require_secure_transport = OFF")

    def _query(self, statement: str) -> Any:
        with self._admin.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def _set_up(self) -> None:
        self._query("CREATE DATABASE agents")
        for user, needs in (("app", "NONE"), ("certified", "X509")):
            self._query(f"CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE {needs}")
            self._query(f"GRANT ALL ON agents.* TO {user}@'%'")


class MySQL(_MySQLFamily):
    dialect = "mysql"

    def present_expired(self) -> None:
        # MySQL 9 loads no certificate that is out of date, so it gets one that soon will be.
        identity = self.authority.server("localhost", until=2 * SECOND)
        self.present(identity)
        left = identity.ends - datetime.datetime.now(datetime.UTC)
        # In the second that it names it is still good.
        time.sleep(max(0.0, left.total_seconds()) + 1)

    @contextlib.contextmanager
    def without_tls(self) -> Iterator[Server]:
        """Switch TLS off for new connections: a failed reload is the only switch that there is."""
        self._query("SET GLOBAL tls_version = ''")
        self._query("ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR")
        try:
            yield self.server
        finally:
            self._query("SET GLOBAL tls_version = 'TLSv1.2,TLSv1.3'")
            self._query("ALTER INSTANCE RELOAD TLS")

    def _reload(self, identity: Identity) -> None:
        self._query("ALTER INSTANCE RELOAD TLS")


class MariaDB(_MySQLFamily):
    dialect = "mariadb"

    def _reload(self, identity: Identity) -> None:
        self._query("FLUSH SSL")


KINDS: dict[str, type[TLSServer]] = {kind.dialect: kind for kind in (PostgreSQL, MySQL, MariaDB)}
