-- What an operator asks: which conversations there are, and to copy, mend and delete them.
--
-- A page of a listing: the sessions in a subquery, and for each of them a count of its rows, unless it has one more than
-- count_limit. MariaDB's subqueries see nothing of the statement from within FROM; a bound by an id would be looked up
-- again for each row, by MySQL. Pages go on behind the last row of the one before, by its time and its id; a comparison
-- of two columns with two values would walk all rows. A prefix is compared as bytes of UTF-8, whatever the collation and
-- the character set of the column; its pattern, for LIKE, finds it by the index. What goes on with a character above U+FFFF
-- is looked for besides: in MariaDB's own idea of the pattern's end there is none. So is what goes on with a control
-- character: where a collation pads with blanks, that stands below the prefix, and so below the pattern's beginning.
-- MariaDB sorts by the first max_sort_length bytes of a key, and the case of a letter stands behind them in collations
-- that are not ours.
--
-- None is idle whose time is not known: not a number, which the server would take for one, nor a day, of which a write may
-- have been at the end, nor 0000-00-00. A moment is a local time here: of the hour that comes twice it is told from what
-- was written later by the time that has passed since, which also reaches where FROM_UNIXTIME does not.
--
-- What decides about a write is read FOR UPDATE: the snapshot of an application's transaction may be older.

-- name: sessions_newest_first
-- Differs: the pattern is for a collation that is not ours.
/*M!100203 SET STATEMENT max_sort_length = 65536 FOR */
SELECT CONVERT(CONVERT(page.session_id USING utf8mb4) USING binary), page.created_at, page.updated_at, TIMESTAMPDIFF(
    SECOND, page.updated_at, CURRENT_TIMESTAMP
), CASE
    WHEN (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT 1 OFFSET %(count_limit)s
    ) THEN %(count_limit)s + 1
    ELSE (
        SELECT COUNT(*)
        FROM agent_messages
        WHERE session_id = page.session_id
    )
