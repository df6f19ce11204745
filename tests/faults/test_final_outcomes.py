"""What is of unknown outcome when that is said is done by then, or never: to compare is of use."""

import contextlib
import itertools
from datetime import timedelta
from typing import Any

import pytest

import sessions
from faults.writers import at_first_retry
from sessions import ConflictError, OutcomeUnknownError, SessionsError
from sessions._command.failing import said
from support.claims import refused
from support.proxy import Proxy, When
from support.rivals import connection_of, driver_of, eventually, others
from support.samples import items, texts


@pytest.mark.parametrize("max_retries", [10, 0])
def test_a_pop_that_was_held_up_is_not_done_once_its_outcome_is_unknown(server_url: str, max_retries: int) -> None:
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, statement_timeout=1.0, retry_delay=0.001, max_retries=max_retries) as behind,
    ):
        direct.session("chat_1").add_items(items("a", "b"))
        behind.session("chat_1").position()
        with connection_of(behind) as connection:
            orphan = driver_of(behind).server_session(connection)
        proxy.hold()
        with refused(OutcomeUnknownError):
            behind.session("chat_1").pop_item()
        direct.session("chat_1").add_items(items("c"))
        proxy.release()
        assert eventually(lambda: orphan not in others(server_url))
        assert texts(direct.session("chat_1").get_items()) == ["a", "b", "c"]


OLD, NEW = "a key of many random characters, the first", "a key of many random characters, the second"


@pytest.mark.parametrize("goes", [False, True], ids=["the server comes back", "the server stays away"])
@pytest.mark.parametrize("name", ["prune", "rekey"])
def test_what_was_done_is_counted_or_its_outcome_unknown(server_url: str, name: str, goes: bool) -> None:
    keys: dict[str, Any] = {} if name == "prune" else {"encryption_key": [NEW, OLD]}
    old: dict[str, Any] = {} if name == "prune" else {"encryption_key": OLD}
    unknown, advised = 0, set[str]()
    with sessions.connect(server_url, **old) as direct, Proxy(server_url) as proxy:
        session = direct.session("chat_1")
        for packet in itertools.count(1):
            session.clear_session()
            session.add_items(items("a", "b"))
            with sessions.connect(server_url) as witness:
                before = [record.text for record in witness.session("chat_1").records()]
                with sessions.connect(proxy.url, **keys, retry_timeout=0.2, retry_delay=0.001) as backend:
                    backend.session("another").position()
                    proxy.cut(packet=packet, when="after")
                    with at_first_retry(lambda: setattr(proxy, "refusing", goes)):
                        try:
                            did = backend.prune(timedelta(0)) if name == "prune" else backend.rekey(["chat_1"])
                        except OutcomeUnknownError as exc:
                            unknown += 1
                            advised.add("run it again" if "run it again" in said(exc) else "compare")
                        except SessionsError:
                            assert [record.text for record in witness.session("chat_1").records()] == before
                        else:
                            assert did == (1, 2)
                            assert [record.text for record in witness.session("chat_1").records()] != before
                proxy.refusing = False
                if not proxy.was_cut:
                    break
        proxy.cut(packet=10**9)
    assert bool(unknown) == (goes or name == "prune")
    # Of a rekey there is nothing to compare.
    assert (advised <= {"run it again"}) == (name == "rekey")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["append", "replace"])
def test_a_load_takes_an_equal_one_of_somebody_else_for_no_part_of_its_own(
    server_url: str, how: str, when: When
) -> None:
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001) as backend,
    ):
        direct.session("template").add_items(items("b", "c"))
        records = list(direct.session("template").records())
        for packet in itertools.count(1):
            session = direct.session(f"chat_{packet}")
            session.add_items(items("a"))
            backend.session("another").position()

            def load_too(session_id: str = session.session_id) -> None:
                direct.load(session_id, records, on_existing="append")

            proxy.cut(packet=packet, when=when)
            done = True
            with at_first_retry(load_too):
                try:
                    backend.load(session.session_id, records, on_existing=how)
                except OutcomeUnknownError:
                    done = False
                except ConflictError:
                    assert how == "replace"
                    done = False
            if not proxy.was_cut:
                break
            if done:
                expected = [["a", "b", "c", "b", "c"]] if how == "append" else [["b", "c"], ["b", "c", "b", "c"]]
                assert texts(session.get_items()) in expected, packet
        proxy.cut(packet=10**9)
    assert packet > 1


@pytest.mark.parametrize("there", ["a", ""], ids=["beside an item", "alone"])
def test_a_load_that_was_popped_as_a_whole_is_not_done_again(server_url: str, there: str) -> None:
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001) as backend,
    ):
        direct.session("template").add_items(items("b"))
        records = list(direct.session("template").records())
        popped = 0
        for packet in itertools.count(1):
            session = direct.session(f"chat_{packet}")
            session.add_items(items(*there or "a"))
            if not there:
                session.pop_item()
            backend.session("another").position()

            def pop_it(session: sessions.Session = session) -> None:
                nonlocal popped
                if texts(session.get_items())[-1:] == ["b"]:
                    session.pop_item()
                    popped += 1

            before = popped
            proxy.cut(packet=packet, when="after")
            with at_first_retry(pop_it), contextlib.suppress(OutcomeUnknownError):
                backend.load(session.session_id, records, on_existing="append")
            if not proxy.was_cut:
                break
            assert texts(session.get_items()) == [*there, "b"][: None if popped == before else -1], packet
        proxy.cut(packet=10**9)
    assert popped


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("there", [True, False])
def test_a_deletion_that_was_cut_says_whether_the_record_was_there(server_url: str, there: bool, when: When) -> None:
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001) as backend,
    ):
        for packet in itertools.count(1):
            session = direct.session("chat_1")
            session.add_items(items("a"))
            position = session.position()
            backend.session("another").position()
            proxy.cut(packet=packet, when=when)
            assert backend.session("chat_1").delete_record(position if there else position + 10**6) is there, packet
            assert (session.position() == position) is not there
            if not proxy.was_cut:
                break
        proxy.cut(packet=10**9)
    assert packet > 1
