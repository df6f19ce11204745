"""What `python -m build` makes of the source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# The `make` or the Python that runs the tests hands its own wishes on.
_NOT_HANDED_ON = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHONPATH")


def run(*command: object, cwd: Path, umask: int = -1, **environment: str) -> str:
    """What a command prints; it has to succeed."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def build(outdir: Path, kind: str, source: Path = ROOT) -> Path:
    """What is built, of that kind: "--wheel" or "--sdist"."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", outdir, kind, source, cwd=outdir.parent)
    (path,) = outdir.iterdir()
    return path
