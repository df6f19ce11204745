"""The judge is judged: each kind of damage is seen."""

import time
from collections.abc import Callable, Sequence
from itertools import count

import pytest

from faults.oracle import EQUAL, Item, Ledger, Slate, batch

HISTORY = [("a", 0), ("b", 0), ("a", 1)]


def told(clock: Callable[[], float] = time.monotonic) -> tuple[Ledger, list[Item]]:
    ledger, history = Ledger(clock), []
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


# --- pops


def popped(ledger: Ledger, *items: Item) -> None:
    for item in items:
        ledger.begin_pop()
        ledger.end_pop(item)


def test_what_was_popped_is_expected_no_more() -> None:
    ledger, history = told()
    popped(ledger, history[-1], history[-2])
    assert ledger.verdict(history[:-2])
    assert ledger.verdict([*history[:-2], *ledger.begin("b", 1, 2)])
    assert ledger.verdict(history[:-3]).lost


def test_what_was_popped_does_not_come_back() -> None:
    ledger, history = told()
    popped(ledger, history[-1])
    assert ledger.verdict(history).duplicated


def test_nothing_is_popped_twice() -> None:
    ledger, history = told()
    popped(ledger, history[-1], history[-1])
    assert ledger.verdict(history[:-1]).duplicated


def test_a_pop_takes_no_item_out_of_the_middle() -> None:
    ledger, history = told()
    popped(ledger, history[-2])
    assert ledger.verdict([*history[:-2], history[-1]]).torn


def test_a_pop_of_unknown_outcome_may_have_taken_one_item() -> None:
    ledger, history = told()
    ledger.begin_pop()
    ledger.doubt_pop()
    assert ledger.verdict(history)
    assert ledger.verdict(history[:-1])
    assert ledger.verdict(history[:-2]).lost


def test_an_add_is_in_doubt_beside_a_pop_only_if_one_fell_into_its_time() -> None:
    ledger, history = told(clock=count(0, 10).__next__)
    popped(ledger, history[-1])
    ledger.begin("a", 2, 2)
    ledger.doubt("a", 2)
    assert (ledger.unknown, ledger.unknown_beside_pops) == (1, 0)
    ledger.begin("a", 3, 2)
    popped(ledger, history[-2])
    ledger.doubt("a", 3)
    assert (ledger.unknown, ledger.unknown_beside_pops) == (2, 1)


def test_an_add_is_in_doubt_beside_a_pop_also_if_one_had_just_ended() -> None:
    ledger, history = told(clock=count(0, 5).__next__)
    popped(ledger, history[-1])
    ledger.begin("a", 2, 2)
    ledger.doubt("a", 2)
    assert (ledger.unknown, ledger.unknown_beside_pops) == (1, 1)


# --- equal batches


def test_equal_items_are_counted() -> None:
    ledger, history = told()
    yes = ledger.begin("c", 0, 2, equal=True)
    ledger.acknowledge("c", 0)
    popped(ledger, yes[0])
    assert ledger.verdict([*history, EQUAL])
    assert ledger.verdict([*history[:3], EQUAL, *history[3:]])
    assert ledger.verdict([*history[:2], EQUAL, *history[2:]]).torn
    assert ledger.verdict([*history, EQUAL, EQUAL]).duplicated
    assert ledger.verdict(history).lost


def test_equal_items_of_unknown_outcome_may_be_there_or_not() -> None:
    ledger, history = told()
    yes = ledger.begin("c", 0, 2, equal=True)
    assert ledger.verdict(history)
    assert ledger.verdict([*history, *yes])
    assert ledger.verdict([*history, *yes, EQUAL]).duplicated


# --- conflicts


def overtaken() -> tuple[Ledger, list[Item], list[Item]]:
    ledger, history = told()
    mine, rival = ledger.begin("a", 2, 2), ledger.begin("b", 1, 2)
    ledger.acknowledge("b", 1)
    ledger.overtake("a", 2)
    return ledger, [*history, *rival], mine


def test_a_conflict_with_another_write_is_right() -> None:
    ledger, history, _ = overtaken()
    assert ledger.verdict(history)


def test_a_conflict_of_a_batch_that_is_there_is_wrong() -> None:
    ledger, history, mine = overtaken()
    assert ledger.verdict(history + mine).wrong_conflicts == [("a", 2)]
    popped(ledger, *reversed(mine))
    assert ledger.verdict(history).wrong_conflicts == [("a", 2)]


def test_a_conflict_with_nobody_is_wrong() -> None:
    ledger, history = told()
    ledger.begin("a", 2, 2)
    ledger.overtake("a", 2)
    assert ledger.verdict(history).wrong_conflicts == [("a", 2)]


# --- replacements


def test_each_damage_to_a_history_that_is_replaced_is_seen() -> None:
    first, second = batch("a", 0, 2), batch("a", 1, 2)
    for history, damage in ((first, "lost"), ([*second, *first], "unasked"), (second[::-1], "reordered")):
        slate = Slate()
        for items in (first, second):
            slate.begin(items)
            slate.acknowledge("a", 0)
        slate.look(second)
        assert slate.found
        slate.look(history)
        assert getattr(slate.found, damage)


def test_a_replacement_may_have_happened_only_if_it_is_in_doubt() -> None:
    first, second = batch("a", 0, 2), batch("a", 1, 2)
    for told, is_there in ((Slate.refuse, False), (Slate.doubt, True)):
        slate = Slate()
        slate.begin(first)
        slate.acknowledge("a", 0)
        slate.begin(second)
        told(slate, "a", 1)
        slate.look(first)
        assert slate.found
        slate.look(second)
        assert bool(slate.found) == is_there
