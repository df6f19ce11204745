"""delete_sessions() and prune(): conversations that go as a whole, or stay as a whole."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import sessions
from embedding.test_older_snapshots import OLDER
from interop.peers import open_peer
from interop.tables import OTHERS, make_tables
from sessions import Backend, _listing
from sessions._dialects.dialect import Dialect
from support.rivals import connection_of, eventually, set_updated_at, waiting
from support.samples import in_threads, items, stored_sessions, texts
from support.servers import connect_raw, dialect_of, execute_sql

DAY = timedelta(days=1)


def listed(backend: Backend) -> list[str]:
    return [info.session_id for info in backend.list_sessions(order="id", limit=10_000)]


def fill(backend: Backend, ages: dict[str, float], count: int = 2) -> None:
    """Make conversations that were written to for the last time so many days ago."""
    now = time.time()
    for name, days in ages.items():
        backend.session(name).add_items([{"n": n} for n in range(count)])
        set_updated_at(backend, name, now - days * 86_400)
        age_items(backend, name, days)


def age_items(backend: Backend, name: str, days: float) -> None:
    store: Any = backend._store
    if store.dialect_name != "memory":
        moment = {"sqlite": "datetime(?, 'unixepoch')", "postgresql": "to_timestamp(%s)", "mysql": "FROM_UNIXTIME(%s)"}
        mark = "?" if store.dialect_name == "sqlite" else "%s"
        with connection_of(backend) as connection:
            connection.cursor().execute(
                f"UPDATE agent_messages SET created_at = {moment[store.dialect_name]} WHERE session_id = {mark}",
                (time.time() - days * 86_400, name),
            )


# --- delete_sessions


def test_deleted_conversations_are_gone_and_the_others_stay(backend: Backend) -> None:
    for name in ("a", "b", "c'; --", "ä😀"):
        backend.session(name).add_items(items("x", "y"))
    assert backend.delete_sessions(["a", "c'; --", "ä😀", "unknown"]) == 3
    assert listed(backend) == ["b"]
    assert backend.session("a").get_items() == []
    assert texts(backend.session("b").get_items()) == ["x", "y"]


def test_no_ids_and_repeated_ids_do_no_harm(backend: Backend) -> None:
    backend.session("a").add_items(items("x"))
    assert backend.delete_sessions([]) == 0
    assert backend.delete_sessions(iter(["a", "a"])) == 1
    assert backend.delete_sessions(["a"]) == 0


def test_more_conversations_than_a_batch_holds_are_deleted(backend: Backend) -> None:
    names = [f"chat_{n}" for n in range(230)]
    for name in [*names, "other"]:
        backend.session(name).add_items(items("x"))
    assert backend.delete_sessions(names) == 230
    assert listed(backend) == ["other"]


@pytest.mark.parametrize(("wrong", "error"), [("chat_1", TypeError), ([17], TypeError), (["ok", "a\0b"], ValueError)])
def test_what_is_no_list_of_ids_deletes_nothing(backend: Backend, wrong: Any, error: type[Exception]) -> None:
    backend.session("ok").add_items(items("x"))
    with pytest.raises(error, match="session_id"):
        backend.delete_sessions(wrong)
    assert listed(backend) == ["ok"]


# --- prune


def test_idle_conversations_are_pruned_and_the_others_stay(backend: Backend) -> None:
    fill(backend, {"old": 100, "older": 200, "young": 50, "new": 0})
    assert backend.prune(90 * DAY) == sessions.Pruned(sessions=2, items=4)
    assert listed(backend) == ["new", "young"]
    assert backend.session("old").get_items() == []
    assert len(backend.session("young").get_items()) == 2
    assert backend.prune(90 * DAY) == (0, 0)


def test_a_moment_can_be_given(backend: Backend) -> None:
    fill(backend, {"old": 100, "young": 50})
    assert backend.prune(datetime.now(UTC) - 90 * DAY).sessions == 1
    assert listed(backend) == ["young"]


def test_what_is_written_behind_the_moment_is_kept_in_the_same_second_too(backend: Backend) -> None:
    moment = datetime.now(UTC)
    backend.session("a").add_items(items("x"))
    assert backend.prune(moment, dry_run=True) == backend.prune(moment) == (0, 0)
    assert texts(backend.session("a").get_items()) == ["x"]


def test_a_dry_run_counts_and_deletes_nothing(backend: Backend) -> None:
    fill(backend, {"old": 100, "older": 200, "young": 50})
    assert backend.prune(90 * DAY, dry_run=True) == (2, 4)
    assert listed(backend) == ["old", "older", "young"]


@pytest.mark.parametrize("keep", ["vip:", ("vip:", "legal_")], ids=["one", "several"])
def test_a_prefix_is_kept(backend: Backend, keep: Any) -> None:
    fill(backend, {"vip:1": 100, "vip": 100, "VIP:2": 100, "legal_1": 100, "legalX": 100})
    backend.prune(90 * DAY, keep_prefix=keep)
    assert listed(backend) == (["vip:1"] if keep == "vip:" else ["legal_1", "vip:1"])


@pytest.mark.parametrize(
    ("older_than", "error"),
    [(datetime(2026, 1, 1), ValueError), (90, TypeError), (None, TypeError)],  # noqa: DTZ001
    ids=str,
)
def test_what_is_no_time_prunes_nothing(backend: Backend, older_than: Any, error: type[Exception]) -> None:
    fill(backend, {"old": 100})
    with pytest.raises(error, match="older_than"):
        backend.prune(older_than)
    # What no id begins with would keep nothing.
    for prefix in ("", "\udce9gal:", "a\0", ["chat", ""]):
        with pytest.raises(ValueError, match="keep_prefix"):
            backend.prune(90 * DAY, keep_prefix=prefix)
    with pytest.raises(TypeError, match="keep_prefix is a bytes"):
        backend.prune(90 * DAY, keep_prefix=[b"chat"])  # type: ignore[list-item]
    assert listed(backend) == ["old"]


def test_many_conversations_are_pruned_in_batches(backend: Backend) -> None:
    fill(backend, {f"chat_{n}": 100 + n for n in range(230)}, count=1)
    fill(backend, {"new": 0})
    assert backend.prune(90 * DAY) == (230, 230)
    assert listed(backend) == ["new"]


def test_a_conversation_that_is_written_to_meanwhile_stays_whole(url: str) -> None:
    with sessions.connect(url) as backend:
        names = [f"chat_{n}" for n in range(150)]
        fill(backend, dict.fromkeys(names, 100), count=3)
        started = threading.Event()

        def write() -> list[str]:
            started.wait()
            for name in names[::-3]:
                backend.session(name).add_items([{"n": 3}])
            return names[::-3]

        written: list[str] = []
        writer = threading.Thread(target=lambda: written.extend(write()))
        writer.start()
        started.set()
        backend.prune(90 * DAY)
        writer.join()
        for name in written:
            # Written before it was pruned, or begun anew behind it: never a part of what was there.
            assert [item["n"] for item in backend.session(name).get_items()] in ([0, 1, 2, 3], [3])
        assert set(listed(backend)) == set(written)


@pytest.mark.parametrize("lender", ["own", "bound"])
def test_what_another_program_commits_while_it_is_waited_for_is_not_pruned(server_url: str, lender: str) -> None:
    with sessions.connect(server_url) as backend, ExitStack() as stack:
        fill(backend, {"old_1": 100, "old_2": 100, "old_3": 100}, count=1)
        writer, cursor = stack.enter_context(begun(server_url))
        for name in ("old_2", "old_3"):
            # Without a word to the session's row, which its foreign key locks.
            cursor.execute("INSERT INTO agent_messages (session_id, message_data) VALUES (%s, '{}')", (name,))
        pruning = backend
        if lender == "bound":
            ours, _ = stack.enter_context(begun(server_url))
            pruning = sessions.bind(ours)
        pruned: list[Any] = []
        thread = threading.Thread(target=lambda: pruned.append(pruning.prune(90 * DAY)))
        thread.start()
        assert eventually(lambda: waiting(server_url) > 0)
        writer.commit()
        thread.join(60)
        if lender == "bound":
            ours.commit()
        assert pruned == [(1, 1)]
        assert listed(backend) == ["old_2", "old_3"]
        assert backend.session("old_2").get_items() == [{"n": 0}, {}]


def test_an_older_snapshot_prunes_nothing_that_was_committed_behind_it(server_url: str) -> None:
    with sessions.connect(server_url) as backend, begun(server_url) as (ours, cursor):
        fill(backend, {"old": 100}, count=1)
        if dialect_of(server_url) == "postgresql":
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT COUNT(*) FROM agent_messages")
        cursor.fetchall()
        execute_sql(server_url, "INSERT INTO agent_messages (session_id, message_data) VALUES ('old', '{}')")
        with suppress(sessions.DatabaseError):
            assert sessions.bind(ours).prune(90 * DAY) == (0, 0)
        ours.commit()
        assert backend.session("old").get_items() == [{"n": 0}, {}]


@contextmanager
def begun(url: str) -> Iterator[tuple[Any, Any]]:
    """A transaction of the application."""
    with closing(connect_raw(url)) as connection:
        cursor = connection.cursor()
        if dialect_of(url) != "postgresql":
            cursor.execute(OLDER)
        cursor.execute("BEGIN")
        yield connection, cursor


@pytest.mark.parametrize(("dialect", "maker"), OTHERS)
def test_what_another_program_has_just_written_is_not_pruned(
    dialect: str, maker: str, make_url: Callable[[str], str]
) -> None:
    url = make_url(dialect)
    asyncio.run(make_tables(maker, url))

    async def write() -> None:
        async with open_peer("npm", url, "fresh") as peer:
            await peer.add_items([{"n": 0}])

    asyncio.run(write())
    with sessions.connect(url) as backend:
        backend.session("ours").add_items([{"n": 0}])
        fill(backend, {"old": 100})
        assert backend.prune(DAY) == (1, 2)
        assert sorted(stored_sessions(url)) == ["fresh", "ours"]
        # The npm package notes the time in a statement of its own, behind the one that adds the rows.
        set_updated_at(backend, "fresh", time.time() - 100 * 86_400)
        assert backend.prune(DAY) == (0, 0)
        assert execute_sql(url, "SELECT COUNT(*) FROM agent_messages")[0][0] == 2


def test_a_time_before_now_is_by_the_databases_clock(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) + timedelta(hours=2)

    backend.session("chat_1").add_items(items("a"))
    monkeypatch.setattr(_listing, "datetime", Ahead)
    assert backend.list_sessions(idle_since=timedelta(hours=1)) == []
    assert backend.prune(timedelta(hours=1)).sessions == 0
    assert texts(backend.session("chat_1").get_items()) == ["a"]


@pytest.mark.parametrize("way", ["delete_sessions", "clear_session"])
def test_what_somebody_makes_while_it_is_deleted_goes_too(
    way: str, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.connect(postgresql_url) as backend, sessions.connect(postgresql_url) as other:
        other.session("another").position()  # makes the tables
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]

        def write(name: str) -> None:
            if name in ("sessions_with_items", "newest_range"):
                monkeypatch.undo()
                other.session("chat_1").add_items(items("a"))

        def after_a_write(method: Callable[..., Any]) -> Callable[..., Any]:
            def called(*given: Any) -> Any:
                write(given[1])
                return method(*given)

            return called

        for name in ("execute", "change"):
            monkeypatch.setattr(dialect, name, after_a_write(getattr(dialect, name)))
        if way == "delete_sessions":
            backend.delete_sessions(["chat_1"])
        else:
            backend._store._attempts.run(  # type: ignore[attr-defined]
                lambda connection: Dialect.clear(dialect, connection, "chat_1", None), settle=None
            )
        assert texts(other.session("chat_1").get_items()) == []


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb"])
def test_who_deletes_and_who_adds_wait_for_each_other_in_one_order(
    dialect: str, make_url: Callable[[str], str]
) -> None:
    url = make_url(dialect)
    failed: list[Exception] = []
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
        ways: list[Callable[[], object]] = [
            session.clear_session,
            lambda: backend.delete_sessions(["chat_1"]),
            lambda: session.add_items(items("a", "b")),
        ]

        def work(thread: int) -> None:
            for _ in range(40):
                try:
                    ways[thread % len(ways)]()
                except sessions.SessionsError as exc:
                    failed.append(exc)

        in_threads(6, work)
        # A batch is there as a whole.
        assert set(texts(session.get_items())) <= {"a", "b"}
        assert len(session.get_items()) % 2 == 0
    assert failed == []
    if dialect == "postgresql":
        # One takes the server a second to notice.
        [(deadlocks,)] = execute_sql(url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert deadlocks == 0
