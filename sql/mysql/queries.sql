-- Rows of a session are ordered by id alone; clocks differ and jump. The backend sends
-- several of these statements as one packet, so that a transaction takes one round trip.
--
-- Nothing here depends on the connection's settings, since some connections are the
-- application's. Every query has a LIMIT, or sql_select_limit would be one. message_data
-- arrives as UTF-8 whatever character_set_results is, or as the bytes that a BLOB holds. A
-- transaction ends as it is told, whatever completion_type is.
--
-- What ends in _ids_first is for tables whose primary key does not begin with the session, as
-- those of other programs: the ids come out of an index, which holds them, and the rest by the
-- primary key. Otherwise the server would walk, and lock, all conversations by id, or, where the
-- conversation is a large part of the table, the table. For the same reason they name the session
-- by two comparisons, not by one that makes the order one by id alone. On our own tables they
-- read each row twice.

-- name: all_items
-- The rows of a session, newest first.
SELECT
    id,
    IF(
        CHARSET(message_data) = _ascii 'binary',
        CONVERT(message_data USING binary),
        CONVERT(CONVERT(message_data USING utf8mb4) USING binary)
    )
FROM agent_messages
WHERE session_id = %(session_id)s
ORDER BY id DESC
LIMIT 18446744073709551615;

-- name: all_items_ids_first
-- Differs: all_items, on tables of others.
SELECT STRAIGHT_JOIN
    message.id,
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
LIMIT 18446744073709551615;

-- name: newest_items
-- At most count rows up to id upto, newest first.
SELECT
    id,
    IF(
        CHARSET(message_data) = _ascii 'binary',
        CONVERT(message_data USING binary),
        CONVERT(CONVERT(message_data USING utf8mb4) USING binary)
    )
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id <= %(upto)s
ORDER BY id DESC
LIMIT %(count)s;

-- name: newest_items_ids_first
-- Differs: newest_items, on tables of others.
SELECT STRAIGHT_JOIN
    message.id,
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
    AND found.id <= %(upto)s
ORDER BY found.session_id DESC, found.id DESC
LIMIT %(count)s;

-- name: records
-- At most count rows after id after and up to id upto, oldest first.
SELECT
    id,
    created_at,
    IF(
        CHARSET(message_data) = _ascii 'binary',
        CONVERT(message_data USING binary),
        CONVERT(CONVERT(message_data USING utf8mb4) USING binary)
    )
FROM agent_messages
WHERE session_id >= %(session_id)s
    AND session_id <= %(session_id)s
    AND id > %(after)s
    AND id <= %(upto)s
ORDER BY session_id, id
LIMIT %(count)s;

-- name: records_ids_first
-- Differs: records, on tables of others.
SELECT STRAIGHT_JOIN
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
    AND found.id > %(after)s
    AND found.id <= %(upto)s
ORDER BY found.session_id, found.id
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
) AS newest
LIMIT 1;

-- name: lock_newest_id
-- Differs: newest_range of one row, as it is now, also where the transaction's snapshot is older.
SELECT id
FROM agent_messages
WHERE session_id >= %(session_id)s
    AND session_id <= %(session_id)s
ORDER BY session_id DESC, id DESC
LIMIT 1
FOR UPDATE;

-- name: touch_session
-- Creates the session's row, or notes the time of the write; holds its lock either way.
-- As the first statement of a transaction it does not deadlock with its like. The row always
-- changes, by a second back where the time is there already: members of a cluster notice of
-- one another only the rows that change. created_at is given, or a column ON UPDATE CURRENT_TIMESTAMP would move.
INSERT INTO agent_sessions (session_id)
VALUES (%(session_id)s)
ON DUPLICATE KEY UPDATE updated_at = FROM_UNIXTIME(
    UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) - (updated_at IN (CURRENT_TIMESTAMP, CURRENT_TIMESTAMP(6)))
), created_at = created_at;

-- name: check_position
-- Differs: fails with error 1690 (out of range) unless the newest row has the id position: an error keeps the rest of
-- the packet from running. So does each check: what has no answer, as a subquery that KILL QUERY or a time limit
-- interrupts, is NULL, which is no proof; what was to fail by another subquery would be interrupted in that one.
SELECT EXP(IF(
    %(position)s = (
        SELECT COALESCE(MAX(id), 0)
        FROM agent_messages
        WHERE session_id = %(session_id)s
    ),
    0,
    1000
))
LIMIT 1;

