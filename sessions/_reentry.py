"""What interrupts a call: a signal handler, a __del__, a callback, with a call of its own or an exception."""

from __future__ import annotations

import math
import sys
import threading
from _thread import RLock, allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import suppress
from inspect import CO_VARARGS
from time import monotonic
from types import FrameType, TracebackType
from typing import TypeGuard, TypeVar
from weakref import ref

from .errors import ConnectionFailedError

E = TypeVar("E", bound=BaseException)


# How often who waits for what may not be interrupted looks by itself.
_LOOK_SECONDS = 0.1


class Lock(RLock):  # type: ignore[misc]  # typeshed says that it is final, which it is not
    """A threading.RLock that no signal handler's exception leaves held.

    In CPython 3.14 a `with` looks for signals when it has entered and is not yet left after an error. It does not
    behind a function of Python, and the release, which is C's, is done before it looks.
    """

    def __enter__(self) -> bool:  # type: ignore[override]  # takes nothing, as a `with` gives nothing
        try:
            entered = self.acquire()
        except BaseException:
            try:  # noqa: SIM105  (a call more is one more at which to be interrupted)
                self.release()
            except RuntimeError:
                pass  # it was interrupted without it
            raise
        return entered

    def is_held(self) -> bool:
        """Tell whether this thread holds it."""
        return bool(self._is_owned())  # type: ignore[attr-defined]  # as threading.Condition asks

    def refuse_reentry(self, what: str) -> None:
        """Raise where this thread holds it: what it has interrupted can only go on when the call returns.

        To be asked before it is taken. On the same connection one would read the answer that the other waits for.
        """
        if self.is_held():
            raise interrupted_error(what, "use another connection")


class Write(Lock):  # type: ignore[misc]  # as above
    """A write to a conversation, if it is one's, that is under way in this thread; holds: others wait until it goes on.

    where is what compares ids: a database. A lock, for the end of a block of Python's could be interrupted, and what
    that raises be kept, by a debugger say, with all that was under way.
    """

    __slots__ = ("holds", "session_id", "where")

    def __init__(self, where: object, session_id: str | None) -> None:
        self.where = where
        self.session_id = session_id
        self.holds = False

    def __enter__(self) -> bool:  # type: ignore[override]  # as above
        """Begin; raise where it would wait for one that it has interrupted."""
        others = _under_way()
        same = (write for write in others if write.where is self.where and write.session_id == self.session_id)
        if self.session_id is not None and any(write.holds for write in same):
            raise interrupted_error(f"session {self.session_id!r}", "write to another session")
        _thread.writes = (*map(ref, others), ref(self))
        return super().__enter__()


class _Thread(threading.local):
    # The innermost last. Known weakly: each is its block's.
    writes: tuple[ref[Write], ...] = ()


_thread = _Thread()


def _under_way() -> list[Write]:
    return [write for known in _thread.writes if (write := known()) is not None and write.is_held()]


def note_held() -> None:
    """Note that the innermost write keeps others waiting for more than a round trip."""
    for write in _under_way()[-1:]:
        write.holds = True


def interrupted_error(what: str, remedy: str) -> ConnectionFailedError:
    """Say that a call would wait for what it has interrupted."""
    return ConnectionFailedError(
        f"{what} is in the middle of an operation which this call has interrupted; "
        f"in a signal handler, __del__, callback or another greenlet {remedy}, or note what is to be done later"
    )


def uninterrupted(work: Callable[[], object], *, seconds: float = math.inf) -> bool:
    """Do something to its end, and raise behind it what has interrupted that; False where it has not ended in time.

    In a thread of its own, for no signal handler runs there: who presses Ctrl-C twice interrupts what the first one is
    being answered by.
    """
    ended: list[BaseException | None] = []
    end = allocate_lock()
    end.acquire()

    def run() -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001  (raised in the thread that waits)
            ended.append(exc)
        else:
            ended.append(None)
        end.release()

    try:
        start_new_thread(run, ())
    except own(RuntimeError):  # there are no more threads
        run()
    interruption: BaseException | None = None
    latest = monotonic() + seconds
    while not ended and monotonic() < latest:
        try:
            end.acquire(timeout=_LOOK_SECONDS)
        except BaseException as exc:  # noqa: BLE001  (raised below)
            interruption = exc
    has_ended = bool(ended)
    try:
        for failed in (interruption, *ended):
            if failed is not None:
                raise failed
    finally:
        # Or what is raised would keep its frames, and they it, until a collection.
        failed = interruption = None
        ended.clear()
    return has_ended


def raised_by_a_handler(exc: BaseException) -> bool:
    """Tell whether a signal handler has raised an exception, of whatever kind.

    An application's TimeoutError, say, which who reads from a socket takes for the socket's own. A handler
    is a function that is given a frame, the one that it interrupts.
    """
    traceback = exc.__traceback__
    while traceback is not None:
        if any(isinstance(argument, FrameType) for argument in _arguments(traceback)):
            return True
        traceback = traceback.tb_next
    return False


def is_own(exc: BaseException, *kinds: type[E]) -> TypeGuard[E]:
    """Tell whether an exception is one of these kinds, and no signal handler's.

    A handler's own statement, on a connection of its own, may fail with an error of the same driver, which says nothing
    of the one that was interrupted.
    """
    return isinstance(exc, kinds) and not raised_by_a_handler(exc)


def own(*kinds: type[E]) -> tuple[type[E], ...]:
    """Return what an except clause is for: these kinds, but none of them while a signal handler's is being raised.

    Python asks the clause while the exception is on its way.
    """
    exc = sys.exc_info()[1]
    return () if exc is not None and raised_by_a_handler(exc) else kinds


class suppress_own(suppress):  # noqa: N801  (as suppress)
    """Suppress these kinds, unless a signal handler has raised what is raised."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return (exc is None or not raised_by_a_handler(exc)) and super().__exit__(kind, exc, traceback)


def _arguments(step: TracebackType) -> Iterator[object]:
    # Given no frame: where the stack ends in here, this would pass for a handler.
    frame = step.tb_frame
    code = frame.f_code
    names = code.co_varnames
    for name in names[: code.co_argcount]:
        yield frame.f_locals.get(name)
    if code.co_flags & CO_VARARGS:
        yield from frame.f_locals.get(names[code.co_argcount + code.co_kwonlyargcount], ())
