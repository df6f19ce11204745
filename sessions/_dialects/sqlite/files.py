"""The files behind a connection, and whether they still have their names.

SQLite looks a name up once. When the file is replaced or its write-ahead log removed, as a
restore from a backup does, a connection goes on writing to what no other will ever read,
and its end would copy that over the restored file.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from time import time_ns
from typing import NamedTuple

from sessions._dialects.failures import NO_DESCRIPTOR, raised_by_a_handler
from sessions._reentry import Lock, own

# A device and a number on it; None where there is no file.
Identity = tuple[int, int] | None

# How old the last change of a directory has to be, in nanoseconds, so that a later one has another time: kernels count
# in steps of up to 10 ms.
_STEP = 50_000_000
_SECOND = 1_000_000_000

# The few lines of what is told of a descriptor.
_MAX_ABOUT = 4096

_making: dict[int, Lock] = {}


class Files(NamedTuple):
    """A database, its write-ahead log, and the log's index, which all connections of a process to a file share."""

    database: Identity
    wal: Identity
    shm: Identity
    names: int | None = None  # of the database. By each of them SQLite would look for another log.

    def are_at(self, path: str, target: str) -> bool:
        """Tell whether these are what files_at() returns."""
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

    def have_name(self, path: str) -> bool:
        """Tell whether it is this database that is there, under as many names."""
        try:
            found = os.stat(path)
        except own(OSError):
            return False
        return (found.st_dev, found.st_ino) == self.database and found.st_nlink == self.names

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


def directory_at(path: str) -> tuple[int, int, int] | None:
    """Return what is another one whenever a name in a directory is made, removed or given to another file.

    By the time of its status, which no program sets: to put back the other one is what restoring a backup does. None
    where a change of this moment might leave it as it is, on file systems that count in seconds, or do not keep it, and
    on Windows, where it is another time.
    """
    try:
        found = os.stat(path)
    except own(OSError):
        return None
    changed = found.st_ctime_ns
    if os.name == "nt" or not changed % _SECOND or time_ns() - changed < _STEP:
        return None
    return found.st_dev, found.st_ino, changed


def is_empty(path: str) -> bool:
    """Tell whether there is nothing in a file; also when there is no such file."""
    found = _found(path)
    return found is None or not found.st_size


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
    opened: list[int] = []
    try:
        # O_PATH opens nothing: closing it lets go of nobody's locks. Noted in one call of C, before any interrupt.
        opened.extend(map(os.open, [path], [os.O_PATH | os.O_CLOEXEC]))
        opened.extend(map(os.open, [f"/proc/self/fdinfo/{opened[0]}"], [os.O_RDONLY | os.O_CLOEXEC]))
        return os.read(opened[1], _MAX_ABOUT).partition(b"mnt_id:")[2].partition(b"\n")[0]
    finally:
        list(map(os.close, opened))


def making_lock() -> Lock:
    """Return what is held while this process makes a file.

    To close that lets go of the locks of every connection of the process to it (fcntl(2)).
    """
    return _making.setdefault(os.getpid(), Lock())


def make_private(path: str) -> None:
    """Make an empty file that its owner alone may read, unless there is one."""
    with making_lock():
        if not os.access(path, os.F_OK):
            with suppress(FileExistsError):  # another process was quicker
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
