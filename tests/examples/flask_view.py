"""A Flask application that is synchronous throughout: one backend for all, one session a request.

flask --app "flask_view:create_app('sqlite:chat.db')" run
"""

import sys
from typing import Any

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel, assistant_message
from flask import Flask, Response, jsonify, request

import sessions


def create_app(url: str) -> Flask:
    """Make the application; its backend opens a connection when the first request needs one."""
    set_tracing_disabled(disabled=True)
    app = Flask(__name__)
    backend = app.extensions["sessions"] = sessions.connect(url)

    @app.post("/chats/<chat_id>")
    def say(chat_id: str) -> Response:
        session: Any = backend.session(chat_id)
        result = Runner.run_sync(make_agent(), request.get_json()["text"], session=session)
        return jsonify(answer=result.final_output)

    @app.get("/chats/<chat_id>")
    def history(chat_id: str) -> Response:
        limit = request.args.get("limit", default=50, type=int)
        return jsonify(items=backend.session(chat_id).get_items(limit=limit))

    @app.delete("/chats/<chat_id>")
    def forget(chat_id: str) -> tuple[str, int]:
        backend.session(chat_id).clear_session()
        return "", 204

    @app.errorhandler(sessions.ConnectionFailedError)
    def unavailable(error: sessions.ConnectionFailedError) -> tuple[Response, int]:
        app.logger.error("no database: %s", error)
        return jsonify(error="try again later"), 503

    return app


def make_agent() -> Agent[Any]:
    """Make the agent; its model stands in for a language model and counts what it is shown."""

    def answer(call: Any) -> Any:
        return [assistant_message(f"I see {len(call.input)} items.")]

    return Agent(name="Counter", model=ScriptedModel([ModelStep.respond(answer)]))


def main(url: str = "sqlite::memory:") -> list[str]:
    """Send a few requests to the application; return the answers."""
    app = create_app(url)
    client = app.test_client()
    answers = []
    for chat_id in ("ann", "ann", "bob"):
        reply = client.post(f"/chats/{chat_id}", json={"text": "Hello"}).get_json()
        answers.append(reply["answer"])
        print(chat_id, reply)
    assert len(client.get("/chats/ann?limit=3").get_json()["items"]) == 3
    assert client.delete("/chats/ann").status_code == 204
    assert client.get("/chats/ann").get_json()["items"] == []
    app.extensions["sessions"].close()
    return answers


if __name__ == "__main__":
    main(*sys.argv[1:])
