"""What is measured in a process of its own, whose memory is looked at: bulk loads and streams."""

import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import contestants, is_peer, opened
from benchmarks.corpus import make_items
from benchmarks.fill import copy_for_floor, fill, index_for_sdk
from benchmarks.measuring import Rounds
from benchmarks.run import Run
from benchmarks.stores import Store
from support.servers import dialect_of

# What a peer's process has.
_PATIENCE_SECONDS = 60.0


def measure(run: Run) -> None:
    """Load everything in one atomic call; read a tenth of it; stream much more of short items."""
    if not Path("/proc/self/clear_refs").exists():
        print("how a process's peak memory is looked at is Linux's; no bulk loads, no streams")
        return
    everybody = contestants(run.dialect)
    with run.database() as url:
        _measure(run, url, everybody, "load", run.sizes.bulk, f"bulk load of {run.sizes.bulk:,}")
        _measure(run, url, everybody, "read", run.sizes.bulk // 10, f"bulk read of {run.sizes.bulk // 10:,}")
    names = {rows: f"stream {rows:,} rows" for rows in run.sizes.stream}
    if run.wants(*names.values()):
        # Those with tables of their own have no streaming either, and would have to write all of it first.
        sharing = [kind for kind in everybody if kind.limits]
        with run.database() as url:
            for rows in names:
                fill(url, _stream(rows), 1, rows)
            index_for_sdk(url)
            copy_for_floor(url)
            for rows, workload in names.items():
                _measure(run, url, sharing, "stream", rows, workload)


def _stream(rows: int) -> str:
    return f"stream of {rows}"


def _measure(run: Run, url: str, kinds: Sequence[type[Store]], task: str, count: int, workload: str) -> None:
    if not run.wants(workload):
        return
    rounds = Rounds({kind.name: {} for kind in kinds}, {})
    peaks: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    order = random.Random(1)
    for number in range(run.sizes.children):
        # Once is enough of a peer, and last: where it gives up, the server may go on for a while.
        last = number == run.sizes.children - 1
        peers = [kind for kind in kinds if is_peer(kind.name) and last]
        others = [kind for kind in kinds if not is_peer(kind.name)]
        for kind in (*order.sample(others, len(others)), *peers):
            try:
                seconds, peak = _run(kind, url, task, count)
            except (subprocess.SubprocessError, OSError) as exc:
                if not is_peer(kind.name):
                    raise
                rounds.missing[kind.name] = _reason(exc)
                continue
            rounds.seconds[kind.name][number] = seconds
            peaks[kind.name].append(peak)
    run.results.add(run.dialect, workload, rounds)
    run.results.add_memory(
        run.dialect, workload, {name: statistics.median(values) for name, values in peaks.items() if values}
    )


def _run(kind: type[Store], url: str, task: str, count: int) -> tuple[float, float]:
    """Let a process of its own do run_task(); the seconds and bytes that it prints."""
    command = [sys.executable, str(Path(__file__).parent), "--child", task, kind.name, url, str(count)]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if is_peer(kind.name) else None,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        timeout=_PATIENCE_SECONDS if is_peer(kind.name) else None,
    )
    seconds, peak = done.stdout.split()[-2:]
    return float(seconds), float(peak)


def _reason(exc: Exception) -> str:
    return f"takes more than {_PATIENCE_SECONDS:.0f} s" if isinstance(exc, subprocess.TimeoutExpired) else "fails"


def run_task(task: str, name: str, url: str, count: int) -> None:
    """Do one thing; print its seconds and by how much the process has grown at most, in bytes."""
    [kind] = [kind for kind in contestants(dialect_of(url)) if kind.name == name]
    with opened([kind], url) as [store]:
        handle = store.handle(_stream(count) if task == "stream" else f"{name} {task}")
        work = _TASKS[task](handle, count)
        before = _forget_peak()
        # With the garbage collector at work: the memory is to be what users have.
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        print(seconds, _kilobytes("VmHWM") * 1024 - before)
        if task != "stream" and not is_peer(name):
            handle.clear()


def _load(handle: Any, count: int) -> Callable[[], object]:
    items = (make_items(1000) * (count // 1000 + 1))[:count]
    handle.add(items[:1])
    return lambda: handle.add(items)


def _read(handle: Any, count: int) -> Callable[[], object]:
    items = make_items(1000)
    for start in range(0, count, 1000):
        handle.add(items[: count - start])
    handle.get(1)
    return handle.get  # type: ignore[no-any-return]


def _read_stream(handle: Any, count: int) -> Callable[[], object]:
    handle.get(1)

    def read() -> None:
        found = sum(1 for _ in handle.stream())
        assert found == count, found

    return read


_TASKS: dict[str, Callable[[Any, int], Callable[[], object]]] = {"load": _load, "read": _read, "stream": _read_stream}


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
