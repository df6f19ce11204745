"""A server on this machine that refuses of a conversation what the APIs of OpenAI refuse, in their words."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Item = dict[str, Any]

_UNANSWERED = "An assistant message with 'tool_calls' must be followed by tool messages responding to each of them."

ANSWER: Item = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Good day", "annotations": []}],
}


def refusal_of_input(items: Sequence[Item]) -> str | None:
    """Say what the Responses API refuses of its input."""
    outputs = {_output_id(item): place for place, item in enumerate(items) if _output_id(item)}
    calls: dict[str, int] = {}
    for place, item in enumerate(items):
        kind = str(item.get("type"))
        if (found := _output_id(item)) and found not in calls:
            return f"No tool call found for {kind} with call_id {found}."
        if found := _call_id(item):
            calls[found] = place
            if outputs.get(found, -1) < place:
                return f"No tool output found for {kind} {found}."
        if kind == "reasoning":
            follower = items[place + 1] if place + 1 < len(items) else {}
            if not follower or follower.get("role") == "user" or _output_id(follower):
                return f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
    return None


def refusal_of_messages(messages: Sequence[Item]) -> str | None:
    """Say what chat completions refuse of their messages."""
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            return _UNANSWERED
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    return _UNANSWERED if open_calls else None


def refusal_of_blocks(messages: Sequence[Item]) -> str | None:
    """Say what Anthropic's messages refuse."""
    waiting: set[str] = set()
    for place, message in enumerate(messages):
        blocks = message["content"] if isinstance(message["content"], list) else []
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if place == 0 and message["role"] != "user":
            return 'messages: first message must use the "user" role'
        if results - waiting:
            return "unexpected `tool_use_id` found in `tool_result` blocks"
        if waiting - results:
            return "`tool_use` ids were found without `tool_result` blocks immediately after"
        waiting = {block["id"] for block in blocks if block["type"] == "tool_use"}
    return "`tool_use` ids were found without `tool_result` blocks immediately after" if waiting else None


def _call_id(item: Item) -> str:
    if str(item.get("type")) == "mcp_approval_request":
        return str(item["id"])
    return "" if str(item.get("type")).endswith("_output") else str(item.get("call_id") or "")


def _output_id(item: Item) -> str:
    kind = str(item.get("type"))
    if kind == "mcp_approval_response":
        return str(item["approval_request_id"])
    return str(item.get("call_id") or item.get("id")) if kind.endswith("_output") else ""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/responses"):
            items = asked["input"] if isinstance(asked["input"], list) else []
            refusal, answer = refusal_of_input(items), _response(asked)
        else:
            refusal, answer = refusal_of_messages(asked["messages"]), _completion(asked)
        if refusal:
            answer = {"error": {"message": refusal, "type": "invalid_request_error", "code": None, "param": "input"}}
        body = json.dumps(answer).encode()
        self.send_response(400 if refusal else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _response(asked: Item) -> Item:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": asked["model"],
        "output": [ANSWER],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _completion(asked: Item) -> Item:
    message = {"role": "assistant", "content": "Good day"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": asked["model"], "choices": [choice]}


@contextlib.contextmanager
def strict_api() -> Iterator[str]:
    """The address of a running server, for base_url."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
