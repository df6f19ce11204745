"""What is measured. Contestants take turns within a workload, so that the machine's moods hit all alike."""

import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contestants import Store, contestants, is_peer, opened
from benchmarks.corpus import make_items, make_short_items
from proxy import Proxy
from servers import connect_raw, dialect_of

# dialect -> workload -> contestant -> seconds, round trips or bytes
Figures = dict[str, dict[str, dict[str, float]]]


@dataclass
class Sizes:
    """How much of everything."""

    seconds: float = 6.0  # for one workload on one dialect
    most: int = 200  # repetitions of a contestant
    rows: tuple[int, ...] = (100, 10_000, 1_000_000)
    others: int = 100_000
    bulk: int = 100_000
    delays: tuple[float, ...] = (0.0, 0.001, 0.002, 0.005)


# What a peer has for the bulk load.
_PATIENCE_SECONDS = 30.0

QUICK = Sizes(seconds=1.0, most=20, rows=(100, 2_000, 20_000), others=2_000, bulk=5_000, delays=(0.0, 0.005))


@dataclass
class Results:
    """Everything that a run has found."""

    times: Figures = field(default_factory=dict)
    round_trips: Figures = field(default_factory=dict)
    memory: Figures = field(default_factory=dict)
    imports: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, dialect: str, workload: str, figures: dict[str, float]) -> None:
        self.times.setdefault(dialect, {})[workload] = figures
        print(f"{dialect}: {workload}: " + ", ".join(f"{name} {value * 1e3:.3f}" for name, value in figures.items()))


def take_turns(
    stores: Sequence[Store],
    sizes: Sizes,
    prepare: Callable[[Store, int], Any],
    work: Callable[[Any], object],
) -> dict[str, float]:
    """Time work(prepare(store, n)) for each store in turn until the time is up; the medians.

    A peer that fails, as with deadlocks, drops out of the workload; we may not.
    """
    times: dict[str, list[float]] = {store.name: [] for store in stores}
    running = list(stores)
    order = random.Random(1)
    end = time.monotonic() + sizes.seconds
    for number in range(-1, sizes.most):  # the first round makes connections and fills caches
        if number >= 5 and time.monotonic() > end:
            break
        # In another order each time: a contestant pays for the caches that the one before it has emptied.
        for store in order.sample(running, len(running)):
            try:
                prepared = prepare(store, number)
                start = time.perf_counter()
                work(prepared)
                seconds = time.perf_counter() - start
            except Exception as exc:
                if not is_peer(store.name):
                    raise
                print(f"{store.name} fails and drops out: {type(exc).__name__}: {str(exc).splitlines()[0]}")
                running.remove(store)
                times[store.name].clear()
                continue
            if number >= 0:
                times[store.name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items() if values}


def measure(url: str, results: Results, sizes: Sizes) -> None:
    """Run every workload on one database."""
    dialect = dialect_of(url)
    kinds = contestants(dialect)
    with opened([kind for kind in kinds if kind.name == "ours"], url) as [ours]:
        ours.handle("makes the tables").add(make_items(1))
    with opened(kinds, url) as stores:
        _small(dialect, stores, results, sizes)
    _opening(dialect, url, results, sizes)
    if dialect != "sqlite":
        _round_trips(dialect, url, results)
        _delayed(dialect, url, results, sizes)
    _bulk(dialect, url, results, sizes)
    _large(dialect, url, results, sizes)


