"""A process that can open no more files: a failure to connect says so, holds none, and passes when some are closed."""

import contextlib
import gc
import logging
import os
from collections.abc import Iterator

import pytest

import sessions
from sessions import ConnectionFailedError
from support.samples import items, texts

resource = pytest.importorskip("resource", reason="this system has no limit of descriptors that can be set")

REMEDY = "can open no more files: raise `ulimit -n`"


@contextlib.contextmanager
def few_descriptors(free: int) -> Iterator[list[int]]:
    """Let this process open so many files more; what is closed of the list can be opened again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, hard))
    held = [highest]
    try:
        held += all_there_are()
        for descriptor in held[:free]:
            os.close(descriptor)
        del held[:free]
        yield held
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def all_there_are() -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        while True:
            found.append(os.open(os.devnull, os.O_RDONLY))
    return found


def count_free() -> int:
    found = all_there_are()
    for descriptor in found:
        os.close(descriptor)
    return len(found)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What is held is not let go by chance."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("free", range(4))
def test_a_connection_without_descriptors_says_so_and_holds_none(sql_url: str, free: int) -> None:
    with sessions.connect(sql_url) as warm:
        warm.session("chat_1").add_items(items("a"))
    with sessions.connect(sql_url, max_retries=0) as backend:
        session, failed = backend.session("chat_1"), False
        with few_descriptors(free):
            try:
                assert texts(session.get_items()) == ["a"]
            except ConnectionFailedError as exc:
                failed = True
                assert REMEDY in str(exc)  # noqa: PT017  (with some it may succeed)
                assert count_free() == free
        assert failed or free
        assert texts(session.get_items()) == ["a"]


def test_a_connection_without_descriptors_is_made_when_some_are_closed(
    sql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Closing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "trying again" in record.getMessage()
            while held:
                os.close(held.pop())

    handler = Closing()
    with sessions.connect(sql_url, retry_delay=0.001) as backend, few_descriptors(0) as held:
        logging.getLogger("sessions").addHandler(handler)
        try:
            backend.session("chat_1").add_items(items("a"))
        finally:
            logging.getLogger("sessions").removeHandler(handler)
        assert texts(backend.session("chat_1").get_items()) == ["a"]
    assert len(caplog.messages) == 1


def test_a_refused_connection_with_enough_descriptors_says_nothing_of_them(server_url: str) -> None:
    with sessions.connect(server_url.rpartition("/")[0] + "/nobody_made_it", max_retries=0) as backend:
        with few_descriptors(12), pytest.raises(sessions.SessionsError) as raised:
            backend.session("chat_1").get_items()
        assert REMEDY not in str(raised.value)
