"""Tests that are coroutine functions run on an event loop of their own."""

from openai_agents.event_loop import pytest_pyfunc_call  # noqa: F401  (a hook)