def _small(dialect: str, stores: list[Store], results: Results, sizes: Sizes) -> None:
    fifty, four, hundred = make_items(50), make_items(4, seed=2), make_items(100, seed=3)
    handles: dict[tuple[str, str], Any] = {}

    def kept(store: Store, name: str) -> Any:
        key = (store.name, name)
        if key not in handles:
            handles[key] = store.handle(f"{store.name} {name}")
        return handles[key]

    def fresh(store: Store, number: int) -> Any:
        handle = store.handle(f"{store.name} turn {number}")
        handle.add(fifty)
        return handle

    def turn(handle: Any) -> None:
        handle.get()
        handle.add(four)

    results.add(dialect, "turn on 50", take_turns(stores, sizes, fresh, turn))
    for count, batch in ((1, make_items(1)), (100, hundred)):
        name = f"add {count}"
        figures = take_turns(stores, sizes, lambda store, _: kept(store, "adds"), lambda handle: handle.add(batch))  # noqa: B023
        results.add(dialect, name, figures)
    for store in stores:
        for part in range(10):
            kept(store, "thousand").add(make_items(100, seed=part))
    figures = take_turns(stores, sizes, lambda store, _: kept(store, "thousand"), lambda handle: handle.get())
    results.add(dialect, "get 1,000", figures)

    able = [store for store in stores if store.limits]
    for name in ("8 at once, 8 sessions", "8 at once, 1 session"):

        def eight(store: Store, number: int, name: str = name) -> Any:
            ids = [f"{store.name} {name} {thread if '8 sessions' in name else 0}" for thread in range(8)]
            handles = [store.handle(session_id) for session_id in ids]
            if number < 0:
                # Not a race of first writers, which the SDK loses to deadlocks on MySQL.
                for handle in handles:
                    handle.add(four)
            return store, handles

        figures = take_turns(able, sizes, eight, lambda pair: pair[0].run_at_once(pair[1], 4, four))
        # Four turns of eight: the time that each turn took of the whole.
        results.add(dialect, name, {contestant: value / 32 for contestant, value in figures.items()})


def _opening(dialect: str, url: str, results: Results, sizes: Sizes) -> None:
    with opened(contestants(dialect), url) as stores:
        figures = take_turns(stores, sizes, lambda store, _: store, lambda store: store.open_read_close("opened"))
    results.add(dialect, "open, read, close", figures)


def _round_trips(dialect: str, url: str, results: Results) -> None:
    one, hundred = make_items(1), make_items(100)
    operations: dict[str, Callable[[Any], object]] = {
        "get": lambda handle: handle.get(),
        "add 1": lambda handle: handle.add(one),
        "add 100": lambda handle: handle.add(hundred),
        "pop": lambda handle: handle.pop(),
        "clear": lambda handle: handle.clear(),
    }
    found = results.round_trips.setdefault(dialect, {})
    with Proxy(url) as proxy, opened(contestants(dialect), proxy.url) as stores:
        for store in stores:
            handle = store.handle(f"{store.name} counted")
            handle.add(hundred)
            for name, operation in operations.items():
                if name == "pop" and not store.limits:
                    continue
                try:
                    for _ in range(7):  # past what is prepared after some uses
                        operation(handle)
                    with proxy.counting() as count:
                        operation(handle)
                except Exception as exc:
                    if not is_peer(store.name):
                        raise
                    print(f"{store.name} fails to {name}: {type(exc).__name__}: {str(exc).splitlines()[0]}")
                    continue
                found.setdefault(name, {})[store.name] = count.round_trips
                handle.add(hundred)
            with proxy.counting() as count:
                store.open_read_close(f"{store.name} counted")
                time.sleep(0.1)  # the goodbye of close() is not answered, but it is a packet
            found.setdefault("open, read, close", {})[store.name] = count.round_trips


def _delayed(dialect: str, url: str, results: Results, sizes: Sizes) -> None:
    fifty, four = make_items(50), make_items(4, seed=2)
    for delay in sizes.delays:
        with (
            Proxy(url, delay_to_server=delay, delay_to_client=delay) as proxy,
            opened(contestants(dialect), url) as direct,
            opened(contestants(dialect), proxy.url) as stores,
        ):
            near = {store.name: store for store in direct}

            def fresh(store: Store, number: int, delay: float = delay, near: dict[str, Store] = near) -> Any:
                session_id = f"{store.name} {delay} {number}"
                near[store.name].handle(session_id).add(fifty)
                return store.handle(session_id)

            def turn(handle: Any) -> None:
                handle.get()
                handle.add(four)

            results.add(dialect, f"turn, {delay * 1e3:g} ms each way", take_turns(stores, sizes, fresh, turn))


