"""Hold a file's write-ahead log in place while a connection of this process writes to it.

Whoever closes a descriptor of a file lets go of all locks that the process has on it (fcntl(2)), SQLite's among them:
an application that reads its own database file does so. The next program to close the file takes itself for the last
one then, and removes the log. The lock of an open file description is let go of by no other close. To SQLite it is that
of one more reader, which stays: only with a log are there readers that keep no writer out.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from weakref import ref

from sessions._dialects.failures import NO_DESCRIPTOR
from sessions._reentry import Lock, own, suppress_own

from .files import Identity, identity_of

if sys.platform == "linux":
    import fcntl

_IS_POSSIBLE = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK") and Path("/proc/self/fd").is_dir()

# Where and how much: what a reader locks (SHARED_FIRST and SHARED_SIZE of SQLite's os_unix.c), and all of a file.
_READERS = (0x40000002, 510)
_ALL = (0, 0)


class _File:
    """A file and what this process has opened of it: one descriptor, unless it was exchanged at that moment."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.descriptors: list[int] = []
        # Each knows its hold weakly, and goes with it.
        self.holds: set[ref[Hold]] = set()

    def check(self) -> None:
        """Forget what somebody has closed, as who makes a daemon of a process closes everything."""
        self.descriptors[:] = [number for number in self.descriptors if _leads_to(number, self.identity)]

    def lock(self) -> bool:
        """Take the lock, where the file system has such ones; False when somebody has the file alone."""
        try:
            _control(self.descriptors[0], "F_OFD_SETLK", "F_RDLCK", _READERS)
        except own(BlockingIOError):
            return False
        except own(OSError):
            pass
        return True

    def unlock(self) -> None:
        for number in self.descriptors[:1]:
            with suppress_own(OSError):
                _control(number, "F_OFD_SETLK", "F_UNLCK", _READERS)

    def close(self) -> None:
        # In one call of C: an interrupt between two would leave one open, or close another one of its number.
        list(map(os.close, map(list.pop, [self.descriptors] * len(self.descriptors))))

    def is_locked_by_nobody(self) -> bool:
        try:
            found = _control(self.descriptors[0], "F_OFD_GETLK", "F_WRLCK", _ALL)
        except own(OSError):
            return False
        return bool(struct.unpack_from("h", found)[0] == fcntl.F_UNLCK)


class _Files:
    """What one process has open. In what a forked child inherits are the locks of its parent: it lets go of none."""

    def __init__(self, parents: Iterable[_Files]) -> None:
        self.lock = Lock()
        self._opened: list[int] = []
        self.files: dict[Identity, _File] = {}
        self.inherited: list[_File] = []
        for parent in parents:
            parent.sort()
            self.inherited += parent.inherited + list(parent.files.values())

    def sort(self) -> Identity:
        """File what was opened, also before an interrupt; return which file the last one is."""
        identity: Identity = None
        for descriptor in self._opened:
            with suppress_own(OSError):  # somebody has closed it
                identity = identity_of(os.fstat(descriptor))
                file = self.files.setdefault(identity, _File(identity))
                if descriptor not in file.descriptors:
                    file.descriptors.append(descriptor)
        self._opened.clear()
        return identity

    def find(self, target: str) -> _File:
        """Return the file, with a descriptor."""
        self.close_unused()
        identity = identity_of(os.stat(target))
        if identity in self.files:
            self.files[identity].check()
        if identity not in self.files or not self.files[identity].descriptors:
            # In one call of C: an interrupt falls before it, or when it is noted.
            self._opened.extend(map(os.open, [target], [os.O_RDONLY | os.O_CLOEXEC]))
            identity = self.sort()
        return self.files[identity]

    def close_unused(self) -> None:
        self.sort()
        for file in self.inherited:
            self._close(file)
        self.inherited = [file for file in self.inherited if file.descriptors]
        for file in [file for file in self.files.values() if not file.holds]:
            file.unlock()
            self._close(file)
            if not file.descriptors:
                self.files.pop(file.identity, None)

    def _close(self, file: _File) -> None:
        """Close it, unless a descriptor that is not ours leads there too: whatever that has locked would go as well."""
        file.check()
        if file.descriptors and (file.is_locked_by_nobody() or not self._is_open_elsewhere(file.identity)):
            file.close()

    def _is_open_elsewhere(self, identity: Identity) -> bool:
        try:
            names = os.listdir("/proc/self/fd")  # noqa: PTH208  (there may be thousands)
        except own(OSError):
            return True  # it cannot be told now
        ours = {number for file in (*self.files.values(), *self.inherited) for number in file.descriptors}
        return any(_leads_to(number, identity) for number in set(map(int, names)) - ours)


_of_process: dict[int, _Files] = {}


def _files() -> _Files:
    """Return those of this process, which knows itself by asking: not every fork tells."""
    process = os.getpid()
    if process not in _of_process:
        _of_process.setdefault(process, _Files(list(_of_process.values())))
        for other in set(_of_process) - {process}:
            _of_process.pop(other, None)
    return _of_process[process]


class Hold:
    """One connection's part in the lock of its file; with a connection that is forgotten it ends."""

    def __init__(self, files: _Files | None, file: _File | None) -> None:
        self._files = files
        self._file = file
        self._reference: ref[Hold] | None = None
        if file is not None:
            self._reference = ref(self, file.holds.discard)
            file.holds.add(self._reference)

    def is_on(self, database: Identity) -> bool:
        """Tell whether it is that file which is held, if any is."""
        return self._file is None or self._file.identity == database

    def lock(self) -> bool:
        """Take the lock, where there is such a thing; False when somebody has the file alone."""
        if self._file is None:
            return True
        with _files().lock:
            return self._file.lock()

    def end(self) -> None:
        """Let go of the lock with the last one to the file, which can be closed as SQLite closes it then."""
        # What a child inherits is its parent's.
        if self._file is not None and self._files is _files():
            with self._files.lock:
                self._file.holds.discard(self._reference)
                if not self._file.holds:
                    self._file.unlock()


NOTHING = Hold(None, None)


def hold(target: str) -> Hold:
    """Begin to hold the file that a connection is about to be opened to.

    Before that, so that no other thread closes its descriptor beside the new connection's locks. Raises OSError where
    no descriptor is free.
    """
    if not _IS_POSSIBLE:
        return NOTHING
    files = _files()
    with files.lock:
        try:
            return Hold(files, files.find(target))
        except own(OSError) as exc:
            if exc.errno in NO_DESCRIPTOR:
                raise
            return NOTHING  # SQLite will say it


def close_unused() -> None:
    """Close the descriptors of files that no connection holds any more, where that lets go of nobody's locks."""
    if _IS_POSSIBLE:
        files = _files()
        with files.lock:
            files.close_unused()


def _leads_to(descriptor: int, identity: Identity) -> bool:
    try:
        return identity_of(os.fstat(descriptor)) == identity
    except own(OSError):
        return False  # it is closed


def _control(descriptor: int, command: str, kind: str, where: tuple[int, int]) -> bytes:
    # struct flock: kind, whence, start, length, and a process, which is to be 0.
    question = struct.pack("hhqqi4x", getattr(fcntl, kind), os.SEEK_SET, *where, 0)
    return fcntl.fcntl(descriptor, getattr(fcntl, command), question)
