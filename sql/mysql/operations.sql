-- What an operator asks: which conversations there are, and to copy, mend and delete them.
--
-- A page of a listing: the sessions in a subquery, and for each of them a count of its rows that ends at
-- count_limit + 1. Pages go on behind the last row of the one before, by its time and its id; a comparison of
-- two columns with two values would walk all rows. A prefix is compared as bytes, whatever the collation; its
-- pattern, for LIKE, finds it by the index.

-- name: sessions_newest_first
-- Differs: the pattern is for a collation that is not ours.
SELECT page.session_id, CAST(page.created_at AS CHAR), CAST(page.updated_at AS CHAR), (
    SELECT COUNT(*)
    FROM agent_messages
    WHERE session_id = page.session_id
        AND id <= COALESCE((
            SELECT id
            FROM agent_messages
            WHERE session_id = page.session_id
            ORDER BY id
            LIMIT 1 OFFSET %(count_limit)s
        ), 9223372036854775807)
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (
            %(updated)s IS NULL
            OR updated_at <= %(updated)s AND (updated_at < %(updated)s OR session_id < %(session_id)s)
        )
        AND (%(idle)s IS NULL OR updated_at <= FROM_UNIXTIME(%(idle)s))
        AND session_id LIKE %(pattern)s ESCAPE '|'
        AND CAST(LEFT(session_id, CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY updated_at DESC, session_id DESC
    LIMIT %(count)s
) AS page
ORDER BY page.updated_at DESC, page.session_id DESC;

-- name: sessions_oldest_first
-- Differs: the pattern is for a collation that is not ours.
SELECT page.session_id, CAST(page.created_at AS CHAR), CAST(page.updated_at AS CHAR), (
    SELECT COUNT(*)
    FROM agent_messages
    WHERE session_id = page.session_id
        AND id <= COALESCE((
            SELECT id
            FROM agent_messages
            WHERE session_id = page.session_id
            ORDER BY id
            LIMIT 1 OFFSET %(count_limit)s
        ), 9223372036854775807)
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (
            %(updated)s IS NULL
            OR updated_at >= %(updated)s AND (updated_at > %(updated)s OR session_id > %(session_id)s)
        )
        AND (%(idle)s IS NULL OR updated_at <= FROM_UNIXTIME(%(idle)s))
        AND session_id LIKE %(pattern)s ESCAPE '|'
        AND CAST(LEFT(session_id, CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY updated_at, session_id
    LIMIT %(count)s
) AS page
ORDER BY page.updated_at, page.session_id;

-- name: sessions_by_id
-- Differs: the pattern is for a collation that is not ours.
SELECT page.session_id, CAST(page.created_at AS CHAR), CAST(page.updated_at AS CHAR), (
    SELECT COUNT(*)
    FROM agent_messages
    WHERE session_id = page.session_id
        AND id <= COALESCE((
            SELECT id
            FROM agent_messages
            WHERE session_id = page.session_id
            ORDER BY id
            LIMIT 1 OFFSET %(count_limit)s
        ), 9223372036854775807)
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (%(session_id)s IS NULL OR session_id > %(session_id)s)
        AND (%(idle)s IS NULL OR updated_at <= FROM_UNIXTIME(%(idle)s))
        AND session_id LIKE %(pattern)s ESCAPE '|'
        AND CAST(LEFT(session_id, CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY session_id
    LIMIT %(count)s
) AS page
ORDER BY page.session_id;

-- name: sessions_by_id_descending
-- Differs: the pattern is for a collation that is not ours.
SELECT page.session_id, CAST(page.created_at AS CHAR), CAST(page.updated_at AS CHAR), (
    SELECT COUNT(*)
    FROM agent_messages
    WHERE session_id = page.session_id
        AND id <= COALESCE((
            SELECT id
            FROM agent_messages
            WHERE session_id = page.session_id
            ORDER BY id
            LIMIT 1 OFFSET %(count_limit)s
        ), 9223372036854775807)
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (%(session_id)s IS NULL OR session_id < %(session_id)s)
        AND (%(idle)s IS NULL OR updated_at <= FROM_UNIXTIME(%(idle)s))
        AND session_id LIKE %(pattern)s ESCAPE '|'
        AND CAST(LEFT(session_id, CHAR_LENGTH(%(prefix)s)) AS BINARY) = CAST(%(prefix)s AS BINARY)
    ORDER BY session_id DESC
    LIMIT %(count)s
) AS page
ORDER BY page.session_id DESC;