END
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (
            %(session_id)s IS NULL
            OR updated_at <= %(updated)s AND (updated_at < %(updated)s OR session_id < %(session_id)s)
            OR updated_at IS NULL AND (%(updated)s IS NOT NULL OR session_id < %(session_id)s)
        )
        AND (
            %(idle)s IS NULL
            OR updated_at <= LEAST(
                COALESCE(FROM_UNIXTIME(%(idle)s), TIMESTAMP '9999-12-31 00:00:00'),
                CURRENT_TIMESTAMP(6) - INTERVAL UNIX_TIMESTAMP() - %(idle)s SECOND
            )
            AND LEFT(CAST(updated_at AS CHAR), 19) LIKE '____-__-__ __:__:__'
            AND LEFT(CAST(updated_at AS CHAR), 4) > '0000'
        )
        AND (
            session_id LIKE %(pattern)s ESCAPE '!'
            OR session_id >= %(beyond)s AND (%(above_prefix)s IS NULL OR session_id < %(above_prefix)s)
            OR session_id >= %(below)s AND session_id < %(prefix)s
        )
        AND CAST(LEFT(CONVERT(session_id USING utf8mb4), CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY updated_at DESC, session_id DESC
    LIMIT %(count)s
) AS page
ORDER BY page.updated_at DESC, page.session_id DESC
LIMIT %(count)s;

-- name: sessions_oldest_first
-- Differs: the pattern is for a collation that is not ours.
/*M!100203 SET STATEMENT max_sort_length = 65536 FOR */
SELECT CONVERT(CONVERT(page.session_id USING utf8mb4) USING binary), page.created_at, page.updated_at, TIMESTAMPDIFF(
    SECOND, page.updated_at, CURRENT_TIMESTAMP
), CASE
    WHEN (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT 1 OFFSET %(count_limit)s
    ) THEN %(count_limit)s + 1
    ELSE (
        SELECT COUNT(*)
        FROM agent_messages
        WHERE session_id = page.session_id
    )
END
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (
            %(session_id)s IS NULL
            OR updated_at >= %(updated)s AND (updated_at > %(updated)s OR session_id > %(session_id)s)
            OR %(updated)s IS NULL AND (updated_at IS NOT NULL OR session_id > %(session_id)s)
        )
        AND (
            %(idle)s IS NULL
            OR updated_at <= LEAST(
                COALESCE(FROM_UNIXTIME(%(idle)s), TIMESTAMP '9999-12-31 00:00:00'),
                CURRENT_TIMESTAMP(6) - INTERVAL UNIX_TIMESTAMP() - %(idle)s SECOND
            )
            AND LEFT(CAST(updated_at AS CHAR), 19) LIKE '____-__-__ __:__:__'
            AND LEFT(CAST(updated_at AS CHAR), 4) > '0000'
        )
        AND (
            session_id LIKE %(pattern)s ESCAPE '!'
            OR session_id >= %(beyond)s AND (%(above_prefix)s IS NULL OR session_id < %(above_prefix)s)
            OR session_id >= %(below)s AND session_id < %(prefix)s
        )
        AND CAST(LEFT(CONVERT(session_id USING utf8mb4), CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY updated_at, session_id
    LIMIT %(count)s
) AS page
ORDER BY page.updated_at, page.session_id
LIMIT %(count)s;

-- name: sessions_by_id
-- Differs: the pattern is for a collation that is not ours.
/*M!100203 SET STATEMENT max_sort_length = 65536 FOR */
SELECT CONVERT(CONVERT(page.session_id USING utf8mb4) USING binary), page.created_at, page.updated_at, TIMESTAMPDIFF(
    SECOND, page.updated_at, CURRENT_TIMESTAMP
), CASE
    WHEN (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT 1 OFFSET %(count_limit)s
    ) THEN %(count_limit)s + 1
    ELSE (
        SELECT COUNT(*)
        FROM agent_messages
        WHERE session_id = page.session_id
    )
END
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (%(session_id)s IS NULL OR session_id > %(session_id)s)
        AND (
            %(idle)s IS NULL
            OR updated_at <= LEAST(
                COALESCE(FROM_UNIXTIME(%(idle)s), TIMESTAMP '9999-12-31 00:00:00'),
                CURRENT_TIMESTAMP(6) - INTERVAL UNIX_TIMESTAMP() - %(idle)s SECOND
            )
            AND LEFT(CAST(updated_at AS CHAR), 19) LIKE '____-__-__ __:__:__'
            AND LEFT(CAST(updated_at AS CHAR), 4) > '0000'
        )
        AND (
            session_id LIKE %(pattern)s ESCAPE '!'
            OR session_id >= %(beyond)s AND (%(above_prefix)s IS NULL OR session_id < %(above_prefix)s)
            OR session_id >= %(below)s AND session_id < %(prefix)s
        )
        AND CAST(LEFT(CONVERT(session_id USING utf8mb4), CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY session_id
    LIMIT %(count)s
) AS page
ORDER BY page.session_id
LIMIT %(count)s;

-- name: sessions_by_id_descending
-- Differs: the pattern is for a collation that is not ours.
/*M!100203 SET STATEMENT max_sort_length = 65536 FOR */
SELECT CONVERT(CONVERT(page.session_id USING utf8mb4) USING binary), page.created_at, page.updated_at, TIMESTAMPDIFF(
    SECOND, page.updated_at, CURRENT_TIMESTAMP
), CASE
    WHEN (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT 1 OFFSET %(count_limit)s
    ) THEN %(count_limit)s + 1
    ELSE (
        SELECT COUNT(*)
        FROM agent_messages
        WHERE session_id = page.session_id
    )
END
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (%(session_id)s IS NULL OR session_id < %(session_id)s)
        AND (
            %(idle)s IS NULL
            OR updated_at <= LEAST(
                COALESCE(FROM_UNIXTIME(%(idle)s), TIMESTAMP '9999-12-31 00:00:00'),
                CURRENT_TIMESTAMP(6) - INTERVAL UNIX_TIMESTAMP() - %(idle)s SECOND
            )
            AND LEFT(CAST(updated_at AS CHAR), 19) LIKE '____-__-__ __:__:__'
            AND LEFT(CAST(updated_at AS CHAR), 4) > '0000'
        )
        AND (
            session_id LIKE %(pattern)s ESCAPE '!'
            OR session_id >= %(beyond)s AND (%(above_prefix)s IS NULL OR session_id < %(above_prefix)s)
            OR session_id >= %(below)s AND session_id < %(prefix)s
        )
        AND CAST(LEFT(CONVERT(session_id USING utf8mb4), CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY session_id DESC
    LIMIT %(count)s
) AS page
ORDER BY page.session_id DESC
LIMIT %(count)s;

-- name: session_sizes
-- The rows and bytes of some sessions, by the day of their making. MariaDB cuts what is converted for groups at 255 bytes,
-- unless it is by CAST.
SELECT CAST(CONVERT(agent_sessions.session_id USING utf8mb4) AS BINARY), CONVERT(CONVERT(
    COALESCE(LEFT(CAST(agent_messages.created_at AS CHAR), 10), '') USING utf8mb4
) USING binary) AS made_on, COUNT(*), CAST(SUM(OCTET_LENGTH(agent_messages.message_data)) AS SIGNED)
FROM agent_sessions
JOIN agent_messages ON agent_messages.session_id = agent_sessions.session_id
WHERE agent_sessions.session_id IN %(ids)s
GROUP BY agent_sessions.session_id, made_on
ORDER BY agent_sessions.session_id, made_on
LIMIT 18446744073709551615;

-- name: first_items
-- The beginning of the first text of a user in each of some sessions, in the two ways in which JSON is spaced. MySQL
-- sorts the whole conversation first unless the order names the primary key in full.
SELECT CONVERT(CONVERT(session_id USING utf8mb4) USING binary), CONVERT(CONVERT((
    SELECT LEFT(message_data, %(length)s)
    FROM agent_messages
    WHERE session_id = agent_sessions.session_id
        AND (INSTR(message_data, %(spaced)s) > 0 OR INSTR(message_data, %(compact)s) > 0)
    ORDER BY session_id, id
    LIMIT 1
) USING utf8mb4) USING binary)
FROM agent_sessions
WHERE session_id IN %(ids)s
ORDER BY session_id
LIMIT 18446744073709551615;

-- name: first_items_ids_first
-- Differs: first_items, on tables of others (queries.sql). For one session the order would be one by id alone.
SELECT CONVERT(CONVERT(session_id USING utf8mb4) USING binary), CONVERT(CONVERT((
    SELECT STRAIGHT_JOIN LEFT(message.message_data, %(length)s)
    FROM agent_messages AS found IGNORE INDEX FOR ORDER BY (PRIMARY)
    JOIN agent_messages AS message
        ON message.session_id = found.session_id
        AND message.id = found.id
    WHERE found.session_id = agent_sessions.session_id
        AND (INSTR(message.message_data, %(spaced)s) > 0 OR INSTR(message.message_data, %(compact)s) > 0)
    ORDER BY found.session_id, found.id
    LIMIT 1
) USING utf8mb4) USING binary)
FROM agent_sessions
WHERE session_id IN %(ids)s
ORDER BY session_id
LIMIT 18446744073709551615;

-- name: unlisted_sessions
-- Sessions that have rows and no row of their own, as programs leave them that know of no foreign key; behind the
-- empty text all of them, the empty id too. Where a collation pads with blanks, some stand below that.
/*M!100203 SET STATEMENT max_sort_length = 65536 FOR */
SELECT CAST(CONVERT(session_id USING utf8mb4) AS BINARY)
FROM agent_messages
WHERE (CHAR_LENGTH(%(after)s) = 0 OR session_id > %(after)s)
    AND NOT EXISTS (
        SELECT 1
        FROM agent_sessions
        WHERE session_id = agent_messages.session_id
    )
GROUP BY session_id
ORDER BY session_id
LIMIT %(count)s;

-- name: lock_sessions
-- Locks those of some sessions that nobody has written to since a moment, and says which; all of them without
-- one. Some writers add a row before they note the time: the newest row counts too. A time of whole seconds may be
-- almost one earlier than the write. That there is no row has to be proven: what is interrupted is NULL, too.
SELECT CONVERT(CONVERT(session_id USING utf8mb4) USING binary)
FROM agent_sessions
WHERE session_id IN %(ids)s
    AND (
        %(idle)s IS NULL
        OR (
            updated_at <= LEAST(
                COALESCE(FROM_UNIXTIME(%(idle)s), TIMESTAMP '9999-12-31 00:00:00'),
                CURRENT_TIMESTAMP(6) - INTERVAL UNIX_TIMESTAMP() - %(idle)s SECOND
            ) - INTERVAL (MICROSECOND(updated_at) = 0) SECOND
            AND LEFT(CAST(updated_at AS CHAR), 19) LIKE '____-__-__ __:__:__'
            AND LEFT(CAST(updated_at AS CHAR), 4) > '0000'
            AND (
                (
                    SELECT COALESCE(
                        created_at <= LEAST(
                            COALESCE(FROM_UNIXTIME(%(idle)s), TIMESTAMP '9999-12-31 00:00:00'),
                            CURRENT_TIMESTAMP(6) - INTERVAL UNIX_TIMESTAMP() - %(idle)s SECOND
                        )
                            AND LEFT(CAST(created_at AS CHAR), 19) LIKE '____-__-__ __:__:__',
                        TRUE
                    )
                    FROM agent_messages
                    WHERE session_id = agent_sessions.session_id
                    ORDER BY session_id DESC, id DESC
                    LIMIT 1
                    FOR UPDATE
                )
                OR 0 = (
                    SELECT COALESCE(MAX(id), 0)
                    FROM agent_messages
                    WHERE session_id = agent_sessions.session_id
                    FOR UPDATE
                )
            )
        )
    )
ORDER BY session_id
LIMIT 18446744073709551615
FOR UPDATE;

-- name: delete_items_of
DELETE FROM agent_messages
WHERE session_id IN %(ids)s;

-- name: delete_items_of_ids_first
-- Differs: delete_items_of, on tables of others (queries.sql).
DELETE message
FROM agent_messages AS found
STRAIGHT_JOIN agent_messages AS message
    ON message.session_id = found.session_id
    AND message.id = found.id
WHERE found.session_id IN %(ids)s;

-- name: sessions_with_items
-- Those of some sessions that have rows, as they are now. By the column, for MariaDB cuts what is DISTINCT.
SELECT CONVERT(CONVERT(session_id USING utf8mb4) USING binary)
FROM agent_messages
WHERE session_id IN %(ids)s
GROUP BY session_id
LIMIT 1000000
FOR UPDATE;

-- name: delete_sessions
DELETE FROM agent_sessions
WHERE session_id IN %(ids)s;

-- name: ids_to_copy
-- Differs: with copy_item this is copy_items. What is selected from the table that it is inserted into goes through a
-- temporary table, whose rows MariaDB reads in the order in which they lie there.
SELECT id
FROM agent_messages
WHERE session_id >= %(session_id)s
    AND session_id <= %(session_id)s
    AND id <= %(upto)s
ORDER BY session_id, id
LIMIT 18446744073709551615
FOR UPDATE;

-- name: copy_item
-- Differs: copy_items, of which this is one row.
INSERT INTO agent_messages (session_id, message_data, created_at)
SELECT %(new_id)s, message_data, created_at
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id = %(id)s;

-- name: count_items
-- Within COUNT, or the server might walk the rows of all sessions up to that id.
SELECT COUNT(CASE WHEN id <= %(upto)s THEN 1 END)
FROM agent_messages
WHERE session_id = %(session_id)s
LIMIT 1
FOR UPDATE;

-- name: find_item
-- Whether the session has the row, which is locked then.
SELECT id
FROM agent_messages
WHERE session_id = %(session_id)s
    AND id = %(id)s
LIMIT 1
FOR UPDATE;

-- name: update_item
-- One row of the session. Its time is given, or a column ON UPDATE CURRENT_TIMESTAMP would take that of now.
UPDATE agent_messages
SET message_data = %(message_data)s,
    created_at = created_at
WHERE session_id = %(session_id)s
    AND id = %(id)s;

-- name: search_items
-- The next rows in the order of their making, whoever's they are: the texts of those that may hold what is looked
-- for, NULL for the others. literal is a part of it that JSON writes as it is, unless it writes escape.
-- Bytes with a NUL are a text in UTF-16 or UTF-32.
SELECT CONVERT(CONVERT(page.session_id USING utf8mb4) USING binary), page.id, page.created_at, CASE
    WHEN INSTR(page.message_data, %(literal)s) > 0
        OR INSTR(page.message_data, %(escape)s) > 0
        OR CHARSET(page.message_data) = _ascii 'binary' AND INSTR(page.message_data, X'00') > 0
        THEN CONVERT(CONVERT(page.message_data USING utf8mb4) USING binary)
END
FROM (
    SELECT session_id, id, created_at, message_data
    FROM agent_messages
    WHERE id > %(after)s
        AND CAST(LEFT(CONVERT(session_id USING utf8mb4), CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY id
    LIMIT %(count)s
) AS page
ORDER BY page.id
LIMIT %(count)s;

-- name: load_item
-- A row with the time that it was made at; without one, now. The row behind VALUES is repeated, and IF() is that of
-- insert_item.
INSERT INTO agent_messages (session_id, message_data, created_at)
VALUES (IF(LAST_INSERT_ID(0), NULL, %(session_id)s), %(message_data)s, COALESCE(%(created_at)s, CURRENT_TIMESTAMP));

-- name: set_session_times
UPDATE agent_sessions
SET created_at = COALESCE(%(created_at)s, created_at),
    updated_at = COALESCE(%(updated_at)s, updated_at)
WHERE session_id = %(session_id)s;