-- name: prove_position
-- Differs: check_position of MariaDB's, by IF. A SELECT that is interrupted while it is planned finds nothing there,
-- which is position 0; an IF fails.
IF NOT (%(position)s <=> (
    SELECT COALESCE(MAX(id), 0)
    FROM agent_messages
    WHERE session_id = %(session_id)s
)) THEN
    SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1690;
END IF;

-- name: insert_item
-- The row behind VALUES is repeated for each item of a batch. IF() lets go of the id that an earlier statement was
-- given, which check_items would take for this one's where the table gives none.
INSERT INTO agent_messages (session_id, message_data)
VALUES (IF(LAST_INSERT_ID(0), NULL, %(session_id)s), %(message_data)s);

-- name: lock_newest_items
-- Differs: with delete_newest_item this is pop; there is no DELETE ... RETURNING on
-- MySQL, and user variables lose rows. The gap lock of REPEATABLE READ keeps a newer
-- row from coming between the two.
SELECT
    id,
    IF(
        CHARSET(message_data) = _ascii 'binary',
        CONVERT(message_data USING binary),
        CONVERT(CONVERT(message_data USING utf8mb4) USING binary)
    )
FROM agent_messages
WHERE session_id >= %(session_id)s
    AND session_id <= %(session_id)s
ORDER BY session_id DESC, id DESC
LIMIT %(count)s
FOR UPDATE;

-- name: lock_newest_items_ids_first
-- Differs: lock_newest_items, on tables of others.
SELECT STRAIGHT_JOIN
    message.id,
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
FOR UPDATE;

-- name: delete_newest_item
-- MariaDB sorts the whole conversation first unless the order names the primary key in full.
-- Fails with error 1690 (out of range) where the text is hidden, or an id is a text, of which the newest is not known.
DELETE FROM agent_messages
WHERE session_id = %(session_id)s
    AND (message_data IS NOT NULL AND CHARSET(id) = _ascii 'binary' OR EXP(id + 1000))
ORDER BY session_id DESC, id DESC
LIMIT 1;

-- name: delete_newest_item_ids_first
-- Differs: delete_newest_item, on tables of others.
DELETE message
FROM (
    SELECT session_id, id
    FROM agent_messages
    WHERE session_id >= %(session_id)s
        AND session_id <= %(session_id)s
    ORDER BY session_id DESC, id DESC
    LIMIT 1
) AS newest
STRAIGHT_JOIN agent_messages AS message
    ON message.session_id = newest.session_id
    AND message.id = newest.id
WHERE message.message_data IS NOT NULL AND CHARSET(message.id) = _ascii 'binary'
    OR EXP(message.id + 1000);

-- name: lock_session
-- Holds the lock of the session's row, if it is there.
SELECT session_id
FROM agent_sessions
WHERE session_id = %(session_id)s
LIMIT 1
FOR UPDATE;

-- name: make_session
-- Differs: SQLite loses no answer. The session's row, behind lock_session, which has found none. Where it locks no gap,
-- as at READ COMMITTED, another one may have made it since: an error, after which it is settled anew.
INSERT INTO agent_sessions (session_id)
VALUES (%(session_id)s);

-- name: shift_session_time
-- Differs: SQLite loses no answer. By a second, which every column of times holds.
UPDATE agent_sessions
SET updated_at = updated_at + INTERVAL %(seconds)s SECOND, created_at = created_at
WHERE session_id = %(session_id)s;

