"""Tests that are coroutine functions run on an event loop of their own."""

from openai_agents.event_loop import loop_of_run_sync, pytest_pyfunc_call  # noqa: F401  (a fixture and a hook)
