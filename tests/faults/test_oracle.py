"""The judge is judged: each kind of damage is seen."""

from collections.abc import Callable, Sequence

import pytest

from faults.oracle import Item, Ledger

HISTORY = [("a", 0), ("b", 0), ("a", 1)]


def told() -> tuple[Ledger, list[Item]]:
    ledger, history = Ledger(), []
    for writer, number in HISTORY:
        history += ledger.begin(writer, number, 3)
        ledger.acknowledge(writer, number)
    return ledger, history


def test_an_undamaged_history_is_accepted() -> None:
    ledger, history = told()
    assert ledger.verdict(history)
    assert ledger.items == len(history) == 9


DAMAGES: dict[str, Callable[[list[Item]], Sequence[Item]]] = {
    "lost": lambda history: history[:-3],
    "duplicated": lambda history: [*history, *history[-3:]],
    "reordered": lambda history: [*history[6:], *history[:6]],
    "torn": lambda history: [history[0], *history[3:6], *history[1:3], *history[6:]],
    "unasked": lambda history: [*history, {"writer": "c", "batch": 0, "part": 0, "of": 1}],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_seen(damage: str) -> None:
    ledger, history = told()
    assert getattr(ledger.verdict(DAMAGES[damage](history)), damage)


def test_an_unknown_batch_may_be_there_or_not_but_whole() -> None:
    ledger, history = told()
    unknown = ledger.begin("a", 2, 2)
    assert ledger.verdict(history)
    assert ledger.verdict(history + unknown)
    assert ledger.verdict(history + unknown[:1]).torn


def test_a_refused_batch_must_not_be_there() -> None:
    ledger, history = told()
    refused = ledger.begin("a", 2, 2)
    ledger.refuse("a", 2)
    assert ledger.verdict(history)
    assert ledger.verdict(history + refused).unasked
