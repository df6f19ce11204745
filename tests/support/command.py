"""The command `agent-sessions` in the tests' own process."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from sessions._command.main import main


class Result(NamedTuple):
    """What a command has written, and its exit code."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of its standard output."""
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The objects of its standard output, one a line."""
        return [json.loads(line) for line in self.lines]


Run = Callable[..., Result]


def run_command(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> Result:
    """Run a command; what argparse ends the process with is its exit code."""
    try:
        status = main(arguments)
    except SystemExit as exc:
        status = int(exc.code or 0)
    return Result(status, *capsys.readouterr())
