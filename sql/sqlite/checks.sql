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

-- name: make_key
CREATE INDEX agent_messages_by_session ON agent_messages (session_id, id);

-- name: make_listing_index
CREATE INDEX agent_sessions_by_time
ON agent_sessions (coalesce(datetime(updated_at, 'unixepoch'), updated_at, ''), session_id);

-- name: drop_scratch_messages
-- For tables that were made to be tried, and for no others.
DROP TABLE IF EXISTS agent_messages;

-- name: drop_scratch_sessions
DROP TABLE IF EXISTS agent_sessions;
