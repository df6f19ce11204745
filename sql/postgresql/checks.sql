-- What check() asks. A table is given as text, quoted as in a statement.

-- name: server
SELECT
    split_part(version(), ' (', 1),
    extract(epoch FROM clock_timestamp())::numeric,
    coalesce((SELECT version || ' ' || cipher FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), ''),
    pg_backend_pid();

-- name: columns
-- Without the quotes of quote_all_identifiers.
SELECT attname::text, replace(format_type(atttypid, atttypmod), '"', ''), ''
FROM pg_catalog.pg_attribute
WHERE attrelid = to_regclass(%(table)s)
    AND attnum > 0
    AND NOT attisdropped
ORDER BY attnum;

-- name: indexes
SELECT pg_class.relname::text, string_agg(coalesce(pg_attribute.attname, '?')::text, ',' ORDER BY part.n), ''
FROM pg_catalog.pg_index
JOIN pg_catalog.pg_class ON pg_class.oid = pg_index.indexrelid
CROSS JOIN LATERAL unnest(pg_index.indkey::int2[]) WITH ORDINALITY AS part (attnum, n)
LEFT JOIN pg_catalog.pg_attribute ON pg_attribute.attrelid = pg_index.indrelid AND pg_attribute.attnum = part.attnum
WHERE pg_index.indrelid = to_regclass(%(table)s)
    AND pg_index.indisvalid
    AND pg_index.indpred IS NULL
GROUP BY pg_class.relname
ORDER BY pg_class.relname;

-- name: low_id
-- An id that would be taken for none.
SELECT id
FROM agent_messages
WHERE id < 1
ORDER BY id
LIMIT 1;

-- name: estimate_sessions
SELECT greatest(reltuples, 0)::bigint
FROM pg_catalog.pg_class
WHERE oid = to_regclass(%(table)s);

-- name: unfinished_indexes
-- What a CREATE INDEX CONCURRENTLY left that did not end, the statement that removes it, and whether it may be at work:
-- whoever builds an index has locked the table from the first to the last of its transactions, as a vacuum has; and
-- whether it is one of ours. One of a partitioned table waits for those of the partitions.
SELECT
    pg_class.relname::text,
    'DROP INDEX CONCURRENTLY IF EXISTS ' || indexrelid::regclass::text,
    EXISTS (
        SELECT
        FROM pg_catalog.pg_locks
        WHERE locktype = 'relation'
            AND relation = pg_index.indrelid
            AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
            AND mode = 'ShareUpdateExclusiveLock'
            AND pid <> pg_backend_pid()
    ), '"' || pg_class.relname || '"' IN ('agent_messages_by_session', 'agent_sessions_by_time')
FROM pg_catalog.pg_index
JOIN pg_catalog.pg_class ON pg_class.oid = pg_index.indexrelid
WHERE pg_index.indrelid = to_regclass(%(table)s)
    AND NOT pg_index.indisvalid
    AND pg_class.relkind = 'i'
ORDER BY pg_class.relname;

-- name: kind
-- An ordinary table, or a partitioned one; all others have no xmin. And whether it is partitioned.
SELECT relkind IN ('r', 'p'), relkind = 'p'
FROM pg_catalog.pg_class
WHERE oid = to_regclass(%(table)s);

-- name: persistence
-- Differs: elsewhere no setting makes a table temporary, or unlogged.
SELECT relpersistence::text
FROM pg_catalog.pg_class
WHERE oid = to_regclass(%(table)s);

-- name: schema_of
-- Differs: elsewhere a name without a schema has one place.
SELECT nspname::text
FROM pg_catalog.pg_class
JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE pg_class.oid = to_regclass(%(table)s);

-- name: first_schema
-- Differs: elsewhere a name without a schema has one place. Where a table is made that is given none.
SELECT current_schema()::text;

-- name: rules
-- What rewrites our statements.
SELECT rulename::text
FROM pg_catalog.pg_rewrite
WHERE ev_class = to_regclass(%(table)s)
    AND rulename <> '_RETURN'
ORDER BY rulename;

-- name: risky_settings
-- Those of a commit that is acknowledged before it is on the disk.
SELECT name
FROM pg_catalog.pg_settings
WHERE name IN ('fsync', 'synchronous_commit')
    AND setting = 'off'
