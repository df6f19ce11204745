"""What is measured on a small table: turns, single operations, writers at once, round trips, a slow network."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks import child, large
from benchmarks.contestants import contestants, is_peer, opened
from benchmarks.corpus import Item, make_items
from benchmarks.run import Run
from benchmarks.stores import Store
from support.proxy import Proxy


def measure(run: Run) -> None:
    """Run every workload that is wanted on one dialect."""
    run.results.forget(run.dialect, run.wants)
    _small(run)
    if run.dialect != "sqlite":
        _round_trips(run)
        _delayed_turns(run)
        _delayed_rest(run)
    child.measure(run)
    large.measure(run)


def turn_of(batch: list[Item]) -> Callable[[Any], None]:
    """A turn of an agent: it reads the history and appends to it."""

    def turn(handle: Any) -> None:
        handle.get()
        handle.add(batch)

    return turn


def _small(run: Run) -> None:
    with run.database() as url, opened(contestants(run.dialect), url) as stores:
        _turns(run, stores)
        _adds_and_reads(run, stores, stores)
    with run.database() as url, opened(contestants(run.dialect), url) as stores:
        _openings(run, stores)


def _kept(store: Store, name: str) -> Any:
    return store.kept(f"{store.name} {name}")


def _turns(run: Run, stores: list[Store]) -> None:
    fifty, four = make_items(50), make_items(4, seed=2)

    def fresh(store: Store, number: int) -> Any:
        handle = store.handle(f"{store.name} turn {number}")
        handle.add(fifty)
        return handle

    run.time("turn on 50", stores, fresh, turn_of(four))


def _adds_and_reads(run: Run, stores: list[Store], near: list[Store], far: str = "") -> None:
    for count, batch in ((1, make_items(1)), (100, make_items(100, seed=3))):
        run.time(f"add {count}{far}", stores, lambda store, _: _kept(store, "adds"), lambda handle: handle.add(batch))  # noqa: B023
    if run.wants(f"get 1,000{far}"):
        for store in near:
            for part in range(10):
                _kept(store, "thousand").add(make_items(100, seed=part))
    run.time(f"get 1,000{far}", stores, lambda store, _: _kept(store, "thousand"), lambda handle: handle.get())
    _at_once(run, [store for store in stores if store.limits], far)


def _openings(run: Run, stores: list[Store], far: str = "") -> None:
    one = make_items(1)

    def prepare(store: Store, number: int) -> Store:
        if number < 0:
            store.handle("opened").add(one)
        return store

    run.time(f"open, read, close{far}", stores, prepare, lambda store: store.open_read_close("opened"))


def _at_once(run: Run, stores: list[Store], far: str) -> None:
    four = make_items(4, seed=2)
    for name, count in ((f"8 at once, 8 sessions{far}", 8), (f"8 at once, 1 session{far}", 1)):

        def eight(store: Store, number: int, name: str = name, count: int = count) -> Any:
            handles = [_kept(store, f"{name} {thread % count}") for thread in range(8)]
            if number < 0:
                # Not a race of first writers, which the SDK loses to deadlocks on MySQL.
                for handle in handles:
                    handle.add(four)
            return store, handles

        # Four turns of eight: the time that each turn took of the whole.
        run.time(name, stores, eight, lambda pair: pair[0].run_at_once(pair[1], 4, four), share=32)


def _round_trips(run: Run) -> None:
    if not run.wants("round trips"):
        return
    one, hundred = make_items(1), make_items(100)
    operations: dict[str, Callable[[Any], object]] = {
        "get": lambda handle: handle.get(),
        "add 1": lambda handle: handle.add(one),
        "add 100": lambda handle: handle.add(hundred),
        "pop": lambda handle: handle.pop(),
        "clear": lambda handle: handle.clear(),
    }
    found = run.results.round_trips.setdefault(run.dialect, {})
    with run.database() as url, Proxy(url) as proxy, opened(contestants(run.dialect), proxy.url) as stores:
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


def _delayed_turns(run: Run) -> None:
    fifty, four = make_items(50), make_items(4, seed=2)
    names = {delay: f"turn, {delay * 1e3:g} ms each way" for delay in run.sizes.delays}
    if not run.wants(*names.values()):
        return
    with run.database() as url, opened(contestants(run.dialect), url) as direct:
        near = {store.name: store for store in direct}
        for delay, workload in names.items():

            def fresh(store: Store, number: int, workload: str = workload) -> Any:
                session_id = f"{store.name} {workload} {number}"
                near[store.name].handle(session_id).add(fifty)
                return store.handle(session_id)

            with (
                Proxy(url, delay_to_server=delay, delay_to_client=delay) as proxy,
                opened(contestants(run.dialect), proxy.url) as stores,
            ):
                run.time(workload, stores, fresh, turn_of(four))


def _delayed_rest(run: Run) -> None:
    """What is measured without a network too, at the longest delay of the turns."""
    delay = max(run.sizes.delays)
    far = f", {delay * 1e3:g} ms each way"
    if not run.wants(*(name + far for name in ("add", "get 1,000", "8 at once, ", "open, read, close"))):
        return
    with (
        run.database() as url,
        Proxy(url, delay_to_server=delay, delay_to_client=delay) as proxy,
        opened(contestants(run.dialect), proxy.url) as stores,
        opened(contestants(run.dialect), url) as near,
    ):
        _adds_and_reads(run, stores, near, far)
        _openings(run, stores, far)
