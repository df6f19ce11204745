"""Event loops of tests: one for each asynchronous test, and one for `Runner.run_sync`."""

import asyncio
import inspect
from collections.abc import Callable, Iterator

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function, for a conftest.py to import."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture
def loop_of_run_sync() -> Iterator[None]:
    """Runner.run_sync leaves its event loop open, for the next run; nobody else closes it here."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


# Runner.run_sync asks for a policy, which asyncio warns of from Python 3.14 on.
_POLICY = r"ignore:'asyncio\.get_event_loop_policy' is deprecated:DeprecationWarning:agents\.run$"


def uses_run_sync(test: Callable[..., object]) -> Callable[..., object]:
    """Mark a test that calls Runner.run_sync."""
    marked: Callable[..., object] = pytest.mark.usefixtures("loop_of_run_sync")(
        pytest.mark.filterwarnings(_POLICY)(test)
    )
    return marked
