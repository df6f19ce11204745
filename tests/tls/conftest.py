"""Authorities made for this run, and servers that show their certificates."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from support import servers
from support.servers import Server
from tls.authority import Authority, Identity
from tls.tls_server import KINDS, MySQL, PostgreSQL, TLSServer

DIALECTS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in servers.DIALECTS]


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Signs the servers' certificates."""
    return Authority("test servers")


@pytest.fixture(scope="session")
def clients() -> Authority:
    """Signs the certificates of the clients that the servers trust."""
    return Authority("test clients")


@pytest.fixture(scope="session")
def client(clients: Authority) -> Identity:
    """A certificate that the servers accept of the user certified."""
    return clients.client("certified")


@pytest.fixture(scope="session")
def foreign() -> Authority:
    """An authority that nobody here trusts."""
    return Authority("somebody else")


@pytest.fixture(scope="session")
def tls_servers(
    start_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    clients: Authority,
) -> Iterator[Callable[[str], TLSServer]]:
    """A function from a dialect to its server with TLS, started at the first call."""
    started: dict[str, TLSServer] = {}
    with contextlib.ExitStack() as stack:

        def server(dialect: str) -> TLSServer:
            if dialect not in started:
                folder = tmp_path_factory.mktemp(dialect)
                kind = KINDS[dialect](folder, authority, clients)
                container = start_server(dialect, arguments=kind.arguments, volumes={str(folder): "/tls"})
                kind.run_on(stack.enter_context(container))
                stack.callback(kind.close)
                started[dialect] = kind
            return started[dialect]

        yield server


@pytest.fixture(params=DIALECTS)
def server(request: pytest.FixtureRequest, tls_servers: Callable[[str], TLSServer]) -> TLSServer:
    """Each server in turn, with a certificate for localhost and 127.0.0.1."""
    server = tls_servers(request.param)
    server.present(server.good)
    return server


@pytest.fixture(params=[pytest.param("postgresql", marks=pytest.mark.postgresql)])
def postgresql(request: pytest.FixtureRequest, tls_servers: Callable[[str], TLSServer]) -> PostgreSQL:
    """PostgreSQL alone, for what only libpq does or only PostgreSQL tells."""
    server = tls_servers(request.param)
    server.present(server.good)
    return cast("PostgreSQL", server)


@pytest.fixture(scope="session")
def mariadb_without_tls(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MariaDB makes a certificate of its own at each start, unless it is told not to."""
    settings = tmp_path_factory.mktemp("mariadb") / "plain.cnf"
    # The client too, with which the image sets the server up: it insists on TLS otherwise.
    settings.write_text("[mariadbd]\nskip-ssl\n[client]\nskip-ssl\n")
    settings.chmod(0o644)
    with start_server("mariadb", volumes={str(settings): "/etc/mysql/conf.d/plain.cnf"}) as server:
        yield server


@pytest.fixture(params=DIALECTS)
def url_without_tls(request: pytest.FixtureRequest, tls_servers: Callable[[str], TLSServer]) -> Iterator[str]:
    """The URL of a database on each server, which has no TLS to offer."""
    with contextlib.ExitStack() as stack:
        if request.param == "postgresql":
            server = request.getfixturevalue("postgresql_server")
        elif request.param == "mariadb":
            server = request.getfixturevalue("mariadb_without_tls")
        else:
            server = stack.enter_context(cast("MySQL", tls_servers("mysql")).without_tls())
        yield stack.enter_context(server.database())
