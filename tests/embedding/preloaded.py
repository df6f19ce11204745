"""What `gunicorn --preload` loads once and then forks: an application whose backend is already connected."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import sessions
from examples import wsgi_threads

backend = sessions.connect(os.environ["DATABASE_URL"])
backend.session("chat_0").add_items([{"role": "system", "content": "loaded"}])
answer = wsgi_threads.create_app(backend)
loaded_in = os.getpid()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer, and say in which process."""

    def start(status: str, headers: list[tuple[str, str]]) -> Any:
        return start_response(status, [*headers, ("X-Processes", f"{loaded_in} {os.getpid()}")])

    return answer(environ, start)
