"""Measure the library against the floor and its peers: `make bench ARGS=--quick`."""

import argparse
import contextlib
import dataclasses
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

# Run as a folder: the tests' own modules are beside it.
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import child, growth, imports, key_layout, plots, projection, report, threads, workloads
from benchmarks.contestants import make_tables, measure_keys
from benchmarks.measuring import QUICK, Sizes
from benchmarks.results import DIALECTS, WORKLOADS, Results
from benchmarks.run import Run, is_wanted
from sessions import _items
from support import servers

HERE = Path(__file__).parent
_IMPORTS = "imports"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, for a few minutes")
    parser.add_argument("--dialects", default=",".join(DIALECTS), help="default: %(default)s")
    parser.add_argument(
        "--workloads", nargs="+", default=[], metavar="PREFIX", help=f"of: {'; '.join((*WORKLOADS, _IMPORTS))}"
    )
    parser.add_argument("--key-layout", action="store_true", help="only the experiment for MySQL and MariaDB")
    parser.add_argument("--growth", action="store_true", help="only tables of ten thousand and ten million messages")
    parser.add_argument(
        "--calculate",
        nargs=3,
        type=float,
        metavar=("BYTES", "GIB", "MS"),
        help="only what more messages would cost by what --growth has kept in --output: the bytes of a message, the "
        "server's memory, the time that a page takes from its disk",
    )
    parser.add_argument("--threads", action="store_true", help="only 1, 2 and 8 threads on one backend")
    parser.add_argument("--fast", action="store_true", help="ours with the extra [fast], where the floor has json")
    parser.add_argument(
        "--keys", action="store_true", help="ours with an integrity_key and an encryption_key, no peers"
    )
    parser.add_argument("--seconds", type=float, help="for one workload on one dialect")
    parser.add_argument(
        "--output", type=Path, help="folder for results.json, results.md and the plots; what is not measured is kept"
    )
    parser.add_argument(
        "--since",
        type=Path,
        default=HERE / "released.json",
        help="the figures of the last release; default: %(default)s",
    )
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.keys:
        measure_keys()
    if not arguments.fast:
        _items.find_quick_reader()
        _items._read_quickly = None
    if arguments.child:
        task, name, url, count = arguments.child
        child.run_task(task, name, url, int(count))
        return
    dialects = arguments.dialects.split(",")
    if unknown := [dialect for dialect in dialects if dialect not in DIALECTS]:
        parser.error(f"unknown dialect {unknown[0]!r}; use some of {', '.join(DIALECTS)}")
    for prefix in arguments.workloads:
        if not _begins(prefix, (*WORKLOADS, _IMPORTS)):
            parser.error(f"no workload begins with {prefix!r}; use some of {'; '.join((*WORKLOADS, _IMPORTS))}")
    if arguments.growth or arguments.calculate:
        _grow(arguments, dialects)
        return
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.threads:
        _thread(dialects, arguments.seconds or sizes.seconds)
        return
    _measure(arguments, dialects, dataclasses.replace(sizes, seconds=arguments.seconds or sizes.seconds))


def _grow(arguments: argparse.Namespace, dialects: list[str]) -> None:
    path = (arguments.output or HERE) / "growth.json"
    found = growth.load(path)
    sizes = growth.QUICK if arguments.quick else growth.SIZES
    for dialect in dialects if arguments.growth else ():
        for name in (dialect, f"{dialect}, the SDK's tables"):
            with _databases(dialect, Results()) as database, database() as url:
                if name != dialect:
                    growth.make_sdk_tables(url)
                found[name] = list(growth.measure(url, sizes))
            if arguments.output:
                growth.save(path, found)
    text, memory, disk = arguments.calculate or projection.USUAL
    print("\n" + projection.render(found, projection.Machine(int(text), memory * 2**30, disk / 1e3)))


def _thread(dialects: list[str], seconds: float) -> None:
    for dialect in dialects:
        with _databases(dialect, Results()) as database, database() as url:
            print(f"\n{dialect}, {report.machine()}")
            for line in threads.measure(url, seconds):
                print(line)


def _begins(prefix: str, names: Sequence[str]) -> bool:
    return any(name.startswith(prefix) or prefix.startswith(name) for name in names)


def _measure(arguments: argparse.Namespace, dialects: list[str], sizes: Sizes) -> None:
    results = Results.read(arguments.output / "results.json") if arguments.output else Results()
    results.machine = report.machine()
    prefixes = arguments.workloads
    if not arguments.key_layout and is_wanted(prefixes, _IMPORTS):
        imports.measure_imports(results, sizes.imports)
        _save(results, arguments.output)
    on_databases = not prefixes or any(_begins(prefix, WORKLOADS) for prefix in prefixes)
    for dialect in dialects if on_databases else ():
        if not arguments.key_layout:
            with _databases(dialect, results) as database:
                workloads.measure(Run(dialect, sizes, results, prefixes, database))
        elif dialect in key_layout.DIALECTS:
            key_layout.measure(dialect, results, sizes)
        _save(results, arguments.output)
    print("\n" + report.render(results))
    print(report.improvements(results, Results.read(arguments.since)))


def _save(results: Results, folder: Path | None) -> None:
    if folder is not None:
        results.write(folder)
        (folder / "results.md").write_text(report.render(results))
        plots.draw(results, folder)


@contextlib.contextmanager
def _databases(dialect: str, results: Results) -> Iterator[Callable[[], AbstractContextManager[str]]]:
    """Where empty databases are made; of a server that keeps its data on a disk, as users' servers do."""
    if dialect == "sqlite":
        results.versions[dialect] = "SQLite"
        yield _sqlite_file
        return
    ready = f"SESSIONS_TEST_{dialect.upper()}_URL" in os.environ
    with servers.shared_server(dialect) if ready else servers.fresh_server(dialect, durable=True) as server:
        results.versions[dialect] = f"{dialect} {server.version}"

        @contextlib.contextmanager
        def database() -> Iterator[str]:
            with server.database() as url:
                make_tables(url)
                yield url

        yield database


@contextlib.contextmanager
def _sqlite_file() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        url = f"sqlite:///{folder}/chat.db"
        make_tables(url)
        yield url


if __name__ == "__main__":
    main()
