"""Bring what threads share safely through fork(): consistent in the parent, begun anew in the child.

A process knows itself by asking, since who forks in C, as uWSGI does, calls no hook of Python's. The hooks do what
only they can: they keep every thread out of what is shared at the moment of the fork.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

from sessions._reentry import Lock


class Forkable(Protocol):
    """What a forked child may not use as it was in the parent."""

    def before_fork(self) -> None:
        """Take the locks, in the thread that forks; wait for what must not be cut in the middle."""

    def after_fork_in_parent(self) -> None:
        """Release the locks; called again where a signal's handler has interrupted it."""

    def begin_anew(self) -> None:
        """In a child: make new locks, since nobody may release the old ones, and forget what is the parent's."""


_known: WeakSet[Forkable] = WeakSet()
_told: list[Forkable] = []
# The process for which all of them are ready.
_process = os.getpid()
# How often one is asked to release its locks: what raises each time keeps nobody else waiting.
_TRIES = 3
# Held through a fork: the interpreter lets several threads fork at once. A child never waits for its parent's.
_locks: dict[int, Lock] = {}


def tell_of_forks(forkable: Forkable) -> None:
    """Let it know of each fork for as long as it lives."""
    check_process()
    with process_lock():
        _known.add(forkable)


def check_process() -> None:
    """Begin anew where this process is a child that nobody has told; to be asked before any lock is taken."""
    if os.getpid() != _process:
        with process_lock():
            if os.getpid() != _process:
                _begin_anew()


def process_lock() -> Lock:
    """Return the lock of this process: a child never waits for a thread that it does not have."""
    return _locks.setdefault(os.getpid(), Lock())


def _begin_anew() -> None:
    global _process  # noqa: PLW0603  (there is one process)
    _told.clear()
    # All at once: on a file of SQLite no connection may be opened beside one of the parent's.
    for forkable in list(_known):
        forkable.begin_anew()
    _process = os.getpid()


def _before() -> None:
    check_process()
    process_lock().acquire()
    for forkable in list(_known):
        forkable.before_fork()
        _told.append(forkable)


def _take_signals() -> None:
    """Be where that is raised which a signal's handler raises for a signal that came within the fork.

    Python says it and goes on: in the next hook it would leave locked what that unlocks.
    """


def _after_in_parent() -> None:
    interruption: BaseException | None = None
    tries = 0
    while _told or process_lock().is_held():
        try:
            while _told:
                tries += 1
                if tries <= _TRIES:
                    _told[-1].after_fork_in_parent()
                _told.pop()
                tries = 0
            process_lock().release()
        except BaseException as exc:  # noqa: BLE001  (raised behind it)
            interruption = exc
    if interruption is not None:
        raise interruption


def _after_in_child() -> None:
    # Not asked here: in a namespace of its own a child may have its parent's number.
    _locks.clear()
    _begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_take_signals)
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
