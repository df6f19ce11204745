"""Times in other forms than ours: what is no time that we know is listed once, and never taken for an old one."""

import contextlib
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import pytest

import sessions
from sessions import Backend
from sessions._command.main import main
from support.claims import each_mysql
from support.rivals import connection_of
from support.samples import items
from support.servers import connect_raw, dialect_of, execute_sql, with_parts

DAY = timedelta(days=1)
IDS = [f"chat_{n}" for n in range(5)]

# Of now, and of some days ago.
SQLITE_UNKNOWN = {
    "milliseconds as text": ("TEXT", "strftime('%s', 'now') * 1000"),
    "milliseconds": ("INTEGER", "strftime('%s', 'now') * 1000"),
    "minutes": ("INTEGER", "strftime('%s', 'now') / 60"),
    "days": ("INTEGER", "strftime('%s', 'now') / 86400"),
    "a day": ("DATE", "date('now')"),
    "a day as a number": ("INTEGER", "replace(date('now'), '-', '')"),
    "a time of day": ("TEXT", "time('now')"),
    "nothing": ("TIMESTAMP", "NULL"),
    "no time": ("TEXT", "'yesterday'"),
}
SQLITE_KNOWN = {
    "SQLite's text": ("TIMESTAMP", "datetime('now', '{}')"),
    "ISO 8601": ("TEXT", "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '{}')"),
    "another zone": ("TEXT", "datetime('now', '+5 hours', '{}') || '+05:00'"),
    "real days": ("REAL", "julianday('now', '{}')"),
    "days as text": ("TEXT", "julianday('now', '{}')"),
    "seconds": ("INTEGER", "CAST(strftime('%s', 'now', '{}') AS INTEGER)"),
    "seconds as text": ("TEXT", "strftime('%s', 'now', '{}')"),
}


def make(url: str, declared: str, default: str) -> None:
    """Make the two tables, with times of a type and by a default."""
    dialect = dialect_of(url)
    time = f"{declared} DEFAULT ({default})"
    number = {"sqlite": "INTEGER PRIMARY KEY", "postgresql": "BIGSERIAL PRIMARY KEY"}.get(
        dialect, "BIGINT PRIMARY KEY AUTO_INCREMENT"
    )
    name = "VARCHAR(255)" + (" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if dialect in ("mysql", "mariadb") else "")
    for table in (
        f"agent_sessions (session_id {name} PRIMARY KEY, created_at {time}, updated_at {time})",
        f"agent_messages (id {number}, session_id {name} NOT NULL, message_data TEXT NOT NULL, created_at {time})",
    ):
        execute_raw(url, f"CREATE TABLE {table}")


def execute_raw(url: str, statement: str) -> None:
    """Execute a statement in which %s is a format of SQLite's."""
    with contextlib.closing(connect_raw(url)) as connection:
        connection.cursor().execute(statement)


def listed_once(backend: Backend) -> bool:
    """Tell whether all that is there is listed once, in each direction."""
    for newest_first in (True, False):
        found: list[str] = []
        after = None
        while page := backend.list_sessions(newest_first=newest_first, limit=2, after=after):
            found += [info.session_id for info in page]
            after = page[-1]
            assert len(found) <= len(IDS)
        assert sorted(found) == IDS
    return True


def stay(backend: Backend) -> bool:
    """Tell whether no conversation is taken for an old one."""
    assert backend.list_sessions(idle_since=DAY) == backend.list_sessions(idle_since=DAY, order="id") == []
    assert backend.prune(timedelta(0), dry_run=True) == backend.prune(timedelta(0)) == (0, 0)
    return listed_once(backend)


def strange_times(backend: Backend) -> str:
    [found] = [check for check in backend.check() if check.name == "times"]
    return found.found if found.verdict == "warning" else ""


@pytest.mark.parametrize(("declared", "default"), SQLITE_UNKNOWN.values(), ids=SQLITE_UNKNOWN)
def test_what_is_no_time_of_sqlites_stays(declared: str, default: str, sqlite_url: str) -> None:
    make(sqlite_url, declared, default)
    with sessions.connect(sqlite_url) as backend:
        for name in IDS:
            backend.session(name).add_items(items("x"))
        assert stay(backend)
        assert "updated_at is " in strange_times(backend)


@pytest.mark.parametrize(("declared", "default"), SQLITE_KNOWN.values(), ids=SQLITE_KNOWN)
def test_each_form_of_sqlites_times_is_understood(declared: str, default: str, sqlite_url: str) -> None:
    make(sqlite_url, declared, default.format("+0 days"))
    with sessions.connect(sqlite_url) as backend:
        for days, name in enumerate(IDS):
            backend.session(name).add_items(items("x"))
            past = default.format(f"-{days} days")
            execute_raw(sqlite_url, f"UPDATE agent_sessions SET updated_at = {past} WHERE session_id = '{name}'")
            execute_raw(sqlite_url, f"UPDATE agent_messages SET created_at = {past} WHERE session_id = '{name}'")
        assert listed_once(backend)
        assert [info.session_id for info in backend.list_sessions()] == IDS
        updated, [record] = backend.list_sessions()[2].updated_at, backend.session(IDS[2]).records()
        for found in (updated, record.created_at):
            assert found is not None
            assert abs(datetime.now(UTC).replace(tzinfo=None) - 2 * DAY - found) < timedelta(minutes=1)
        assert backend.prune(2.5 * DAY).sessions == 2
        assert [info.session_id for info in backend.list_sessions()] == IDS[:3]
        assert not strange_times(backend)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("DATE", "CURRENT_DATE"),
        ("TIMESTAMP", "NULL"),
        ("TIMESTAMP", "'infinity'"),
        ("TIMESTAMP", "'-infinity'"),
        ("TIMESTAMPTZ", "'-infinity'"),
    ],
)
def test_what_is_no_time_of_postgresqls_stays(kind: str, stored: str, postgresql_url: str) -> None:
    make(postgresql_url, kind, "CURRENT_TIMESTAMP")
    with sessions.connect(postgresql_url) as backend:
        for name in IDS:
            backend.session(name).add_items(items("x"))
        execute_sql(postgresql_url, f"UPDATE agent_sessions SET updated_at = {stored}")
        assert stay(backend)
        assert strange_times(backend).partition(":")[0] == (
            "updated_at is date and created_at of messages is date" if kind == "DATE" else ""
        )


