"""One run on one dialect, as the workloads see it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring import Sizes, take_turns
from benchmarks.results import Results
from benchmarks.stores import Store


@dataclass(frozen=True)
class Run:
    """What to measure, where, and where the figures go."""

    dialect: str
    sizes: Sizes
    results: Results
    prefixes: Sequence[str]  # of the workloads that are wanted; none: all are
    database: Callable[[], AbstractContextManager[str]]  # a new one, with empty tables of ours

    def wants(self, *workloads: str) -> bool:
        """Tell whether one of the workloads is wanted."""
        return is_wanted(self.prefixes, *workloads)

    def time(
        self,
        workload: str,
        stores: Sequence[Store],
        prepare: Callable[[Store, int], Any],
        work: Callable[[Any], object],
        *,
        share: int = 1,
    ) -> None:
        """Let the stores take turns at a workload, if it is wanted."""
        if self.wants(workload):
            self.results.add(self.dialect, workload, take_turns(stores, self.sizes, prepare, work, share=share))


def is_wanted(prefixes: Sequence[str], *workloads: str) -> bool:
    """Tell whether one of the workloads begins with one of the prefixes."""
    return not prefixes or any(workload.startswith(tuple(prefixes)) for workload in workloads)
