"""Hold a file's write-ahead log in place from before a connection of this process opens it until after its close.

Whoever closes a descriptor of a file lets go of all locks that the process has on it (fcntl(2)), SQLite's among them:
an application that reads its own database file does so. The next program to close the file takes itself for the last
one then, and removes the log. The lock of an open file description is let go of by no other close. To SQLite it is that
of one more reader, which stays: only with a log are there readers that keep no writer out. Nor does SQLite see that a
connection was the last one: the log is removed here, while such a lock keeps everybody out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import sleep
from weakref import ref

from sessions._dialects.failures import NO_DESCRIPTOR
from sessions._reentry import Lock, own, suppress_own

from . import files
from .files import Identity, identity_of, is_empty
from .held_file import (
    ALL,
    BEGINNING,
    IS_POSSIBLE,
    HeldFile,
    descriptors_of_process,
    has_locks,
    is_unlocked_index,
    leads_to,
    may_have_inherited,
)

# How many descriptors a close looks through. The lowest that is free is given: who has a higher one has more of them.
_MANY = 1000
# In seconds: how long it takes SQLite at most to lock an index that it has opened, and how often that is looked at.
_LOCKING_SECONDS = 0.001
_LOOKS = 5


class _Files:
    """What one process has open. In what a forked child inherits are the locks of its parent: it lets go of none."""

    def __init__(self, parents: Iterable[_Files]) -> None:
        self.lock = Lock()
        self._opened: list[tuple[int, str]] = []
        self.files: dict[Identity, HeldFile] = {}
        self.inherited: list[HeldFile] = []
        self.may_have_inherited = may_have_inherited()
        for parent in parents:
            parent.sort()
            self.inherited += parent.inherited + list(parent.files.values())

    def sort(self) -> Identity:
        """File what was opened, also before an interrupt; return which file the last one is."""
        identity: Identity = None
        for descriptor, path in self._opened:
            with suppress_own(OSError):  # somebody has closed it
                identity = identity_of(os.fstat(descriptor))
                file = self.files.setdefault(identity, HeldFile(identity, path))
                if descriptor not in file.descriptors:
                    file.descriptors.append(descriptor)
        self._opened.clear()
        return identity

    def find(self, target: str) -> HeldFile:
        """Return the file, with a descriptor."""
        self.close_unused()
        identity = identity_of(os.stat(target))
        if identity in self.files:
            self.files[identity].check()
        if identity not in self.files or not self.files[identity].descriptors:
            try:
                self._open(target, os.O_RDWR)
            except own(OSError) as exc:
                if exc.errno in NO_DESCRIPTOR:
                    raise
                self._open(target, os.O_RDONLY)
            identity = self.sort()
        self.files[identity].path = target
        return self.files[identity]

    def make(self, target: str) -> None:
        """Make an empty file that its owner alone may read, unless there is one.

        It stays open: an application may have locked it by now.
        """
        if not os.access(target, os.F_OK):
            with suppress(FileExistsError):  # another process was quicker
                self._open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR)

    def _open(self, target: str, flags: int) -> None:
        # In one call of C: an interrupt falls before it, or when it is noted.
        self._opened.extend(zip(map(os.open, [target], [flags | os.O_CLOEXEC], [0o600]), [target], strict=True))

    def close_unused(self) -> None:
        self.sort()
        for file in self.inherited:
            file.check()
            if self._may_close(file):
                file.close()
        self.inherited = [file for file in self.inherited if file.descriptors]
        for file in [file for file in self.files.values() if not file.holds]:
            file.check()
            file.unlock()
            if self._may_close(file):
                self._close(file)
            if not file.descriptors:
                self.files.pop(file.identity, None)

    def _may_close(self, file: HeldFile) -> bool:
        """Tell whether that lets go of nobody's locks now."""
        if not file.descriptors:
            return False
        return file.is_locked() is False or not self.is_open_elsewhere(file)

    def _close(self, file: HeldFile) -> None:
        """Close it, with a log that nobody has open, while nobody can get a lock: that would go as well."""
        if file.is_locked(BEGINNING):
            return  # by somebody who writes, or closes it
        try:
            # A lock of a descriptor that a child has inherited would stay.
            self._open(f"/proc/self/fd/{file.descriptors[0]}", os.O_RDWR)
            self.sort()
            is_alone = file.take("F_WRLCK", ALL)
            if is_alone:
                file.remove_log(lambda: not self.is_open_elsewhere(file))
            if is_alone or (file.take("F_WRLCK", BEGINNING) and not self.is_open_elsewhere(file)):
                file.close()
        except own(OSError):  # it may only be read, no descriptor is free, or there are no such locks
            file.close()
        finally:
            file.unlock()

    def is_open_elsewhere(self, file: HeldFile) -> bool:
        """Tell whether this process has another descriptor of the file; also where it has too many to look at."""
        if file.descriptors[0] > _MANY:
            return True
        try:
            numbers = descriptors_of_process()
        except own(OSError):
            return True  # it cannot be told now
        if not numbers or len(numbers) > _MANY:
            return True
        ours = {number for known in (*self.files.values(), *self.inherited) for number in known.descriptors}
        return any(leads_to(number, file.identity) for number in set(numbers) - ours)


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

    def __init__(self, files: _Files | None, file: HeldFile | None) -> None:
        self._files = files
        self._file = file
        self._reference: ref[Hold] | None = None
        self.is_ending = False
        if file is not None:
            self._reference = ref(self, file.holds.discard)
            file.holds.add(self._reference)

    def is_on(self, database: Identity) -> bool:
        """Tell whether it is that file which is held, if any is."""
        return self._file is None or self._file.identity == database

    def lock(self) -> bool | None:
        """Take the lock and tell whether there may be a log; None when somebody has the file alone."""
        if self._file is None:
            return True
        with _files().lock:
            return self._file.lock()

    def part_from_log(self, empty: Callable[[], object]) -> None:
        """Empty the log that has the name of this file's, and take that from it."""
        if self._file is None:
            empty()
            return
        with _files().lock:
            if len(self._file.holds) > 1 or not self._file.take("F_WRLCK", ALL):
                return
            try:
                empty()
                self._file.remove_log(lambda: True)
            finally:
                self._file.unlock()

    def is_inherited(self) -> bool:
        """Tell whether this is a forked child, and a connection to the file with its log was open at the fork.

        SQLite would take its locks, which are the parent's alone, and its index, which others may have removed since.
        Asked, as not every fork tells. False where the system does not tell.
        """
        if self._file is None or self._file.is_checked:
            return False
        if not _files().may_have_inherited or not has_locks(self._file.descriptors[-1]):
            return False
        index = f"{self._file.path}-shm"
        found = set(descriptors_of_process())
        for look in range(_LOOKS):
            if look:
                sleep(_LOCKING_SECONDS)  # another thread may be opening one
            found = {number for number in found if is_unlocked_index(number, index)}
            if not found:
                return False
        return True

    def has_index(self, index: Identity) -> bool:
        """Tell, behind the opening, whether the log's index that stands there is the one that SQLite has.

        By whatever names: to a file that a connection of before the fork, or of the application's, has opened under
        another one SQLite gives the index that it has, which may have been removed since. Asked once for each file.
        """
        if self._file is None or self._file.is_checked:
            return True
        numbers = descriptors_of_process()
        self._file.is_checked = not numbers or any(leads_to(number, index) for number in numbers)
        return self._file.is_checked

    def is_of_use(self) -> bool:
        """Tell whether this process has the file open elsewhere: a close of that would let go of the others' locks."""
        if self._file is None or self._files is not _files():
            return False
        with self._files.lock:
            self._file.check()
            return bool(self._file.descriptors) and self._files.is_open_elsewhere(self._file)

    def has_log(self) -> bool:
        """Tell whether the log holds something; not in a finalizer that is run in the middle of this module."""
        if self._file is None or self._files is not _files() or self._files.lock.is_held():
            return False
        return not is_empty(f"{self._file.path}-wal")

    def is_last(self) -> bool:
        """Begin to end; tell whether it is the last one to its file, which without such locks SQLite does itself."""
        if self._file is None or self._files is not _files():
            return False
        with self._files.lock:
            self.is_ending = True
            return all(other.is_ending for known in list(self._file.holds) if (other := known()) is not None)

    def end(self) -> None:
        """Let go of the file, behind the connection's close; close_unused() does the rest."""
        # What a child inherits is its parent's.
        if self._file is not None and self._files is _files():
            with self._files.lock:
                self._file.holds.discard(self._reference)


