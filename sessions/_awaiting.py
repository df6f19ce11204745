"""Calls that asynchronous code awaits: each in a thread, and what a cancellation does to it.

None of them queues for a thread, as in the event loop's own executor, whose threads are few: once they all wait for a
lock in a database, whoever is to let go of it would come behind them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from ._reentry import own
from ._stores.store import Store

_Answer = TypeVar("_Answer")

logger = logging.getLogger("sessions")

# A number of threads.
_NEVER_REACHED = 1_000_000
# By process: a forked child has none of its parent's threads.
_executors: dict[int, ThreadPoolExecutor] = {}


async def finished(
    work: Callable[..., _Answer], *arguments: Any, done: Callable[[_Answer], None] = lambda _: None
) -> _Answer:
    """Do the work in a thread and return its answer; a cancellation waits until it is done.

    done is told the answer of work that succeeded, cancelled or not.
    """
    # A future and not a task: a loop that is shut down cancels all of its tasks.
    future = begun(work, *arguments)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            with nullcontext() if cancelled is None else _shield():
                await asyncio.wait({future})
        except asyncio.CancelledError as exc:
            cancelled = cancelled or exc
    # Asked for, so that asyncio does not report a failure that nobody can receive.
    failure = future.exception()
    if failure is None:
        done(future.result())
    if cancelled is not None:
        if failure is not None:
            logger.warning("a call that was cancelled has failed: %s", failure)
        raise cancelled from failure
    return future.result()


def _shield() -> AbstractContextManager[object]:
    """Keep a scope of anyio's, as Starlette has them, from cancelling a task anew in each turn of the loop."""
    if "anyio" not in sys.modules:
        return nullcontext()
    from anyio import CancelScope

    return CancelScope(shield=True)


async def read(store: Store, work: Callable[..., _Answer], *arguments: Any) -> _Answer:
    """Do work in a thread that only reads, and return its answer.

    A cancellation leaves it to itself on a connection of ours, for the server may be slow to answer or away. On the
    application's it waits: what is in the middle of an answer, or of a savepoint, would meet what that does next.
    """
    if store.bound:
        return await finished(work, *arguments)
    return await begun(work, *arguments)


def begun(work: Callable[..., _Answer], *arguments: Any) -> asyncio.Future[_Answer]:
    """Begin the work in a thread, in the context of the caller; who cancels what is returned leaves it to itself."""
    executor = _executors.get(os.getpid())
    if executor is None:
        executor = _executors[os.getpid()] = ThreadPoolExecutor(_NEVER_REACHED, thread_name_prefix="sessions")
    outcome: Future[_Answer] = Future()
    outcome.set_running_or_notify_cancel()
    calls: list[Callable[[], _Answer]] = [partial(contextvars.copy_context().run, work, *arguments)]
    try:
        executor.submit(_do, calls, outcome)
    except own(RuntimeError):
        # The program is at its end, in an atexit handler, or can have no more threads.
        _do(calls, outcome)
    return asyncio.wrap_future(outcome)


def _do(calls: list[Callable[[], _Answer]], outcome: Future[_Answer]) -> None:
    try:
        call = calls.pop()
    except IndexError:
        return  # an executor that has refused it for want of a thread has it in its queue all the same
    try:
        outcome.set_result(call())
    except BaseException as exc:  # noqa: BLE001  (raised where it is awaited)
        outcome.set_exception(exc)
        del outcome  # which the failure, by this frame, would hold as it is held
