-- Rows of a session are ordered by id alone; clocks differ and jump. The backend sends
-- several of these statements as one packet, so that a transaction takes one round trip.

-- name: all_items
-- The rows of a session, newest first.
SELECT id, message_data
FROM agent_messages
WHERE session_id = %(session_id)s
ORDER BY id DESC;

-- name: newest_items
-- At most count rows older than id before, newest first.
SELECT id, message_data
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id < %(before)s
ORDER BY id DESC
LIMIT %(count)s;

-- name: newer_items
-- The rows after an id, oldest first.
SELECT id, message_data
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id > %(after)s
ORDER BY id;

-- name: records
-- At most count rows after id after and up to id upto, oldest first. The two comparisons
-- are those of lock_newest_item, for its reason.
SELECT id, created_at, message_data
FROM agent_messages
WHERE session_id >= %(session_id)s
    AND session_id <= %(session_id)s
    AND id > %(after)s
    AND id <= %(upto)s
ORDER BY session_id, id
LIMIT %(count)s;

-- name: newest_range
-- The oldest and the newest id of the newest count rows.
SELECT MIN(id), MAX(id)
FROM (
    SELECT id
    FROM agent_messages
    WHERE session_id >= %(session_id)s
        AND session_id <= %(session_id)s
    ORDER BY session_id DESC, id DESC
    LIMIT %(count)s
) AS newest;

-- name: touch_session
-- Creates the session's row, or notes the time of the write; holds its lock either way.
-- As the first statement of a transaction it does not deadlock with its like.
INSERT INTO agent_sessions (session_id)
VALUES (%(session_id)s)
ON DUPLICATE KEY UPDATE updated_at = CURRENT_TIMESTAMP;

-- name: check_position
-- Differs: fails with error 1242 (a subquery with more than one row) unless the newest
-- row has the id position: an error keeps the rest of the packet from running.
SELECT IF(
    %(position)s = (
        SELECT COALESCE(MAX(id), 0)
        FROM agent_messages
        WHERE session_id = %(session_id)s
    ),
    1,
    (SELECT session_id FROM agent_sessions WHERE session_id = %(session_id)s UNION ALL SELECT '')
);

-- name: insert_item
-- The row behind VALUES is repeated for each item of a batch.
INSERT INTO agent_messages (session_id, message_data)
VALUES (%(session_id)s, %(message_data)s);

-- name: lock_newest_item
-- Differs: with delete_newest_item this is pop; there is no DELETE ... RETURNING on
-- MySQL, and user variables lose rows. The gap lock of REPEATABLE READ keeps a newer
-- row from coming between the two. With a plain `=` and ORDER BY id, tables without an index
-- on both columns would be walked, and locked, by id through all sessions.
SELECT id, message_data
FROM agent_messages
WHERE session_id >= %(session_id)s
    AND session_id <= %(session_id)s
ORDER BY session_id DESC, id DESC
LIMIT 1
FOR UPDATE;

-- name: delete_newest_item
-- MariaDB sorts the whole conversation first unless the order names the primary key in full.
DELETE FROM agent_messages
WHERE session_id = %(session_id)s
ORDER BY session_id DESC, id DESC
LIMIT 1;

-- name: lock_session
-- Differs: taken before messages are deleted, in the order in which writers take it. It
-- changes nothing, and has no rows to send, as SELECT ... FOR UPDATE would. A trigger on
-- updates of this table runs.
UPDATE agent_sessions
SET updated_at = updated_at
WHERE session_id = %(session_id)s;

-- name: delete_item
DELETE FROM agent_messages
WHERE session_id = %(session_id)s
    AND id = %(id)s;

-- name: delete_items
DELETE FROM agent_messages
WHERE session_id = %(session_id)s;

-- name: delete_session
DELETE FROM agent_sessions
WHERE session_id = %(session_id)s;

-- name: begin
START TRANSACTION;

-- name: commit
COMMIT;

-- name: suspend_autocommit
-- Differs: before begin, where the statements behind it are sent ahead. When a deadlock ends
-- the transaction, what follows begins another one, which can be rolled back.
SET autocommit = 0;

-- name: resume_autocommit
-- Differs: commit, behind suspend_autocommit; the server commits by itself.
SET autocommit = 1;

-- name: prepare_connection
-- Outside strict mode the server cuts what is too long, without an error. A lock that is
-- waited for too long is an error of the server's, before the connection is given up.
SET NAMES utf8mb4,
    SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
    SESSION autocommit = 1,
    SESSION innodb_lock_wait_timeout = CAST(LEAST(@@innodb_lock_wait_timeout, %(lock_timeout)s) AS SIGNED),
    SESSION lock_wait_timeout = CAST(LEAST(@@lock_wait_timeout, %(lock_timeout)s) AS SIGNED);

-- name: use_repeatable_read
-- pop needs its gap locks, whatever the server's default is.
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: packet_limit
SELECT @@max_allowed_packet, @@auto_increment_increment;

-- name: rival_is_busy
-- Differs: uptime stands for the session's age.
-- Whether another server session of ours is executing something; no row when it has ended.
SELECT command <> 'Sleep'
FROM information_schema.processlist
WHERE id = %(id)s
    AND id <> CONNECTION_ID();

-- name: uptime
-- Differs: MySQL tells no session's age, only the server's, in seconds.
SHOW GLOBAL STATUS LIKE 'Uptime';

-- name: savepoint
SAVEPOINT agent_sql_sessions;

-- name: release_savepoint
RELEASE SAVEPOINT agent_sql_sessions;

-- name: rollback_to_savepoint
ROLLBACK TO SAVEPOINT agent_sql_sessions;