def _bulk(dialect: str, url: str, results: Results, sizes: Sizes) -> None:
    """Load everything in one atomic call, in a process of its own, whose memory is looked at."""
    times: dict[str, float] = {}
    for kind in contestants(dialect):
        if kind.name.startswith("floor, "):
            continue
        # How memory is looked at is Linux's.
        for task in ("bulk", "read") if Path("/proc/self/clear_refs").exists() else ():
            measured = _in_child(task, kind, url, sizes.bulk)
            if measured is None:
                break
            seconds, peak = measured
            workload = f"bulk load of {sizes.bulk:,}" if task == "bulk" else f"get {sizes.bulk // 10:,}"
            results.memory.setdefault(dialect, {}).setdefault(workload, {})[kind.name] = peak
            if task == "bulk":
                times[kind.name] = seconds
    results.add(dialect, f"bulk load of {sizes.bulk:,}", times)


def _in_child(task: str, kind: type[Store], url: str, bulk: int) -> tuple[float, float] | None:
    """Let a process of its own do run_child(); the seconds and bytes that it prints, None if a peer gives up."""
    command = [sys.executable, str(Path(__file__).parent), "--child", task, kind.name, url, str(bulk)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, timeout=_PATIENCE_SECONDS
        )
    except (subprocess.SubprocessError, OSError) as exc:
        if not is_peer(kind.name):
            raise
        print(f"{kind.name} does not finish {task}: {type(exc).__name__}")
        return None
    seconds, peak = done.stdout.split()[-2:]
    return float(seconds), float(peak)


