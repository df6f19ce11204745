"""Databases with a table of the application, and the application's own connections to them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from embedding.application import connected, prepare


@pytest.fixture
def app_url(sql_url: str) -> str:
    """A database of each kind with the application's table, and ours, empty."""
    prepare(sql_url)
    return sql_url


@pytest.fixture
def connect(app_url: str) -> Iterator[Callable[..., Any]]:
    """A function that opens connections of the application, closed at the end."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(connected(app_url, **options))