@each_mysql
@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("DATE", "CURRENT_DATE"),
        ("BIGINT", "UNIX_TIMESTAMP() * 1000"),
        ("INT", "UNIX_TIMESTAMP()"),
        ("BIGINT", "20200101000000"),
        ("VARCHAR(40)", "DATE_FORMAT(NOW(), '%Y-%m-%d')"),
        ("DATETIME", "NULL"),
        ("DATETIME", "'0000-00-00'"),
    ],
)
def test_what_is_no_time_of_mysqls_stays(kind: str, stored: str, server_url: str) -> None:
    make(server_url, kind, "'2020-01-01'" if kind.startswith(("DATE", "VAR")) else "1")
    with sessions.connect(server_url) as backend, contextlib.closing(connect_raw(server_url)) as connection:
        for name in IDS:
            backend.session(name).add_items(items("x"))
        cursor = connection.cursor()
        cursor.execute("SET sql_mode = ''")
        cursor.execute(f"UPDATE agent_sessions SET updated_at = {stored}")
        assert stay(backend)
        assert ("cannot be told" in strange_times(backend)) == (kind != "DATETIME")


@each_mysql
@pytest.mark.parametrize("moment", ["1969-12-31 12:00:00", "2120-01-01 12:00:00"])
def test_a_time_that_a_database_has_not_is_named_and_the_other_conversations_are_moved(
    moment: str, server_url: str, sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sessions.connect(sqlite_url) as backend, sessions.connect(server_url) as target:
        for name in ("chat_1", "chat_2", "chat_3"):
            backend.session(name).add_items(items(name))
        execute_sql(sqlite_url, f"UPDATE agent_messages SET created_at = '{moment}' WHERE session_id = %s", ("chat_2",))
        assert main(["copy", server_url, "--url", sqlite_url]) == 1
        assert "session 'chat_2': mysql" in (said := capsys.readouterr().err)
        assert moment in said
        assert "DATETIME(6)" in said
        assert [info.session_id for info in target.list_sessions(order="id")] == ["chat_1", "chat_3"]
        assert main(["export", "--url", sqlite_url]) == 0
        (tmp_path / "export.jsonl").write_text(capsys.readouterr().out)
        target.delete_sessions(["chat_3"])
        assert main(["import", str(tmp_path / "export.jsonl"), "--url", server_url]) == 1
        assert moment in (said := capsys.readouterr().err)
        assert "imported 2 sessions, 1 items" in said
        assert target.session("chat_3").get_items() == items("chat_3")


def test_sessions_with_and_without_a_time_are_listed_once(sql_url: str) -> None:
    make(sql_url, "TIMESTAMP" if dialect_of(sql_url) in ("sqlite", "postgresql") else "DATETIME", "CURRENT_TIMESTAMP")
    with sessions.connect(sql_url) as backend:
        for name in IDS:
            backend.session(name).add_items(items("x"))
        execute_sql(sql_url, "UPDATE agent_messages SET created_at = '2020-01-01 00:00:00'")
        execute_sql(sql_url, "UPDATE agent_sessions SET updated_at = '2020-01-01 00:00:00'")
        for name in IDS[::2]:
            execute_sql(sql_url, "UPDATE agent_sessions SET updated_at = NULL WHERE session_id = %s", (name,))
        assert listed_once(backend)
        assert backend.prune(DAY).sessions == 2
        assert sorted(info.session_id for info in backend.list_sessions()) == IDS[::2]


def test_a_row_of_a_time_that_is_not_known_keeps_its_conversation(sqlite_url: str) -> None:
    make(sqlite_url, "TEXT", "datetime('2020-01-01')")
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("x"))
        execute_raw(sqlite_url, "UPDATE agent_messages SET created_at = strftime('%s', 'now') * 1000")
        assert backend.prune(DAY) == (0, 0)
        assert strange_times(backend).startswith("created_at of messages is ")


