"""`make demo` does what it says, on every backend that outlives a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sessions

SCRIPT = Path(__file__).with_name("agent_script.py")


def _run(*arguments: str) -> str:
    # A key in the environment must not be used: the script needs no network.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    process = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stderr == ""
    return process.stdout


@pytest.mark.slow
def test_the_second_process_remembers_the_first(sql_url: str) -> None:
    output = _run("--url", sql_url, "--session", "elsewhere")
    first, second = output.split("second process")
    assert "tool       track_parcel('1042')" in first
    assert "remembers  0 items" in first
    assert "remembers  4 items" in second
    assert "You are Ada, and your parcel left Rotterdam" in second
    assert "tool" not in second
    with sessions.Session.from_url("elsewhere", sql_url) as session:
        kinds = [item.get("type", "message") for item in session.get_items()]
    assert kinds == ["message", "function_call", "function_call_output", *["message"] * 5]


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_script_without_arguments_leaves_nothing_behind() -> None:
    output = _run()
    path = Path(output.split("sqlite:///", 1)[1].splitlines()[0])
    assert path.is_absolute()
    assert not path.parent.exists()
