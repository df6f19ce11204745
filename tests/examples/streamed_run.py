"""A streamed run that remembers: AgentsSession keeps the event loop free while the database works.

python streamed_run.py [URL]
"""

import asyncio
import sys

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message
from openai.types.responses import ResponseTextDeltaEvent

from sessions.openai_agents import AgentsSession

# Stands in for a language model; leave model= out to ask a real one.
ANSWERS = ["The Golden Gate Bridge is in San Francisco.", "That is in California."]
QUESTIONS = ["Where is the Golden Gate Bridge?", "In which state is that?"]


async def converse(url: str) -> list[str]:
    """Ask both questions; the second one makes sense only to an agent that remembers the first."""
    model = ScriptedModel([[assistant_message(answer)] for answer in ANSWERS])
    agent = Agent(name="Guide", model=model)
    async with AgentsSession.from_url("streamed-run", url) as session:
        for question in QUESTIONS:
            print(f"user       {question}\nassistant  ", end="")
            result = Runner.run_streamed(agent, question, session=session)
            async for event in result.stream_events():
                if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
                    print(event.data.delta, end="", flush=True)
            print()
        history = await session.get_items()
    print(f"stored     {len(history)} items")
    return [item["role"] for item in history]


def main(url: str = "sqlite::memory:") -> list[str]:
    set_tracing_disabled(disabled=True)
    return asyncio.run(converse(url))


if __name__ == "__main__":
    main(*sys.argv[1:])
