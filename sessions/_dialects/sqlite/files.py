"""The files behind a connection, and whether they still have their names.

SQLite looks a name up once. When the file is replaced or its write-ahead log removed, as a
restore from a backup does, a connection goes on writing to what no other will ever read,
and its end would copy that over the restored file.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NamedTuple

from sessions._dialects.failures import NO_DESCRIPTOR, raised_by_a_handler
from sessions._reentry import Lock, own

# A device and a number on it; None where there is no file.
Identity = tuple[int, int] | None

# The few lines of what is told of a descriptor.
_MAX_ABOUT = 4096

# Held while a file is made: to close it lets go of the locks of every connection of this process to it (fcntl(2)).
_making = Lock()


class Files(NamedTuple):
    """A database, its write-ahead log, and the log's index, which all connections of a process to a file share."""

    database: Identity
    wal: Identity
    shm: Identity
    names: int | None = None  # of the database. By each of them SQLite would look for another log.

    def are_at(self, path: str, target: str) -> bool:
        """Tell whether these are what files_at() returns; in place, for a write asks three times."""
        try:
            database, wal, shm = os.stat(path), os.stat(target + "-wal"), os.stat(target + "-shm")
        except own(OSError):
            return files_at(path, target) == self
        return self == (
            (database.st_dev, database.st_ino),
            (wal.st_dev, wal.st_ino),
            (shm.st_dev, shm.st_ino),
            database.st_nlink,
        )

    def may_have_become(self, later: Files) -> bool:
        """Tell whether what was opened in between is what is there later: numbers in use are given to no other file."""
        return later.database is not None and all(
            before in (None, now) for before, now in zip(self, later, strict=True)
        )


def files_at(path: str, target: str) -> Files:
    """Return the files that are there now; target is what path leads to if it is a link: the log stands beside it."""
    database, wal, shm = _found(path), _found(target + "-wal"), _found(target + "-shm")
    return Files(
        identity_of(database), identity_of(wal), identity_of(shm), names=None if database is None else database.st_nlink
    )


def identity_of(found: os.stat_result | None) -> Identity:
    """Return what a file is known by."""
    return None if found is None else (found.st_dev, found.st_ino)


def _found(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as exc:
        if raised_by_a_handler(exc):
            raise
        return None


def is_mounted(target: str) -> bool:
    """Tell whether the file is a mount of its own, as `docker run -v chat.db:/app/chat.db` makes one: its log is not.

    By the numbers of Linux's mounts, see proc_pid_fdinfo(5): the device is the same where both ends are on one file
    system, and is not the directory's for any file of some overlays. The list of all mounts takes five times as long.

    Raises OSError where no descriptor is free to look with; where there is nothing to look at it is False.
    """
    try:
        return _mount_of(target) != _mount_of(target.rpartition("/")[0] or "/")
    except OSError as exc:
        if raised_by_a_handler(exc) or exc.errno in NO_DESCRIPTOR:
            raise
        return False


def _mount_of(path: str) -> bytes:
    if sys.platform != "linux":
        return b""
    # O_PATH opens nothing: closing it lets go of nobody's locks.
    file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        about = os.open(f"/proc/self/fdinfo/{file}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(about, _MAX_ABOUT).partition(b"mnt_id:")[2].partition(b"\n")[0]
        finally:
            os.close(about)
    finally:
        os.close(file)


def make_private(path: str) -> None:
    """Make an empty file that its owner alone may read, unless there is one."""
    with _making:
        if not os.access(path, os.F_OK):
            with suppress(FileExistsError):  # another process was quicker
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
