-- Rows of a session are ordered by id alone; clocks differ and jump.
--
-- The guard `seen`: a statement that depends on what it reads (a position, the newest row,
-- all rows) reads the state of the moment at which it began. Where it then waits for the
-- session row's lock, another writer gets in between, and what was read is out of date. So
-- each of them notes the row's version (ctid, which every update changes) before it waits,
-- and acts only if the row it has locked still is that version. Otherwise it writes nothing
-- and says so, and the caller runs it again under the lock (lock_session).

-- name: all_items
-- The rows of a session, newest first.
SELECT id, message_data
FROM agent_messages
WHERE session_id = %(session_id)s
ORDER BY id DESC;

-- name: newest_items
-- At most count rows older than id before, newest first. Differs: with a plain `=` the
-- planner drops session_id from the order, and then walks the newer rows of all sessions
-- by id where no index has both columns, as in tables made by others.
SELECT id, message_data
FROM agent_messages
WHERE session_id = ANY (ARRAY[%(session_id)s])
    AND id < %(before)s
ORDER BY session_id DESC, id DESC
LIMIT %(count)s;

-- name: newer_items
-- The rows after an id, oldest first.
SELECT id, message_data
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id > %(after)s
ORDER BY id;

-- name: records
-- At most count rows after id after and up to id upto, oldest first; in the order of newest_items.
SELECT id, created_at, message_data
FROM agent_messages
WHERE session_id = ANY (ARRAY[%(session_id)s])
    AND id > %(after)s
    AND id <= %(upto)s
ORDER BY session_id, id
LIMIT %(count)s;

-- name: newest_range
-- The oldest and the newest id of the newest count rows.
SELECT min(id), max(id)
FROM (
    SELECT id
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT %(count)s
) AS newest;

-- name: touch_session
-- Creates the session's row, or notes the time of the write; holds its lock either way.
INSERT INTO agent_sessions (session_id)
VALUES (%(session_id)s)
ON CONFLICT (session_id) DO UPDATE
SET updated_at = clock_timestamp();

-- name: append_items
-- Differs: touch_session and insert_items as one statement, for one round trip. The
-- INSERT reads from the locked row, so no other batch comes between; its time is taken
-- under that lock, or the order by (created_at, id) would differ from the one by id.
-- The newest id comes last.
WITH session AS (
    INSERT INTO agent_sessions (session_id)
    VALUES (%(session_id)s)
    ON CONFLICT (session_id) DO UPDATE
    SET updated_at = clock_timestamp()
    RETURNING session_id, clock_timestamp() AS locked_at
)
INSERT INTO agent_messages (session_id, message_data, created_at)
SELECT session.session_id, item.text, session.locked_at
FROM session
CROSS JOIN unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
ORDER BY item.n
RETURNING id;

-- name: append_items_at
-- Differs: append_items, if the newest row still has the id position. Guarded by `seen`.
WITH seen AS (
    SELECT ctid AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
session AS (
    INSERT INTO agent_sessions AS present (session_id)
    SELECT %(session_id)s
    WHERE %(position)s = coalesce((
        SELECT id
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[%(session_id)s])
        ORDER BY session_id DESC, id DESC
        LIMIT 1
    ), 0)
    ON CONFLICT (session_id) DO UPDATE
    SET updated_at = clock_timestamp()
    WHERE present.ctid = (SELECT version FROM seen)
    RETURNING session_id, clock_timestamp() AS locked_at
)
INSERT INTO agent_messages (session_id, message_data, created_at)
SELECT session.session_id, item.text, session.locked_at
FROM session
CROSS JOIN unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
ORDER BY item.n
RETURNING id;

-- name: insert_items
-- Differs: insert_item for all items of a batch in one statement. created_at is read under the session
-- row's lock, like append_items does.
INSERT INTO agent_messages (session_id, message_data, created_at)
SELECT %(session_id)s, item.text, statement_timestamp()
FROM unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
ORDER BY item.n
RETURNING id;

