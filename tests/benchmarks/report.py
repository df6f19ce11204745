"""The figures as Markdown tables."""

import os
import platform
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.contestants import is_peer, rival_of
from benchmarks.results import Results

# workload -> contestant -> what its cell shows
_Cells = dict[str, dict[str, str]]

_HOW = (
    "Times are medians. A ratio is the median of the ratios within each round, in which the contestants take turns; "
    "it may differ from the ratio of the medians, and varies less from run to run."
)
_STREAMS = "`stream`: the floors and ours hold a part of the rows at a time; the SDK's cannot, they hold all of them."


def render(results: Results) -> str:
    """All tables: times with their ratios, round trips, memory, imports, the key layouts."""
    lines = [f"{results.machine}.", "", _HOW, ""]
    for dialect in results.times:
        lines += _times(results, dialect)
    for dialect, trips in results.round_trips.items():
        title = f"Round trips on a warm connection, exactly: {dialect}"
        lines += _table(title, "operation", _cells(trips, lambda count: f"{count:.0f}"))
    for dialect, peaks in results.memory.items():
        cells = _cells(peaks, lambda size: f"{size / 1e6:.1f}")
        _mark_missing(cells, results, dialect)
        title = f"Peak memory above what the process had before, MB: {dialect}"
        lines += _table(title, "workload", cells) + _notes(results, dialect, cells)
    if results.import_times:
        title = "Import, milliseconds above a bare interpreter"
        lines += _table(title, "module", _cells(results.import_times, lambda seconds: f"{seconds * 1e3:.1f}"))
    for dialect, layouts in results.key_layouts.items():
        title = f"Key layouts, milliseconds, medians: {dialect}"
        lines += _table(title, "ours, in tables with", _cells(layouts, _milliseconds))
        lines += [results.key_layout_notes[dialect], ""]
    return "\n".join(lines)


def improvements(results: Results, released: Results) -> str:
    """What ours takes of the floor's time, in the last release and now, with the noise of what is measured now."""
    cells: _Cells = {}
    for dialect, ratios in results.ratios.items():
        before = released.ratios.get(dialect, {})
        for workload, found in ratios.items():
            if "ours" in found:
                was = before.get(workload, {}).get("ours")
                noise = results.noise.get(dialect, {}).get(workload, {}).get("ours", 0.0)
                figure = f"{found['ours']:.2f} ±{noise:.2f}"
                cells.setdefault(workload, {})[dialect] = figure if was is None else f"{was:.2f} → {figure}"
    return "\n".join(
        _table("Ours to the floor: in the last release → now, ± the noise of the machine", "workload", cells)
    )


def _times(results: Results, dialect: str) -> list[str]:
    cells = _cells(results.times[dialect], _milliseconds)
    _mark_missing(cells, results, dialect)
    pairs = {name: f"{name} / {rival_of(name)}" for name in _columns(cells) if name.startswith("ours")}
    for workload, row in cells.items():
        ratios = results.ratios.get(dialect, {}).get(workload, {})
        row |= {column: f"{ratios[name]:.2f}" if name in ratios else "" for name, column in pairs.items()}
        peers = [ratio for name, ratio in ratios.items() if is_peer(name)]
        row["best peer / ours"] = f"{min(peers):.1f}" if peers else ""
    title = f"{results.versions.get(dialect, dialect)}: milliseconds"
    lines = _table(title, "workload", cells, last=(*pairs.values(), "best peer / ours"))
    return lines + _notes(results, dialect, cells)


def _cells(figures: Mapping[str, Mapping[str, float]], form: Callable[[float], str]) -> _Cells:
    return {row: {name: form(value) for name, value in cells.items()} for row, cells in figures.items()}


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def _mark_missing(cells: _Cells, results: Results, dialect: str) -> None:
    for workload, reasons in results.missing.get(dialect, {}).items():
        if workload in cells:
            cells[workload] |= dict.fromkeys(reasons, "-")


def _notes(results: Results, dialect: str, workloads: Iterable[str]) -> list[str]:
    """Say why a contestant has no figure, and who streams."""
    where: dict[str, list[str]] = {}
    for workload in workloads:
        for name, reason in results.missing.get(dialect, {}).get(workload, {}).items():
            where.setdefault(f"{name} {reason}", []).append(f"`{workload}`")
    reasons = [f"{reason} in {', '.join(names)}" for reason, names in where.items()]
    lines = [f"\\- gave up or was left out: {'; '.join(reasons)}.", ""] if reasons else []
    return lines + ([_STREAMS, ""] if any(workload.startswith("stream") for workload in workloads) else [])


def _columns(cells: _Cells) -> list[str]:
    return list(dict.fromkeys(name for row in cells.values() for name in row))


def _table(title: str, first: str, cells: _Cells, *, last: Sequence[str] = ()) -> list[str]:
    columns = [name for name in _columns(cells) if name not in last] + list(last)
    rows = [_row([name, *[row.get(column, "") for column in columns]]) for name, row in cells.items()]
    return [f"### {title}", "", _row([first, *columns]), _row(["---", *["---:"] * len(columns)]), *rows, ""]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def machine() -> str:
    """Describe what this runs on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else model
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, servers on loopback"
    )
