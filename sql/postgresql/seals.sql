-- What sealed histories take beside the statements of the others. A write under seals moves the end seal, if it is the
-- one that is presupposed, before it touches a row, and so keeps every other one out until it is committed.
--
-- Of what is sent at once each step divides by zero, as in append_items, unless it has done as it was told.

-- name: sealed_rows
-- The end seal of a session, and at most count of its rows, newest first, all of one moment. In the order
-- of newest_items.
SELECT 1 AS is_end, NULL AS id, NULL AS created_at, seal AS message_data
FROM agent_session_seals
WHERE session_id = %(session_id)s
    AND stands_beside_the_sessions('agent_session_seals')
UNION ALL (
    SELECT 0, id, to_json(created_at) #>> '{}', message_data::text
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
        AND stands_beside_the_sessions('agent_messages')
    ORDER BY session_id DESC, id DESC
    LIMIT %(count)s
)
ORDER BY is_end DESC, id DESC;

-- name: make_seal
INSERT INTO agent_session_seals (session_id, seal)
VALUES (%(session_id)s, %(seal)s)
ON CONFLICT (session_id) DO NOTHING;

-- name: move_seal
UPDATE agent_session_seals
SET seal = %(seal)s
WHERE session_id = %(session_id)s
    AND seal = %(before)s;

-- name: find_seal
SELECT seal
FROM agent_session_seals
WHERE session_id = %(session_id)s
FOR UPDATE;

-- name: make_seal_or_fail
-- Differs: make_seal where the write is sent with it.
WITH made AS (
    INSERT INTO agent_session_seals (session_id, seal)
    VALUES (%(session_id)s, %(seal)s)
    ON CONFLICT (session_id) DO NOTHING
    RETURNING session_id
)
SELECT 1 / count(*)
FROM made;

-- name: move_seal_or_fail
-- Differs: move_seal where the write is sent with it.
WITH moved AS (
    UPDATE agent_session_seals
    SET seal = %(seal)s
    WHERE session_id = %(session_id)s
        AND seal = %(before)s
    RETURNING session_id
)
SELECT 1 / count(*)
FROM moved;

-- name: remove_seal
DELETE FROM agent_session_seals
WHERE session_id = %(session_id)s;

-- name: remove_seals
DELETE FROM agent_session_seals
WHERE session_id = ANY (%(ids)b::text[]);

-- name: hold_seals
-- Keeps out every write under seals to some sessions, also the first one, until the transaction ends.
INSERT INTO agent_session_seals (session_id, seal)
SELECT DISTINCT id, ''
FROM unnest(%(ids)b::text[]) AS given (id)
WHERE stands_beside_the_sessions('agent_session_seals')
ORDER BY id
ON CONFLICT (session_id) DO UPDATE
SET seal = agent_session_seals.seal;

-- name: remove_held_seals
-- Those that hold_seals has made.
DELETE FROM agent_session_seals
WHERE session_id = ANY (%(ids)b::text[])
    AND seal = '';

-- name: sealed_sessions
SELECT session_id
FROM agent_session_seals
WHERE session_id COLLATE "C" > %(after)s
    AND stands_beside_the_sessions('agent_session_seals')
ORDER BY session_id COLLATE "C"
LIMIT %(count)s;

-- name: check_newest
-- Differs: the position that a write presupposes, where the write is sent with it.
SELECT 1 / (%(position)s = coalesce(max(id), 0))::integer
FROM (
    SELECT id
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
) AS newest;

-- name: check_emptied
-- Differs: behind delete_items, where it is sent with it.
SELECT 1 / (NOT EXISTS (
    SELECT
    FROM agent_messages
    WHERE session_id = %(session_id)s
))::integer;

-- name: delete_newest_at
-- Differs: delete_item of the newest row, where it is sent with what it presupposes.
WITH gone AS (
    DELETE FROM agent_messages
    WHERE session_id = %(session_id)s
        AND id = %(id)s
    RETURNING id
)
SELECT 1 / count(*)
FROM gone;

-- name: append_sealed
-- Differs: load_items, where it is sent with what it presupposes: behind the row with the id position, NULL for any. Ids
-- that do not rise would put the rows elsewhere.
WITH message AS (
    INSERT INTO agent_messages (session_id, message_data, created_at)
    SELECT %(session_id)s::varchar, item.text, item.time::timestamp
    FROM unnest(%(items)b::text[], %(times)b::text[]) WITH ORDINALITY AS item (text, time, n)
    ORDER BY item.n
    RETURNING CASE WHEN session_id::text = %(session_id)s AND id = id::bigint THEN id END AS id
),
newest AS (
    SELECT coalesce(max(id), 0) AS id
    FROM (
        SELECT id
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[%(session_id)s])
        ORDER BY session_id DESC, id DESC
        LIMIT 1
    ) AS last
)
SELECT max(message.id), 1 / (
    count(message.id) = cardinality(%(items)b::text[])
    AND min(message.id) > newest.id
    AND (%(position)s::bigint IS NULL OR %(position)s = newest.id)
)::integer
FROM newest
LEFT JOIN message ON TRUE
WHERE stands_beside_the_sessions('agent_messages')
GROUP BY newest.id;

-- name: use_utc
-- Until the end of the transaction: the times of rows are sealed, and a TIMESTAMP WITH TIME ZONE is in the zone of whoever
-- writes it.
SELECT set_config('TimeZone', 'UTC', TRUE);
