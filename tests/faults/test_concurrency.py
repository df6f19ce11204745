"""Many threads in many processes on one session, judged by when each operation began and ended."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sessions
from faults.oracle import Figures, Item, Ledger
from support.servers import dialect_of

_PROGRAM = str(Path(__file__).with_name("crowd.py"))


@dataclass(frozen=True)
class Done:
    """An operation of the crowd; the times are of the machine's clock, the same for all processes."""

    name: str
    started: float
    ended: float
    result: Any


def crowd(url: str, *, processes: int, threads: int, operations: int, roles: str) -> list[Done]:
    """Run that many processes of that many threads; roles are a letter a thread: (a)dd, (p)op, (m)ixed, (r)ead."""
    running = [
        subprocess.Popen(
            [sys.executable, _PROGRAM, url, str(number), str(threads), str(operations), roles],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    done: list[Done] = []
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:  # all at once
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0
            done += [Done(*record) for record in json.loads(output)]
    finally:
        for process in running:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
    return done


def judge(done: list[Done], left: list[Item]) -> None:
    """Check what any order of the operations that respects real time would have to give."""
    added: dict[tuple[Any, ...], Done] = {}
    for add in (one for one in done if one.name == "add"):
        writer, number, size = add.result
        added.update({(writer, number, part): add for part in range(size)})
    popped: dict[tuple[Any, ...], Done] = {}
    for pop in (one for one in done if one.name == "pop" and one.result is not None):
        key = _key(pop.result)
        assert key in added, f"popped what nobody added: {key}"
        assert key not in popped, f"popped twice: {key}"
        assert added[key].started < pop.ended, f"popped before it was added: {key}"
        popped[key] = pop
    left_keys = [_key(item) for item in left]
    assert len(set(left_keys)) == len(left_keys), "duplicated"
    assert set(left_keys) | set(popped) == set(added), "lost"
    assert not set(left_keys) & set(popped), "popped and still there"
    _judge_order(done, added, popped)


def _judge_order(done: list[Done], added: dict[tuple[Any, ...], Done], popped: dict[tuple[Any, ...], Done]) -> None:
    never = float("inf")
    for pop in (one for one in done if one.name == "pop"):
        # What was there for certain during the whole pop: added before it began, taken after it ended.
        there = [
            (key, add)
            for key, add in added.items()
            if add.ended < pop.started and (popped[key].started if key in popped else never) > pop.ended
        ]
        if pop.result is None:
            assert not there, f"a pop found nothing although {there[0][0]} was there"
            continue
        own = _key(pop.result)
        above = [
            key
            for key, add in there
            if key != own and (add.started > added[own].ended or (key[:2] == own[:2] and key[2] > own[2]))
        ]
        assert not above, f"{own} was popped although {above[0]} lay above it"
    for read in (one for one in done if one.name == "read"):
        shown = {tuple(key) for key in read.result}
        missing = [
            key
            for key, add in added.items()
            if add.ended < read.started
            and (popped[key].started if key in popped else never) > read.ended
            and key not in shown
        ]
        assert not missing, f"a read did not show {missing[0]}"


def _key(item: Item) -> tuple[Any, ...]:
    return item["writer"], item["batch"], item["part"]


@pytest.fixture
def many(scaled: Callable[[int, int], int]) -> Callable[[int, int], int]:
    """The short run's number or the long one's, which does not grow with the count."""
    return lambda short, long: long if scaled(0, 1) else short


def test_sixteen_threads_in_each_of_four_processes_add(
    sql_url: str, many: Callable[[int, int], int], figures: Figures
) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.get_items()
        done = crowd(sql_url, processes=4, threads=16, operations=many(2, 20), roles="a" * 16)
        ledger = Ledger()
        for add in done:
            ledger.begin(*add.result)
            ledger.acknowledge(*add.result[:2])
        verdict = ledger.verdict(session.get_items())
        assert verdict, verdict
        assert ledger.acknowledged == 4 * 16 * many(2, 20)
        judge(done, session.get_items())
    figures.add(dialect_of(sql_url), items_by_64_threads=ledger.items)


def test_eight_poppers_share_the_items(sql_url: str, many: Callable[[int, int], int]) -> None:
    count = many(40, 400)
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items([{"writer": "w", "batch": 0, "part": part, "of": count} for part in range(count)])
        done = crowd(sql_url, processes=2, threads=4, operations=count // 8 + 3, roles="pppp")
        everything = [Done("add", 0.0, 0.0, ("w", 0, count)), *done]
        judge(everything, session.get_items())
        assert session.get_items() == []


def test_adders_poppers_and_readers_mixed(sql_url: str, many: Callable[[int, int], int], figures: Figures) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.get_items()
        done = crowd(sql_url, processes=2, threads=6, operations=many(6, 60), roles="aapprm")
        judge(done, session.get_items())
    figures.add(dialect_of(sql_url), mixed_operations=len(done))


def test_adders_and_poppers_mixed_in_one_process(url: str, many: Callable[[int, int], int]) -> None:
    from faults.crowd import work_in_threads

    with sessions.connect(url) as backend:
        backend.session("chat_1").get_items()
        done = [Done(*one) for one in work_in_threads(backend, "0", 6, many(6, 60), "aapprm")]
        judge(done, backend.session("chat_1").get_items())
