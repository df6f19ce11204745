-- What sealed histories take beside the statements of the others. A write under seals moves the end seal, if it is the
-- one that is presupposed, before it touches a row, and so keeps every other one out until it is committed.

-- name: sealed_rows
-- The end seal of a session, and at most count of its rows, newest first, all of one moment. The ids first,
-- whoever has made the tables (queries.sql).
SELECT 1, NULL, NULL, CONVERT(seal USING binary)
FROM agent_session_seals
WHERE session_id = %(session_id)s
UNION ALL (
    SELECT STRAIGHT_JOIN
        0,
        message.id,
        message.created_at,
        IF(
            CHARSET(message.message_data) = _ascii 'binary',
            CONVERT(message.message_data USING binary),
            CONVERT(CONVERT(message.message_data USING utf8mb4) USING binary)
        )
    FROM agent_messages AS found
    JOIN agent_messages AS message
        ON message.session_id = found.session_id
        AND message.id = found.id
    WHERE found.session_id >= %(session_id)s
        AND found.session_id <= %(session_id)s
    ORDER BY found.session_id DESC, found.id DESC
    LIMIT %(count)s
)
ORDER BY 1 DESC, 2 DESC
LIMIT 18446744073709551615;

-- name: make_seal
INSERT INTO agent_session_seals (session_id, seal)
VALUES (%(session_id)s, %(seal)s)
ON DUPLICATE KEY UPDATE session_id = VALUES(session_id);

-- name: move_seal
UPDATE agent_session_seals
SET seal = %(seal)s
WHERE session_id = %(session_id)s
    AND seal = %(before)s;

-- name: find_seal
SELECT CONVERT(seal USING binary)
FROM agent_session_seals
WHERE session_id = %(session_id)s
LIMIT 1
FOR UPDATE;

-- name: check_seal
-- Differs: find_seal where the write is sent with it: fails as check_position does unless it is the one, and the
-- statement before has put it there: where it was there already the write has been done.
SELECT EXP(IF(
    ROW_COUNT() = 1
    AND EXISTS (
        SELECT session_id
        FROM agent_session_seals
        WHERE session_id = %(session_id)s
            AND seal = %(seal)s
        FOR UPDATE
    ),
    0,
    1000
))
LIMIT 1;

-- name: remove_seal
DELETE FROM agent_session_seals
WHERE session_id = %(session_id)s;

-- name: check_seal_removed
-- Differs: check_session_changed behind remove_seal.
IF ROW_COUNT() < 1 THEN
    IF EXISTS (
        SELECT session_id
        FROM agent_session_seals
        WHERE session_id = %(session_id)s
        FOR UPDATE
    ) THEN
        SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1690;
    END IF;
END IF;

-- name: remove_seals
DELETE FROM agent_session_seals
WHERE session_id IN %(ids)s;

-- name: hold_seals
-- Keeps out every write under seals to some sessions, also the first one, until the transaction ends: the gaps where
-- there is no row are locked too.
SELECT CONVERT(CONVERT(session_id USING utf8mb4) USING binary)
FROM agent_session_seals
WHERE session_id IN %(ids)s
ORDER BY session_id
LIMIT 18446744073709551615
FOR UPDATE;

-- name: remove_held_seals
-- Those that hold_seals has made.
DELETE FROM agent_session_seals
WHERE session_id IN %(ids)s
    AND seal = '';

-- name: sealed_sessions
SELECT CONVERT(CONVERT(session_id USING utf8mb4) USING binary)
FROM agent_session_seals
WHERE session_id > %(after)s
ORDER BY session_id
LIMIT %(count)s;

-- name: use_utc
-- Differs: the times of rows are sealed, and a TIMESTAMP is shown in the zone of whoever reads it.
SET SESSION time_zone = '+00:00';
