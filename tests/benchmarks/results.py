"""What was found: kept in results.json, of which a run exchanges its own part."""

import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import Rounds

# dialect -> workload -> contestant -> seconds, a ratio, round trips or bytes
Figures = dict[str, dict[str, dict[str, float]]]

DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb")

# How the workloads' names begin, in the order of the report.
WORKLOADS = (
    "turn on 50",
    "add",
    "get 1,000",
    "8 at once",
    "open, read, close",
    "turn, ",
    "round trips",
    "bulk load",
    "bulk read",
    "stream",
    "get 20 of",
    "pop of",
)


@dataclass
class Results:
    """Everything that was found, in this run or in an earlier one."""

    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    times: Figures = field(default_factory=dict)  # medians
    ratios: Figures = field(default_factory=dict)  # to rival_of(contestant), medians of the rounds'
    noise: Figures = field(default_factory=dict)  # of the ratios
    missing: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)  # why there is no time
    round_trips: Figures = field(default_factory=dict)
    memory: Figures = field(default_factory=dict)
    import_times: dict[str, dict[str, float]] = field(default_factory=dict)  # module -> median, minimum
    key_layouts: Figures = field(default_factory=dict)
    key_layout_notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Return what an earlier run has left in results.json or another file, or nothing yet."""
        stored = json.loads(path.read_text()) if path.exists() else {}
        return cls(**{f.name: stored[f.name] for f in dataclasses.fields(cls) if f.name in stored})

    def write(self, folder: Path) -> None:
        """Write results.json, a workload a line."""
        self._sort()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(_lines(dataclasses.asdict(self)) + "\n")

    def add(self, dialect: str, workload: str, rounds: Rounds) -> None:
        """Note the medians of the rounds, and of the ratios within each round."""
        medians = rounds.medians()
        self.times.setdefault(dialect, {})[workload] = _short(medians)
        self.ratios.setdefault(dialect, {})[workload] = _short(rounds.ratios())
        self.noise.setdefault(dialect, {})[workload] = _short(rounds.noise())
        if rounds.missing:
            self.missing.setdefault(dialect, {})[workload] = rounds.missing
        figures = [f"{name} {seconds * 1e3:.3f}" for name, seconds in medians.items()]
        figures += [f"{name}: {reason}" for name, reason in rounds.missing.items()]
        print(f"{dialect}: {workload} ({rounds.count()}): " + ", ".join(figures), flush=True)

    def add_memory(self, dialect: str, workload: str, peaks: dict[str, float]) -> None:
        """Note by how many bytes a process has grown at most."""
        self.memory.setdefault(dialect, {})[workload] = _short(peaks)

    def forget(self, dialect: str, wanted: Callable[[str], bool]) -> None:
        """Drop what is about to be measured again."""
        everything: list[dict[str, dict[str, Any]]] = [self.times, self.ratios, self.noise, self.missing, self.memory]
        for by_dialect in everything:
            rest = {name: found for name, found in by_dialect.pop(dialect, {}).items() if not wanted(name)}
            if rest:
                by_dialect[dialect] = rest
        if wanted("round trips"):
            self.round_trips.pop(dialect, None)

    def _sort(self) -> None:
        for by_dialect in (self.times, self.ratios, self.noise, self.memory, self.round_trips, self.key_layouts):
            for dialect in sorted(by_dialect, key=DIALECTS.index):
                workloads = by_dialect.pop(dialect)
                if by_dialect is not self.round_trips:
                    workloads = dict(sorted(workloads.items(), key=lambda pair: _place(pair[0])))
                by_dialect[dialect] = workloads


def _place(workload: str) -> tuple[int, list[float]]:
    """Order workloads by kind, then by the sizes in their names."""
    kind = next((place for place, start in enumerate(WORKLOADS) if workload.startswith(start)), len(WORKLOADS))
    return kind, [float(number) for number in re.findall(r"\d+(?:\.\d+)?", workload.replace(",", ""))]


def _short(figures: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def _lines(value: Any, indent: str = "") -> str:
    if not isinstance(value, dict) or not any(isinstance(inner, dict) for inner in value.values()):
        return json.dumps(value)
    inside = [f"{indent} {json.dumps(name)}: {_lines(inner, indent + ' ')}" for name, inner in value.items()]
    return "{\n" + ",\n".join(inside) + "\n" + indent + "}"
