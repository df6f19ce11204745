"""How time is measured. Contestants take turns within a workload, so that the machine's moods hit all alike."""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contestants import is_peer, rival_of
from benchmarks.stores import Store


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    seconds: float = 6.0  # for one workload on one dialect
    most: int = 2000  # repetitions of a contestant
    rows: tuple[int, ...] = (100, 10_000, 1_000_000)
    others: int = 100_000
    bulk: int = 100_000
    stream: tuple[int, ...] = (100_000, 1_000_000)
    children: int = 3  # repetitions of what has a process of its own
    delays: tuple[float, ...] = (0.0, 0.001, 0.002, 0.005)
    imports: int = 21
    passes: int = 3050  # of the key layouts' writers, 61 times the shorter history


QUICK = Sizes(
    seconds=1.0,
    rows=(100, 2_000, 20_000),
    others=2_000,
    bulk=5_000,
    stream=(5_000, 50_000),
    children=1,
    delays=(0.0, 0.005),
    imports=5,
    passes=305,
)

# At least so many rounds, in which everybody takes part; a peer then rests in all but every fourth:
# there is more time for the figures that differ least.
_FIRST_ROUNDS = 8
_PEERS_EVERY = 4


@dataclass
class Rounds:
    """What each contestant took in each round, and why one has nothing."""

    seconds: dict[str, dict[int, float]]
    missing: dict[str, str]

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(rounds.values()) for name, rounds in self.seconds.items() if rounds}

    def ratios(self) -> dict[str, float]:
        """Compare within each round: what slowed the machine down then hit both."""
        return {name: statistics.median(ratios) for name, ratios in self._ratios()}

    def noise(self) -> dict[str, float]:
        """Say by how much such a ratio may be wrong: half the notch of a box plot (McGill, Tukey and Larsen, 1978)."""
        noise = {}
        for name, ratios in self._ratios():
            if len(ratios) > 1:
                lower, _, upper = statistics.quantiles(ratios, n=4)
                noise[name] = 1.57 * (upper - lower) / math.sqrt(len(ratios))
        return noise

    def _ratios(self) -> Iterator[tuple[str, list[float]]]:
        for name, rounds in self.seconds.items():
            rivals = self.seconds.get(rival_of(name) or "", {})
            if ratios := [seconds / rivals[number] for number, seconds in rounds.items() if number in rivals]:
                yield name, ratios

    def count(self) -> int:
        return max(map(len, self.seconds.values()), default=0)


def take_turns(
    stores: Sequence[Store],
    sizes: Sizes,
    prepare: Callable[[Store, int], Any],
    work: Callable[[Any], object],
    *,
    share: int = 1,
) -> Rounds:
    """Time work(prepare(store, n)) for each store in turn until the time is up.

    `share` is what one measured time counts for. A peer that fails, as with deadlocks, drops out of
    the workload; we may not.
    """
    rounds = Rounds({store.name: {} for store in stores}, {})
    running = list(stores)
    order = random.Random(1)
    end = math.inf
    try:
        for number in range(-1, sizes.most):  # the first round imports, makes connections and fills caches
            if number == 0:
                _leave_to_the_end()
                end = time.monotonic() + sizes.seconds
            if number >= _FIRST_ROUNDS and time.monotonic() > end:
                break
            everybody = number < _FIRST_ROUNDS or number % _PEERS_EVERY == 0
            present = [store for store in running if everybody or not is_peer(store.name)]
            # In another order each time: a contestant pays for the caches that the one before it has emptied.
            for store in order.sample(present, len(present)):
                try:
                    seconds = _time(work, prepare(store, number))
                except Exception as exc:
                    if not is_peer(store.name):
                        raise
                    print(f"{store.name} fails and drops out: {type(exc).__name__}: {str(exc).splitlines()[0]}")
                    running.remove(store)
                    rounds.seconds[store.name].clear()
                    rounds.missing[store.name] = f"fails with {type(exc).__name__}"
                    continue
                if number >= 0:
                    rounds.seconds[store.name][number] = seconds / share
    finally:
        gc.unfreeze()
    return rounds


def _leave_to_the_end() -> None:
    """Keep what is there already, modules above all, out of the collections, which else take longer than the work."""
    gc.collect()
    gc.freeze()


def _time(work: Callable[[Any], object], prepared: Any) -> float:
    """Time the work without the garbage of whoever came before."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        work(prepared)
        return time.perf_counter() - start
    finally:
        gc.enable()
