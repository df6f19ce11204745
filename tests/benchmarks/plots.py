"""Two plots of a run, if matplotlib is installed: small SVGs, whose text is text and whose numbers are short."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Figures, Results

_TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
# One colour for a contestant in every plot.
_COLOURS = {"floor": "#777777", "ours": "#0b6e99"}
_PEERS = ("#c44e52", "#dd8452", "#8172b3", "#937860")
_SETTINGS: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.sans-serif": ["DejaVu Sans"],
    "legend.fontsize": 6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sessions",
}


def draw(results: Results, folder: Path) -> None:
    """Draw cost against history size, and time against network delay."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("matplotlib is not installed; no plots were drawn")
        return
    mpl.use("svg")
    mpl.rcParams.update(_SETTINGS)
    _draw(
        results.times,
        folder / "history-size.svg",
        [("get 20 of ", "", "get_items(limit=20), ms"), ("pop of ", "", "pop_item(), ms")],
        xlabel="rows of the conversation",
        xscale="log",
        yscale="log",
    )
    _draw(
        results.times,
        folder / "network-delay.svg",
        [("turn, ", " ms each way", "a turn: read 50, add 4; ms")],
        xlabel="network delay each way, ms",
        ylim=(0, None),
    )


def _draw(times: Figures, path: Path, rows: Sequence[tuple[str, str, str]], *, xlabel: str, **looks: Any) -> None:
    """Draw a column for each dialect and a row for each kind of workload: how it begins, how it ends, the label."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    dialects = [name for name in times if _points(times[name], *rows[0][:2])]
    if not dialects:
        return
    size = (3.5 * len(dialects), 0.6 + 2.6 * len(rows))
    figure, grid = plt.subplots(len(rows), len(dialects), figsize=size, squeeze=False, sharex=True, sharey="row")
    for (before, after, label), line in zip(rows, grid, strict=True):
        line[0].set_ylabel(label)
        for dialect, axes in zip(dialects, line, strict=True):
            _plot(axes, _points(times[dialect], before, after))
            axes.set(**looks)
            if axes.get_yscale() == "log":
                axes.xaxis.set_major_locator(LogLocator(base=100))
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.minorticks_off()
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:,.10g}")
            axes.tick_params(length=0)
            axes.grid(visible=True, color="#e0e0e0", clip_on=False)
    for dialect, first, last in zip(dialects, grid[0], grid[-1], strict=True):
        first.set_title(_TITLES[dialect])
        first.legend()
        last.set_xlabel(xlabel)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    path.write_text(_shortened(path.read_text()))


def _shortened(svg: str) -> str:
    """Leave out white space, names of groups, empty groups, and all but one decimal of each coordinate."""
    lines = "".join(line.strip() + "\n" for line in svg.splitlines())
    lines = re.sub(r"<g>\n</g>\n", "", re.sub(r'<g id="[^"]*"/>\n|(?<=<g) id="[^"]*"', "", lines))
    lines = re.sub(r'style="[^"]*"', lambda style: re.sub("(?<=[:;]) ", "", style[0]), lines)
    return re.sub(r"\d+\.\d\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), lines)


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
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, clip_on=False, **style)
