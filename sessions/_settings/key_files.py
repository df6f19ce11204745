"""Files for libraries that take a certificate or key as a path only."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


class KeyFiles:
    """Files in memory where the platform has memfd, else readable for their owner alone, and removed by close().

    libpq reads them again when it connects and cancels: keep them until the last connection is closed.
    """

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._paths: list[str] = []
        self._process = os.getpid()

    def add(self, data: bytes) -> str:
        """Make a file with this content and return its path."""
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
            descriptor = os.memfd_create("agent-sql-sessions", os.MFD_CLOEXEC)
            self._descriptors.append(descriptor)
            # libpq refuses a key that others may read.
            os.fchmod(descriptor, 0o600)
            path = f"/proc/self/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp(suffix=".pem")
            self._paths.append(path)
        with open(descriptor, "wb", closefd=path in self._paths) as file:
            file.write(data)
        return path

    def close(self) -> None:
        """Remove the files; may be called twice."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        # A forked child shares the names, not the right to remove them.
        for path in self._paths if self._process == os.getpid() else ():
            with suppress(OSError):
                Path(path).unlink()
        self._descriptors.clear()
        self._paths.clear()
