"""A process whose SQLite has the locks of a network file system, and no shared memory: see test_sqlite_faults.py."""

import ctypes
import ctypes.util
import logging
import sys

import sessions


def main() -> None:
    url = sys.argv[1]
    library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    lock_files = library.sqlite3_vfs_find(b"unix-dotfile")
    assert lock_files
    assert library.sqlite3_vfs_register(ctypes.c_void_p(lock_files), 1) == 0
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items([{"n": 1}, {"n": 2}])
        assert session.pop_item() == {"n": 2}
        print(session.get_items())


if __name__ == "__main__":
    main()
