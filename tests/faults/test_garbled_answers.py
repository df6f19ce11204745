"""Answers that no driver can read: the error is the library's, and what was written is looked for."""

import contextlib
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import sessions
from support.claims import each_mysql
from support.proxy import Proxy
from support.rivals import connection_of, eventually
from support.samples import items, texts
from support.servers import connect_raw

# One of them is not ended: so many seconds its end is waited for.
_PATIENCE = 5

# Packets of MySQL's protocol: a request for a file of ours, and a result whose column has no name.
_FILE = b"\x0b\0\0\x01\xfb/etc/hosts"
_NAMELESS = b"\x01\0\0\x01\x01" + b"\x0a\0\0\x02\x03def\xfb\xfb\xfb\xfb\xfb\xfb"
_MYSQL: dict[str, Callable[[bytes], bytes]] = {
    "a request for a file": lambda _: _FILE,
    "a column without a name": lambda _: _NAMELESS,
    "an empty packet": lambda _: b"\0\0\0\x01",
    "no header": lambda data: b"\xff" * len(data),
}


def _strange_format(data: bytes) -> bytes:
    """A row description whose first column is in a format that there is not."""
    name_ends = data.index(b"\0", data.index(b"T") + 7)
    at = name_ends + 1 + 4 + 2 + 4 + 2 + 4
    return data[:at] + struct.pack("!H", 257) + data[at + 2 :]


def _strange_encoding(data: bytes) -> bytes:
    words = b"client_encoding\0\xff\xfe\0"
    return b"S" + struct.pack("!I", 4 + len(words)) + words + data


_POSTGRESQL: dict[str, Callable[[bytes], bytes]] = {
    "a format that is none": _strange_format,
    "an encoding that is none": _strange_encoding,
}


def _is_written_once(url: str, garble: Callable[[bytes], bytes], write: str) -> None:
    with (
        Proxy(url) as proxy,
        sessions.Session.from_url(
            "chat_1", proxy.url, ssl=False, statement_timeout=_PATIENCE, retry_delay=0.001
        ) as session,
    ):
        session.add_items(items("a"))
        proxy.garble(garble)
        getattr(session, write)(items("b"))
        assert texts(session.get_items()) == (["a", "b"] if write == "add_items" else ["b"])
        proxy.garble(garble)
        assert texts(session.get_items())[-1] == "b"
        proxy.garble(garble)
        try:
            popped = session.pop_item()
        except sessions.OutcomeUnknownError:
            return
        # What is garbled is not looked at by a statement that is prepared, or belongs to the guard ahead of it.
        assert popped == items("b")[0]


@each_mysql
@pytest.mark.parametrize("write", ["add_items", "replace_items"])
@pytest.mark.parametrize("name", _MYSQL)
def test_a_write_whose_answer_mysql_garbles_is_there_once(server_url: str, name: str, write: str) -> None:
    _is_written_once(server_url, _MYSQL[name], write)


@pytest.mark.parametrize("write", ["add_items", "replace_items"])
@pytest.mark.parametrize("name", _POSTGRESQL)
def test_a_write_whose_answer_postgresql_garbles_is_there_once(postgresql_url: str, name: str, write: str) -> None:
    _is_written_once(postgresql_url, _POSTGRESQL[name], write)


@each_mysql
def test_a_packet_that_the_server_has_left_in_its_middle_is_not_waited_for(server_url: str) -> None:
    """As a KILL QUERY between two of its statements lets it: a time limit of an hour would have to pass."""
    with (
        Proxy(server_url) as proxy,
        sessions.Session.from_url("chat_1", proxy.url, ssl=False, statement_timeout=3600.0) as session,
    ):
        session.add_items(items("a"))

        def leave(data: bytes) -> bytes:
            proxy.garble(leave_out)
            return data[: 4 + int.from_bytes(data[:3], "little")]

        def leave_out(data: bytes) -> bytes:
            if data[3] == 1:  # the first packet of an answer to something else
                return data
            proxy.garble(leave_out)
            return b""

        proxy.garble(leave)
        session.add_items(items("b" * 100_000))  # on MariaDB too large for one statement
        assert texts(session.get_items()) == ["a", "b" * 100_000]


@each_mysql
def test_an_answer_that_takes_long_is_the_one_that_was_asked_for(server_url: str) -> None:
    """What goes after it behind a second of silence is answered too, and by none of ours."""
    with (
        sessions.connect(server_url, statement_timeout=20.0, pool_size=1) as backend,
        contextlib.closing(connect_raw(server_url)) as other,
    ):
        session = backend.session("chat_1")
        session.add_items(items("a"))
        other.cursor().execute("BEGIN")
        other.cursor().execute("SELECT session_id FROM agent_sessions FOR UPDATE")
        with connection_of(backend) as connection:
            assert not connection._pinged
        with ThreadPoolExecutor(1) as executor:
            written = executor.submit(session.add_items, items("b" * 100_000))
            assert eventually(lambda: bool(connection._pinged))
            other.rollback()
            written.result()
        for _ in range(3):
            session.add_items(items("c"))
            assert session.pop_item() == items("c")[0]
        assert texts(session.get_items()) == ["a", "b" * 100_000]


@each_mysql
def test_a_rollback_whose_answer_is_garbled_leaves_a_usable_session(server_url: str) -> None:
    with (
        Proxy(server_url) as proxy,
        sessions.Session.from_url("chat_1", proxy.url, ssl=False, statement_timeout=_PATIENCE) as session,
    ):
        session.add_items(items("a"))
        with contextlib.suppress(sessions.ConflictError), connection_of(session):
            proxy.garble(_MYSQL["a column without a name"])
            raise sessions.ConflictError("so that what is open is rolled back")
        assert texts(session.get_items()) == ["a"]
