"""What TLS settings take from their surroundings, and what they leave behind."""

import contextlib
import os
import secrets
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest

import sessions
from embedding.application import wait_until
from sessions._dialects.sockets import is_readable
from support.children import Child
from support.proxy import Proxy
from support.rivals import terminate
from support.samples import in_threads
from tls.authority import Authority, Identity
from tls.refusals import refusal
from tls.tls_server import ITEM, PASSWORD, PostgreSQL, TLSServer

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memfd and /proc are Linux's")


@pytest.fixture
def options(authority: Authority, client: Identity) -> dict[str, str]:
    """A client certificate and whom it trusts, as texts."""
    return {"ca": authority.cert, "cert": client.cert, "key": client.key}


# --- libpq's home directory and environment


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ".postgresql"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


@pytest.mark.parametrize("named", [False, True], ids=["at home", "in the environment"])
def test_a_root_in_the_surroundings_does_not_change_true(
    postgresql: PostgreSQL, foreign: Authority, home: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    root = home / ("other.crt" if named else "root.crt")
    root.write_text(foreign.cert)
    if named:
        monkeypatch.setenv("PGSSLROOTCERT", str(root))
    assert postgresql.use(postgresql.url(), ssl=True) == "TLSv1.3"


def test_a_root_in_the_home_directory_is_not_trusted_unasked(postgresql: PostgreSQL, home: Path) -> None:
    (home / "root.crt").write_text(postgresql.authority.cert)
    assert type(refusal(postgresql.url(), ssl={})) is sessions.TLSError


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_a_mode_in_the_environment_does_not_change_the_option(
    postgresql: PostgreSQL, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", mode)
    assert postgresql.use(postgresql.url(), ssl={"ca": postgresql.authority.cert}) == "TLSv1.3"
    assert postgresql.use(postgresql.url(), ssl=True) == "TLSv1.3"
    assert postgresql.use(postgresql.url(), ssl=False) is None


def keep_at_home(client: Identity, home: Path, *, mode: int) -> None:
    (home / "postgresql.crt").write_text(client.cert)
    (home / "postgresql.key").write_text(client.key)
    (home / "postgresql.key").chmod(mode)


@pytest.mark.parametrize("verified", [True, False])
def test_a_client_certificate_at_home_is_not_shown_unasked(
    postgresql: PostgreSQL, client: Identity, home: Path, verified: bool
) -> None:
    keep_at_home(client, home, mode=0o600)
    ssl = {"ca": postgresql.authority.cert} if verified else True
    with sessions.connect(postgresql.url(), ssl=ssl) as backend:
        backend.session("home").get_items()
        assert postgresql.client_certificates() == set()
    assert type(refusal(postgresql.url("certified"), ssl=ssl)) is sessions.AuthenticationError


def test_an_unusable_key_at_home_does_no_harm(postgresql: PostgreSQL, client: Identity, home: Path) -> None:
    keep_at_home(client, home, mode=0o644)
    assert postgresql.use(postgresql.url(), ssl=True) == "TLSv1.3"


def test_a_client_certificate_that_is_asked_for_is_shown(postgresql: PostgreSQL, options: dict[str, str]) -> None:
    with sessions.connect(postgresql.url(), ssl=options) as backend:
        backend.session("asked").get_items()
        assert postgresql.client_certificates() == {"/CN=certified"}


# --- private keys and descriptors


def descriptors() -> dict[int, str]:
    """Return what this process holds open, sockets aside."""
    held = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            held[int(entry.name)] = str(entry.readlink())
    return {number: what for number, what in held.items() if not what.startswith(("socket:", "/proc/"))}


@LINUX
def test_close_closes_every_descriptor(server: TLSServer, options: dict[str, str]) -> None:
    server.use(server.url("certified"), ssl=options)  # what is opened once and for all
    before = descriptors()
    backend = sessions.connect(server.url("certified"), ssl=options)
    backend.session("fds").get_items()
    backend.close()
    assert descriptors() == before


@LINUX
def test_a_refused_connection_leaves_no_descriptor(server: TLSServer, foreign: Authority) -> None:
    refusal(server.url(), ssl={"ca": foreign.cert})
    before = descriptors()
    refusal(server.url(), ssl={"ca": foreign.cert})
    assert descriptors() == before


@LINUX
def test_bad_material_leaves_no_descriptor(client: Identity, authority: Authority) -> None:
    before = descriptors()
    for url in ("postgresql://localhost:1/agents", "mysql://localhost:1/agents"):
        with pytest.raises(sessions.SessionsError):
            sessions.connect(url, ssl={"ca": authority.cert, "cert": client.cert, "key": "-----BEGIN"})
    assert descriptors() == before


@LINUX
def test_many_connections_share_one_copy_of_the_key(server: TLSServer, options: dict[str, str]) -> None:
    before = descriptors()
    with sessions.connect(server.url("certified"), ssl=options) as backend:
        backend.session("fds").get_items()
        one = len(descriptors()) - len(before)
        in_threads(4, lambda _: backend.session("fds").get_items())
        assert len(descriptors()) - len(before) == one <= 4


_OPENS = """
import os, sys, stat
written = []
def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(path)
sys.addaudithook(hook)
sys.dont_write_bytecode = True
import sessions
url, ca, cert, key = sys.argv[1], *(open(path).read() for path in sys.argv[2:5])
with sessions.connect(url, ssl={"ca": ca, "cert": cert, "key": key}, max_retries=0) as backend:
    backend.session("disk").get_items()
    for path in written:
        print(path)
"""


@LINUX
def test_a_key_given_as_text_never_becomes_a_file(server: TLSServer, options: dict[str, str], tmp_path: Path) -> None:
    given = [tmp_path / name for name in options]
    for path in given:
        path.write_text(options[path.name])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", _OPENS, server.url("certified"), *given],
        env={"TMPDIR": str(scratch), "HOME": str(scratch), "PATH": ""},
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stderr == ""
    opened = [line for line in result.stdout.splitlines() if not _is_in_memory(line)]
    assert opened == []
    assert list(scratch.iterdir()) == []


def _is_in_memory(path: str) -> bool:
    # An audit event for a descriptor has its number in place of a path.
    return path.isdigit() or path == os.devnull or path.startswith(("/proc/self/fd/", "/dev/fd/"))


@LINUX
def test_the_key_in_memory_is_for_this_user_alone(postgresql: PostgreSQL, options: dict[str, str]) -> None:
    with sessions.connect(postgresql.url("certified"), ssl=options) as backend:
        backend.session("mode").get_items()
        files = [number for number, what in descriptors().items() if what.startswith("/memfd:")]
        assert files
        for number in files:
            assert os.fstat(number).st_mode & 0o077 == 0
            assert not os.get_inheritable(number)


def _give_up_rights() -> None:
    os.setgid(65534)
    os.setuid(65534)


def _close_and_open_others() -> None:
    for number, what in descriptors().items():
        if what.startswith("/memfd:"):
            os.close(number)
            assert os.open(os.devnull, os.O_RDONLY) == number


@LINUX
@pytest.mark.parametrize("become", [_give_up_rights, _close_and_open_others], ids=["another user", "a daemon"])
def test_certificates_are_at_hand_in_a_child_that_becomes(
    postgresql: PostgreSQL, options: dict[str, str], become: Callable[[], None]
) -> None:
    if become is _give_up_rights and os.geteuid():
        pytest.skip("only root can become another user")
    with sessions.connect(postgresql.url("certified"), ssl=options, max_retries=0) as backend:
        session = backend.session(secrets.token_hex(8))
        session.add_items([ITEM])

        def work() -> tuple[Any, bool]:
            become()
            others = {number for number, what in descriptors().items() if what == os.devnull}
            items = session.get_items()
            backend.close()
            return items, others <= descriptors().keys()

        assert Child(work).result() == ([ITEM], True)
        session.add_items([ITEM])


def test_a_statement_that_is_given_up_is_cancelled_over_tls(postgresql: PostgreSQL, options: dict[str, str]) -> None:
    # libpq opens a connection of its own for that, and reads certificate and key again.
    url = postgresql.url("certified")
    postgresql.use(url, ssl=options)  # makes the tables
    with (
        postgresql.locked("certified.agent_sessions"),
        sessions.connect(url, ssl=options, statement_timeout=0.5, max_retries=0) as backend,
    ):
        with pytest.raises(sessions.SessionsError):
            backend.session("locked").add_items([ITEM])
        wait_until(lambda: postgresql.is_idle("certified"))


# --- what can be seen of a backend


def test_nothing_secret_is_in_a_repr(server: TLSServer, options: dict[str, str]) -> None:
    with sessions.connect(server.url("certified"), ssl=options) as backend:
        session = backend.session("shown")
        session.get_items()
        shown = repr(backend) + repr(session) + str(backend) + str(session)
    assert PASSWORD not in shown
    assert "PRIVATE KEY" not in shown


@pytest.mark.usefixtures("each_fork")
@pytest.mark.parametrize("end", ["works", "closes"])
def test_a_child_says_nothing_on_its_parents_encrypted_connection(server: TLSServer, end: str) -> None:
    """Not even goodbye: a record of TLS that the parent does not know of would end its connection."""
    with sessions.connect(server.url(), ssl=True) as backend:
        session = backend.session("chat_1")
        session.clear_session()
        before = set(server.connections())

        def work() -> None:
            if end == "works":
                session.get_items()
            backend.close()

        Child(work).result()
        session.add_items([ITEM])
        assert session.get_items() == [ITEM]
        assert before <= set(server.connections())


# --- the application's own connections


@pytest.mark.parametrize("end", ["the server's", "cut"])
def test_a_connection_with_tls_that_was_closed_while_it_was_idle_is_not_written_on(server: TLSServer, end: str) -> None:
    """Nor is one taken for closed that goes on: what TLS itself sends is no end."""
    server.use(server.url())  # which makes the tables
    wait_until(lambda: not server.connections())
    with Proxy(server.url()) as proxy, contextlib.ExitStack() as stack:
        url = urlsplit(proxy.url)
        named: Any = {"host": "127.0.0.1", "port": url.port, "user": "app", "password": PASSWORD, "autocommit": True}
        connection: Any
        if server.dialect == "postgresql":
            connection = psycopg.connect(dbname="agents", sslmode="require", **named)
        else:
            context = ssl.create_default_context(cadata=server.authority.cert)
            connection = pymysql.connect(database="agents", ssl=context, **named)
        stack.callback(lambda: connection.close() if getattr(connection, "open", True) else None)
        session = sessions.bind(connection).session(secrets.token_hex(8))
        session.add_items([ITEM])
        assert session.get_items() == [ITEM]
        [number] = server.connections()
        if end == "cut":
            proxy.drop()
        else:
            terminate(server.server.url, number)
            socket = connection if server.dialect == "postgresql" else connection._sock
            wait_until(lambda: is_readable(socket.fileno()))
        with pytest.raises(sessions.ConnectionFailedError, match="; nothing was written"):
            session.pop_item()
