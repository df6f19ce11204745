"""Tool calls in a synchronous script: calls and outputs are stored in pairs, in order.

python tool_calls.py [URL]
"""

import sys
from typing import Any

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

import sessions

STOCK = {"apples": 12, "pears": 0}


@function_tool
def in_stock(fruit: str) -> int:
    """Say how many of a fruit there are."""
    return STOCK[fruit]


def main(url: str = "sqlite::memory:") -> list[dict[str, Any]]:
    """Ask once; the model calls the tool twice in one turn before it answers."""
    set_tracing_disabled(disabled=True)
    # Stands in for a language model; leave model= out to ask a real one.
    model = ScriptedModel(
        [
            [
                function_call("in_stock", {"fruit": "apples"}, call_id="call_1"),
                function_call("in_stock", {"fruit": "pears"}, call_id="call_2"),
            ],
            [assistant_message("There are 12 apples, and no pears.")],
        ]
    )
    agent = Agent(name="Grocer", tools=[in_stock], model=model)
    with sessions.Session.from_url("tool-calls", url) as session:
        # A synchronous session goes to the Runner as it is (SDK 0.20 and later).
        result = Runner.run_sync(agent, "Have you apples and pears?", session=session)  # type: ignore[arg-type]
        print(result.final_output)
        history = session.get_items()
    for item in history:
        print(" ", item.get("type", "message"), item.get("output", item.get("content", "")))
    return history


if __name__ == "__main__":
    main(*sys.argv[1:])
