"""gunicorn --preload: workers forked from a process whose backend has open connections."""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import sessions
from embedding.application import connections, wait_until
from support.samples import texts

pytest.importorskip("gunicorn")
TESTS = Path(__file__).parents[1]
WORKERS, THREADS, REQUESTS = 2, 4, 60


@pytest.mark.slow
def test_preloaded_workers_share_the_database_and_no_connection(sql_url: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = [
        "--preload",
        "--no-control-socket",
        f"--workers={WORKERS}",
        f"--threads={THREADS}",
        f"--bind=127.0.0.1:{port}",
        "--log-level=warning",
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, "embedding.preloaded:application"],
        env={**os.environ, "PYTHONPATH": str(TESTS), "DATABASE_URL": sql_url},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def say(number: int) -> tuple[str, ...]:
            request = Request(f"http://127.0.0.1:{port}/chat_{number % 3}", f"m{number}".encode(), method="POST")
            with urlopen(request, timeout=60) as answer:  # noqa: S310  (our own server)
                assert len(json.load(answer)) == 2
                return tuple(answer.headers["X-Processes"].split())

        def is_up() -> bool:
            assert server.poll() is None, "gunicorn ended"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=60).close()
            except ConnectionRefusedError:
                return False
            return True

        wait_until(is_up, 60)
        with ThreadPoolExecutor(8) as clients:
            processes = set(clients.map(say, range(REQUESTS)))
        assert all(loaded != worked for loaded, worked in processes)
        assert len(processes) <= WORKERS
        assert len(connections(sql_url)) <= 1 + WORKERS * THREADS
    finally:
        server.send_signal(signal.SIGTERM)
        _, complaints = server.communicate(timeout=60)
    assert (server.returncode, complaints) == (0, "")
    wait_until(lambda: not connections(sql_url))
    with sessions.connect(sql_url) as backend:
        histories = [texts(backend.session(f"chat_{number}").get_items()) for number in range(3)]
    heard = [text for history in histories for text in history if text.startswith("m")]
    assert sorted(heard) == sorted(f"m{number}" for number in range(REQUESTS))
    assert histories[0][0] == "loaded"
