"""The plain `openai` client, without the Agents SDK: Responses items in, items out.

OPENAI_API_KEY=... python responses_api.py sqlite:chat.db [BASE_URL]
"""

import sys
from typing import Any

from openai import OpenAI

import sessions


def ask(client: OpenAI, session: sessions.Session, text: str) -> str:
    """Send the history and the question; store both and all that came back in one piece."""
    question = {"role": "user", "content": text}
    response = client.responses.create(
        model="gpt-5.1",
        input=[*session.get_items(limit=100), question],  # type: ignore[list-item]
        store=False,
    )
    output: list[dict[str, Any]] = [item.model_dump(exclude_none=True) for item in response.output]
    session.add_items([question, *output])
    return response.output_text


def main(url: str = "sqlite::memory:", base_url: str | None = None) -> list[str]:
    """Ask two questions; return the answers."""
    with (
        OpenAI(base_url=base_url) as client,
        sessions.Session.from_url("responses-api", url) as session,
    ):
        answers = [ask(client, session, text) for text in ("Hello", "What did I just say?")]
    print(*answers, sep="\n")
    return answers


if __name__ == "__main__":
    main(*sys.argv[1:])
