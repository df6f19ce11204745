"""A SQLite file by its descriptors: the locks of open file descriptions on it, and what the system tells of locks."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import ref

from sessions._dialects.failures import NO_DESCRIPTOR
from sessions._reentry import own, suppress_own

from .files import Identity, identity_of, is_empty

if sys.platform == "linux":
    import fcntl

IS_POSSIBLE = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK") and Path("/proc/self/fd").is_dir()

# Where and how much (SQLite's os_unix.c): what a reader locks (SHARED_FIRST, SHARED_SIZE), what it has to lock for a
# moment before (PENDING_BYTE), and all of a file.
_READERS = (0x40000002, 510)
BEGINNING = (0x40000000, 1)
ALL = (0, 0)

# The byte that SQLite locks of a log's index which it has open (UNIX_SHM_DMS).
_INDEX_IS_OPEN = 128
# Of what is told of a descriptor, see proc_pid_fdinfo(5): how it was opened, and what it has locked, neighbours in one.
_FLAGS = re.compile(rb"^flags:\s*([0-7]+)$", re.MULTILINE)
_LOCKED = re.compile(rb"^lock:.* (\d+) (\d+)$", re.MULTILINE)

# Where a process's flags are in what stands behind its name, see proc_pid_stat(5), and PF_FORKNOEXEC (linux/sched.h).
_FLAGS_AT = 6
_FORKED_AND_NO_EXEC = 0x40

# The two versions in the header of a file with a write-ahead log (sqlite.org/fileformat2.html, 1.3.3), and where.
_WITH_A_LOG = b"\2\2"
_VERSIONS_AT = 18


class HeldFile:
    """A file and what this process has opened of it: one descriptor, and another one to close it by."""

    def __init__(self, identity: Identity, path: str) -> None:
        self.identity = identity
        self.path = path
        self.descriptors: list[int] = []
        # Each knows its hold weakly, and goes with it.
        self.holds: set[ref[Any]] = set()
        # Whether SQLite was seen to have the log's index that stands there: what it opens later is that too.
        self.is_checked = False

    def check(self) -> None:
        """Forget what somebody has closed, as who makes a daemon of a process closes everything."""
        self.descriptors[:] = [number for number in self.descriptors if leads_to(number, self.identity)]

    def lock(self) -> bool | None:
        """Take the lock, where there are such ones; tell whether there is a log, None when somebody has it alone."""
        try:
            if not self._has_log():
                return False
            if not self.take("F_RDLCK", _READERS):
                return None
            if self._has_log():
                return True
        except own(OSError):  # no such locks, or somebody has closed it
            return True
        self.unlock()  # who had it alone has changed that
        return False

    def _has_log(self) -> bool:
        # With a rollback journal, and nothing in the log, it was about to get that when its process was killed: to take
        # it back SQLite wants the file alone.
        if not is_empty(f"{self.path}-journal") and is_empty(f"{self.path}-wal"):
            return False
        return all(os.pread(number, len(_WITH_A_LOG), _VERSIONS_AT) == _WITH_A_LOG for number in self.descriptors[:1])

    def take(self, kind: str, where: tuple[int, int]) -> bool:
        """Lock a part; False when somebody has locked it."""
        try:
            for number in self.descriptors[-1:]:
                _control(number, "F_OFD_SETLK", kind, where)
        except own(BlockingIOError):
            return False
        return True

    def unlock(self) -> None:
        for number in self.descriptors:
            with suppress_own(OSError):
                _control(number, "F_OFD_SETLK", "F_UNLCK", ALL)

    def close(self) -> None:
        # In one call of C: an interrupt between two would leave one open, or close another one of its number. Noted
        # until it is closed: a fork by another thread may come between.
        numbers = self.descriptors[:]
        list(chain(map(os.close, numbers), map(self.descriptors.remove, numbers)))

    def remove_log(self, may_go: Callable[[], object]) -> None:
        """Remove the log if it is empty and may go, and the file has its name; for whoever has all of it locked.

        All by the directory itself: its name may lead to another one by now.
        """
        directory: list[int] = []
        with suppress_own(OSError):  # in this directory nothing may be removed
            try:
                directory.extend(map(os.open, [os.path.dirname(self.path)], [os.O_PATH | os.O_CLOEXEC]))  # noqa: PTH120
                name = os.path.basename(self.path)  # noqa: PTH119
                if (
                    identity_of(os.stat(name, dir_fd=directory[0])) == self.identity
                    and not os.stat(f"{name}-wal", dir_fd=directory[0]).st_size
                    and may_go()
                ):
                    os.unlink(f"{name}-shm", dir_fd=directory[0])
                    os.unlink(f"{name}-wal", dir_fd=directory[0])
            finally:
                list(map(os.close, directory))

    def is_locked(self, where: tuple[int, int] = ALL) -> bool | None:
        """Tell whether somebody has locked a part; None where there are no such locks."""
        try:
            found = [_control(number, "F_OFD_GETLK", "F_WRLCK", where) for number in self.descriptors[:1]]
        except own(OSError):
            return None
        return any(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK for answer in found)


def leads_to(descriptor: int, identity: Identity) -> bool:
    try:
        return identity_of(os.fstat(descriptor)) == identity
    except own(OSError):
        return False  # it is closed


def may_have_inherited() -> bool:
    """Tell whether this process was forked and runs what its parent did; also where the system does not tell.

    What SQLite has open no other program inherits: it is closed on exec.
    """
    try:
        flags = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[_FLAGS_AT])
    except own(OSError):
        return True
    return not flags or bool(flags & _FORKED_AND_NO_EXEC)


def is_unlocked_index(descriptor: int, path: str) -> bool:
    """Tell whether it is that of a log's index which this process has not locked.

    By the name that the index has or had, and by what it is: it has another name on another mount.
    """
    try:
        name = os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")  # noqa: PTH115  (of thousands)
    except own(OSError):
        return False  # it is closed
    if name != path and not (name.endswith("-shm") and _is_at(path, descriptor)):
        return False
    about = _about(descriptor)
    if (flags := _FLAGS.search(about)) is not None and int(flags[1], 8) & os.O_ACCMODE == os.O_RDONLY:
        return False  # it locks nothing, and cannot write
    return not any(int(first) <= _INDEX_IS_OPEN <= int(last) for first, last in _LOCKED.findall(about))


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return leads_to(descriptor, identity_of(os.stat(path)))
    except own(OSError):
        return False  # nothing is there


def has_locks(descriptor: int) -> bool:
    """Tell whether this process has locks by it, if the system tells."""
    return b"\nlock:" in _about(descriptor)


def descriptors_of_process() -> list[int]:
    """Return what this process has open; nothing where the system does not tell.

    Raises OSError where no descriptor is free to look with.
    """
    try:
        return list(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208  (there may be thousands)
    except own(OSError) as exc:
        if exc.errno in NO_DESCRIPTOR:
            raise
        return []


def _about(descriptor: int) -> bytes:
    try:
        return Path(f"/proc/self/fdinfo/{descriptor}").read_bytes()
    except own(OSError):
        return b""


def _control(descriptor: int, command: str, kind: str, where: tuple[int, int]) -> bytes:
    # struct flock: kind, whence, start, length, and a process, which is to be 0.
    question = struct.pack("hhqqi4x", getattr(fcntl, kind), os.SEEK_SET, *where, 0)
    return fcntl.fcntl(descriptor, getattr(fcntl, command), question)
