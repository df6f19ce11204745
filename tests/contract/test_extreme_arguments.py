"""What is extreme or mangled in an argument of a listing means the same on every backend."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from sessions import Backend, SessionInfo
from support.samples import items
from support.servers import dialect_of

IDS = ["a", "b", "c"]


@pytest.fixture
def listed(backend: Backend) -> Backend:
    for name in IDS:
        backend.session(name).add_items(items("x"))
    return backend


def _ids(page: list[SessionInfo]) -> list[str]:
    return sorted(info.session_id for info in page)


# --- cursors


NO_TIMES = ["2026-99-99|a", "2026-02-30 00:00:00|a", "yesterday|a", "1e9|a"]
NO_CURSORS = ["", "a", "|a\0", "|\ud800"]


@pytest.mark.parametrize(
    ("cursor", "order"),
    [(cursor, "updated") for cursor in NO_TIMES + NO_CURSORS] + [(cursor, "id") for cursor in NO_CURSORS],
    ids=ascii,
)
def test_a_cursor_that_no_listing_gives_is_refused(listed: Backend, cursor: str, order: Any) -> None:
    with pytest.raises(ValueError, match=r"^after is .*; pass a SessionInfo or its cursor$"):
        listed.list_sessions(after=cursor, order=order)


# Python has not all of a server's years.
OWN = {
    "memory": {"999999999.5|a"},
    "sqlite": {"~|a", "2024-02-29 00:00:00|a"},
    "postgresql": {"|a", "infinity|a", "2024-02-29T00:00:00|a", "20024-02-29T00:00:00|a", "0005-02-28T00:00:00.5 BC|a"},
    "mysql": {"|a", "2024-02-29 00:00:00|a", "0000-00-00 00:00:00|a"},
}
ALL = sorted({"2024-02-29 00:00:00 BC|a", "9" * 9 + "-01-01|a", *(cursor for own in OWN.values() for cursor in own)})


@pytest.mark.parametrize("cursor", ALL)
def test_where_the_time_of_a_cursor_counts_it_is_one_of_the_databases_own(
    listed: Backend, url: str, cursor: str
) -> None:
    dialect = listed._store.dialect_name
    shared = dialect in ("sqlite", "mysql", "postgresql") and cursor.startswith("2024-02-29") and "BC" not in cursor
    if cursor in OWN[dialect] or shared:
        listed.list_sessions(after=cursor)
        return
    if dialect_of(url) == "mariadb" and cursor in OWN["memory"]:
        pytest.skip("a column of theirs may be a number, and MariaDB compares one with a time")
    with pytest.raises(ValueError, match=r"^after is "):
        listed.list_sessions(after=cursor)


def test_by_id_the_time_of_a_cursor_counts_for_nothing(listed: Backend) -> None:
    for cursor in (*ALL, *NO_TIMES):
        assert _ids(listed.list_sessions(after=cursor, order="id")) == ["b", "c"]


@pytest.mark.parametrize("wrong", ["", "yes", 2, -1, 0.5, [], {}, object()], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_bool_is_no_order(listed: Backend, wrong: Any) -> None:
    for order in ("updated", "id"):
        with pytest.raises(TypeError, match=r"^newest_first is a "):
            listed.list_sessions(order=order, newest_first=wrong)


@pytest.mark.parametrize("wrong", ["", "no", 2, None, [], object()], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_bool_does_nothing(listed: Backend, wrong: Any) -> None:
    session = listed.session("a")
    before = session.get_items()
    turns: Any = "no" if wrong is None else wrong
    operations: dict[str, Callable[[], object]] = {
        "dry_run": lambda: listed.prune(timedelta.min, dry_run=wrong),
        "ignore_case": lambda: listed.search("x", ignore_case=wrong),
        "fix": lambda: listed.check(fix=wrong),
        "adopt": lambda: listed.rekey(adopt=wrong),
        "whole_turns": lambda: session.get_items(whole_turns=turns),
    }
    for name, operate in operations.items():
        with pytest.raises(TypeError, match=rf"^{name} is a "):
            operate()
    assert _ids(listed.list_sessions()) == IDS
    assert session.get_items() == before


# --- prefixes


@pytest.mark.parametrize("prefix", ["\0", "a\0", "\ud800", "a" * 20_000], ids=lambda prefix: ascii(prefix)[:10])
def test_with_a_prefix_that_no_id_has_there_is_nothing(listed: Backend, prefix: str) -> None:
    assert listed.list_sessions(prefix=prefix) == []
    assert listed.stats(prefix=prefix).sessions == 0
    assert list(listed.search("x", prefix=prefix)) == []


# --- moments

ENDS = [datetime.max.replace(tzinfo=zone) for zone in (UTC, timezone(timedelta(hours=-14)))]
BEGINNINGS = [datetime.min.replace(tzinfo=zone) for zone in (UTC, timezone(timedelta(hours=14)))]


@pytest.mark.parametrize("end", [*ENDS, datetime(2120, 1, 1, tzinfo=UTC), timedelta.min], ids=str)
def test_every_write_is_before_the_end_of_time(listed: Backend, end: datetime | timedelta) -> None:
    assert _ids(listed.list_sessions(idle_since=end)) == IDS
    assert listed.prune(end, dry_run=True) == (3, 3)
    assert listed.prune(end) == (3, 3)


@pytest.mark.parametrize("beginning", [*BEGINNINGS, datetime(1960, 1, 1, tzinfo=UTC), timedelta.max], ids=str)
def test_no_write_is_before_the_beginning_of_time(listed: Backend, beginning: datetime | timedelta) -> None:
    assert listed.list_sessions(idle_since=beginning) == []
    assert listed.prune(beginning) == (0, 0)
