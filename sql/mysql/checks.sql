-- What check() asks. A table is given by its name and that of its database. Texts arrive as UTF-8
-- whatever character_set_results is.

-- name: server
SELECT CONVERT(CONVERT(VERSION() USING utf8mb4) USING binary), UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)), '', CONNECTION_ID()
LIMIT 1;

-- name: columns
SELECT
    CONVERT(CONVERT(column_name USING utf8mb4) USING binary),
    CONVERT(CONVERT(column_type USING utf8mb4) USING binary),
    CONVERT(CONVERT(COALESCE(collation_name, '') USING utf8mb4) USING binary)
FROM information_schema.columns
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
ORDER BY ordinal_position
LIMIT 1000;

-- name: indexes
-- The first three columns of each; GROUP_CONCAT would cut them at group_concat_max_len.
SELECT
    CONVERT(CONVERT(index_name USING utf8mb4) USING binary),
    CONVERT(CONVERT(CONCAT_WS(
        ',',
        MAX(IF(seq_in_index = 1, column_name, NULL)),
        MAX(IF(seq_in_index = 2, column_name, NULL)),
        MAX(IF(seq_in_index = 3, column_name, NULL))
    ) USING utf8mb4) USING binary),
    ''
FROM information_schema.statistics
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
GROUP BY index_name
ORDER BY index_name
LIMIT 1000;

-- name: engine
SELECT CONVERT(CONVERT(COALESCE(engine, '') USING utf8mb4) USING binary)
FROM information_schema.tables
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
ORDER BY table_name
LIMIT 1000;

-- name: session_key
-- Differs: elsewhere a write fails without it. Here each one would make a row of the session's, and lock no other.
SELECT index_name
FROM information_schema.statistics
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
    AND non_unique = 0
GROUP BY index_name
HAVING SUM(column_name = 'session_id' AND sub_part IS NULL) = COUNT(*)
ORDER BY index_name
LIMIT 1;

-- name: cascading_keys
SELECT constraint_name
FROM information_schema.referential_constraints
WHERE constraint_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
    AND delete_rule = 'CASCADE'
ORDER BY constraint_name
LIMIT 1000;

-- name: low_id
-- An id that would be taken for none.
SELECT id
FROM agent_messages
WHERE id < 1
ORDER BY id
LIMIT 1;

-- name: definition_of_sessions
-- Differs: no catalogue of both servers lists a connection's temporary tables.
SHOW CREATE TABLE agent_sessions;

-- name: definition_of_messages
-- Differs: as definition_of_sessions.
SHOW CREATE TABLE agent_messages;

-- name: estimate_sessions
SELECT COALESCE(table_rows, 0)
FROM information_schema.tables
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
ORDER BY table_name
LIMIT 1000;

-- name: make_key
CREATE INDEX agent_messages_by_session ON agent_messages (session_id, id);

-- name: make_listing_index
CREATE INDEX agent_sessions_by_time ON agent_sessions (updated_at, session_id);

-- name: widen_text
-- Differs: SQLite's columns hold any length.
ALTER TABLE agent_messages MODIFY message_data LONGTEXT NOT NULL;

-- name: widen_id
-- Differs: as widen_text.
ALTER TABLE agent_messages MODIFY id BIGINT NOT NULL AUTO_INCREMENT;

-- name: drop_scratch_messages
-- For tables that were made to be tried, and for no others.
DROP TABLE IF EXISTS agent_messages;

-- name: drop_scratch_sessions
DROP TABLE IF EXISTS agent_sessions;
