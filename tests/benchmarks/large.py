"""The newest of old conversations in a large table."""

from typing import Any

from benchmarks.contestants import contestants, opened
from benchmarks.corpus import make_short_items
from benchmarks.fill import copy_for_floor, fill, index_for_sdk
from benchmarks.measuring import take_turns
from benchmarks.run import Run
from benchmarks.stores import Store


def measure(run: Run) -> None:
    """Read and pop the newest, behind which all other conversations were written."""
    gets = {rows: f"get 20 of {rows:,}" for rows in run.sizes.rows}
    pops = {rows: f"pop of {rows:,}" for rows in run.sizes.rows}
    if not run.wants(*gets.values(), *pops.values()):
        return
    kinds = [kind for kind in contestants(run.dialect) if kind.limits]
    with run.database() as url:
        for rows in run.sizes.rows:
            fill(url, _history(rows), 1, rows)
        fill(url, "other", run.sizes.others, 2)
        index_for_sdk(url)
        copy_for_floor(url)
        # Others put back what was popped: the floor may have tables of its own, all the rest have ours.
        with opened(kinds, url) as stores, opened(kinds[:2], url) as keepers:
            for rows in run.sizes.rows:
                name = _history(rows)
                run.time(gets[rows], stores, lambda store, _: store.kept(name), lambda handle: handle.get(20))  # noqa: B023
                _pop(run, pops[rows], stores, keepers, name)


def _history(rows: int) -> str:
    return f"history of {rows}"


def _pop(run: Run, workload: str, stores: list[Store], keepers: list[Store], name: str) -> None:
    if not run.wants(workload):
        return
    item = make_short_items(1)

    def one_more(store: Store, number: int) -> Any:
        keepers[store.name != keepers[0].name].kept(name).add(item)
        return store.kept(name)

    walking = [store.name for store in stores if run.dialect == "mariadb" and store.name.startswith("SDK")]
    quick = [store for store in stores if store.name not in walking]
    rounds = take_turns(quick, run.sizes, one_more, lambda handle: handle.pop())
    rounds.missing |= dict.fromkeys(walking, "walks through the whole table")
    run.results.add(run.dialect, workload, rounds)
