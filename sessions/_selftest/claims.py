"""The claims: what the library promises of every database, each as a function that tries it.

A claim is given a Place and returns what it found, or raises an Outcome; what the library itself raises
refutes it. The contract tests try the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sessions._checks import Check
from sessions.errors import SessionsError

from .connections import cut_connection, idle_connection, other_form, times
from .contents import cleared, exact_ids, exact_items, large_items
from .place import Outcome, Place
from .writers import if_position, order, pop_once, whole_batches

Claim = Callable[[Place], str]

CLAIMS: Mapping[str, Claim] = {
    "exact ids": exact_ids,
    "exact items": exact_items,
    "large items": large_items,
    "cleared": cleared,
    "order": order,
    "whole batches": whole_batches,
    "pop once": pop_once,
    "if_position": if_position,
    "cut connection": cut_connection,
    "other form": other_form,
    "times": times,
    "idle connection": idle_connection,
}


def try_claim(name: str, place: Place) -> Check:
    """Try a claim, and say what came of it."""
    try:
        return Check(name, "ok", CLAIMS[name](place))
    except Outcome as outcome:
        return Check(name, outcome.verdict, outcome.found, outcome.remedy)
    except SessionsError as exc:
        found, _, remedy = str(exc).rpartition("; ")
        return Check(name, "error", found or remedy, remedy if found else "")
