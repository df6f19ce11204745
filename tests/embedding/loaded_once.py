"""What uWSGI loads once and then forks, in C: an application that used its backend while it was imported."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import sessions
from support.rivals import connection_of

READS = int(os.environ["READS"])


def connection_number() -> int | None:
    """The server's own number of the connection that is used now; SQLite has none."""
    store: Any = backend._store
    with connection_of(backend) as connection:
        number: int | None = store._dialect.server_session(connection)
    return number


backend = sessions.connect(os.environ["DATABASE_URL"])
for name in ("alice", "bob"):
    backend.session(name).add_items([{"of": name}])
loaded = (os.getpid(), connection_number())


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read one conversation many times; answer who has loaded and worked, and how often it was another one."""
    name = environ["PATH_INFO"].strip("/")
    session = backend.session(name)
    working = (os.getpid(), connection_number())
    foreign = sum(session.get_items() != [{"of": name}] for _ in range(READS))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([loaded, working, foreign]).encode()]