NOTHING = Hold(None, None)


def make_private(target: str) -> None:
    """Make an empty file that its owner alone may read, unless there is one; raises OSError."""
    if not IS_POSSIBLE:
        files.make_private(target)
        return
    known = _files()
    with known.lock:
        known.make(target)


def hold(target: str) -> Hold:
    """Begin to hold the file that a connection is about to be opened to.

    Before that, so that no other thread closes its descriptor beside the new connection's locks. Raises OSError where
    no descriptor is free.
    """
    if not IS_POSSIBLE:
        return NOTHING
    known = _files()
    with known.lock:
        try:
            return Hold(known, known.find(target))
        except own(OSError) as exc:
            if exc.errno in NO_DESCRIPTOR:
                raise
            return NOTHING  # SQLite will say it


def stand_in(target: str) -> Hold:
    """Hold a file, without a connection, for those that are about to be closed: the last of them is that all the same.

    Raises OSError as hold() does.
    """
    held = hold(target)
    held.lock()
    held.is_ending = True
    return held


def part_from_log(target: str, empty: Callable[[], object]) -> None:
    """Empty the log of a file that was here before, and take its name, while nobody has the file that is here now.

    Whoever has that may have written to the same log. Where there are no such locks it is emptied all the same.
    Raises OSError as hold() does.
    """
    held = hold(target)
    try:
        held.part_from_log(empty)
    finally:
        held.end()


def close_unused() -> None:
    """Close the descriptors of files that no connection holds any more, where that lets go of nobody's locks.

    Not in a finalizer that the collector runs in the middle of this module: who comes next does it.
    """
    if IS_POSSIBLE and not (known := _files()).lock.is_held():
        with known.lock:
            known.close_unused()


if IS_POSSIBLE:
    # While its parent was closing one nobody else gets the file: the child closes that at once.
    os.register_at_fork(after_in_child=close_unused)