# The clocks went forward, or back, half a minute ago.
_POSIX_ZONES = {"start": "AAA0BBB-1,{day}/{time},364/23", "end": "AAA0BBB-1,{day_before}/0,{day}/{time}"}


@pytest.mark.parametrize("boundary", _POSIX_ZONES)
def test_the_age_of_a_change_is_no_hour_too_high_where_summer_time_starts_or_ends(
    postgresql_url: str, boundary: str
) -> None:
    moment = datetime.now(UTC) - timedelta(seconds=30)
    local = moment if boundary == "start" else moment + timedelta(hours=1)
    day = local.timetuple().tm_yday - 1
    zone = _POSIX_ZONES[boundary].format(day=day, day_before=max(day - 30, 0), time=f"{local:%H:%M:%S}")
    url = with_parts(postgresql_url, query=f"options={quote(f'-c TimeZone={zone}')}")
    with sessions.connect(url, pool_size=1) as backend:
        backend.session("chat_1").add_items(items("a"))
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]
        with connection_of(backend) as connection:
            for seconds in (10, 60, 120):
                written = f"clock_timestamp() - INTERVAL '{seconds} seconds'"
                connection.execute(f"UPDATE agent_sessions SET updated_at = {written}")
                age = dialect.last_change(connection, "chat_1").age
                assert age < seconds + 1
                assert age > seconds - 1 or boundary == "end"
        [info] = backend.list_sessions()
        assert info.idle is not None
        assert info.idle < 121


# Of Europe/Berlin in 2026: the hour from 2 to 3 o'clock is left out, and comes twice.
_START, _END = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
_MINUTES = (-90, -50, -10, -1, 1, 10, 50, 70, 90)


@each_mysql
@pytest.mark.parametrize("boundary", [_START, _END], ids=["start", "end"])
@pytest.mark.parametrize("declared", [None, "DATETIME(6)"], ids=["our tables", "local times"])
def test_nothing_counts_as_older_than_it_is_where_summer_time_starts_or_ends(
    server_url: str, boundary: datetime, declared: str | None
) -> None:
    if declared is not None:
        make(server_url, declared, "CURRENT_TIMESTAMP(6)")
    with sessions.connect(server_url, pool_size=1) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]

        def ask(statement: str) -> None:
            with connection_of(backend) as connection:
                connection.query(statement)

        try:
            ask("SET time_zone = 'Europe/Berlin'")
        except pymysql.OperationalError:
            pytest.skip("the server knows no time zones by name")
        moments = [boundary + timedelta(minutes=minutes) for minutes in _MINUTES]
        for written, now in itertools.combinations(moments, 2):
            ask(f"SET timestamp = {written.timestamp()}")
            session.add_items(items("b"))
            ask(f"SET timestamp = {now.timestamp()}")
            with connection_of(backend) as connection:
                age = dialect.last_change(connection, "chat_1").age
            assert age <= (now - written).total_seconds() + 1
            assert not backend.list_sessions(idle_since=written - timedelta(minutes=1))
            assert backend.list_sessions(idle_since=written + timedelta(seconds=2)) or boundary is _END
