"""An experiment for MySQL and MariaDB: what the primary key does to conversations that were written side by side.

InnoDB keeps rows in the order of the primary key. The rows of a conversation are read together, but
written one by one among those of all others.
"""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.contestants import Ours, make_tables, opened
from benchmarks.corpus import make_items, make_short_items
from benchmarks.fill import analyze, fill_messages, fill_sessions
from benchmarks.measuring import Sizes, take_turns
from benchmarks.results import Results
from benchmarks.stores import Store
from benchmarks.workloads import turn_of
from support.servers import Server, execute_sql, fresh_server, shared_server

DIALECTS = ("mysql", "mariadb")

_LAYOUTS = {
    "PRIMARY KEY (session_id, id), UNIQUE (id); ours": "",
    "PRIMARY KEY (id), KEY (session_id, id)": "ADD KEY by_id (session_id, id)",
    "PRIMARY KEY (id), KEY (session_id, created_at); the SDK's": "ADD KEY by_time (session_id, created_at)",
}
# So that they are not taken for peers.
_PREFIX = "ours, "

_SESSIONS = 200
# In every pass each number writes a row of its long history, in one of so many passes of its short one.
_SHORT_EVERY = 61
_BUFFER_POOL = "--innodb-buffer-pool-size=64M"
_ITEM_LENGTH = 900


def measure(dialect: str, results: Results, sizes: Sizes) -> None:
    """Measure the layouts in turn, on one server whose memory holds a small part of them."""
    with _server(dialect) as server, contextlib.ExitStack() as stack:
        stores: list[Store] = []
        for name, indexes in _LAYOUTS.items():
            url = stack.enter_context(server.database())
            _make(url, indexes, sizes.passes)
            [store] = stack.enter_context(opened([Ours], url))
            store.name = _PREFIX + name
            stores.append(store)
        results.key_layouts[dialect] = {}
        results.key_layout_notes[dialect] = _note(server.url, url, server.version)
        for workload, history, work in _workloads(sizes.passes):
            # Another session in each round: few of its pages are in memory.
            def next_one(store: Store, number: int, history: str = history) -> Any:
                return store.handle(f"{history} {number % _SESSIONS}")

            medians = take_turns(stores, replace(sizes, most=_SESSIONS - 1), next_one, work).medians()
            figures = {name.removeprefix(_PREFIX): value for name, value in medians.items()}
            results.key_layouts[dialect][workload] = figures
            printed = ", ".join(f"{name}: {value * 1e3:.3f}" for name, value in figures.items())
            print(f"{dialect}: {workload}: {printed}", flush=True)


def _workloads(passes: int) -> list[tuple[str, str, Callable[[Any], object]]]:
    short = passes // _SHORT_EVERY
    long = passes - short
    one = make_items(1)
    return [
        (f"get {long:,}", "long", lambda handle: handle.get()),
        (f"get 20 of {long:,}", "long", lambda handle: handle.get(20)),
        (f"turn on {short:,}", "short", turn_of(make_items(4, seed=2))),
        (f"pop of {long:,}", "long", lambda handle: handle.pop()),
        (f"add 1 to {long:,}", "long", lambda handle: handle.add(one)),
    ]


def _server(dialect: str) -> contextlib.AbstractContextManager[Server]:
    if f"SESSIONS_TEST_{dialect.upper()}_URL" in os.environ:
        return shared_server(dialect)
    return fresh_server(dialect, durable=True, arguments=(_BUFFER_POOL,))


def _make(url: str, indexes: str, passes: int) -> None:
    """Write the histories side by side, so that the rows of one are far from each other by id."""
    make_tables(url)
    if indexes:
        execute_sql(url, f"ALTER TABLE agent_messages DROP PRIMARY KEY, DROP KEY id, ADD PRIMARY KEY (id), {indexes}")
    for history in ("long", "short"):
        fill_sessions(url, _SESSIONS, f"CONCAT('{history} ', n)")
    # Not all short ones in the same pass: they would share pages that are then always in memory.
    kind = f"IF(MOD(n DIV {_SESSIONS} + MOD(n, {_SESSIONS}), {_SHORT_EVERY}) = 0, 'short ', 'long ')"
    item = make_short_items(1, length=_ITEM_LENGTH)[0]
    fill_messages(url, passes * _SESSIONS, f"CONCAT({kind}, MOD(n, {_SESSIONS}))", json.dumps(item))
    analyze(url)


def _note(server_url: str, url: str, version: str) -> str:
    """Say how much of a layout's tables the server can hold in memory."""
    pool = int(execute_sql(server_url, "SELECT @@innodb_buffer_pool_size")[0][0]) / 2**20
    size = "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
    data = float(execute_sql(url, size)[0][0]) / 2**20
    state = "cold" if data > 2 * pool else "warm"
    return (
        f"{version}; {2 * _SESSIONS} sessions written side by side, each round on another one; "
        f"buffer pool of {pool:.0f} MiB for {len(_LAYOUTS)} tables of about {data:.0f} MiB: {state}."
    )
