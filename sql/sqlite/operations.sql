-- What an operator asks: which conversations there are, and to copy, mend and delete them. The pluses are those of
-- queries.sql.
--
-- A page of a listing: the sessions in a subquery, and for each of them a count of its rows that ends at
-- count_limit + 1. Pages go on behind the last row of the one before, by its time and its id. A time of whole seconds may
-- be almost one earlier than the write: nobody has written since a moment if it is a second older; x'ff' sorts behind every
-- text.
--
-- A time is one of SQLite's three forms (sqlite.org/datatype3.html, 2.2): a text, a real number of days, or seconds, which
-- the npm package writes; and seconds are no earlier than 2000, or days and minutes would be taken for them. Whatever
-- else stands there, such as milliseconds or a day alone, may have been written a moment ago: it sorts behind every time,
-- as '~', and is never idle.
-- above_prefix finds a prefix by the index; it is NULL where texts are not ordered by their code points.

-- name: sessions_newest_first
SELECT +page.session_id, +page.created_at, page.updated, (julianday('now') - julianday(page.updated)) * 86400.0, (
    SELECT count(*)
    FROM (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT :count_limit + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, coalesce(CASE
        WHEN datetime(updated_at) = substr(updated_at, 1, 19) THEN updated_at
        WHEN updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(updated_at)
        WHEN typeof(updated_at + 0) = 'real' AND updated_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(updated_at + 0)
        WHEN updated_at + 0 >= 946684800 THEN datetime(updated_at + 0, 'unixepoch')
    END, '~') AS updated
    FROM agent_sessions
    WHERE updated <= min(coalesce(:updated, x'ff'), coalesce(datetime(:idle - 1, 'unixepoch'), x'ff'))
        AND (updated < coalesce(:updated, x'ff') OR session_id < :session_id)
        AND substr(session_id, 1, length(:prefix)) = :prefix
    ORDER BY updated DESC, session_id DESC
    LIMIT :count
) AS page
ORDER BY page.updated DESC, page.session_id DESC;

-- name: sessions_oldest_first
SELECT +page.session_id, +page.created_at, page.updated, (julianday('now') - julianday(page.updated)) * 86400.0, (
    SELECT count(*)
    FROM (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT :count_limit + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, coalesce(CASE
        WHEN datetime(updated_at) = substr(updated_at, 1, 19) THEN updated_at
        WHEN updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(updated_at)
        WHEN typeof(updated_at + 0) = 'real' AND updated_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(updated_at + 0)
        WHEN updated_at + 0 >= 946684800 THEN datetime(updated_at + 0, 'unixepoch')
    END, '~') AS updated
    FROM agent_sessions
    WHERE updated >= coalesce(:updated, '')
        AND (:updated IS NULL OR updated > :updated OR session_id > :session_id)
        AND updated <= coalesce(datetime(:idle - 1, 'unixepoch'), x'ff')
        AND substr(session_id, 1, length(:prefix)) = :prefix
    ORDER BY updated, session_id
    LIMIT :count
) AS page
ORDER BY page.updated, page.session_id;

-- name: sessions_by_id
SELECT +page.session_id, +page.created_at, page.updated, (julianday('now') - julianday(page.updated)) * 86400.0, (
    SELECT count(*)
    FROM (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT :count_limit + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, coalesce(CASE
        WHEN datetime(updated_at) = substr(updated_at, 1, 19) THEN updated_at
        WHEN updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(updated_at)
        WHEN typeof(updated_at + 0) = 'real' AND updated_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(updated_at + 0)
        WHEN updated_at + 0 >= 946684800 THEN datetime(updated_at + 0, 'unixepoch')
    END, '~') AS updated
    FROM agent_sessions
    WHERE session_id >= :prefix
        AND session_id < coalesce(:above_prefix, x'ff')
        AND substr(session_id, 1, length(:prefix)) = :prefix
        AND session_id >= coalesce(:session_id, '')
        AND session_id IS NOT :session_id
        AND updated <= coalesce(datetime(:idle - 1, 'unixepoch'), x'ff')
    ORDER BY session_id
    LIMIT :count
) AS page
ORDER BY page.session_id;

-- name: sessions_by_id_descending
SELECT +page.session_id, +page.created_at, page.updated, (julianday('now') - julianday(page.updated)) * 86400.0, (
    SELECT count(*)
    FROM (
        SELECT 1
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT :count_limit + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, coalesce(CASE
        WHEN datetime(updated_at) = substr(updated_at, 1, 19) THEN updated_at
        WHEN updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(updated_at)
        WHEN typeof(updated_at + 0) = 'real' AND updated_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(updated_at + 0)
        WHEN updated_at + 0 >= 946684800 THEN datetime(updated_at + 0, 'unixepoch')
    END, '~') AS updated
    FROM agent_sessions
    WHERE session_id >= :prefix
        AND session_id < coalesce(:above_prefix, x'ff')
        AND substr(session_id, 1, length(:prefix)) = :prefix
        AND session_id < coalesce(:session_id, x'ff')
        AND updated <= coalesce(datetime(:idle - 1, 'unixepoch'), x'ff')
    ORDER BY session_id DESC
    LIMIT :count
) AS page
ORDER BY page.session_id DESC;

-- name: session_sizes
-- The rows and bytes of some sessions, by the day of their making.
SELECT +agent_sessions.session_id, coalesce(substr(CASE
    WHEN datetime(agent_messages.created_at) = substr(agent_messages.created_at, 1, 19) THEN agent_messages.created_at
    WHEN agent_messages.created_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(agent_messages.created_at)
    WHEN typeof(agent_messages.created_at + 0) = 'real' AND agent_messages.created_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(agent_messages.created_at + 0)
    WHEN agent_messages.created_at + 0 >= 946684800 THEN datetime(agent_messages.created_at + 0, 'unixepoch')
END, 1, 10), '') AS made_on, count(*), sum(length(CAST(agent_messages.message_data AS BLOB)))
FROM agent_sessions
JOIN agent_messages ON agent_messages.session_id = agent_sessions.session_id
WHERE agent_sessions.session_id IN (SELECT value FROM json_each(:ids))
GROUP BY agent_sessions.session_id, made_on
ORDER BY agent_sessions.session_id, made_on;

-- name: first_items
-- The beginning of the first text of a user in each of some sessions, in the two ways in which JSON is spaced.
SELECT +session_id, (
    SELECT substr(message_data, 1, :length)
    FROM agent_messages
    WHERE session_id = agent_sessions.session_id
        AND (instr(message_data, :spaced) > 0 OR instr(message_data, :compact) > 0)
    ORDER BY id
    LIMIT 1
)
FROM agent_sessions
WHERE session_id IN (SELECT value FROM json_each(:ids))
ORDER BY session_id;

-- name: unlisted_sessions
-- Sessions that have rows and no row of their own, as programs leave them that know of no foreign key; behind the
-- empty text all of them, the empty id too.
SELECT +session_id
FROM agent_messages
WHERE session_id >= :after
    AND (session_id <> :after OR :after = '')
    AND NOT EXISTS (
        SELECT 1
        FROM agent_sessions
        WHERE session_id = agent_messages.session_id
    )
GROUP BY session_id
ORDER BY session_id
LIMIT :count;

-- name: lock_sessions
-- Locks those of some sessions that nobody has written to since a moment, and says which; all of them without
-- one. Some writers add a row before they note the time: the newest row counts too.
SELECT +session_id
FROM agent_sessions
WHERE session_id IN (SELECT value FROM json_each(:ids))
    AND (
        :idle IS NULL
        OR (
            CASE
                WHEN datetime(updated_at) = substr(updated_at, 1, 19) THEN updated_at
                WHEN updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(updated_at)
                WHEN typeof(updated_at + 0) = 'real' AND updated_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(updated_at + 0)
                WHEN updated_at + 0 >= 946684800 THEN datetime(updated_at + 0, 'unixepoch')
            END <= datetime(:idle - 1, 'unixepoch')
            AND coalesce((
                SELECT created_at IS NULL OR coalesce(CASE
                    WHEN datetime(created_at) = substr(created_at, 1, 19) THEN created_at
                    WHEN created_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9]*' THEN datetime(created_at)
                    WHEN typeof(created_at + 0) = 'real' AND created_at + 0 BETWEEN 1721059.5 AND 5373484.5 THEN datetime(created_at + 0)
                    WHEN created_at + 0 >= 946684800 THEN datetime(created_at + 0, 'unixepoch')
                END <= datetime(:idle - 1, 'unixepoch'), FALSE)
                FROM agent_messages
                WHERE session_id = agent_sessions.session_id
                ORDER BY id DESC
                LIMIT 1
            ), TRUE)
        )
    )
ORDER BY session_id;

-- name: delete_items_of
DELETE FROM agent_messages
WHERE session_id IN (SELECT value FROM json_each(:ids));

-- name: sessions_with_items
-- Those of some sessions that have rows.
SELECT DISTINCT +session_id
FROM agent_messages
WHERE session_id IN (SELECT value FROM json_each(:ids))
ORDER BY session_id;

-- name: delete_sessions
DELETE FROM agent_sessions
WHERE session_id IN (SELECT value FROM json_each(:ids));

-- name: copy_items
-- The rows of a session up to one of them, with their times, for another session.
INSERT OR ABORT INTO agent_messages (session_id, message_data, created_at)
SELECT :new_id, message_data, created_at
FROM agent_messages
WHERE session_id = :session_id
    AND id <= :upto
ORDER BY id;

-- name: count_items
SELECT count(*)
FROM agent_messages
WHERE session_id = :session_id
    AND id <= :upto;

-- name: find_item
-- Whether the session has the row; the database's write lock is held already.
SELECT +id
FROM agent_messages
WHERE session_id = :session_id
    AND id = :id;

-- name: update_item
-- One row of the session.
UPDATE agent_messages
SET message_data = :message_data
WHERE session_id = :session_id
    AND id = :id;

-- name: search_items
-- The next rows in the order of their making, whoever's they are: the texts of those that may hold what is looked
-- for, NULL for the others. literal is a part of it that JSON writes as it is, unless it writes escape.
-- Bytes may be a text in another encoding.
SELECT +page.session_id, +page.id, +page.created_at, CASE
    WHEN instr(page.message_data, :literal) > 0
        OR instr(page.message_data, :escape) > 0
        OR typeof(page.message_data) = 'blob'
        THEN page.message_data
END
FROM (
    SELECT session_id, id, created_at, message_data
    FROM agent_messages
    WHERE id > :after
        AND substr(session_id, 1, length(:prefix)) = :prefix
    ORDER BY id
    LIMIT :count
) AS page
ORDER BY page.id;

-- name: load_item
-- A row with the time that it was made at; whole seconds, as the column's default. Without one that can be
-- read, now. datetime() rounds a fraction, and the last one of all up to no time: it is cut, and the zone behind it kept.
INSERT OR ABORT INTO agent_messages (session_id, message_data, created_at)
VALUES (:session_id, :message_data, coalesce(
    datetime(substr(:created_at, 1, 19) || ltrim(substr(:created_at, 20), '.0123456789')),
    datetime(:created_at),
    CURRENT_TIMESTAMP
));

-- name: set_session_times
UPDATE agent_sessions
SET created_at = coalesce(
        datetime(substr(:created_at, 1, 19) || ltrim(substr(:created_at, 20), '.0123456789')),
        datetime(:created_at),
        created_at
    ),
    updated_at = coalesce(
        datetime(substr(:updated_at, 1, 19) || ltrim(substr(:updated_at, 20), '.0123456789')),
        datetime(:updated_at),
        updated_at
    )
WHERE session_id = :session_id;
