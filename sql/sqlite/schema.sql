-- The tables of the OpenAI Agents SDK's SQLAlchemySession. created_at stays with the
-- column's default, whole seconds as text: another form would sort wrongly for the SDK.

-- name: create_sessions
CREATE TABLE IF NOT EXISTS agent_sessions (
    session_id VARCHAR(255) NOT NULL PRIMARY KEY,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

-- name: create_messages
-- AUTOINCREMENT: the id of a removed row never comes back.
CREATE TABLE IF NOT EXISTS agent_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id VARCHAR(255) NOT NULL REFERENCES agent_sessions (session_id) ON DELETE CASCADE,
    message_data TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (session_id, id)
);

-- name: create_leases
-- Made when exclusive() first wants it: who may write to a conversation under it, and until when by this machine's
-- clock, in Unix seconds. A lease may precede its conversation, hence no foreign key.
CREATE TABLE IF NOT EXISTS agent_session_leases (
    session_id VARCHAR(255) NOT NULL PRIMARY KEY,
    token VARCHAR(32) NOT NULL,
    expires_at REAL NOT NULL
);

-- name: create_seals
-- Made when a conversation is first sealed: what its end is. The conversation may go without it, hence no foreign key.
CREATE TABLE IF NOT EXISTS agent_session_seals (
    session_id VARCHAR(255) NOT NULL PRIMARY KEY,
    seal VARCHAR(200) NOT NULL
);
