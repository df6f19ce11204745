"""A process whose SQLite has the locks of a network file system, and no shared memory: see test_sqlite_faults.py."""

import ctypes
import ctypes.util
import logging
import sqlite3
import sys
import tempfile

import sessions


def _use_lock_files() -> bool:
    """Make the VFS unix-dotfile the default, where Python uses the system's library and that has it."""
    name = ctypes.util.find_library("sqlite3")
    if name is None:
        return False
    library = ctypes.CDLL(name)
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    lock_files = library.sqlite3_vfs_find(b"unix-dotfile")
    if not lock_files or library.sqlite3_vfs_register(ctypes.c_void_p(lock_files), 1) != 0:
        return False
    with tempfile.TemporaryDirectory() as directory:
        connection = sqlite3.connect(f"{directory}/try.db")
        [(mode,)] = connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    return bool(mode != "wal")


def main() -> None:
    url = sys.argv[1]
    if not _use_lock_files():
        print("this Python's SQLite cannot be told to use lock files")
        return
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items([{"n": 1}, {"n": 2}])
        assert session.pop_item() == {"n": 2}
        print(session.get_items())


if __name__ == "__main__":
    main()
