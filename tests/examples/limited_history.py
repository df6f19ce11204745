"""What the model sees of a long history: a limit for the run, and a callback that chooses.

Neither removes anything from the session.

    python limited_history.py [URL]
"""

import sys
from typing import Any

from agents import Agent, RunConfig, Runner, set_tracing_disabled
from agents.memory import SessionSettings
from agents.testing import ScriptedModel, assistant_message

import sessions

Items = list[Any]


def without_old_answers(history: Items, new: Items) -> Items:
    """Keep what the user said, and of the answers only the last one."""
    answers = [item for item in history if item.get("role") == "assistant"]
    return [item for item in history if item not in answers[:-1]] + new


def main(url: str = "sqlite::memory:") -> list[int]:
    """Run three times on one session; return how many items the model was given each time."""
    set_tracing_disabled(disabled=True)
    configs = [
        RunConfig(),
        RunConfig(session_settings=SessionSettings(limit=4)),
        RunConfig(session_input_callback=without_old_answers),
    ]
    # Stands in for a language model; leave model= out to ask a real one.
    model = ScriptedModel([[assistant_message(f"answer {n}")] for n in range(len(configs))])
    agent = Agent(name="Assistant", model=model)
    with sessions.Session.from_url("limited-history", url) as session:
        for number in range(10):
            session.add_items([{"role": "user", "content": f"question {number}"}])
            session.add_items([{"role": "assistant", "content": f"old answer {number}"}])
        for config in configs:
            Runner.run_sync(agent, "And now?", session=session, run_config=config)  # type: ignore[arg-type]
        print(f"stored: {len(session.get_items())} items")
    seen = [len(call.input) for call in model.calls]
    print(f"seen by the model: {seen}")
    return seen


if __name__ == "__main__":
    main(*sys.argv[1:])
