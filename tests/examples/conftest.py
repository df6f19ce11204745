"""The examples run as the tests of the SDK's adapter do."""

from openai_agents.event_loop import loop_of_run_sync  # noqa: F401  (a fixture)
