"""uWSGI forks in C: its workers share what the application made at import, and no hook of Python's is called."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from embedding.application import connections, wait_until
from support.servers import are_required

TESTS = Path(__file__).parents[1]
WORKERS, REQUESTS = 4, 40

# What an operator may add: threads, or some of the hooks.
KINDS = {
    "as it is": [],
    "with threads": ["--enable-threads", "--threads=2"],
    "with the hook behind": ["--py-call-osafterfork"],
    "with all hooks": ["--py-call-uwsgi-fork-hooks"],
}


@pytest.fixture
def uwsgi(sections: dict[str, list[str]]) -> str:
    found = shutil.which("uwsgi", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        reason = f"there is no uWSGI for Python {sys.version_info[0]}.{sys.version_info[1]}"
        if are_required():
            pytest.fail(reason, pytrace=False)
        sections.setdefault("SKIPPED: uWSGI", []).append(reason)
        pytest.skip(reason)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_worker_reads_another_conversations_items(sql_url: str, uwsgi: str, kind: str) -> None:
    reads = 250 if kind == "as it is" else 50
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = [
        "--master",
        "--need-app",
        "--die-on-term",
        "--worker-reload-mercy=20",  # by itself it waits as long as we do for a thread that does not end
        "--disable-logging",
        f"--processes={WORKERS}",
        f"--http-socket=127.0.0.1:{port}",
        f"--virtualenv={sys.prefix}",
        "--module=embedding.loaded_once",
        *KINDS[kind],
    ]
    server = subprocess.Popen(
        [uwsgi, *options],
        cwd=TESTS,  # which it adds to the path: in the checkout it would load what is not installed
        env={**os.environ, "PYTHONPATH": str(TESTS), "DATABASE_URL": sql_url, "READS": str(reads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:

        def ask(number: int) -> Any:
            with urlopen(f"http://127.0.0.1:{port}/{('alice', 'bob')[number % 2]}", timeout=60) as answer:
                return json.load(answer)

        def is_up() -> bool:
            assert server.poll() is None, "uWSGI ended"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=60).close()
            except ConnectionRefusedError:
                return False
            return True

        wait_until(is_up, 60)
        with ThreadPoolExecutor(2 * WORKERS) as clients:
            answers = list(clients.map(ask, range(REQUESTS)))
        assert sum(foreign for _, _, foreign in answers) == 0
        assert len({process for _, (process, _), _ in answers}) > 1
        for (parent, its_own), (process, number), _ in answers:
            assert process != parent
            assert number is None or number != its_own
    finally:
        server.send_signal(signal.SIGTERM)
        said, _ = server.communicate(timeout=60)
    assert "Traceback" not in said, said
    wait_until(lambda: not connections(sql_url))
