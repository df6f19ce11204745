-- What an operator asks: which conversations there are, and to copy, mend and delete them. Times are read as in
-- queries.sql.
--
-- A page of a listing: the sessions in a subquery, and for each of them a count of its rows that ends at
-- count_limit + 1, in the order of an index: without one the planner may take the table from its beginning for each.
-- Pages go on behind the last row of the one before, by its time and its id. Ids are ordered by their code points,
-- which no locale changes, or their bytes in the database's encoding; above_prefix, which finds a prefix by an index, is
-- NULL then.
--
-- What has no time stands behind all times, and none is idle whose time is not known: infinity is none, nor is a day, of
-- which a write may have been at the end.

-- name: sessions_newest_first
SELECT page.session_id, to_json(page.created_at) #>> '{}', to_json(page.updated_at) #>> '{}', CASE
    WHEN isfinite(page.updated_at) THEN extract(epoch FROM CURRENT_TIMESTAMP - page.updated_at::timestamptz)::float8
END, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[page.session_id])
        ORDER BY session_id, id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (
            %(session_id)s::text IS NULL
            OR (updated_at, session_id COLLATE "C") < (%(updated)s::timestamp, %(session_id)s)
            OR %(updated)s::timestamp IS NULL AND (updated_at IS NOT NULL OR session_id COLLATE "C" < %(session_id)s)
        )
        AND (
            %(idle)s::float8 IS NULL
            OR updated_at <= to_timestamp(%(idle)s::float8)
            AND isfinite(updated_at)
            AND pg_typeof(updated_at) <> 'date'::regtype
        )
        AND starts_with(session_id, %(prefix)s)
    ORDER BY updated_at DESC, session_id COLLATE "C" DESC
    LIMIT %(count)s
) AS page
WHERE stands_beside_the_sessions('agent_messages')
ORDER BY page.updated_at DESC, page.session_id COLLATE "C" DESC;

-- name: sessions_oldest_first
SELECT page.session_id, to_json(page.created_at) #>> '{}', to_json(page.updated_at) #>> '{}', CASE
    WHEN isfinite(page.updated_at) THEN extract(epoch FROM CURRENT_TIMESTAMP - page.updated_at::timestamptz)::float8
END, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[page.session_id])
        ORDER BY session_id, id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM (
        (
            SELECT session_id, created_at, updated_at
            FROM agent_sessions
            WHERE updated_at IS NOT NULL
                AND (
                    %(session_id)s::text IS NULL
                    OR (updated_at, session_id COLLATE "C") > (%(updated)s::timestamp, %(session_id)s)
                )
                AND (
                    %(idle)s::float8 IS NULL
                    OR updated_at <= to_timestamp(%(idle)s::float8)
                    AND isfinite(updated_at)
                    AND pg_typeof(updated_at) <> 'date'::regtype
                )
                AND starts_with(session_id, %(prefix)s)
            ORDER BY updated_at, session_id COLLATE "C"
            LIMIT %(count)s
        )
        UNION ALL (
            SELECT session_id, created_at, updated_at
            FROM agent_sessions
            WHERE updated_at IS NULL
                AND %(idle)s::float8 IS NULL
                AND (
                    %(session_id)s::text IS NULL
                    OR %(updated)s::timestamp IS NOT NULL
                    OR session_id COLLATE "C" > %(session_id)s
                )
                AND starts_with(session_id, %(prefix)s)
            ORDER BY session_id COLLATE "C"
            LIMIT %(count)s
        )
    ) AS found
    ORDER BY updated_at, session_id COLLATE "C"
    LIMIT %(count)s
) AS page
WHERE stands_beside_the_sessions('agent_messages')
ORDER BY page.updated_at, page.session_id COLLATE "C";

-- name: sessions_by_id
SELECT page.session_id, to_json(page.created_at) #>> '{}', to_json(page.updated_at) #>> '{}', CASE
    WHEN isfinite(page.updated_at) THEN extract(epoch FROM CURRENT_TIMESTAMP - page.updated_at::timestamptz)::float8
END, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[page.session_id])
        ORDER BY session_id, id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE session_id COLLATE "C" >= %(prefix)s
        AND (%(above_prefix)s::text IS NULL OR session_id COLLATE "C" < %(above_prefix)s)
        AND starts_with(session_id, %(prefix)s)
        AND (%(session_id)s::text IS NULL OR session_id COLLATE "C" > %(session_id)s)
        AND (
            %(idle)s::float8 IS NULL
            OR updated_at <= to_timestamp(%(idle)s::float8)
            AND isfinite(updated_at)
            AND pg_typeof(updated_at) <> 'date'::regtype
        )
    ORDER BY session_id COLLATE "C"
    LIMIT %(count)s
) AS page
WHERE stands_beside_the_sessions('agent_messages')
ORDER BY page.session_id COLLATE "C";

-- name: sessions_by_id_descending
SELECT page.session_id, to_json(page.created_at) #>> '{}', to_json(page.updated_at) #>> '{}', CASE
    WHEN isfinite(page.updated_at) THEN extract(epoch FROM CURRENT_TIMESTAMP - page.updated_at::timestamptz)::float8
END, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[page.session_id])
        ORDER BY session_id, id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE session_id COLLATE "C" >= %(prefix)s
        AND (%(above_prefix)s::text IS NULL OR session_id COLLATE "C" < %(above_prefix)s)
        AND starts_with(session_id, %(prefix)s)
        AND (%(session_id)s::text IS NULL OR session_id COLLATE "C" < %(session_id)s)
        AND (
            %(idle)s::float8 IS NULL
            OR updated_at <= to_timestamp(%(idle)s::float8)
            AND isfinite(updated_at)
            AND pg_typeof(updated_at) <> 'date'::regtype
        )
    ORDER BY session_id COLLATE "C" DESC
    LIMIT %(count)s
) AS page
WHERE stands_beside_the_sessions('agent_messages')
ORDER BY page.session_id COLLATE "C" DESC;

-- name: sessions_of_shards
-- Differs: the pages of a listing in each of its orders, without the numbers of items, for Citus: no statement can
-- count them besides, up to a limit, where the tables are distributed.
SELECT session_id, to_json(created_at) #>> '{}', to_json(updated_at) #>> '{}', CASE
    WHEN isfinite(updated_at) THEN extract(epoch FROM CURRENT_TIMESTAMP - updated_at::timestamptz)::float8
END
FROM agent_sessions
WHERE starts_with(session_id, %(prefix)s)
    AND stands_beside_the_sessions('agent_messages')
    AND (
        %(idle)s::float8 IS NULL
        OR updated_at <= to_timestamp(%(idle)s::float8)
        AND isfinite(updated_at)
        AND pg_typeof(updated_at) <> 'date'::regtype
    )
    AND (%(session_id)s::text IS NULL OR CASE
        WHEN %(order)s::text = 'updated' AND %(newest_first)s AND %(updated)s::timestamp IS NULL
            THEN updated_at IS NOT NULL OR session_id COLLATE "C" < %(session_id)s
        WHEN %(order)s::text = 'updated' AND %(newest_first)s
            THEN (updated_at, session_id COLLATE "C") < (%(updated)s::timestamp, %(session_id)s)
        WHEN %(order)s::text = 'updated' AND %(updated)s::timestamp IS NULL
            THEN updated_at IS NULL AND session_id COLLATE "C" > %(session_id)s
        WHEN %(order)s::text = 'updated'
            THEN updated_at IS NULL
            OR (updated_at, session_id COLLATE "C") > (%(updated)s::timestamp, %(session_id)s)
        WHEN %(newest_first)s
            THEN session_id COLLATE "C" < %(session_id)s
        ELSE session_id COLLATE "C" > %(session_id)s
    END)
ORDER BY
    CASE WHEN %(order)s::text = 'updated' AND %(newest_first)s THEN updated_at END DESC,
    CASE WHEN %(order)s::text = 'updated' THEN updated_at END,
    CASE WHEN %(newest_first)s THEN session_id END COLLATE "C" DESC,
    session_id COLLATE "C"
