"""Write files whole, and privately."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def make_directory(path: Path) -> None:
    """Make a directory that only its owner may enter; one that is there stays as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def name_of(session_id: str) -> str:
    """Return a file name that is harmless everywhere and that no other id has."""
    # What is no text in Unicode has a hash all the same. Of 128 bits: ids that share one are not to be found.
    number = hashlib.sha256(session_id.encode(errors="surrogatepass")).hexdigest()[:32]
    reduced = re.sub(r"[^A-Za-z0-9_-]+", "-", session_id)[:60].strip("-")
    return f"{reduced or 'session'}-{number}.html"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let what cannot be written say where: the system names no file to who has it open."""
    try:
        yield
    except OSError as exc:
        if exc.strerror and exc.filename is None:
            exc.filename = str(path)
        raise


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of the one at path when it is whole, and leaves nothing when it is not."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with naming(path), temporary.open("x", encoding="utf-8", newline="\n") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
