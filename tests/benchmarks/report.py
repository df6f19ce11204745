"""The figures as Markdown tables."""

import os
import platform
import sqlite3
from pathlib import Path

from benchmarks.contestants import is_peer
from benchmarks.workloads import Results


def render(results: Results) -> str:
    """All tables: times with their ratios, round trips, memory, imports."""
    lines = [f"{_machine()}.", ""]
    for dialect, workloads in results.times.items():
        lines += [f"### {results.versions.get(dialect, dialect)}: milliseconds, medians", ""]
        names = list(dict.fromkeys(name for figures in workloads.values() for name in figures))
        lines += _header(["workload", *names, "ours / floor", "best peer / ours"])
        for workload, figures in workloads.items():
            cells = [f"{figures[name] * 1e3:.2f}" if name in figures else "" for name in names]
            lines.append(_row([workload, *cells, _to_floor(figures), _to_peer(figures)]))
        lines.append("")
    lines += _table("Round trips on a warm connection, exactly", results.round_trips, "{:.0f}", 1)
    lines += _table("Peak memory above what the process had before, MB", results.memory, "{:.1f}", 1e6)
    if results.imports:
        lines += ["### Import, milliseconds above a bare interpreter", "", *_header(["module", "ms"])]
        lines += [_row([name, f"{seconds * 1e3:.1f}"]) for name, seconds in results.imports.items()]
    return "\n".join(lines) + "\n"


def _to_floor(figures: dict[str, float]) -> str:
    return f"{figures['ours'] / figures['floor']:.2f}" if figures.get("floor") else ""


def _to_peer(figures: dict[str, float]) -> str:
    peers = [value for name, value in figures.items() if is_peer(name)]
    return f"{min(peers) / figures['ours']:.1f}" if peers and "ours" in figures else ""


def _table(title: str, by_dialect: dict[str, dict[str, dict[str, float]]], form: str, unit: float) -> list[str]:
    lines = []
    for dialect, rows in by_dialect.items():
        names = list(dict.fromkeys(name for figures in rows.values() for name in figures))
        lines += [f"### {title}: {dialect}", "", *_header(["operation", *names])]
        for operation, figures in rows.items():
            cells = [form.format(figures[name] / unit) if name in figures else "" for name in names]
            lines.append(_row([operation, *cells]))
        lines.append("")
    return lines


def _header(cells: list[str]) -> list[str]:
    return [_row(cells), _row(["---", *["---:"] * (len(cells) - 1)])]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else model
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, servers on loopback"
    )