LIMIT %(count)s;

-- name: count_items_of
-- Differs: what sessions_of_shards leaves out.
SELECT session_id, count(*)
FROM agent_messages
WHERE session_id = ANY (%(ids)b::text[])
GROUP BY session_id
ORDER BY session_id;

-- name: session_sizes
-- The rows and bytes of some sessions, by the day of their making.
SELECT agent_sessions.session_id, coalesce(
    to_char(agent_messages.created_at, 'YYYY-MM-DD'), ''
) AS made_on, count(*), sum(octet_length(agent_messages.message_data::text))::bigint
FROM agent_sessions
JOIN agent_messages ON agent_messages.session_id = agent_sessions.session_id
WHERE agent_sessions.session_id = ANY (%(ids)b::text[])
    AND stands_beside_the_sessions('agent_messages')
GROUP BY agent_sessions.session_id, made_on
ORDER BY agent_sessions.session_id, made_on;

-- name: first_items
-- The beginning of the first text of a user in each of some sessions, in the two ways in which JSON is spaced.
SELECT session_id, (
    SELECT left(message_data::text, %(length)s)
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[agent_sessions.session_id])
        AND (strpos(message_data::text, %(spaced)s) > 0 OR strpos(message_data::text, %(compact)s) > 0)
    ORDER BY session_id, id
    LIMIT 1
)
FROM agent_sessions
WHERE session_id = ANY (%(ids)b::text[])
    AND stands_beside_the_sessions('agent_messages')
ORDER BY session_id;

-- name: first_item_of
-- Differs: first_items of one session, for Citus, which does not ask several shards so.
SELECT session_id, (
    SELECT left(message_data::text, %(length)s)
    FROM agent_messages
    WHERE session_id = %(session_id)s
        AND (strpos(message_data::text, %(spaced)s) > 0 OR strpos(message_data::text, %(compact)s) > 0)
    ORDER BY id
    LIMIT 1
)
FROM agent_sessions
WHERE session_id = %(session_id)s
    AND stands_beside_the_sessions('agent_messages');

-- name: unlisted_sessions
-- Sessions that have rows and no row of their own, as programs leave them that know of no foreign key; behind the
-- empty text all of them, the empty id too.
SELECT session_id
FROM agent_messages
WHERE session_id COLLATE "C" >= %(after)s
    AND stands_beside_the_sessions('agent_messages')
    AND (session_id COLLATE "C" <> %(after)s OR %(after)s = '')
    AND NOT EXISTS (
        SELECT
        FROM agent_sessions
        WHERE session_id = agent_messages.session_id
    )
GROUP BY session_id
ORDER BY session_id COLLATE "C"
LIMIT %(count)s;

-- name: lock_sessions
-- Locks those of some sessions that nobody has written to since a moment, and says which; all of them without
-- one. Some writers add a row before they note the time: the newest row counts too.
SELECT session_id
FROM agent_sessions
WHERE session_id = ANY (%(ids)b::text[])
    AND stands_beside_the_sessions('agent_messages')
    AND (
        %(idle)s::float8 IS NULL
        OR (
            updated_at <= to_timestamp(%(idle)s::float8)
            AND isfinite(updated_at)
            AND pg_typeof(updated_at) <> 'date'::regtype
            AND coalesce((
                SELECT created_at <= to_timestamp(%(idle)s::float8)
                    AND isfinite(created_at)
                    AND pg_typeof(created_at) <> 'date'::regtype
                FROM agent_messages
                WHERE session_id = ANY (ARRAY[agent_sessions.session_id])
                ORDER BY session_id DESC, id DESC
                LIMIT 1
            ), TRUE)
        )
    )
ORDER BY session_id
FOR UPDATE;