ORDER BY name;

-- name: other_time_zones
-- Differs: elsewhere no time is kept as that of the session's zone. Those of sessions that set none, and of roles and this
-- database, in which the clock shows another time than in this
-- session's, now or in half a year; none where the column knows the zone.
SELECT zone
FROM (
    SELECT reset_val AS zone
    FROM pg_catalog.pg_settings
    WHERE name = 'TimeZone'
    UNION
    SELECT substr(option, 10)
    FROM pg_catalog.pg_db_role_setting
    CROSS JOIN unnest(setconfig) AS option
    WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
        AND starts_with(lower(option), 'timezone=')
) AS zones
CROSS JOIN (SELECT CURRENT_TIMESTAMP UNION ALL SELECT CURRENT_TIMESTAMP + INTERVAL '182 days') AS clock (now)
WHERE now AT TIME ZONE zone <> now::timestamp
    AND EXISTS (
        SELECT
        FROM pg_catalog.pg_attribute
        WHERE attrelid = to_regclass(%(table)s)
            AND attname = 'updated_at'
            AND atttypid = 'timestamp'::regtype
    )
GROUP BY zone
ORDER BY zone;

-- name: sequences
-- Those that number the rows, whether they count upwards, what has them number rows in another order than that of their
-- making, and the next number where that is not above all ids, and what sets it there. By way of ts_stat(), as a
-- sequence is read by its name alone: of what executes a text it is the one that every server has been built with.
SELECT seqrelid::regclass::text, seqincrement > 0, concat_ws(
    ', ',
    CASE WHEN seqcache > 1 THEN 'CACHE ' || seqcache END,
    CASE WHEN seqincrement < 1 THEN 'INCREMENT ' || seqincrement END,
    CASE WHEN seqcycle THEN 'CYCLE' END
), CASE WHEN seqincrement > 0 AND has_sequence_privilege(seqrelid, 'SELECT') THEN (
    SELECT word
    FROM ts_stat(
        'SELECT next::text::tsvector FROM (SELECT last_value + is_called::integer AS next FROM ' || seqrelid::regclass
            || ') AS sequence WHERE next <= (SELECT max(id) FROM ' || to_regclass(%(table)s) || ')'
    )
) END,
    'SELECT setval(' || quote_literal(seqrelid::regclass) || ', (SELECT max(id) FROM ' || to_regclass(%(table)s) || '))'
FROM pg_catalog.pg_sequence
WHERE seqrelid = to_regclass(pg_get_serial_sequence(%(table)s, 'id'))
    OR seqrelid IN (
        SELECT pg_depend.refobjid
        FROM pg_catalog.pg_depend
        JOIN pg_catalog.pg_attrdef ON pg_attrdef.oid = pg_depend.objid
        JOIN pg_catalog.pg_attribute
            ON pg_attribute.attrelid = pg_attrdef.adrelid AND pg_attribute.attnum = pg_attrdef.adnum
        WHERE pg_depend.classid = 'pg_catalog.pg_attrdef'::regclass
            AND pg_attrdef.adrelid = to_regclass(%(table)s)
            AND pg_attribute.attname = 'id'
    )
ORDER BY seqrelid;

-- name: advance_sequence
-- Differs: elsewhere the table numbers on behind its rows by itself.
SELECT setval(pg_get_serial_sequence('agent_messages', 'id'), (SELECT max(id) FROM agent_messages));

-- name: make_key
CREATE INDEX CONCURRENTLY IF NOT EXISTS agent_messages_by_session ON agent_messages (session_id, id);

-- name: make_listing_index
CREATE INDEX CONCURRENTLY IF NOT EXISTS agent_sessions_by_time ON agent_sessions (updated_at, session_id COLLATE "C");

-- name: widen_text
-- Differs: SQLite's columns hold any length.
ALTER TABLE agent_messages ALTER COLUMN message_data TYPE text;

-- name: widen_id
-- Differs: as widen_text.
ALTER TABLE agent_messages ALTER COLUMN id TYPE bigint;

-- name: drop_scratch_messages
-- For tables that were made to be tried, and for no others.
DROP TABLE IF EXISTS agent_messages;

-- name: drop_scratch_sessions
DROP TABLE IF EXISTS agent_sessions;