-- name: pop_item
-- Differs: one statement. FOR UPDATE waits for a rival and then takes the next row;
-- without it, the loser of the race would find nothing although rows remain. The order
-- is that of newest_items. Guarded by `seen`.
WITH seen AS (
    SELECT ctid AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
session AS (
    UPDATE agent_sessions
    SET updated_at = clock_timestamp()
    WHERE session_id = %(session_id)s
        AND ctid = (SELECT version FROM seen)
    RETURNING session_id
),
turn AS (
    SELECT EXISTS (SELECT FROM session) OR NOT EXISTS (SELECT FROM seen) AS is_ours
),
message AS (
    DELETE FROM agent_messages
    WHERE id = (
        SELECT id
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[%(session_id)s])
            AND (SELECT is_ours FROM turn)
        ORDER BY session_id DESC, id DESC
        LIMIT 1
        FOR UPDATE
    )
    RETURNING id, message_data
)
SELECT message.id, message.message_data, turn.is_ours
FROM turn
LEFT JOIN message ON TRUE;

-- name: delete_items
DELETE FROM agent_messages
WHERE session_id = %(session_id)s;

-- name: delete_session
-- Differs: the messages go in the same statement, for one round trip. Guarded by `seen`.
WITH seen AS (
    SELECT ctid AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
session AS (
    DELETE FROM agent_sessions
    WHERE session_id = %(session_id)s
        AND ctid = (SELECT version FROM seen)
    RETURNING session_id
),
turn AS (
    SELECT EXISTS (SELECT FROM session) OR NOT EXISTS (SELECT FROM seen) AS is_ours
),
message AS (
    DELETE FROM agent_messages
    WHERE session_id = %(session_id)s
        AND (SELECT is_ours FROM turn)
)
SELECT is_ours
FROM turn;

-- name: lock_session
-- Differs: gives a guarded statement its turn.
SELECT session_id
FROM agent_sessions
WHERE session_id = %(session_id)s
FOR UPDATE;

-- name: replace_items
-- Differs: touch_session, delete_items and insert_items as one statement. Guarded by
-- `seen`: it would not see what another writer wrote, and leave it in the new history.
WITH seen AS (
    SELECT ctid AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
session AS (
    INSERT INTO agent_sessions AS present (session_id)
    SELECT %(session_id)s
    WHERE %(position)s::bigint IS NULL
        OR %(position)s = coalesce((
            SELECT id
            FROM agent_messages
            WHERE session_id = ANY (ARRAY[%(session_id)s])
            ORDER BY session_id DESC, id DESC
            LIMIT 1
        ), 0)
    ON CONFLICT (session_id) DO UPDATE
    SET updated_at = clock_timestamp()
    WHERE present.ctid = (SELECT version FROM seen)
    RETURNING session_id, clock_timestamp() AS locked_at
),
gone AS (
    DELETE FROM agent_messages
    USING session
    WHERE agent_messages.session_id = session.session_id
),
message AS (
    INSERT INTO agent_messages (session_id, message_data, created_at)
    SELECT session.session_id, item.text, session.locked_at
    FROM session
    CROSS JOIN unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
    ORDER BY item.n
    RETURNING id
)
SELECT (SELECT max(id) FROM message), (SELECT count(*) FROM session);

-- name: rival_is_busy
-- Whether another server session of ours is executing something; no row when it has
-- ended, or when the one with this number is too young to be it.
SELECT state IS DISTINCT FROM 'idle'
FROM pg_stat_activity
WHERE pid = %(id)s
    AND pid <> pg_backend_pid()
    AND usename = current_user
    AND backend_start < clock_timestamp() - make_interval(secs => %(age)s);

-- name: savepoint
SAVEPOINT agent_sql_sessions;

-- name: release_savepoint
RELEASE SAVEPOINT agent_sql_sessions;

-- name: rollback_to_savepoint
ROLLBACK TO SAVEPOINT agent_sql_sessions;
