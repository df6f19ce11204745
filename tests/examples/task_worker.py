"""A task of a job queue (Celery, RQ, Dramatiq), synchronous throughout.

Two tasks may meet on one conversation: the slower one is told, and asks again with the newer history.

    python task_worker.py [URL]
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message

import sessions

ATTEMPTS = 10


# With Celery: @app.task(autoretry_for=(sessions.ConflictError,), retry_backoff=True)
def answer_message(backend: sessions.Backend, chat_id: str, text: str) -> str:
    """Answer one message. The turn is stored behind what was read, as a whole, or not at all."""
    session = backend.session(chat_id)
    position = session.position()
    history: list[Any] = session.get_items()
    turn: list[Any] = [{"role": "user", "content": text}]
    # Not run_sync, which leaves an event loop behind in every thread.
    result = asyncio.run(Runner.run(make_agent(), history + turn))
    turn += [item.to_input_item() for item in result.new_items]
    session.add_items(turn, if_position=position)
    return str(result.final_output)


def make_agent() -> Agent[Any]:
    """Make the agent; its model stands in for a language model and counts what it is shown."""

    def answer(call: Any) -> Any:
        return [assistant_message(f"message {len(call.input) // 2 + 1}")]

    return Agent(name="Counter", model=ScriptedModel([ModelStep.respond(answer)]))


def with_retries(backend: sessions.Backend, chat_id: str, text: str) -> str:
    """Run the task until no other one is in its way, as a job queue does."""
    for attempt in range(ATTEMPTS):
        try:
            return answer_message(backend, chat_id, text)
        except sessions.ConflictError:
            print(f"{text!r} was overtaken, attempt {attempt + 1}")
    raise RuntimeError(f"{text!r} was overtaken {ATTEMPTS} times")


def main(url: str = "sqlite::memory:") -> list[str]:
    """Work on a conversation with four workers at once; return the answers in the stored order."""
    set_tracing_disabled(disabled=True)
    with sessions.connect(url) as backend, ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda n: with_retries(backend, "chat_1", f"message {n}"), range(8)))
        items = backend.session("chat_1").get_items()
    answers = [item["content"][0]["text"] for item in items if item["role"] == "assistant"]
    print(answers)
    return answers


if __name__ == "__main__":
    main(*sys.argv[1:])