-- name: lock_session_for_removal
-- Differs: lock_session without rows to send, before messages are deleted, in the order in
-- which writers take it. Notes the time, a second ahead of the clock: a removal is then told
-- from what was added in the same second where updated_at has whole seconds. Two seconds where
-- that time is there already, so that the row changes as in touch_session. What is added behind a removal hides
-- that, so its time of day is noted too, as the fraction of the second of created_at: a day is half a second there, so
-- that no column rounds it to the next one; its microseconds are odd, as on PostgreSQL. A time of zeros stays as it is,
-- and is given, as in touch_session.
UPDATE agent_sessions
SET created_at = IF(
    DAY(created_at) > 0 AND MONTH(created_at) > 0,
    COALESCE(
        created_at - INTERVAL MICROSECOND(created_at) MICROSECOND + INTERVAL (
            2 * FLOOR(MOD(UNIX_TIMESTAMP(GREATEST(updated_at, CURRENT_TIMESTAMP(6))), 86400) / 0.3456) + 1
        ) MICROSECOND,
        created_at
    ),
    created_at
), updated_at = FROM_UNIXTIME(
    UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + 1 + (
        updated_at IN (FROM_UNIXTIME(UNIX_TIMESTAMP() + 1), FROM_UNIXTIME(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + 1))
    )
)
WHERE session_id = %(session_id)s;

-- name: delete_item
-- One row of the session.
DELETE FROM agent_messages
WHERE session_id = %(session_id)s
    AND id = %(id)s;

-- name: delete_items
DELETE FROM agent_messages
WHERE session_id = %(session_id)s;

-- name: delete_items_ids_first
-- Differs: delete_items, on tables of others.
DELETE message
FROM agent_messages AS found
STRAIGHT_JOIN agent_messages AS message
    ON message.session_id = found.session_id
    AND message.id = found.id
WHERE found.session_id >= %(session_id)s
    AND found.session_id <= %(session_id)s;

-- name: delete_session
DELETE FROM agent_sessions
WHERE session_id = %(session_id)s;

-- name: take_lease
-- Changes nothing where another one holds it; a taking that is repeated prolongs. Both assignments are right whether they
-- are made in their order or, as in some modes of MariaDB's, at once: the token is ours where the first one has put it.
INSERT INTO agent_session_leases (session_id, token, expires_at)
VALUES (%(session_id)s, %(token)s, UTC_TIMESTAMP(6) + INTERVAL %(microseconds)s MICROSECOND)
ON DUPLICATE KEY UPDATE
    token = IF(expires_at <= UTC_TIMESTAMP(6), %(token)s, token),
    expires_at = IF(
        token = %(token)s OR expires_at <= UTC_TIMESTAMP(6),
        UTC_TIMESTAMP(6) + INTERVAL %(microseconds)s MICROSECOND,
        expires_at
    );

-- name: renew_lease
-- Writes nothing where somebody else has taken it. Before a write, in its transaction, it keeps others from taking
-- it until that is committed; of a row that was only locked the members of a cluster would not know.
UPDATE agent_session_leases
SET expires_at = UTC_TIMESTAMP(6) + INTERVAL %(microseconds)s MICROSECOND
WHERE session_id = %(session_id)s
    AND token = %(token)s;

-- name: find_lease
-- Differs: behind take_lease and renew_lease, which do not tell a row that they left as it was. FOR UPDATE, here and
-- in check_lease: without, what the transaction reads later would be as it is now.
SELECT session_id
FROM agent_session_leases
WHERE session_id = %(session_id)s
    AND token = %(token)s
LIMIT 1
FOR UPDATE;

-- name: check_lease
-- Differs: find_lease where the write is sent with it: fails as check_position does unless the lease is held.
SELECT EXP(IF(
    EXISTS (
        SELECT session_id
        FROM agent_session_leases
        WHERE session_id = %(session_id)s
            AND token = %(token)s
        FOR UPDATE
    ),
    0,
    1000
))
LIMIT 1;

-- name: release_lease
DELETE FROM agent_session_leases
WHERE session_id = %(session_id)s
    AND token = %(token)s;

-- name: begin
START TRANSACTION;

-- name: commit
COMMIT AND NO CHAIN NO RELEASE;

-- name: rollback
ROLLBACK AND NO CHAIN NO RELEASE;

-- name: suspend_autocommit
-- Differs: before begin, where the statements behind it are sent ahead. When a deadlock ends
-- the transaction, what follows begins another one, which can be rolled back.
SET autocommit = 0;

-- name: resume_autocommit
-- Differs: commit, behind suspend_autocommit; the server commits by itself.
SET autocommit = 1;

