"""How the tables that a connection leads to are laid out, and the statements that suit them.

On our own tables the rows of a conversation stand together. On others the ids come first, out of an index
(sql/mysql/queries.sql), and until the flags of an answer with ids have told which they are.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from pymysql.constants import FLAG

from .answers import MyConnection, Result
from .connection import PacketConnection

_IDS_FIRST = {
    "all_items": "all_items_ids_first",
    "newest_items": "newest_items_ids_first",
    "records": "records_ids_first",
    "lock_newest_items": "lock_newest_items_ids_first",
    "delete_newest_item": "delete_newest_item_ids_first",
    "delete_items": "delete_items_ids_first",
    "delete_items_of": "delete_items_of_ids_first",
    "first_items": "first_items_ids_first",
}

# By the table's name; by connection, since one of the application's is bound for a request, and stays in its pool.
_together: WeakKeyDictionary[MyConnection, dict[str, bool]] = WeakKeyDictionary()


def is_known(connection: MyConnection, table: str) -> bool:
    """Tell whether an answer has told how the table is laid out."""
    return table in _together.get(connection, {})


def suiting(connection: MyConnection, table: str, name: str) -> str:
    """Return the name of the statement that suits the table."""
    if name not in _IDS_FIRST or _together.get(connection, {}).get(table):
        return name
    # With sql_safe_updates, which an application may have set, MariaDB deletes from no join.
    if name.startswith("delete") and not isinstance(connection, PacketConnection):
        return name
    return _IDS_FIRST[name]


def note(connection: MyConnection, table: str, name: str, result: Result) -> None:
    """Note what the answer to a statement tells."""
    if name in _IDS_FIRST and result.flags & FLAG.PRI_KEY:
        # An id that has a key of its own besides is not the first column of the primary key: the session is.
        _together.setdefault(connection, {})[table] = bool(result.flags & FLAG.UNIQUE_KEY)
