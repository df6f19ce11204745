-- What check() asks. A table is given by its name.

-- name: server
SELECT 'SQLite ' || sqlite_version(), (julianday('now') - 2440587.5) * 86400.0, '', 0;

-- name: columns
-- Differs: the parameters are what the catalogue of each database is asked by.
SELECT name, type, ''
FROM pragma_table_info(:name)
ORDER BY cid;

-- name: indexes
-- Differs: as columns.
SELECT found.name, (
    SELECT group_concat(part.name)
    FROM pragma_index_info(found.name) AS part
), coalesce(made.sql, '')
FROM pragma_index_list(:name) AS found
LEFT JOIN sqlite_master AS made ON made.type = 'index' AND made.name = found.name
WHERE found.partial = 0
ORDER BY found.name;

-- name: low_id
-- An id that would be taken for none.
SELECT id
FROM agent_messages
WHERE id < 1
ORDER BY id
LIMIT 1;

-- name: estimate_sessions
-- Differs: SQLite keeps no statistics unless it is told to.
SELECT count(*)
FROM agent_sessions;

-- name: autoincrement
-- Differs: the others never give an id again.
SELECT count(*)
FROM sqlite_master
WHERE type = 'table'
    AND lower(name) = lower(:name)
    AND instr(lower(sql), 'autoincrement') > 0;

-- name: newest_times
-- Differs: in the others a column's type tells. Those of the newest row and of its session, and whether they are times as
-- in operations.sql.
SELECT quote(session.updated_at), CASE
    WHEN datetime(session.updated_at) = substr(session.updated_at, 1, 19) THEN session.updated_at
    WHEN session.updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(session.updated_at)
    WHEN typeof(session.updated_at + 0) = 'real' AND session.updated_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(session.updated_at + 0)
    WHEN session.updated_at + 0 >= 946684800 THEN datetime(session.updated_at + 0, 'unixepoch')
END IS NOT NULL, quote(message.created_at), CASE
    WHEN datetime(message.created_at) = substr(message.created_at, 1, 19) THEN message.created_at
    WHEN message.created_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(message.created_at)
    WHEN typeof(message.created_at + 0) = 'real' AND message.created_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(message.created_at + 0)
    WHEN message.created_at + 0 >= 946684800 THEN datetime(message.created_at + 0, 'unixepoch')
END IS NOT NULL
FROM (
    SELECT session_id, created_at
    FROM agent_messages
    ORDER BY id DESC
    LIMIT 1
) AS message
JOIN agent_sessions AS session ON session.session_id = message.session_id
LIMIT 1;

-- name: make_key
CREATE INDEX IF NOT EXISTS agent_messages_by_session ON agent_messages (session_id, id);

-- name: make_listing_index
CREATE INDEX IF NOT EXISTS agent_sessions_by_when
ON agent_sessions (coalesce(CASE
    WHEN datetime(updated_at) = substr(updated_at, 1, 19) THEN updated_at
    WHEN updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(updated_at)
    WHEN typeof(updated_at + 0) = 'real' AND updated_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(updated_at + 0)
    WHEN updated_at + 0 >= 946684800 THEN datetime(updated_at + 0, 'unixepoch')
END, '~'), session_id);

-- name: drop_scratch_messages
-- For tables that were made to be tried, and for no others.
DROP TABLE IF EXISTS agent_messages;

-- name: drop_scratch_sessions
DROP TABLE IF EXISTS agent_sessions;