-- name: compound
-- Differs: a transaction as one statement of MariaDB's. What another node of a cluster ends between two statements
-- ends all of it, as any error does; in a packet of several statements the rest would be executed.
BEGIN NOT ATOMIC
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;
    START TRANSACTION;
    %(statements)s;
    COMMIT;
END;

-- name: check_item
-- Differs: behind the INSERT of a row: fails as delete_newest_item does, and keeps the rest of the packet from running,
-- unless it is there by the id that the server gave, and its session is. The other databases return the rows that they
-- write. By DO, which has no rows to send; on MariaDB, where that hides errors, by a SELECT which tells the ids as well.
/*!50700 DO */ /*M!100000 SELECT LAST_INSERT_ID(), @@auto_increment_increment, */
EXP(IF(1 <= (
    SELECT COUNT(*)
    FROM agent_sessions
    CROSS JOIN agent_messages
    WHERE agent_sessions.session_id = %(session_id)s
        AND agent_messages.session_id = %(session_id)s
        AND agent_messages.id = LAST_INSERT_ID()
        AND LAST_INSERT_ID() BETWEEN 1 AND 9223372036854775807
), 0, 1000))
/*M!100000 LIMIT 1 */;

-- name: check_items
-- Differs: check_item behind an INSERT of count rows, whose ids are one step apart. As a range even one takes longer.
/*!50700 DO */ /*M!100000 SELECT LAST_INSERT_ID(), @@auto_increment_increment, */
EXP(IF(%(count)s <= (
    SELECT COUNT(*)
    FROM agent_sessions
    CROSS JOIN agent_messages
    WHERE agent_sessions.session_id = %(session_id)s
        AND agent_messages.session_id = %(session_id)s
        AND agent_messages.id >= LAST_INSERT_ID()
        AND agent_messages.id <= LAST_INSERT_ID() + (%(count)s - 1) * @@auto_increment_increment
        AND LAST_INSERT_ID() BETWEEN 1 AND 9223372036854775807 - (%(count)s - 1) * @@auto_increment_increment
), 0, 1000))
/*M!100000 LIMIT 1 */;

-- name: check_session_changed
-- Differs: behind what changes the session's row: fails as check_item does where that is there, and no row was changed.
-- So MariaDB answers, without an error, to a statement that a time limit or KILL QUERY interrupts while it is planned.
-- By two IFs: a subquery of the first would have its table opened each time.
IF ROW_COUNT() < 1 THEN
    IF EXISTS (
        SELECT session_id
        FROM agent_sessions
        WHERE session_id = %(session_id)s
        FOR UPDATE
    ) THEN
        SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1690;
    END IF;
END IF;

-- name: check_items_found
-- Differs: check_session_changed behind lock_newest_items.
IF FOUND_ROWS() < 1 THEN
    IF EXISTS (
        SELECT id
        FROM agent_messages
        WHERE session_id = %(session_id)s
        FOR UPDATE
    ) THEN
        SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1690;
    END IF;
END IF;

-- name: check_items_gone
-- Differs: check_session_changed behind delete_items, wherever a row of the session is left. A DELETE of two tables, as
-- delete_items_ids_first is, MariaDB may acknowledge in the middle. Asked on connections of the application's, too,
-- where the literals of SIGNAL may be in a character set in which they name no state.
IF EXISTS (
    SELECT id
    FROM agent_messages
    WHERE session_id = %(session_id)s
    FOR UPDATE
) THEN
    SELECT EXP(1000)
    LIMIT 1;
END IF;

-- name: check_item_deleted
-- Differs: check_session_changed behind delete_newest_item.
IF ROW_COUNT() < 1 THEN
    IF EXISTS (
        SELECT id
        FROM agent_messages
        WHERE session_id = %(session_id)s
        FOR UPDATE
    ) THEN
        SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1690;
    END IF;
END IF;

-- name: newest_ids
-- Differs: behind an INSERT that was refused, to say why.
SELECT LAST_INSERT_ID(), @@auto_increment_increment
LIMIT 1;

-- name: use_utf8
-- Before prepare_connection, whose literals are in the character set of the connection.
SET NAMES utf8mb4;

