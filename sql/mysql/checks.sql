-- What check() asks. A table is given by its name and that of its database.

-- name: server
SELECT VERSION(), UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)), '', CONNECTION_ID()
LIMIT 1;

-- name: tls
SHOW STATUS LIKE 'Ssl_version';

-- name: columns
SELECT column_name, column_type, COALESCE(collation_name, '')
FROM information_schema.columns
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
ORDER BY ordinal_position
LIMIT 1000;

-- name: indexes
SELECT index_name, GROUP_CONCAT(column_name ORDER BY seq_in_index), ''
FROM information_schema.statistics
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
GROUP BY index_name
ORDER BY index_name
LIMIT 1000;

-- name: engine
SELECT COALESCE(engine, '')
FROM information_schema.tables
WHERE table_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
ORDER BY table_name
LIMIT 1000;

-- name: cascading_keys
SELECT constraint_name
FROM information_schema.referential_constraints
WHERE constraint_schema = COALESCE(%(schema)s, DATABASE())
    AND table_name = %(name)s
    AND delete_rule = 'CASCADE'
ORDER BY constraint_name
LIMIT 1000;

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
