"""Fill tables on the server's side, as quickly as it can."""

import json

from benchmarks.corpus import make_short_items
from support.servers import connect_raw, dialect_of

_TIMES = {
    "sqlite": "datetime(1735689600 + n, 'unixepoch')",
    "postgresql": "TIMESTAMP '2025-01-01' + n * INTERVAL '1 second'",
    "mysql": "TIMESTAMP '2025-01-01 00:00:00' + INTERVAL n SECOND",
}


def fill(url: str, session_id: str, count: int, rows: int) -> None:
    """Write short items for `count` sessions of `rows` each, session by session."""
    name, divided = ("CONCAT('{} ', {})", "DIV") if _family(url) == "mysql" else ("'{} ' || ({})", "/")
    if count == 1:
        name = "'{}'"
    fill_sessions(url, count, name.format(session_id, "n"))
    text = json.dumps(make_short_items(1)[0])
    fill_messages(url, count * rows, name.format(session_id, f"n {divided} {rows}"), text)


def fill_sessions(url: str, count: int, session_id: str) -> None:
    """Write the rows of sessions, whose id is an SQL expression of n, the number of the row."""
    _write(url, f"INSERT INTO agent_sessions (session_id) SELECT {session_id} FROM ", count)


def fill_messages(url: str, count: int, session_id: str, text: str) -> None:
    """Write the same text in every row, a second apart; its session is an SQL expression of n."""
    quoted = text.replace("'", "''")
    _write(
        url,
        "INSERT INTO agent_messages (session_id, message_data, created_at) "
        f"SELECT {session_id}, '{quoted}', {_TIMES[_family(url)]} FROM ",
        count,
    )


def _write(url: str, insert: str, count: int) -> None:
    with connect_raw(url) as connection:
        cursor = connection.cursor()
        if _family(url) == "sqlite":
            cursor.execute("PRAGMA synchronous = OFF")
        if _family(url) == "mysql":
            # MySQL empties its list of what recent transactions wrote, which then has millions of places, at each write
            # to a table that a foreign key refers to: that would be measured.
            cursor.execute("SET sql_log_bin = 0")
        cursor.execute(f"{insert} ({_numbers(_family(url), count)}) AS numbers ORDER BY n")


def index_for_sdk(url: str) -> None:
    """Add the index of the SDK's own tables, so that its order by time costs it no more than there."""
    with connect_raw(url) as connection:
        connection.cursor().execute("CREATE INDEX sdk_order ON agent_messages (session_id, created_at)")
    analyze(url)


def copy_for_floor(url: str) -> None:
    """Give the floor the same rows, where it has tables of its own."""
    if _family(url) != "postgresql":
        return
    with connect_raw(url) as connection:
        connection.execute("INSERT INTO floor_sessions SELECT * FROM agent_sessions")
        connection.execute("INSERT INTO floor_messages SELECT * FROM agent_messages ORDER BY id")
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('floor_messages', 'id'), (SELECT max(id) FROM agent_messages))"
        )
        connection.execute("ANALYZE floor_messages")


def analyze(url: str) -> None:
    """Let the server count what is in the tables."""
    with connect_raw(url) as connection:
        cursor = connection.cursor()
        cursor.execute(f"{'ANALYZE TABLE' if _family(url) == 'mysql' else 'ANALYZE'} agent_messages")
        if cursor.description:
            cursor.fetchall()


def _family(url: str) -> str:
    return dialect_of(url).replace("mariadb", "mysql")


def _numbers(dialect: str, total: int) -> str:
    """Return a query of the numbers n below the total."""
    if dialect == "sqlite":
        return f"WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {total - 1}) SELECT n FROM s"
    if dialect == "postgresql":
        return f"SELECT n FROM generate_series(0, {total - 1}) AS series (n)"
    digits = "(SELECT 0 AS d" + "".join(f" UNION ALL SELECT {d}" for d in range(1, 10)) + ")"
    places = len(str(total - 1)) if total > 1 else 1
    number = " + ".join(f"p{place}.d * {10**place}" for place in range(places))
    tables = " CROSS JOIN ".join(f"{digits} AS p{place}" for place in range(places))
    return f"SELECT n FROM (SELECT {number} AS n FROM {tables}) AS numbers WHERE n < {total}"
