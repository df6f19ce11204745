"""Load the statements of a dialect from sql/<dialect>/*.sql.

A block starts with `-- name: x` and holds one statement. The files are valid SQL for
the default table names; other names, and those of indexes made of them, are put in,
quoted, when a dialect is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from sessions.errors import ConfigurationError

_BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$\n?", re.MULTILINE)
_TABLE = re.compile(r"\b(agent_sessions|agent_messages|agent_session_leases|agent_session_seals)(_by_\w+)?\b")
# What is asked of a table, and the name of the statement that asks it of the messages.
_BESIDE = re.compile(r"stands_beside_the_sessions\('(\w+)'\)")
_BESIDE_BLOCK = "beside_the_sessions"

# PostgreSQL cuts longer identifiers.
_MAX_NAME = 63

_DIGEST_CHARACTERS = 10


def _folder() -> Path:
    """The wheel carries the SQL inside the package, a checkout beside it."""
    package = Path(__file__).parent.parent
    inside = package / "sql"
    return inside if inside.is_dir() else package.parent / "sql"


@cache
def _blocks(dialect: str) -> Mapping[str, str]:
    blocks: dict[str, str] = {}
    for path in sorted((_folder() / dialect).glob("*.sql")):
        _, *parts = _BLOCK.split(path.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            blocks[name] = _COMMENT.sub("", text).strip().rstrip(";")
    return blocks


def leases_table(sessions_table: str) -> str:
    """Return the name of the table of leases: agent_session_leases beside agent_sessions, no two beside one name."""
    return _beside(sessions_table, "_lease")


def seals_table(sessions_table: str) -> str:
    """Return the name of the table of end seals: agent_session_seals beside agent_sessions, no two beside one name."""
    return _beside(sessions_table, "_seal")


def _beside(sessions_table: str, ending: str) -> str:
    schema, dot, name = sessions_table.rpartition(".")
    if name.endswith("sessions"):
        return schema + dot + _joined(name.removesuffix("s"), f"{ending}s", name)
    # chat_session would have the names of chat_sessions, also where the case of a name does not count.
    return schema + dot + _joined(name, ending if name.lower().endswith("session") else f"{ending}s", name)


def _joined(stem: str, ending: str, name: str) -> str:
    """Put an ending behind a name; where that is too long, behind its beginning and a digest of the name."""
    if len((stem + ending).encode()) <= _MAX_NAME:
        return stem + ending
    from hashlib import sha256  # 16 ms, for names that hardly anybody has

    ending = f"_{sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]}{ending}"
    return stem.encode()[: _MAX_NAME - len(ending)].decode(errors="ignore") + ending


@lru_cache(maxsize=64)
def load_statements(
    dialect: str, sessions_table: str, messages_table: str, *, quote: str, guarded: bool = True
) -> Mapping[str, str]:
    """Return the dialect's statements by name, for two tables.

    guarded: those that begin to work with a session refuse tables that stand in different schemas, unless it is said
    of one of the two where it is. Raises ConfigurationError where one of them has the name of what is made beside them.
    """
    tables = {
        "agent_sessions": sessions_table,
        "agent_messages": messages_table,
        "agent_session_leases": leases_table(sessions_table),
        "agent_session_seals": seals_table(sessions_table),
    }

    # By the names that a database may take for one.
    made: dict[str, str] = {}

    def quoted(match: re.Match[str]) -> str:
        table = tables[match[1]]
        schema, dot, name = table.rpartition(".")
        if match[2]:  # an index, which is made in its table's schema
            name = _joined(name, match[2], name)
        # MySQL has the names of indexes table by table.
        is_alone = dialect == "mysql" and match[2]
        if not is_alone and made.setdefault(f"{schema}{dot}{name}".lower(), match[0]) != match[0]:
            raise ConfigurationError(
                f"the table name {name!r} is also that of the leases, of the seals or of an index beside "
                f"{sessions_table!r} and {messages_table!r}; give sessions_table or messages_table another name"
            )
        return quote + name + quote if match[2] else ".".join(quote + part + quote for part in table.split("."))

    blocks = dict(_blocks(dialect))
    if "." in sessions_table + messages_table:
        blocks[_BESIDE_BLOCK] = "SELECT TRUE"

    def guard(match: re.Match[str]) -> str:
        return f"({blocks[_BESIDE_BLOCK].replace('agent_messages', match[1])})" if guarded else "TRUE"

    return {name: _TABLE.sub(quoted, _BESIDE.sub(guard, text)) for name, text in blocks.items()}
