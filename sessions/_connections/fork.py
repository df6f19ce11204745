"""Bring what threads share safely through fork(): consistent in the parent, fresh in the child.

No thread may be inside at that moment, or the child inherits a lock that nobody will release.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What is told of a fork, in the thread that forks."""

    def before_fork(self) -> None:
        """Take the locks; wait for what must not be cut in the middle."""

    def after_fork_in_parent(self) -> None:
        """Release the locks."""

    def after_fork_in_child(self) -> None:
        """Release or renew the locks, and forget what is the parent's."""


_known: WeakSet[Forkable] = WeakSet()
_told: list[Forkable] = []
# Held through a fork: the interpreter lets several threads fork at once.
_turn = threading.RLock()


def tell_of_forks(forkable: Forkable) -> None:
    """Let it know of each fork for as long as it lives."""
    with _turn:
        _known.add(forkable)


def _before() -> None:
    _turn.acquire()
    for forkable in list(_known):
        forkable.before_fork()
        _told.append(forkable)


def _after_in_parent() -> None:
    try:
        while _told:
            _told.pop().after_fork_in_parent()
    finally:
        _turn.release()


def _after_in_child() -> None:
    global _turn  # noqa: PLW0603  (the parent's belongs to a thread, by a number that need not be ours)
    _turn = threading.RLock()
    while _told:
        _told.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
