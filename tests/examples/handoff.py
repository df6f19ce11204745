"""Two agents, one conversation: the second one reads in the session what the first one was told.

python handoff.py [URL]
"""

import sys

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

import sessions


def main(url: str = "sqlite::memory:") -> tuple[list[str], list[str]]:
    """Let the reception hand over to the workshop; return who answered, and what the session holds."""
    set_tracing_disabled(disabled=True)
    # Stand in for a language model; leave model= out to ask a real one.
    workshop = Agent(
        name="Workshop",
        model=ScriptedModel(
            [
                [assistant_message("A new chain for the red bicycle: 20 euros.")],
                [assistant_message("The red one will be ready on Tuesday.")],
            ]
        ),
    )
    reception = Agent(
        name="Reception",
        handoffs=[workshop],
        model=ScriptedModel([[function_call("transfer_to_workshop", {}, call_id="call_1")]]),
    )
    answered = []
    agent = reception
    with sessions.Session.from_url("handoff", url) as session:
        for question in ("My red bicycle needs a chain.", "When will it be ready?"):
            result = Runner.run_sync(agent, question, session=session)  # type: ignore[arg-type]
            agent = result.last_agent
            answered.append(agent.name)
            print(f"{agent.name}: {result.final_output}")
        kinds = [item.get("type") or item["role"] for item in session.get_items()]
    return answered, kinds


if __name__ == "__main__":
    main(*sys.argv[1:])
