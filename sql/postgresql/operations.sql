-- What an operator asks: which conversations there are, and to copy, mend and delete them.
--
-- A page of a listing: the sessions in a subquery, and for each of them a count of its rows that ends at
-- count_limit + 1. Pages go on behind the last row of the one before, by its time and its id. Ids are ordered
-- by their code points, which no locale changes.

-- name: sessions_newest_first
SELECT page.session_id, page.created_at::text, page.updated_at::text, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (
            %(updated)s::timestamp IS NULL
            OR (updated_at, session_id COLLATE "C") < (%(updated)s::timestamp, %(session_id)s)
        )
        AND (%(idle)s::float8 IS NULL OR updated_at <= to_timestamp(%(idle)s::float8))
        AND starts_with(session_id, %(prefix)s)
    ORDER BY updated_at DESC, session_id COLLATE "C" DESC
    LIMIT %(count)s
) AS page
ORDER BY page.updated_at DESC, page.session_id COLLATE "C" DESC;

-- name: sessions_oldest_first
SELECT page.session_id, page.created_at::text, page.updated_at::text, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE (
            %(updated)s::timestamp IS NULL
            OR (updated_at, session_id COLLATE "C") > (%(updated)s::timestamp, %(session_id)s)
        )
        AND (%(idle)s::float8 IS NULL OR updated_at <= to_timestamp(%(idle)s::float8))
        AND starts_with(session_id, %(prefix)s)
    ORDER BY updated_at, session_id COLLATE "C"
    LIMIT %(count)s
) AS page
ORDER BY page.updated_at, page.session_id COLLATE "C";

-- name: sessions_by_id
SELECT page.session_id, page.created_at::text, page.updated_at::text, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE session_id COLLATE "C" >= %(prefix)s
        AND (%(above_prefix)s::text IS NULL OR session_id COLLATE "C" < %(above_prefix)s)
        AND (%(session_id)s::text IS NULL OR session_id COLLATE "C" > %(session_id)s)
        AND (%(idle)s::float8 IS NULL OR updated_at <= to_timestamp(%(idle)s::float8))
    ORDER BY session_id COLLATE "C"
    LIMIT %(count)s
) AS page
ORDER BY page.session_id COLLATE "C";

-- name: sessions_by_id_descending
SELECT page.session_id, page.created_at::text, page.updated_at::text, (
    SELECT count(*)
    FROM (
        SELECT
        FROM agent_messages
        WHERE session_id = page.session_id
        LIMIT %(count_limit)s + 1
    ) AS counted
)
FROM (
    SELECT session_id, created_at, updated_at
    FROM agent_sessions
    WHERE session_id COLLATE "C" >= %(prefix)s
        AND (%(above_prefix)s::text IS NULL OR session_id COLLATE "C" < %(above_prefix)s)
        AND (%(session_id)s::text IS NULL OR session_id COLLATE "C" < %(session_id)s)
        AND (%(idle)s::float8 IS NULL OR updated_at <= to_timestamp(%(idle)s::float8))
    ORDER BY session_id COLLATE "C" DESC
    LIMIT %(count)s
) AS page
ORDER BY page.session_id COLLATE "C" DESC;
