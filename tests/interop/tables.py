"""The tables as each program makes them, for databases in which we find them ready."""

import pytest

from interop.peers import open_peer
from support.servers import dialect_of, execute_sql

# Who can make tables on each dialect. The SDK cannot on MySQL: its VARCHAR has no length there;
# "sdk-by-hand" is what its users create instead, with the server's default collation.
MAKERS = {
    "sqlite": ("ours", "sdk-sqlite", "sdk-aiosqlite", "npm"),
    "postgresql": ("ours", "sdk-asyncpg", "sdk-psycopg", "npm"),
    "mysql": ("ours", "sdk-by-hand", "npm"),
    "mariadb": ("ours", "sdk-by-hand", "npm"),
}

OTHERS = [
    pytest.param(dialect, maker, marks=getattr(pytest.mark, dialect), id=f"{dialect}-{maker}")
    for dialect, makers in MAKERS.items()
    for maker in makers
    if maker != "ours"
]

_INDEX = "CREATE INDEX idx_agent_messages_session_time ON agent_messages (session_id, created_at)"
_PARENT = "REFERENCES agent_sessions (session_id) ON DELETE CASCADE"
_TIME = "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
_SECONDS = "INTEGER NOT NULL DEFAULT (unixepoch())"


def _tables(number: str, name: str, text: str, time: str, *, renewed: str = "", foreign_key: bool = False) -> list[str]:
    """The two tables with these types; the parent named by the column or, as MySQL wants it, by the table."""
    by_column, by_table = ("", f", FOREIGN KEY (session_id) {_PARENT}") if foreign_key else (_PARENT, "")
    messages = f"id {number}, session_id {name} NOT NULL {by_column}, message_data {text} NOT NULL, created_at {time}"
    return [
        f"CREATE TABLE agent_sessions (session_id {name} PRIMARY KEY, created_at {time}, updated_at {time} {renewed})",
        f"CREATE TABLE agent_messages ({messages}{by_table})",
    ]


_MYSQL_NUMBER = "INT PRIMARY KEY AUTO_INCREMENT"
_NPM_ON_MYSQL = _tables(
    _MYSQL_NUMBER, "VARCHAR(255)", "MEDIUMTEXT", _TIME, renewed="ON UPDATE CURRENT_TIMESTAMP", foreign_key=True
)
_NPM = {
    "sqlite": [*_tables("INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT", "TEXT", _SECONDS), _INDEX],
    "postgresql": [*_tables("SERIAL PRIMARY KEY", "VARCHAR(255)", "TEXT", _TIME), _INDEX],
    # Its CREATE INDEX IF NOT EXISTS is an error on MySQL: the tables stay without the index there.
    "mysql": _NPM_ON_MYSQL,
    "mariadb": [*_NPM_ON_MYSQL, _INDEX],
}
_SDK_BY_HAND = [*_tables(_MYSQL_NUMBER, "VARCHAR(255)", "TEXT", _TIME, foreign_key=True), _INDEX]


async def make_tables(maker: str, url: str) -> None:
    """Make the tables as that program does; nothing is left in them."""
    if maker in ("npm", "sdk-by-hand"):
        statements = _NPM[dialect_of(url)] if maker == "npm" else _SDK_BY_HAND
        for statement in statements:
            execute_sql(url, statement)
        return
    async with open_peer(maker, url, "first", create_tables=True) as peer:
        await peer.add_items([{"role": "user", "content": "makes the tables"}])
        await peer.clear_session()
