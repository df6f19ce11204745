"""A WSGI application in a server with a thread for each request: one backend for all of them.

python wsgi_threads.py [URL]
"""

import json
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from typing import Any
from urllib.request import Request, urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import sessions

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def create_app(backend: sessions.Backend) -> Application:
    """Make the application. Its threads borrow a connection for each operation, and keep none."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        session = backend.session(environ["PATH_INFO"].strip("/"))
        if environ["REQUEST_METHOD"] == "POST":
            text = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
            session.add_items([{"role": "user", "content": text}, {"role": "assistant", "content": f"heard {text}"}])
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(session.get_items(limit=2)).encode()]

    return application


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A thread for each request, as threaded servers have it."""

    daemon_threads = False


class QuietHandler(WSGIRequestHandler):
    """Log no requests."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name in the base class)
        pass


def main(url: str) -> list[int]:
    """Serve, let many clients talk at the same time, and return the histories' lengths."""
    with sessions.connect(url, pool_size=4) as backend:
        server = make_server("127.0.0.1", 0, create_app(backend), ThreadingServer, QuietHandler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def talk(number: int) -> None:
            address = f"http://127.0.0.1:{server.server_port}/chat_{number % 3}"
            with urlopen(Request(address, data=f"message {number}".encode(), method="POST"), timeout=60) as answer:
                assert len(json.load(answer)) == 2

        try:
            with ThreadPoolExecutor(12) as clients:
                list(clients.map(talk, range(36)))
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        lengths = [len(backend.session(f"chat_{number}").get_items()) for number in range(3)]
    print(lengths)
    return lengths


if __name__ == "__main__":
    main(*sys.argv[1:] or ["sqlite:chat.db"])
