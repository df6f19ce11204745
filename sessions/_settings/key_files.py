"""Files for libraries that take a certificate or key as a path only."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class _File(NamedTuple):
    data: bytes
    descriptor: int | None  # of a file in memory
    identity: tuple[int, int]


class KeyFiles:
    """Files in memory where the platform has memfd, else readable for their owner alone, and removed by close().

    libpq reads them again when it connects and cancels: keep them until the last connection is closed.
    """

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._process = os.getpid()

    def add(self, data: bytes) -> str:
        """Make a file with this content and return its path."""
        in_memory = hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()
        if in_memory:
            descriptor = os.memfd_create("agent-sql-sessions", os.MFD_CLOEXEC)
            # libpq refuses a key that others may read.
            os.fchmod(descriptor, 0o600)
            path = f"/proc/self/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp(suffix=".pem")
        self._files[path] = _File(data, descriptor if in_memory else None, _identity(os.fstat(descriptor)))
        with open(descriptor, "wb", closefd=not in_memory) as file:
            file.write(data)
        return path

    def are_ours(self) -> bool:
        """Tell whether this process can still open them.

        Who gives up root's rights cannot read root's files, and a daemon closes what it has open: its next file
        may have the number of one of these.
        """
        return all(_is_ours(path, file) for path, file in self._files.items())

    def copy_to(self, other: KeyFiles) -> dict[str, str]:
        """Make all of them anew in another; return the new path of each."""
        return {path: other.add(file.data) for path, file in self._files.items()}

    def close(self) -> None:
        """Remove the files; may be called twice."""
        while self._files:
            path, file = self._files.popitem()
            with suppress(OSError):
                if file.descriptor is not None:
                    if _identity(os.fstat(file.descriptor)) == file.identity:
                        os.close(file.descriptor)
                # A forked child shares the names, not the right to remove them.
                elif self._process == os.getpid():
                    Path(path).unlink()


def _is_ours(path: str, file: _File) -> bool:
    with suppress(OSError):
        found = os.stat(path)
        return _identity(found) == file.identity and found.st_uid == os.geteuid()
    return False


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
