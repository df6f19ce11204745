-- Rows of a session are ordered by id alone; clocks differ and jump. A plus makes an expression
-- of a column, to which sqlite3 applies no converter that the application has registered for its type.

-- name: all_items
-- The rows of a session, newest first.
SELECT +id, +message_data
FROM agent_messages
WHERE session_id = :session_id
ORDER BY id DESC;

-- name: newest_items
-- At most count rows up to id upto, newest first. Without likely() SQLite would
-- walk all sessions' rows by id where no index has both columns, as in tables of others.
SELECT +id, +message_data
FROM agent_messages
WHERE session_id = :session_id
    AND likely(id <= :upto)
ORDER BY id DESC
LIMIT :count;

-- name: records
-- At most count rows after id after and up to id upto, oldest first; with likely() as in newest_items.
SELECT +id, +created_at, +message_data
FROM agent_messages
WHERE session_id = :session_id
    AND likely(id > :after)
    AND likely(id <= :upto)
ORDER BY id
LIMIT :count;

-- name: newest_range
-- The oldest and the newest id of the newest count rows.
SELECT min(id), max(id)
FROM (
    SELECT id
    FROM agent_messages
    WHERE session_id = :session_id
    ORDER BY id DESC
    LIMIT :count
) AS newest;

-- name: touch_session
-- Creates the session's row, or notes the time of the write.
INSERT INTO agent_sessions (session_id)
VALUES (:session_id)
ON CONFLICT (session_id) DO UPDATE
SET updated_at = CURRENT_TIMESTAMP;

-- name: insert_item
-- OR ABORT: a constraint of the table may say REPLACE, which removes other rows.
INSERT OR ABORT INTO agent_messages (session_id, message_data)
VALUES (:session_id, :message_data);

-- name: find_written
-- Differs: a server's INSERT tells. Whether the session has the row, and the highest id of all.
SELECT EXISTS (
    SELECT 1
    FROM agent_messages
    WHERE session_id = :session_id
        AND id = :id
), (SELECT max(id) FROM agent_messages);

-- name: delete_item
-- One row of the session.
DELETE FROM agent_messages
WHERE session_id = :session_id
    AND id = :id;

-- name: delete_items
DELETE FROM agent_messages
WHERE session_id = :session_id;

-- name: delete_session
DELETE FROM agent_sessions
WHERE session_id = :session_id;

-- name: lock_session
-- Whether the session's row is there; the database's write lock is held already.
SELECT 1
FROM agent_sessions
WHERE session_id = :session_id;

-- name: lock_session_for_removal
-- Notes the time of the write; the database's write lock is held already.
UPDATE agent_sessions
SET updated_at = CURRENT_TIMESTAMP
WHERE session_id = :session_id;

-- name: take_lease
-- Writes nothing where another one holds it.
INSERT INTO agent_session_leases (session_id, token, expires_at)
VALUES (:session_id, :token, (julianday('now') - 2440587.5) * 86400.0 + :microseconds / 1000000.0)
ON CONFLICT (session_id) DO UPDATE
SET token = excluded.token,
    expires_at = excluded.expires_at
WHERE token = excluded.token
    OR expires_at <= (julianday('now') - 2440587.5) * 86400.0;

-- name: renew_lease
-- Writes nothing where somebody else has taken it.
UPDATE agent_session_leases
SET expires_at = (julianday('now') - 2440587.5) * 86400.0 + :microseconds / 1000000.0
WHERE session_id = :session_id
    AND token = :token;

-- name: release_lease
DELETE FROM agent_session_leases
WHERE session_id = :session_id
    AND token = :token;

-- name: begin
-- Takes the write lock at once: a transaction that reads first can fail when it writes.
BEGIN IMMEDIATE;

-- name: commit
COMMIT;

-- name: rollback
ROLLBACK;

-- name: savepoint
SAVEPOINT agent_sql_sessions;

-- name: release_savepoint
RELEASE agent_sql_sessions;

-- name: rollback_to_savepoint
ROLLBACK TO agent_sql_sessions;

-- name: encoding
PRAGMA encoding;

-- name: temporary_tables
-- Those of an application's connection alone, and its views.
SELECT +name
FROM sqlite_temp_master
ORDER BY name;

-- name: journal_mode
PRAGMA journal_mode;

-- name: use_wal
-- Kept in the file. Readers and a writer then do not wait for each other.
PRAGMA journal_mode = WAL;

-- name: use_extra_sync
-- What was acknowledged survives a power cut, also where a journal's removal is the commit: FULL does not sync that.
PRAGMA synchronous = EXTRA;

-- name: wait_for_nobody
-- For what others that have the file open do later as well.
PRAGMA busy_timeout = 0;

-- name: empty_log
-- Copy the write-ahead log into the file that was opened with it, and leave it empty.
PRAGMA wal_checkpoint(TRUNCATE);