-- name: lock_idle_session
-- Differs: lock_sessions of one session, for Citus, which locks no rows of several shards.
SELECT session_id
FROM agent_sessions
WHERE session_id = %(session_id)s
    AND stands_beside_the_sessions('agent_messages')
    AND (
        %(idle)s::float8 IS NULL
        OR (
            updated_at <= to_timestamp(%(idle)s::float8)
            AND isfinite(updated_at)
            AND pg_typeof(updated_at) <> 'date'::regtype
            AND coalesce((
                SELECT created_at <= to_timestamp(%(idle)s::float8)
                    AND isfinite(created_at)
                    AND pg_typeof(created_at) <> 'date'::regtype
                FROM agent_messages
                WHERE session_id = ANY (ARRAY[%(session_id)s])
                ORDER BY session_id DESC, id DESC
                LIMIT 1
            ), TRUE)
        )
    )
FOR UPDATE;

-- name: delete_items_of
DELETE FROM agent_messages
WHERE session_id = ANY (%(ids)b::text[]);

-- name: sessions_with_items
-- Those of some sessions that have rows.
SELECT DISTINCT session_id
FROM agent_messages
WHERE session_id = ANY (%(ids)b::text[])
ORDER BY session_id;

-- name: delete_sessions
DELETE FROM agent_sessions
WHERE session_id = ANY (%(ids)b::text[]);

-- name: copy_items
-- The rows of a session up to one of them, with their times, for another session.
INSERT INTO agent_messages (session_id, message_data, created_at)
SELECT %(new_id)s::varchar, message_data, created_at
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id <= %(upto)s
ORDER BY id;

-- name: count_items
SELECT count(*)
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id <= %(upto)s;

-- name: find_item
-- Whether the session has the row, which is locked then.
SELECT id
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id = %(id)s
FOR UPDATE;

-- name: update_item
-- One row of the session.
UPDATE agent_messages
SET message_data = %(message_data)s
WHERE session_id = %(session_id)s
    AND id = %(id)s;

-- name: search_items
-- The next rows in the order of their making, whoever's they are: the texts of those that may hold what is looked
-- for, NULL for the others. literal is a part of it that JSON writes as it is, unless it writes escape.
-- Bytes are written as digits.
SELECT page.session_id, page.id, to_json(page.created_at) #>> '{}', CASE
    WHEN strpos(page.message_data, %(literal)s) > 0 OR strpos(page.message_data, %(escape)s) > 0 OR page.is_bytes
        THEN page.message_data
END
FROM (
    SELECT
        session_id,
        id,
        created_at,
        message_data::text AS message_data,
        pg_typeof(message_data) = 'bytea'::regtype AS is_bytes
    FROM agent_messages
    WHERE id > %(after)s
        AND starts_with(session_id, %(prefix)s)
    ORDER BY id
    LIMIT %(count)s
) AS page
WHERE stands_beside_the_sessions('agent_messages')
ORDER BY page.id;

-- name: load_items
-- Differs: load_item for all rows of a part in one statement. Rows with the times that they were made at; without
-- one, that of this write, as in insert_items.
WITH newest AS (
    SELECT id
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
),
message AS (
    INSERT INTO agent_messages (session_id, message_data, created_at)
    SELECT %(session_id)s::varchar, item.text, coalesce(nullif(item.time, '')::timestamp, greatest(localtimestamp, (
        SELECT updated_at
        FROM agent_sessions
        WHERE session_id = %(session_id)s
    )))
    FROM unnest(%(items)b::text[], %(times)b::text[]) WITH ORDINALITY AS item (text, time, n)
    ORDER BY item.n
    RETURNING id, CASE WHEN session_id = %(session_id)s THEN NULL ELSE coalesce(session_id::text, '') END AS other
)
SELECT id, other, (SELECT id FROM newest)
FROM message
WHERE stands_beside_the_sessions('agent_messages');

-- name: set_session_times
UPDATE agent_sessions
SET created_at = coalesce(%(created_at)s::timestamp, created_at),
    updated_at = coalesce(%(updated_at)s::timestamp, updated_at)
WHERE session_id = %(session_id)s;
