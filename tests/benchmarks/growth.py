"""What tables of ten million messages cost beside small ones, ours and those that the OpenAI Agents SDK makes.

Conversations are written as they come: so many at a time, side by side, each until it has its messages.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import sessions
from benchmarks.contestants import _plain
from benchmarks.corpus import make_short_items
from benchmarks.fill import fill_messages, fill_sessions
from support.samples import in_threads
from support.servers import connect_raw, dialect_of, execute_sql

SIZES = (10_000, 10_000_000)
QUICK = (10_000, 200_000)

_LENGTH = 100  # messages of a conversation
_AT_ONCE = 1_000  # conversations that are written side by side
_THREADS = 8
_TRIALS = 300
READ = 20


@dataclass
class Growth:
    """What was measured on tables of one size; times in seconds."""

    messages: int
    text: float  # bytes of a message's JSON
    stored: float  # bytes that the tables and their indexes take for each message
    add: tuple[float, float]  # median and 99th percentile
    read: tuple[float, float]
    pop: tuple[float, float]
    writes: float  # adds a second, of several threads on conversations of their own
    pages: float  # that reading the newest 20 of a conversation touches; 0: not told
    page_size: int


def make_sdk_tables(url: str) -> None:
    """Put the SDK's tables in place of ours, as it makes them, or its users where it cannot."""
    from interop.tables import MAKERS, make_tables

    for table in ("agent_messages", "agent_sessions"):
        execute_sql(url, f"DROP TABLE {table}")
    asyncio.run(make_tables(MAKERS[dialect_of(url)][1], url))


def measure(url: str, sizes: Sequence[int]) -> Iterator[Growth]:
    """Fill empty tables up to each size in turn, and measure there."""
    [item] = make_short_items(1)
    text = json.dumps(item)
    done = 0
    for size in sizes:
        _fill(url, done, size, text)
        done = size
        yield _measure_one(url, size, len(text))


def _fill(url: str, done: int, size: int, text: str) -> None:
    first = done
    while first < size:
        number, count = first // _LENGTH, min(_AT_ONCE, (size - first) // _LENGTH)
        fill_sessions(url, count, _name(url, f"n + {number}"))
        fill_messages(url, count * _LENGTH, _name(url, f"n % {count} + {number}"), text)
        first += count * _LENGTH
    for table in ("agent_messages", "agent_sessions"):
        with closing(connect_raw(url)) as connection:
            cursor = connection.cursor()
            cursor.execute(f"{_ANALYZE.get(dialect_of(url), 'ANALYZE TABLE')} {table}")
            if cursor.description:
                cursor.fetchall()


_ANALYZE = {"sqlite": "ANALYZE", "postgresql": "VACUUM (ANALYZE)"}


def _name(url: str, number: str) -> str:
    """Return an SQL expression of the id that we give to a conversation, as long as a UUID."""
    if dialect_of(url) in ("mysql", "mariadb"):
        return f"CONCAT('chat-', LEFT(SHA2({number}, 256), 32))"
    if dialect_of(url) == "sqlite":
        return f"printf('chat-%032x', ({number}) * 2654435761 % 4294967296)"
    return f"'chat-' || md5(({number})::text)"


def _measure_one(url: str, size: int, text: int) -> Growth:
    with sessions.connect(url + _plain(url), pool_size=_THREADS) as backend:
        ids = _sample(url, size)
        chance = random.Random(1)
        item = make_short_items(1)
        add = _percentiles(lambda: backend.session(chance.choice(ids)).add_items(item))
        read = _percentiles(lambda: backend.session(chance.choice(ids)).get_items(READ))
        pop = _percentiles(lambda: backend.session(chance.choice(ids)).pop_item())

        def write(thread: int) -> None:
            own = random.Random(thread)
            for _ in range(_TRIALS):
                backend.session(own.choice(ids)).add_items(item)

        start = time.perf_counter()
        in_threads(_THREADS, write)
        writes = _THREADS * _TRIALS / (time.perf_counter() - start)
    stored, pages, page_size = _STORAGE[dialect_of(url)](url, ids)
    return Growth(size, text, stored / size, add, read, pop, writes, pages, page_size)


def _sample(url: str, size: int) -> list[str]:
    wanted = ", ".join(str(number) for number in random.Random(size).sample(range(1, size + 1), min(2_000, size)))
    rows = execute_sql(url, f"SELECT DISTINCT session_id FROM agent_messages WHERE id IN ({wanted})")
    return [name for (name,) in rows]


def _percentiles(work: Callable[[], object]) -> tuple[float, float]:
    work()
    found = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found), statistics.quantiles(found, n=100)[98]


def _of_postgresql(url: str, ids: Sequence[str]) -> tuple[float, float, int]:
    [(size,)] = execute_sql(
        url, "SELECT pg_total_relation_size('agent_messages') + pg_total_relation_size('agent_sessions')"
    )
    pages = []
    for name in ids[:50]:
        [(plan,)] = execute_sql(
            url,
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT message_data FROM agent_messages "
            f"WHERE session_id = ANY (ARRAY['{name}']) ORDER BY session_id DESC, id DESC LIMIT {READ}",
        )
        pages.append(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])
    return float(size), statistics.mean(pages), 8192


def _of_mysql(url: str, ids: Sequence[str]) -> tuple[float, float, int]:
    [(size,)] = execute_sql(
        url,
        "SELECT SUM(data_length + index_length) FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name LIKE 'agent%'",
    )
    requests = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_read_requests'"
    with closing(connect_raw(url)) as connection, connection.cursor() as cursor:

        def count() -> int:
            cursor.execute(requests)
            return int(cursor.fetchall()[0][1])

        before = count()
        for name in ids[:50]:
            cursor.execute(
                f"SELECT message_data FROM agent_messages WHERE session_id = '{name}' ORDER BY id DESC LIMIT {READ}"
            )
            cursor.fetchall()
        return float(size), (count() - before) / 50, 16384


def _of_sqlite(url: str, _: Sequence[str]) -> tuple[float, float, int]:
    path = unquote(urlsplit(url).path)
    return float(Path(path).stat().st_size), 0.0, 4096


_STORAGE: dict[str, Callable[[str, Sequence[str]], tuple[float, float, int]]] = {
    "sqlite": _of_sqlite,
    "postgresql": _of_postgresql,
    "mysql": _of_mysql,
    "mariadb": _of_mysql,
}


# --- what is kept


def save(path: Path, found: dict[str, list[Growth]]) -> None:
    """Keep what was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {dialect: [asdict(one) for one in sizes] for dialect, sizes in found.items()}
    path.write_text(json.dumps(stored, indent=1) + "\n")


def load(path: Path) -> dict[str, list[Growth]]:
    """Return what was kept."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    return {dialect: [Growth(**one) for one in sizes] for dialect, sizes in stored.items()}
