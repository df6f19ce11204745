"""The tables as each program makes them, for databases in which we find them ready."""

from interop.peers import open_peer
from support.servers import connect_raw, dialect_of

# Who can make tables on each dialect. The SDK cannot on MySQL: its VARCHAR has no length there;
# "sdk-by-hand" is what its users create instead, with the server's default collation.
MAKERS = {
    "sqlite": ("ours", "sdk-sqlite", "sdk-aiosqlite", "npm"),
    "postgresql": ("ours", "sdk-asyncpg", "sdk-psycopg", "npm"),
    "mysql": ("ours", "sdk-by-hand", "npm"),
    "mariadb": ("ours", "sdk-by-hand", "npm"),
}

_NPM = {
    "sqlite": (
        """
        CREATE TABLE agent_sessions (
            session_id TEXT PRIMARY KEY,
            created_at INTEGER NOT NULL DEFAULT (unixepoch()),
            updated_at INTEGER NOT NULL DEFAULT (unixepoch())
        )
        """,
        """
        CREATE TABLE agent_messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            session_id TEXT NOT NULL REFERENCES agent_sessions (session_id) ON DELETE CASCADE,
            message_data TEXT NOT NULL,
            created_at INTEGER NOT NULL DEFAULT (unixepoch())
        )
        """,
        "CREATE INDEX idx_agent_messages_session_time ON agent_messages (session_id, created_at)",
    ),
    "postgresql": (
        """
        CREATE TABLE agent_sessions (
            session_id VARCHAR(255) PRIMARY KEY,
            created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
            updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
        )
        """,
        """
        CREATE TABLE agent_messages (
            id SERIAL PRIMARY KEY,
            session_id VARCHAR(255) NOT NULL
                REFERENCES agent_sessions (session_id) ON DELETE CASCADE,
            message_data TEXT NOT NULL,
            created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
        )
        """,
        "CREATE INDEX idx_agent_messages_session_time ON agent_messages (session_id, created_at)",
    ),
    # Its CREATE INDEX IF NOT EXISTS is an error on MySQL: the tables stay without the index there.
    "mysql": (
        """
        CREATE TABLE agent_sessions (
            session_id VARCHAR(255) PRIMARY KEY,
            created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
            updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
        )
        """,
        """
        CREATE TABLE agent_messages (
            id INT PRIMARY KEY AUTO_INCREMENT,
            session_id VARCHAR(255) NOT NULL,
            message_data MEDIUMTEXT NOT NULL,
            created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
            FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE
        )
        """,
    ),
}
_NPM["mariadb"] = (
    *_NPM["mysql"],
    "CREATE INDEX idx_agent_messages_session_time ON agent_messages (session_id, created_at)",
)

_SDK_BY_HAND = (
    """
    CREATE TABLE agent_sessions (
        session_id VARCHAR(255) NOT NULL,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (session_id)
    )
    """,
    """
    CREATE TABLE agent_messages (
        id INTEGER NOT NULL AUTO_INCREMENT,
        session_id VARCHAR(255) NOT NULL,
        message_data TEXT NOT NULL,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (id),
        FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX idx_agent_messages_session_time ON agent_messages (session_id, created_at)",
)


async def make_tables(maker: str, url: str) -> None:
    """Make the tables as that program does; nothing is left in them."""
    if maker in ("npm", "sdk-by-hand"):
        statements = _NPM[dialect_of(url)] if maker == "npm" else _SDK_BY_HAND
        connection = connect_raw(url)
        try:
            for statement in statements:
                connection.cursor().execute(statement)
        finally:
            connection.close()
        return
    async with open_peer(maker, url, "first", create_tables=True) as peer:
        await peer.add_items([{"role": "user", "content": "makes the tables"}])
        await peer.clear_session()