-- name: prepare_connection
-- Outside strict mode the server cuts what is too long, without an error. MySQL would round
-- times up where a column has whole seconds; MariaDB does not. What a server's init_connect may
-- have set, and what would refuse our statements for their form, is set back. A lock that is
-- waited for too long is an error of the server's, before the connection is given up.
SET SESSION sql_mode = CONCAT('STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION' /*!80001 , ',TIME_TRUNCATE_FRACTIONAL' */),
    SESSION autocommit = 1,
    SESSION completion_type = 0,
    SESSION sql_select_limit = 18446744073709551615,
    SESSION sql_safe_updates = 0,
    SESSION sql_big_selects = 1,
    SESSION innodb_lock_wait_timeout = CAST(LEAST(@@innodb_lock_wait_timeout, %(lock_timeout)s) AS SIGNED),
    SESSION lock_wait_timeout = CAST(LEAST(@@lock_wait_timeout, %(lock_timeout)s) AS SIGNED);

-- name: use_repeatable_read
-- pop needs its gap locks, whatever the server's default is.
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: packet_limit
SELECT @@max_allowed_packet, @@auto_increment_increment, @@insert_id, @@version_comment
LIMIT 1;

-- name: about_server
-- Differs: what packet_limit tells, who the server is, whether it takes writes, and whether it has what
-- makes it one of a cluster: on MySQL a plugin, which need not be in use, on MariaDB, where that is part of it, what
-- switches it on. To look among all variables takes several times as long. What a server does not know is an error, and
-- it is asked for packet_limit and server_variables.
SELECT
    @@max_allowed_packet,
    @@auto_increment_increment,
    @@insert_id,
    @@version_comment,
    @@version,
    @@hostname,
    @@port,
    @@server_id,
    @@read_only,
    /*!50708 @@super_read_only, @@offline_mode */ /*M!100000 0, 0 */,
    /*!50708 EXISTS (
        SELECT plugin_name
        FROM information_schema.plugins
        WHERE plugin_name IN ('wsrep', 'group_replication')
    ) */ /*M!100000 @@wsrep_on */
LIMIT 1;

-- name: server_variables
-- Who the server is, whether it takes writes, and whether it is in a cluster.
SHOW VARIABLES WHERE variable_name IN (
    'version', 'hostname', 'port', 'server_id', 'read_only', 'super_read_only', 'offline_mode', 'wsrep_on',
    'group_replication_group_name', 'group_replication_single_primary_mode',
    'group_replication_enforce_update_everywhere_checks'
);

-- name: galera_status
SHOW STATUS WHERE variable_name IN ('wsrep_ready', 'wsrep_cluster_size', 'wsrep_local_state_comment');

-- name: prepare_galera
-- What another node has aborted is told, and not tried again behind our back: the server would repeat the last
-- statement alone. Where sync_wait is 1, a transaction begins, and a query is answered, when the node has applied what
-- the others had committed before.
SET SESSION wsrep_retry_autocommit = 0,
    SESSION wsrep_sync_wait = %(sync_wait)s;

-- name: prepare_group
-- A transaction begins, and a query is answered, when the member has applied what the others had committed before.
SET SESSION group_replication_consistency = 'BEFORE';

-- name: group_members
SELECT member_id = @@server_uuid, member_state
FROM performance_schema.replication_group_members
ORDER BY member_id
LIMIT 1000;

-- name: id_step
-- A node of Galera changes it when others come and go, on connections that are open too.
SELECT @@auto_increment_increment
LIMIT 1;

-- name: find_token
-- Differs: SQLite loses no answer. The row that a write left its mark in: its text ends with
-- these characters. As bytes: a collation may take a tab for a space. The ids first, whoever
-- has made the tables.
SELECT STRAIGHT_JOIN message.id
FROM agent_messages AS found
JOIN agent_messages AS message
    ON message.session_id = found.session_id
    AND message.id = found.id
WHERE found.session_id >= %(session_id)s
    AND found.session_id <= %(session_id)s
    AND CAST(
        RIGHT(CONVERT(message.message_data USING utf8mb4), CHAR_LENGTH(%(tail)s)) AS BINARY
    ) = CAST(%(tail)s AS BINARY)
ORDER BY found.session_id DESC, found.id DESC
LIMIT 1;

