"""Measure the library against the floor and its peers: `make bench ARGS=--quick`."""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

# Run as a folder: the tests' own modules are beside it.
sys.path.insert(0, str(Path(__file__).parent.parent))

import servers
from benchmarks import plots, report, workloads

HERE = Path(__file__).parent


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, for about a minute")
    parser.add_argument("--dialects", default="sqlite,postgresql,mysql,mariadb", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, help="for one workload on one dialect")
    parser.add_argument("--rows", type=int, nargs="+", help="sizes of the large histories")
    parser.add_argument("--others", type=int, help="other sessions in the table of the large histories")
    parser.add_argument("--bulk", type=int, help="items of the bulk load")
    parser.add_argument("--output", type=Path, help="folder for results.json, results.md and the plots")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.child:
        task, name, url, bulk = arguments.child
        workloads.run_child(task, name, url, int(bulk))
        return
    given = {name: value for name in ("seconds", "others", "bulk") if (value := getattr(arguments, name)) is not None}
    if arguments.rows:
        given["rows"] = tuple(arguments.rows)
    sizes = dataclasses.replace(workloads.QUICK if arguments.quick else workloads.Sizes(), **given)
    results = workloads.Results()
    workloads.measure_imports(results, sizes)
    for dialect in arguments.dialects.split(","):
        with _database(dialect, results) as url:
            workloads.measure(url, results, sizes)
        if arguments.output:
            _save(results, arguments.output)
    print("\n" + report.render(results))


def _save(results: workloads.Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(report.render(results))
    (folder / "results.json").write_text(json.dumps(dataclasses.asdict(results), indent=1) + "\n")
    plots.draw(results, folder)


@contextlib.contextmanager
def _database(dialect: str, results: workloads.Results) -> Iterator[str]:
    """An empty database; of a server that keeps its data on a disk, as users' servers do."""
    if dialect == "sqlite":
        with tempfile.TemporaryDirectory(dir=HERE) as folder:
            results.versions[dialect] = "SQLite"
            yield f"sqlite:///{folder}/chat.db"
        return
    variable = f"SESSIONS_TEST_{dialect.upper()}_URL"
    import os

    ready = variable in os.environ
    with servers.shared_server(dialect) if ready else servers.fresh_server(dialect, durable=True) as server:
        results.versions[dialect] = f"{dialect} {server.version}"
        with server.database() as url:
            yield url


if __name__ == "__main__":
    main()
