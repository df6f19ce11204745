"""A tool that a human must approve: the run stops, its state is stored, and another process resumes it.

The conversation waits in the session, the interrupted run in a string that may be kept anywhere.

    python human_approval.py [URL]
"""

import asyncio
import sys
from typing import Any

from agents import Agent, Runner, RunState, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from sessions.openai_agents import AgentsSession

refunds: list[str] = []


@function_tool(needs_approval=True)
def refund(order: str) -> str:
    """Pay an order back."""
    refunds.append(order)
    return f"order {order} is paid back"


def clerk(*steps: Any) -> Agent[Any]:
    """Make the agent; the steps stand in for a language model."""
    return Agent(name="Clerk", tools=[refund], model=ScriptedModel(steps))


async def ask(url: str) -> str:
    """Run until the tool wants to be approved; return the state of the run."""
    agent = clerk([function_call("refund", {"order": "1042"}, call_id="call_1")])
    async with AgentsSession.from_url("human-approval", url) as session:
        result = await Runner.run(agent, "I want my money back for 1042.", session=session)
        [interruption] = result.interruptions
        print(f"waiting for a human: {interruption.name} {interruption.arguments}")
        return result.to_state().to_string()


async def decide(url: str, stored_state: str, *, approved: bool) -> list[dict[str, Any]]:
    """Go on where the run was interrupted, perhaps a day later and in another process."""
    agent = clerk([assistant_message("Done." if approved else "I am afraid I cannot do that.")])
    state = await RunState.from_string(agent, stored_state)
    for interruption in state.get_interruptions():
        if approved:
            state.approve(interruption)
        else:
            state.reject(interruption)
    async with AgentsSession.from_url("human-approval", url) as session:
        result = await Runner.run(agent, state, session=session)
        print(result.final_output)
        return await session.get_items()


def main(url: str = "sqlite:human_approval.db", *, approved: bool = True) -> list[dict[str, Any]]:
    set_tracing_disabled(disabled=True)
    stored_state = asyncio.run(ask(url))
    return asyncio.run(decide(url, stored_state, approved=approved))


if __name__ == "__main__":
    main(*sys.argv[1:])