def run_child(task: str, name: str, url: str, bulk: int) -> None:
    """Do one thing; print its seconds and by how much the process has grown at most, in bytes."""
    [kind] = [kind for kind in contestants(dialect_of(url)) if kind.name == name]
    count = bulk if task == "bulk" else bulk // 10
    items = (make_items(1000) * (count // 1000 + 1))[:count]
    with opened([kind], url) as [store]:
        handle = store.handle(f"{name} {task}")
        handle.add(items[:1])
        if task == "read":
            for start in range(0, len(items), 1000):
                handle.add(items[start : start + 1000])
            handle.get(1)
        before = _forget_peak()
        start_time = time.perf_counter()
        if task == "bulk":
            handle.add(items)
        else:
            handle.get()
        seconds = time.perf_counter() - start_time
        print(seconds, _kilobytes("VmHWM") * 1024 - before)


def _forget_peak() -> int:
    """Let the peak memory of this process begin anew (Linux); the bytes in use now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _kilobytes("VmRSS") * 1024


def _kilobytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(name)


def _large(dialect: str, url: str, results: Results, sizes: Sizes) -> None:
    """Read and pop the newest of old conversations in a large table."""
    for rows in sizes.rows:
        _fill(url, f"history of {rows}", 1, rows)
    _fill(url, "other", sizes.others, 2)
    with connect_raw(url) as connection:
        # The SDK's, so that its order by time costs it no more than in tables of its own.
        connection.cursor().execute("CREATE INDEX sdk_order ON agent_messages (session_id, created_at)")
        analyze = "ANALYZE TABLE" if dialect in ("mysql", "mariadb") else "ANALYZE"
        cursor = connection.cursor()
        cursor.execute(f"{analyze} agent_messages")
        if cursor.description:
            cursor.fetchall()
    with opened([kind for kind in contestants(dialect) if kind.limits], url) as stores:
        # The SDK's on MariaDB pops by scanning the table: once is enough to know.
        for rows in sizes.rows:
            name = f"history of {rows}"
            figures = take_turns(stores, sizes, lambda store, _: store.handle(name), lambda handle: handle.get(20))  # noqa: B023
            results.add(dialect, f"get 20 of {rows:,}", figures)
            quick = [store for store in stores if not (dialect == "mariadb" and store.name.startswith("SDK"))]
            figures = take_turns(
                quick,
                Sizes(seconds=sizes.seconds, most=min(sizes.most, 15)),
                lambda store, _: store.handle(name),  # noqa: B023
                lambda handle: handle.pop(),
            )
            results.add(dialect, f"pop of {rows:,}", figures)


def _fill(url: str, session_id: str, count: int, rows: int) -> None:
    """Write short items for `count` sessions of `rows` each, a second apart, as quickly as the server can."""
    dialect = dialect_of(url).replace("mariadb", "mysql")
    numbers = {"sqlite": _sqlite_numbers, "postgresql": _postgresql_numbers, "mysql": _mysql_numbers}[dialect]
    time_of_row = {
        "sqlite": "datetime(1735689600 + n, 'unixepoch')",
        "postgresql": "TIMESTAMP '2025-01-01' + n * INTERVAL '1 second'",
        "mysql": "TIMESTAMP '2025-01-01 00:00:00' + INTERVAL n SECOND",
    }[dialect]
    text = json.dumps(make_short_items(1)[0]).replace("'", "''")

    def name(number: str) -> str:
        if count == 1:
            return f"'{session_id}'"
        return f"CONCAT('{session_id} ', {number})" if dialect == "mysql" else f"'{session_id} ' || ({number})"

    session_of_row = f"n DIV {rows}" if dialect == "mysql" else f"n / {rows}"
    with connect_raw(url) as connection:
        cursor = connection.cursor()
        if dialect == "sqlite":
            cursor.execute("PRAGMA synchronous = OFF")
        cursor.execute(f"INSERT INTO agent_sessions (session_id) SELECT {name('n')} FROM ({numbers(count)}) AS numbers")
        # Session by session, the oldest first.
        cursor.execute(
            "INSERT INTO agent_messages (session_id, message_data, created_at) "
            f"SELECT {name(session_of_row)}, '{text}', {time_of_row} "
            f"FROM ({numbers(count * rows)}) AS numbers ORDER BY n"
        )


def _sqlite_numbers(total: int) -> str:
    return f"WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {total - 1}) SELECT n FROM s"


def _postgresql_numbers(total: int) -> str:
    return f"SELECT n FROM generate_series(0, {total - 1}) AS series (n)"


def _mysql_numbers(total: int) -> str:
    digits = "(SELECT 0 AS d" + "".join(f" UNION ALL SELECT {d}" for d in range(1, 10)) + ")"
    places = len(str(total - 1)) if total > 1 else 1
    number = " + ".join(f"p{place}.d * {10**place}" for place in range(places))
    tables = " CROSS JOIN ".join(f"{digits} AS p{place}" for place in range(places))
    return f"SELECT n FROM (SELECT {number} AS n FROM {tables}) AS numbers WHERE n < {total}"


def measure_imports(results: Results, sizes: Sizes) -> None:
    """Time interpreters that import one thing, in turn with one that imports nothing."""
    programs = {
        "nothing": "pass",
        "sessions": "import sessions",
        "sqlite3": "import sqlite3",
        "pymysql": "import pymysql",
        "psycopg": "import psycopg",
        "sqlalchemy": "import sqlalchemy",
        "agents": "import agents",
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(15 if sizes.seconds > 1 else 3):
        for name, program in programs.items():
            if name == "agents" and number > 2:
                continue
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
            if done.returncode == 0:
                times[name].append(time.perf_counter() - start)
    bare = statistics.median(times["nothing"])
    results.imports = {name: statistics.median(values) - bare for name, values in times.items() if values}
    results.imports["nothing"] = bare
