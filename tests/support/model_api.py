"""A server on loopback that answers like the Responses API, and Anthropic's, for clients that speak HTTP."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


class ModelAPI:
    """Its answers, by path: functions from the request's body to the `output` items."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.responses: Callable[[Request], list[Any]] = _echo
        self.compact: Callable[[Request], list[Any]] = _summary

    def answer(self, path: str, request: Request) -> dict[str, Any] | None:
        self.requests.append(request)
        if path.endswith("/responses"):
            return _response(request, self.responses(request))
        if path.endswith("/responses/compact"):
            return {
                "id": "compaction",
                "object": "response.compaction",
                "created_at": 0,
                "output": self.compact(request),
                "usage": _USAGE,
            }
        if path.endswith("/messages"):
            return _answer_of_anthropic(request)
        return None


@contextlib.contextmanager
def serve_model_api() -> Iterator[ModelAPI]:
    """Serve it on a free port until the block ends; the base URL is in its `url`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        api = ModelAPI(f"http://127.0.0.1:{server.server_port}/v1")
        server.api = api  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # one request a connection: none is left open

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.api.answer(self.path, request)  # type: ignore[attr-defined]
        body = json.dumps(answer or {"error": {"message": "not found"}}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


_USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}


def message(text: str, *, number: int = 0) -> dict[str, Any]:
    """An output item: the assistant says so."""
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def _echo(request: Request) -> list[Any]:
    return [message(f"{len(request['input'])} items", number=len(request["input"]))]


def _summary(request: Request) -> list[Any]:
    return [{"id": "cmp_1", "type": "compaction", "encrypted_content": "summary"}]


def _response(request: Request, output: list[Any]) -> dict[str, Any]:
    return {
        "id": f"resp_{len(request['input'])}",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": request["model"],
        "output": output,
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": _USAGE,
    }


def _answer_of_anthropic(request: Request) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [{"type": "text", "text": f"{len(request['messages'])} items"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
