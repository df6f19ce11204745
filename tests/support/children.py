"""Children made by fork(): by Python's, which calls its hooks, and by the C library's, which calls none."""

import contextlib
import ctypes
import faulthandler
import gc
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

_fork: Callable[[], int] = ctypes.PyDLL(None).fork


def fork_in_c() -> int:
    """Fork without a word to Python, in a moment in which no other thread asks for the interpreter.

    The child would wait for that thread, which it does not have.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        time.sleep(0.01)  # who has asked already is served
        return _fork()
    finally:
        sys.setswitchinterval(interval)


_chosen: list[Callable[[], int]] = [os.fork]


def fork() -> int:
    """Fork as the test has chosen to."""
    return _chosen[-1]()


@contextlib.contextmanager
def forking_in_c() -> Iterator[None]:
    """Fork as uWSGI does."""
    _chosen.append(fork_in_c)
    try:
        yield
    finally:
        _chosen.pop()


class Child:
    """A forked child that runs one function and reports what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        self.pid = fork()
        if not self.pid:
            os.close(reader)
            _run_and_exit(work, writer)
        os.close(writer)
        self._reader = reader

    def result(self) -> Any:
        with os.fdopen(self._reader, "rb") as stream:
            report = stream.read()
        _, status = os.waitpid(self.pid, 0)
        assert report, f"the child died without a word, status {status}"
        assert status == 0, f"the child hung in:\n{report.decode()}"
        worked, value = pickle.loads(report)  # noqa: S301 -- our own child wrote it
        assert worked, f"in the child:\n{value}"
        return value


def _run_and_exit(work: Callable[[], Any], writer: int) -> None:
    """Never return into pytest; a child that hangs reports its stacks and ends."""
    faulthandler.register(signal.SIGALRM, file=writer, chain=True)
    signal.alarm(60)
    try:
        report: tuple[bool, Any] = (True, work())
    except BaseException:
        report = (False, traceback.format_exc())
    gc.collect()  # what the child inherited and dropped must do no harm
    signal.alarm(0)
    with os.fdopen(writer, "wb") as stream:
        stream.write(pickle.dumps(report))
    os._exit(0)
