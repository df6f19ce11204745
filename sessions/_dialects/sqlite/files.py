"""The files behind a connection, and whether they still have their names.

SQLite looks a name up once. When the file is replaced or its write-ahead log removed, as a
restore from a backup does, a connection goes on writing to what no other will ever read,
and its end would copy that over the restored file.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import NamedTuple

from sessions._dialects.failures import raised_by_a_handler

# A device and a number on it; None where there is no file.
_Identity = tuple[int, int] | None

# Held while a file is made: to close it lets go of the locks of every connection of this process to it (fcntl(2)).
_making = threading.Lock()


class Files(NamedTuple):
    """A database, its write-ahead log, and the log's index, which all connections of a process to a file share."""

    database: _Identity
    wal: _Identity
    shm: _Identity

    def may_have_become(self, later: Files) -> bool:
        """Tell whether what was opened in between is what is there later: numbers in use are given to no other file."""
        return later.database is not None and all(
            before in (None, now) for before, now in zip(self, later, strict=True)
        )


def files_at(path: str, target: str) -> Files:
    """Return the files that are there now; target is what path leads to if it is a link: the log stands beside it."""
    return Files(_identity(path), _identity(f"{target}-wal"), _identity(f"{target}-shm"))


def _identity(path: str) -> _Identity:
    try:
        found = os.stat(path)
    except OSError as exc:
        if raised_by_a_handler(exc):
            raise
        return None
    return found.st_dev, found.st_ino


def make_private(path: str) -> None:
    """Make an empty file that its owner alone may read, unless there is one."""
    with _making:
        if not os.access(path, os.F_OK):
            with suppress(FileExistsError):  # another process was quicker
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
