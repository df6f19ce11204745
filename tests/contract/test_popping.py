"""Clause 4: pop_item gives the newest item, to one caller."""

import pytest

import sessions
from support.samples import in_threads, item, items, texts
from support.workers import in_processes, pop_many


def test_pop_removes_the_newest_item_and_returns_it(session: sessions.Session) -> None:
    session.add_items(items("a", "b"))
    assert session.pop_item() == item("b")
    assert texts(session.get_items()) == ["a"]


def test_pop_goes_back_to_the_beginning_and_then_gives_none(session: sessions.Session) -> None:
    assert session.pop_item() is None
    session.add_items(items("a", "b"))
    assert [session.pop_item() for _ in range(4)] == [item("b"), item("a"), None, None]


def test_an_empty_item_is_popped_as_an_item(session: sessions.Session) -> None:
    session.add_items([{}])
    assert session.pop_item() == {}
    assert session.pop_item() is None


def test_pop_takes_nothing_from_another_session(backend: sessions.Backend) -> None:
    backend.session("chat_1").add_items(items("a"))
    backend.session("chat_2").add_items(items("b"))
    assert backend.session("chat_1").pop_item() == item("a")
    assert backend.session("chat_1").pop_item() is None
    assert texts(backend.session("chat_2").get_items()) == ["b"]


def test_what_is_added_after_a_pop_goes_to_the_end(session: sessions.Session) -> None:
    session.add_items(items("a", "b"))
    session.pop_item()
    session.add_items(items("c"))
    assert texts(session.get_items()) == ["a", "c"]


def test_concurrent_poppers_share_the_items_and_take_newer_ones_first(backend: sessions.Backend) -> None:
    session = backend.session("chat_1")
    session.add_items([{"n": n} for n in range(48)])
    popped = in_threads(6, lambda _: [backend.session("chat_1").pop_item() for _ in range(8)])
    numbers = [[entry["n"] for entry in part] for part in popped]  # none found too few
    assert sorted(number for part in numbers for number in part) == list(range(48))
    assert all(part == sorted(part, reverse=True) for part in numbers)
    assert session.pop_item() is None


@pytest.mark.slow
def test_poppers_in_processes_share_the_items(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items([{"n": n} for n in range(45)])
    popped = in_processes(pop_many, [(sql_url, "chat_1", 15)] * 3)
    assert sorted(entry["n"] for part in popped for entry in part) == list(range(45))


def test_adders_and_poppers_together_lose_nothing_and_double_nothing(backend: sessions.Backend) -> None:
    def work(number: int) -> list[dict[str, int]]:
        session = backend.session("chat_1")
        if number % 2:
            return [entry for entry in (session.pop_item() for _ in range(15)) if entry]
        for count in range(10):
            session.add_items([{"writer": number, "n": count * 2 + part} for part in range(2)])
        return []

    popped = [entry for part in in_threads(6, work) for entry in part]
    left = backend.session("chat_1").get_items()
    seen = sorted((entry["writer"], entry["n"]) for entry in popped + left)
    assert seen == [(writer, n) for writer in (0, 2, 4) for n in range(20)]
