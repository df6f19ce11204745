"""A type checker refuses what would be refused when it runs: a misspelt option, or one of the wrong type."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

# Each line with the word that mypy must say of it, or none where it must be content.
LINES = [
    ('sessions.connect("memory:", create_tables=False)', ""),
    ('sessions.connect("memory:", create_table=False)', "create_table"),
    ('sessions.connect("memory:", max_retries="3")', "max_retries|str"),
    ("sessions.connect(pool=pool)", ""),
    ('sessions.connect("postgresql://", pool=pool, max_retries=1)', ""),
    ("sessions.connect(pool=pool, pool_size=5)", "pool_size|overload"),
    ("sessions.connect()", "overload"),
    ("sessions.bind(pool, default_limit=5)", ""),
    ("sessions.bind(pool, default_limits=5)", "default_limits"),
    ("sessions.bind(pool, pool_size=5)", "pool_size"),
    ('sessions.Session.from_url("chat_1", "memory:", pool_size=5)', ""),
    ('sessions.Session.from_url("chat_1", "memory:", poolsize=5)', "poolsize"),
    ('sessions.Session("chat_1", "memory:")', "str"),
    ('sessions.InMemorySession("chat_1", default_limit=5)', ""),
    ('sessions.InMemorySession("chat_1", limit=5)', "limit"),
    ('AgentsSession.from_url("chat_1", "memory:", on_conflict="raise", ssl={"ca": "ca.pem"})', ""),
    ('AgentsSession.from_url("chat_1", "memory:", session_settings={"limit": 5}, create_tables=False)', ""),
    ('AgentsSession.from_url("chat_1", "memory:", create_table=False)', "create_table"),
    ('AgentsSession.from_url("chat_1", "memory:", on_conflict="raises")', "on_conflict"),
    ('AgentsSession.from_url("chat_1", "memory:", statement_timeout="30")', "statement_timeout|str"),
    ("AgentsSession(backend)", "MemoryBackend|Backend"),
]
HEAD = """\
import sessions
from sessions.openai_agents import AgentsSession

pool: object = object()
backend: sessions.Backend
"""


@pytest.mark.slow
def test_mypy_refuses_what_the_library_would_refuse(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HEAD + "\n".join(line for line, _ in LINES) + "\n")
    # Not the SDK's own modules, which take a minute.
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-agents.*]\nfollow_imports = skip\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", "--config-file=mypy.ini", program.name],
        cwd=tmp_path,  # what is installed, not the checkout
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    said: dict[int, str] = {}
    for number, text in re.findall(r"^program\.py:(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        said[int(number)] = said.get(int(number), "") + text
    first = HEAD.count("\n") + 1
    for number, (line, words) in enumerate(LINES, first):
        if words:
            assert re.search(words, said.pop(number, "")), f"mypy accepts {line}\n{done.stdout}"
    assert said == {}
