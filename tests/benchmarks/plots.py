"""Two plots of a run, as PNG and SVG, if matplotlib is installed."""

from pathlib import Path
from typing import Any

from benchmarks.results import Results

_TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
# One colour for a contestant in every plot.
_COLOURS = {"floor": "#777777", "ours": "#0b6e99"}
_PEERS = ("#c44e52", "#dd8452", "#8172b3", "#937860")


def draw(results: Results, folder: Path) -> None:
    """Draw cost against history size, and time against network delay."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("matplotlib is not installed; no plots were drawn")
        return
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sessions"
    _draw_sizes(results, folder / "history-size")
    _draw_delays(results, folder / "network-delay")


def _points(workloads: dict[str, dict[str, float]], before: str, after: str) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for workload, figures in workloads.items():
        if workload.startswith(before) and workload.endswith(after):
            x = float(workload.removeprefix(before).removesuffix(after).replace(",", ""))
            for name, seconds in figures.items():
                if name in _COLOURS or name.startswith("SDK"):
                    lines.setdefault(name, []).append((x, seconds * 1e3))
    return lines


def _plot(axes: Any, lines: dict[str, list[tuple[float, float]]]) -> None:
    peers = iter(_PEERS)
    for name, points in lines.items():
        style: dict[str, Any] = {"color": _COLOURS[name] if name in _COLOURS else next(peers)}
        style |= {"linestyle": "--", "zorder": 3} if name == "floor" else {}
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=4, label=name, **style)


def _draw_sizes(results: Results, path: Path) -> None:
    from matplotlib import pyplot as plt

    dialects = [name for name in results.times if _points(results.times[name], "get 20 of ", "")]
    if not dialects:
        return
    figure, grid = plt.subplots(2, len(dialects), figsize=(3.4 * len(dialects), 5.6), squeeze=False, sharex=True)
    for column, dialect in enumerate(dialects):
        for row, workload in enumerate(("get 20 of ", "pop of ")):
            axes = grid[row][column]
            _plot(axes, _points(results.times[dialect], workload, ""))
            axes.set(xscale="log", yscale="log")
            axes.grid(visible=True, which="major", alpha=0.3)
            if row == 0:
                axes.set_title(_TITLES[dialect])
            else:
                axes.set_xlabel("rows of the conversation")
            axes.legend(fontsize=6)
        grid[0][0].set_ylabel("get_items(limit=20), ms")
        grid[1][0].set_ylabel("pop_item(), ms")
    _save(figure, path)


def _draw_delays(results: Results, path: Path) -> None:
    from matplotlib import pyplot as plt

    dialects = [name for name in results.times if _points(results.times[name], "turn, ", " ms each way")]
    if not dialects:
        return
    figure, grid = plt.subplots(1, len(dialects), figsize=(3.6 * len(dialects), 3.4), squeeze=False, sharey=True)
    for axes, dialect in zip(grid[0], dialects, strict=True):
        _plot(axes, _points(results.times[dialect], "turn, ", " ms each way"))
        axes.set(title=_TITLES[dialect], xlabel="network delay each way, ms", ylim=(0, None))
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=6)
    grid[0][0].set_ylabel("a turn: read 50, add 4; ms")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=120)
