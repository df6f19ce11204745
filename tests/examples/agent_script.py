"""An agent with a memory, in a plain synchronous script.

The first process holds a conversation with a tool call. The second one, which shares nothing with it
but the database, goes on with it and remembers. The agent, its Runner and its tool are those of the
OpenAI Agents SDK; only the language model is replaced, by a stand-in that needs no network and that
knows nothing except what the session hands it.

    python agent_script.py                                        the SQLite file agent-demo.db here
    python agent_script.py --url postgresql://me:secret@localhost/agents
    python agent_script.py --url mysql://me:secret@localhost/agents
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.items import ItemHelpers
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.testing.model import ModelCall

import sessions

PARCELS = {"1042": "left Rotterdam this morning, arrives on Tuesday"}
QUESTIONS = {
    "first": ["My name is Ada. Where is my parcel 1042?"],
    "second": ["Remind me: what is my name, and what did you find out?", "Thank you!"],
}


# --- the agent


@function_tool
def track_parcel(number: str) -> str:
    """Say where a parcel is."""
    print(f"  tool       track_parcel({number!r})")
    return PARCELS[number]


def talk(session: sessions.Session, questions: Iterable[str]) -> None:
    """Put the questions to the agent, one run each; the session is given to the Runner as it is."""
    agent = Agent(
        name="Parcel desk",
        instructions="You help people to find their parcels.",
        tools=[track_parcel],
        model=ScriptedModel([ModelStep.respond(answer)] * 10),
    )
    for question in questions:
        print(f"  user       {question}")
        result = Runner.run_sync(agent, question, session=session)  # type: ignore[arg-type]
        print(f"  assistant  {result.final_output}")


# --- the stand-in for a language model


def answer(call: ModelCall) -> Any:
    """Answer from the conversation alone, as a language model does: that is the memory shown here."""
    items: list[dict[str, Any]] = ItemHelpers.input_to_new_input_list(call.input)  # type: ignore[assignment]
    question = items[-1].get("content")
    said = " ".join(item["content"] for item in items if item.get("role") == "user")
    name = re.search(r"name is (\w+)", said)
    found = [item["output"] for item in items if item.get("type") == "function_call_output"]
    if items[-1].get("type") == "function_call_output":
        text = f"It {found[-1]}."
    elif "Where is" in str(question):
        number = re.search(r"parcel (\d+)", str(question))
        return [function_call("track_parcel", {"number": number[1] if number else ""}, call_id="call_1")]
    elif "Remind me" in str(question):
        known = f"You are {name[1]}" if name else "You never told me your name"
        text = f"{known}, and your parcel {found[-1]}." if found else f"{known}; we spoke of no parcel."
    else:
        text = f"You are welcome, {name[1]}." if name else "You are welcome."
    return [assistant_message(text)]


# --- two processes


def run_part(part: str, url: str, session_id: str) -> None:
    """Be one of the two processes."""
    set_tracing_disabled(disabled=True)
    with sessions.Session.from_url(session_id, url) as session:
        print(f"  remembers  {len(session.get_items())} items")
        talk(session, QUESTIONS[part])
        print(f"  stored     {len(session.get_items())} items in the session {session.session_id!r}")


def run_both(url: str, session_id: str) -> None:
    """Start the two processes, one after the other, on a conversation that starts empty."""
    with sessions.Session.from_url(session_id, url) as session:
        session.clear_session()
    for part in QUESTIONS:
        print(f"{part} process", flush=True)
        # The URL goes through a pipe: an argument, with its password, would be seen by every user.
        command = [sys.executable, __file__, "--session", session_id, "--part", part]
        subprocess.run(command, input=url, text=True, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="An agent with a memory, in two processes.")
    parser.add_argument("--url", help="where the conversation is kept (default: sqlite:agent-demo.db)")
    parser.add_argument("--session", default="parcel-desk-demo", help="the session's id; starts empty")
    parser.add_argument("--part", choices=QUESTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(options.part, sys.stdin.read(), options.session)
    else:
        url = options.url or "sqlite:agent-demo.db"
        print("the answers are those of a script that stands in for a language model; the rest is real", flush=True)
        run_both(url, options.session)
        shown = options.url and "YOUR_URL"
        print("look at it:")
        print(f"  {Path(sys.executable).parent}/agent-sessions show {options.session} --url {shown or url}")


if __name__ == "__main__":
    main()
