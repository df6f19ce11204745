"""How long an interpreter takes to import something."""

import statistics
import subprocess
import sys
import time

from benchmarks.results import Results

_BARE = "a bare interpreter"
_PROGRAMS = {
    _BARE: "pass",
    "sessions": "import sessions",
    "sqlite3": "import sqlite3",
    "pymysql": "import pymysql",
    "psycopg": "import psycopg",
    "sqlalchemy": "import sqlalchemy",
    "agents": "import agents",
}
_SLOW = {"agents": 3}


def measure_imports(results: Results, runs: int) -> None:
    """Time interpreters that import one thing, in turn with one that imports nothing.

    Beside the median stands the difference of the two quickest, which a busy machine disturbs least.
    """
    times: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for number in range(-1, runs):  # the first round fills the disk's cache
        for name, program in _PROGRAMS.items():
            if number >= _SLOW.get(name, runs):
                continue
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, check=False)
            seconds = time.perf_counter() - start
            if done.returncode == 0 and number >= 0:
                times[name].append(seconds)
    bare = times.pop(_BARE)
    results.import_times = {_BARE: {"median": statistics.median(bare), "minimum": min(bare)}}
    for name, values in times.items():
        if values:
            median = statistics.median(seconds - nothing for seconds, nothing in zip(values, bare, strict=False))
            results.import_times[name] = {"median": median, "minimum": min(values) - min(bare)}