-- name: last_change
-- Differs: SQLite loses no answer. How many seconds ago the session's row was written, by this
-- server's clock, and whether that was a removal. Columns of whole seconds have lost up to one, and
-- who adds may have gone back by another (touch_session). A removal noted its time a second or two
-- ahead (lock_session_for_removal), so that it is in a later second than the newest row; who adds is
-- not. A row that is dated in the future tells nothing, so it counts as a removal. Both by instants and by local times,
-- of which the nearer counts: where summer time begins the one tells an hour too much, and where it ends MySQL may have
-- noted an instant an hour early, in the hour that comes twice.
SELECT
    LEAST(
        UNIX_TIMESTAMP(now) - UNIX_TIMESTAMP(updated_at), TIMESTAMPDIFF(MICROSECOND, updated_at, now) / 1000000
    ) + is_removal - (MICROSECOND(updated_at) = 0) * (2 - is_removal),
    is_removal,
    MOD(UNIX_TIMESTAMP(now), 86400),
    MICROSECOND(began)
FROM (
    SELECT
        clock.now,
        session.created_at AS began,
        session.updated_at,
        COALESCE(
            newest.created_at < session.updated_at - INTERVAL MICROSECOND(session.updated_at) MICROSECOND
            OR newest.created_at > clock.now,
            TRUE
        ) AS is_removal
    FROM (SELECT CURRENT_TIMESTAMP(6) AS now) AS clock
    CROSS JOIN agent_sessions AS session
    LEFT JOIN (
        SELECT created_at
        FROM agent_messages
        WHERE session_id >= %(session_id)s
            AND session_id <= %(session_id)s
        ORDER BY session_id DESC, id DESC
        LIMIT 1
    ) AS newest ON TRUE
    WHERE session.session_id = %(session_id)s
) AS found
LIMIT 1;

-- name: orphan_is_busy
-- Differs: uptime stands for the session's age, and no proxy is looked behind: where the number of
-- this connection is none of the server's, that of the lost one is a stranger's. Whether a server session whose
-- connection was lost may still be executing something; no row when it has ended.
SELECT command <> 'Sleep'
FROM information_schema.processlist
WHERE id = %(id)s
    AND id <> CONNECTION_ID()
    AND CONNECTION_ID() = %(own)s
LIMIT 1;

-- name: still_busy
-- Differs: MySQL cancels no statement for a client that goes away. Whether a connection of
-- this user to this database is executing something that names our tables, which the COMMIT behind
-- a write and the body of a trigger do not; no row when it has ended, or a proxy has invented its number.
SELECT COALESCE(
    INSTR(info, 'agent_sessions') > 0 OR INSTR(info, 'agent_messages') > 0
    OR INSTR(info, 'agent_session_leases') > 0 OR INSTR(info, 'agent_session_seals') > 0,
    FALSE
)
FROM information_schema.processlist
WHERE id = %(id)s
    AND id <> CONNECTION_ID()
    AND CONNECTION_ID() = %(own)s
    AND db <=> DATABASE()
    AND CONCAT(user, '@', SUBSTRING_INDEX(USER(), '@', -1)) = USER()
LIMIT 1;

-- name: uptime
-- Differs: MySQL tells no session's age, only the server's, in seconds.
SHOW GLOBAL STATUS LIKE 'Uptime';

-- name: idle_session
-- Differs: KILL knows no conditions. The session of orphan_is_busy, if it is idle, and one of this
-- user in this database: another server behind the same address may have given the number to somebody else.
SELECT id
FROM information_schema.processlist
WHERE id = %(id)s
    AND id <> CONNECTION_ID()
    AND CONNECTION_ID() = %(own)s
    AND command = 'Sleep'
    AND db <=> DATABASE()
    AND CONCAT(user, '@', SUBSTRING_INDEX(USER(), '@', -1)) = USER()
LIMIT 1;

-- name: end_session
-- Differs: by number alone, of the session that idle_session has found.
KILL %(id)s;

-- name: savepoint
SAVEPOINT agent_sql_sessions;

-- name: release_savepoint
RELEASE SAVEPOINT agent_sql_sessions;

-- name: rollback_to_savepoint
ROLLBACK TO SAVEPOINT agent_sql_sessions;
