-- What sealed histories take beside the statements of the others. A write under seals moves the end seal, if it is the
-- one that is presupposed, before it touches a row, and so keeps every other one out until it is committed.

-- name: sealed_rows
-- The end seal of a session, and at most count of its rows, newest first, all of one moment; with likely() as in
-- newest_items.
SELECT is_end, id, created_at, message_data
FROM (
    SELECT 1 AS is_end, NULL AS id, NULL AS created_at, seal AS message_data
    FROM agent_session_seals
    WHERE session_id = :session_id
    UNION ALL
    SELECT 0, id, created_at, message_data
    FROM (
        SELECT id, created_at, message_data
        FROM agent_messages
        WHERE session_id = :session_id
            AND likely(id <= 9223372036854775807)
        ORDER BY id DESC
        LIMIT :count
    ) AS newest
) AS found
ORDER BY is_end DESC, id DESC;

-- name: make_seal
INSERT INTO agent_session_seals (session_id, seal)
VALUES (:session_id, :seal)
ON CONFLICT (session_id) DO NOTHING;

-- name: move_seal
UPDATE agent_session_seals
SET seal = :seal
WHERE session_id = :session_id
    AND seal = :before;

-- name: find_seal
SELECT +seal
FROM agent_session_seals
WHERE session_id = :session_id;

-- name: remove_seal
DELETE FROM agent_session_seals
WHERE session_id = :session_id;

-- name: remove_seals
DELETE FROM agent_session_seals
WHERE session_id IN (SELECT value FROM json_each(:ids));

-- name: hold_seals
-- Keeps out every write under seals to some sessions, also the first one, until the transaction ends.
INSERT INTO agent_session_seals (session_id, seal)
SELECT value, ''
FROM json_each(:ids)
WHERE TRUE
ON CONFLICT (session_id) DO UPDATE
SET seal = agent_session_seals.seal;

-- name: remove_held_seals
-- Those that hold_seals has made.
DELETE FROM agent_session_seals
WHERE session_id IN (SELECT value FROM json_each(:ids))
    AND seal = '';

-- name: sealed_sessions
SELECT +session_id
FROM agent_session_seals
WHERE session_id > :after
ORDER BY session_id
LIMIT :count;
