-- Rows of a session are ordered by id alone; clocks differ and jump. message_data is read
-- as text whatever its type is: the driver would turn json into Python's objects. created_at is
-- read by way of JSON, which writes it in ISO 8601 whatever DateStyle says, and whatever its type is. Of a float8
-- extra_float_digits may leave one digit; a numeric is written as it is.
--
-- The guard `seen`: a statement that depends on what it reads (a position, the newest row,
-- all rows) reads the state of the moment at which it began. Where it then waits for the
-- session row's lock, another writer gets in between, and what was read is out of date. So
-- each of them notes the row's version (xmin, the transaction that wrote it) before it waits,
-- and acts only if the row it has locked still is that version. Otherwise it writes nothing
-- and says so, and the caller runs it again under the lock (lock_session).
--
-- The times: that of a write may be taken before it waits for the lock, when a later writer's
-- already is there. So each touch of the session's row sets updated_at to a later time than it
-- finds under the lock, by a microsecond at least, and rows are dated by it: created_at ascends
-- with id, a row is not newer than updated_at, and updated_at is newer than all rows only after a removal.
-- What is added behind that hides it. So whatever removes rows also notes the time of day of the write before it, which
-- no row that it removes is younger than, as the fraction of the second of the session's created_at: a day is half a
-- second there, so that no column rounds it to the next one. last_change reads it; a column of whole seconds has none.
-- Its microseconds are odd: zeros at its end are then a column's, which keeps fewer digits, and tell how exact it is.
--
-- Citus: where the tables are distributed by session_id, what concerns one session names it as a
-- parameter beside each of them, also where a join would do. RETURNING and DO UPDATE SET have no
-- function of the moment, UPDATE no volatile one, nor one of a column that is not immutable (so
-- a time is cast before it is compared), and a CTE reads what it depends on before it changes it.

-- name: beside_the_sessions
-- Differs: elsewhere a name without a schema has one place. What a search_path finds in another schema than the sessions
-- belongs to others' sessions. Whatever begins to work with a session looks, by stands_beside_the_sessions(), in whose
-- place this is put, and takes it for missing: the cast raises the error that a missing table is. By a function, as on
-- Citus the catalogue is no table to be joined.
SELECT (CASE
    WHEN (pg_identify_object('pg_catalog.pg_class'::regclass, to_regclass('agent_sessions'), 0)).schema
        <> (pg_identify_object('pg_catalog.pg_class'::regclass, to_regclass('agent_messages'), 0)).schema
        THEN 'no_table_beside_the_sessions'
    ELSE 'pg_catalog.pg_class'
END)::regclass IS NOT NULL;

-- name: schema_of_the_sessions
-- Differs: goes ahead of what is prepared, which has no guard in it, and says in which schema that is to name its tables:
-- a name without one leads elsewhere once the table is renamed or dropped, also in what has been prepared.
SELECT (pg_identify_object('pg_catalog.pg_class'::regclass, to_regclass('agent_sessions'), 0)).schema
WHERE stands_beside_the_sessions('agent_messages');

-- name: all_items
-- Differs: newest_items without its bound, which takes an id that is a number. The count is that of all: with an end
-- in view a plan that is made without values keeps to the index, and with a plain `=` it may walk everybody's rows.
SELECT id, message_data::text
FROM agent_messages
WHERE session_id = ANY (ARRAY[%(session_id)s])
    AND stands_beside_the_sessions('agent_messages')
ORDER BY session_id DESC, id DESC
LIMIT %(count)s;

-- name: newest_items
-- At most count rows up to id upto, newest first. Differs: with a plain `=` the
-- planner drops session_id from the order, and then walks the newer rows of all sessions
-- by id where no index has both columns, as in tables made by others.
SELECT id, message_data::text
FROM agent_messages
WHERE session_id = ANY (ARRAY[%(session_id)s])
    AND stands_beside_the_sessions('agent_messages')
    AND id <= %(upto)s
ORDER BY session_id DESC, id DESC
LIMIT %(count)s;

-- name: records
-- At most count rows after id after and up to id upto, oldest first; in the order of newest_items.
SELECT id, to_json(created_at) #>> '{}', message_data::text
FROM agent_messages
WHERE session_id = ANY (ARRAY[%(session_id)s])
    AND stands_beside_the_sessions('agent_messages')
    AND id > %(after)s
    AND id <= %(upto)s
ORDER BY session_id, id
LIMIT %(count)s;

-- name: newest_range
-- The oldest and the newest id of the newest count rows.
SELECT min(id), max(id)
FROM (
    SELECT id
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
        AND stands_beside_the_sessions('agent_messages')
    ORDER BY session_id DESC, id DESC
    LIMIT %(count)s
) AS newest;

-- name: touch_session
-- Creates the session's row, or notes the time of the write; holds its lock either way.
INSERT INTO agent_sessions (session_id, updated_at)
VALUES (%(session_id)s, clock_timestamp())
ON CONFLICT (session_id) DO UPDATE
SET updated_at = greatest(agent_sessions.updated_at + INTERVAL '1 microsecond', excluded.updated_at)
RETURNING session_id::text;

-- name: append_items
-- Differs: touch_session and insert_items as one statement, for one round trip. The
-- INSERT reads from the locked row, so no other batch comes between; its time is that row's
-- and is never below that of the newest row, or the order by (created_at, id) would differ
-- from the one by id.
-- A row that a trigger or rule drops, or puts elsewhere, or that gets no whole id above 0, is a division by
-- zero, which undoes all; 0 means that the session's row was not written, and so not locked. Ids that do not rise, or
-- not from the newest row on, are a square root of -1: of a sequence that is behind the rows, say.
WITH session AS (
    INSERT INTO agent_sessions (session_id, updated_at)
    VALUES (%(session_id)s, clock_timestamp())
    ON CONFLICT (session_id) DO UPDATE
    SET updated_at = greatest(agent_sessions.updated_at + INTERVAL '1 microsecond', excluded.updated_at)
    RETURNING session_id, updated_at
),
newest AS (
    SELECT id, created_at
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
),
message AS (
    INSERT INTO agent_messages (session_id, message_data, created_at)
    SELECT session.session_id, item.text, greatest(session.updated_at, (SELECT created_at FROM newest))
    FROM session
    CROSS JOIN unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
    ORDER BY item.n
    RETURNING CASE WHEN session_id = %(session_id)s AND id = id::bigint THEN id END AS id
)
SELECT coalesce(max(id), 0), 1 / (
    count(*) FILTER (WHERE id > 0) = cardinality(%(items)b::text[]) * (SELECT count(*) FROM session)
)::integer, sqrt(bool_and(id > before)::integer - 1)
FROM (
    SELECT id, lag(id, 1, coalesce((SELECT id FROM newest), 0)) OVER () AS before
    FROM message
) AS message
WHERE stands_beside_the_sessions('agent_messages');

-- name: append_items_at
-- Differs: append_items, if the newest row still has the id position. Guarded by `seen`: a session that
-- was there is touched, never made anew behind whoever has cleared it meanwhile.
WITH seen AS (
    SELECT xmin AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
newest AS (
    SELECT id, created_at
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
),
touched AS (
    UPDATE agent_sessions
    SET updated_at = greatest(updated_at + INTERVAL '1 microsecond', statement_timestamp()::timestamp)
    WHERE session_id = %(session_id)s
        AND xmin = (SELECT version FROM seen)
        AND %(position)s = coalesce((SELECT id FROM newest), 0)
    RETURNING session_id, updated_at
),
created AS (
    INSERT INTO agent_sessions (session_id, updated_at)
    SELECT %(session_id)s, clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM seen)
        AND %(position)s = coalesce((SELECT id FROM newest), 0)
    ON CONFLICT (session_id) DO NOTHING
    RETURNING session_id, updated_at
),
session AS (
    SELECT session_id, updated_at
    FROM touched
    UNION ALL
    SELECT session_id, updated_at
    FROM created
),
message AS (
    INSERT INTO agent_messages (session_id, message_data, created_at)
    SELECT session.session_id, item.text, greatest(session.updated_at, (SELECT created_at FROM newest))
    FROM session
    CROSS JOIN unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
    ORDER BY item.n
    RETURNING CASE WHEN session_id = %(session_id)s AND id = id::bigint THEN id END AS id
)
SELECT coalesce(max(id), 0), 1 / (
    count(*) FILTER (WHERE id > 0) = cardinality(%(items)b::text[]) * (SELECT count(*) FROM session)
)::integer, sqrt(bool_and(id > before)::integer - 1)
FROM (
    SELECT id, lag(id, 1, coalesce((SELECT id FROM newest), 0)) OVER () AS before
    FROM message
) AS message
WHERE stands_beside_the_sessions('agent_messages');

-- name: insert_items
-- Differs: insert_item for all items of a batch in one statement. Dated as in append_items; where something
-- keeps the session's row from being touched, by the transaction, which no touch of it is older than. Beside
-- each id is the newest one before them.
WITH newest AS (
    SELECT id, created_at
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
),
message AS (
    INSERT INTO agent_messages (session_id, message_data, created_at)
    SELECT %(session_id)s::varchar, item.text, greatest(localtimestamp, (
        SELECT updated_at
        FROM agent_sessions
        WHERE session_id = %(session_id)s
    ), (SELECT created_at FROM newest))
    FROM unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
    ORDER BY item.n
    RETURNING id, CASE WHEN session_id = %(session_id)s THEN NULL ELSE coalesce(session_id::text, '') END AS other
)
SELECT id, other, (SELECT id FROM newest)
FROM message
WHERE stands_beside_the_sessions('agent_messages');

-- name: pop_item
-- Differs: one statement. FOR UPDATE waits for a rival and then takes the next row;
-- without it, the loser of the race would find nothing although rows remain. The order
-- is that of newest_items. Guarded by `seen`. Also says which row is the newest then, and
-- whether it was its turn. A row that something keeps, or whose text is hidden, or an id that is no whole
-- number, is a division by zero, as in append_items.
WITH seen AS (
    SELECT xmin AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
session AS (
    UPDATE agent_sessions
    SET created_at = CASE WHEN isfinite(created_at) AND isfinite(updated_at)
            THEN date_trunc('second', created_at)
                + INTERVAL '1 microsecond' * (2 * floor(extract(epoch FROM updated_at::time) / 0.3456) + 1)
            ELSE created_at END,
        updated_at = greatest(updated_at + INTERVAL '1 microsecond', statement_timestamp()::timestamp)
    WHERE session_id = %(session_id)s
        AND xmin = (SELECT version FROM seen)
    RETURNING session_id
),
turn AS (
    SELECT EXISTS (SELECT FROM session) OR NOT EXISTS (SELECT FROM seen) AS is_ours
),
message AS (
    DELETE FROM agent_messages
    WHERE session_id = %(session_id)s
        AND id = (
            SELECT id
            FROM agent_messages
            WHERE session_id = ANY (ARRAY[%(session_id)s])
                AND (SELECT is_ours FROM turn)
            ORDER BY session_id DESC, id DESC
            LIMIT 1
            FOR UPDATE
        )
    RETURNING id, message_data::text
),
found AS MATERIALIZED (
    SELECT message.id, message.message_data, turn.is_ours, (
        SELECT id
        FROM agent_messages
        WHERE session_id = ANY (ARRAY[%(session_id)s])
            AND id < coalesce(message.id, 9223372036854775807)
        ORDER BY session_id DESC, id DESC
        LIMIT 1
    ) AS newest
    FROM turn
    LEFT JOIN message ON TRUE
)
SELECT id, message_data, newest, is_ours, 1 / (
    (message_data IS NOT NULL OR coalesce(id, newest) IS NULL OR NOT is_ours)
    AND coalesce(id = id::bigint, TRUE)
    AND coalesce(newest = newest::bigint, TRUE)
)::integer
FROM found
WHERE stands_beside_the_sessions('agent_messages');

-- name: lock_newest_items
-- Differs: the newest row, with its lock, and the id of the one before it, without. A lock on that one too
-- could be waited for in turn by a program that deletes a conversation row by row, the oldest first.
WITH newest AS (
    SELECT id, message_data::text
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
    FOR UPDATE
)
SELECT id, message_data
FROM newest
UNION ALL (
    SELECT id, NULL
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
        AND id < (SELECT id FROM newest)
    ORDER BY session_id DESC, id DESC
    LIMIT 1
)
ORDER BY id DESC;

-- name: delete_item
-- One row of the session.
DELETE FROM agent_messages
WHERE session_id = %(session_id)s
    AND id = %(id)s;

-- name: delete_items
DELETE FROM agent_messages
WHERE session_id = %(session_id)s;

-- name: delete_session
DELETE FROM agent_sessions
WHERE session_id = %(session_id)s;

-- name: clear_session
-- Differs: delete_items and delete_session as one statement, for one round trip. Guarded
-- by `seen`. A row that something keeps, or another's turn, is a division by zero, as in
-- append_items.
WITH seen AS (
    SELECT xmin AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
session AS (
    DELETE FROM agent_sessions
    WHERE session_id = %(session_id)s
        AND xmin = (SELECT version FROM seen)
    RETURNING session_id
),
turn AS (
    SELECT EXISTS (SELECT FROM session) OR NOT EXISTS (SELECT FROM seen) AS is_ours
),
message AS (
    DELETE FROM agent_messages
    WHERE session_id = %(session_id)s
        AND (SELECT is_ours FROM turn)
    RETURNING id
)
SELECT 1 / (is_ours AND (SELECT count(*) FROM message) = (
    SELECT count(*)
    FROM agent_messages
    WHERE session_id = %(session_id)s
))::integer
FROM turn
WHERE stands_beside_the_sessions('agent_messages');

-- name: lock_session
-- Holds the lock of the session's row, if it is there.
SELECT session_id
FROM agent_sessions
WHERE session_id = %(session_id)s
    AND stands_beside_the_sessions('agent_messages')
FOR UPDATE;

-- name: hides_rows
-- Differs: elsewhere what can be seen can be locked. Whether a policy may forbid that; what is behind a view is not known.
SELECT relrowsecurity OR relkind NOT IN ('r', 'p')
FROM pg_catalog.pg_class
WHERE oid = to_regclass(%(table)s);

-- name: make_session
-- Differs: SQLite loses no answer. The session's row, unless another one has made it: if that is not committed yet, this
-- waits until it is.
INSERT INTO agent_sessions (session_id)
VALUES (%(session_id)s)
ON CONFLICT (session_id) DO NOTHING;

-- name: shift_session_time
-- Differs: SQLite loses no answer. By a second, as on MySQL, where a lock alone is not replicated.
UPDATE agent_sessions
SET updated_at = updated_at + INTERVAL '1 second' * %(seconds)s
WHERE session_id = %(session_id)s;

-- name: lock_session_for_removal
-- lock_session, which notes the time of the write.
UPDATE agent_sessions
SET created_at = CASE WHEN isfinite(created_at) AND isfinite(updated_at)
        THEN date_trunc('second', created_at)
            + INTERVAL '1 microsecond' * (2 * floor(extract(epoch FROM updated_at::time) / 0.3456) + 1)
        ELSE created_at END,
    updated_at = greatest(updated_at + INTERVAL '1 microsecond', statement_timestamp()::timestamp)
WHERE session_id = %(session_id)s
    AND stands_beside_the_sessions('agent_messages');

-- name: replace_items
-- Differs: touch_session, delete_items and insert_items as one statement. Guarded by
-- `seen`: it would not see what another writer wrote, and leave it in the new history. Its time is
-- later than that of the newest row, as that of every removal is.
-- A row that something drops or keeps is a division by zero, and ids that do not rise are a square root of -1, as in
-- append_items.
WITH seen AS (
    SELECT xmin AS version
    FROM agent_sessions
    WHERE session_id = %(session_id)s
),
newest AS (
    SELECT id, created_at
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
),
touched AS (
    UPDATE agent_sessions
    SET created_at = CASE WHEN isfinite(created_at) AND isfinite(updated_at)
            THEN date_trunc('second', created_at)
                + INTERVAL '1 microsecond' * (2 * floor(extract(epoch FROM updated_at::time) / 0.3456) + 1)
            ELSE created_at END,
        updated_at = greatest(updated_at + INTERVAL '1 microsecond', statement_timestamp()::timestamp)
    WHERE session_id = %(session_id)s
        AND xmin = (SELECT version FROM seen)
        AND (%(position)s::bigint IS NULL OR %(position)s = coalesce((SELECT id FROM newest), 0))
    RETURNING session_id, updated_at
),
created AS (
    INSERT INTO agent_sessions (session_id, updated_at)
    SELECT %(session_id)s, clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM seen)
        AND (%(position)s::bigint IS NULL OR %(position)s = coalesce((SELECT id FROM newest), 0))
    ON CONFLICT (session_id) DO NOTHING
    RETURNING session_id, updated_at
),
session AS (
    SELECT session_id, updated_at - INTERVAL '1 microsecond' AS dated
    FROM touched
    UNION ALL
    SELECT session_id, updated_at - INTERVAL '1 microsecond' AS dated
    FROM created
),
old AS (
    SELECT count(*) AS rows
    FROM agent_messages
    WHERE session_id = %(session_id)s
),
gone AS (
    DELETE FROM agent_messages
    WHERE session_id = %(session_id)s
        AND EXISTS (SELECT FROM session)
    RETURNING id
),
message AS (
    INSERT INTO agent_messages (session_id, message_data, created_at)
    SELECT session.session_id, item.text, greatest(session.dated, (SELECT created_at FROM newest))
    FROM session
    CROSS JOIN unnest(%(items)b::text[]) WITH ORDINALITY AS item (text, n)
    ORDER BY item.n
    RETURNING CASE WHEN session_id = %(session_id)s AND id = id::bigint THEN id END AS id
),
counted AS (
    SELECT
        (SELECT count(*) FROM session) AS sessions,
        (SELECT count(*) FROM gone) AS gone,
        (SELECT count(*) FROM message WHERE id > 0) AS written,
        (SELECT rows FROM old) AS old
)
SELECT (SELECT max(id) FROM message), sessions, 1 / (
    written = cardinality(%(items)b::text[]) * sessions
    AND gone = old * sessions
)::integer, sqrt((
    SELECT bool_and(id > before)
    FROM (SELECT id, lag(id) OVER () AS before FROM message) AS message
)::integer - 1)
FROM counted
WHERE stands_beside_the_sessions('agent_messages');

-- name: take_lease
-- Writes nothing where another one holds it. Now is what the new row says: behind ON CONFLICT no clock is asked.
INSERT INTO agent_session_leases (session_id, token, expires_at)
SELECT
    %(session_id)s::varchar,
    %(token)s::varchar,
    clock_timestamp() AT TIME ZONE 'UTC' + INTERVAL '1 microsecond' * %(microseconds)s
WHERE stands_beside_the_sessions('agent_session_leases')
ON CONFLICT (session_id) DO UPDATE
SET token = excluded.token,
    expires_at = excluded.expires_at
WHERE agent_session_leases.token = excluded.token
    OR agent_session_leases.expires_at <= excluded.expires_at - INTERVAL '1 microsecond' * %(microseconds)s;

-- name: renew_lease
-- Writes nothing where somebody else has taken it. Before a write, in its transaction, it keeps others from taking
-- it until that is committed.
UPDATE agent_session_leases
SET expires_at = statement_timestamp() AT TIME ZONE 'UTC' + INTERVAL '1 microsecond' * %(microseconds)s
WHERE session_id = %(session_id)s
    AND token = %(token)s;

-- name: check_lease
-- Differs: behind renew_lease, where the write is sent with it. A lease that was lost is a division by zero, as in
-- append_items.
SELECT 1 / count(*)
FROM agent_session_leases
WHERE session_id = %(session_id)s
    AND token = %(token)s;

-- name: find_lease
-- Differs: behind renew_lease and release_lease where they have changed nothing: whether the lease is there all the same.
SELECT session_id
FROM agent_session_leases
WHERE session_id = %(session_id)s
    AND token = %(token)s;

-- name: release_lease
DELETE FROM agent_session_leases
WHERE session_id = %(session_id)s
    AND token = %(token)s;

-- name: begin
BEGIN ISOLATION LEVEL READ COMMITTED;

-- name: commit
COMMIT;

-- name: find_token
-- Differs: SQLite loses no answer. The row that a write left its mark in: its text ends with
-- these characters. In the order of newest_items.
SELECT id
FROM agent_messages
WHERE session_id = ANY (ARRAY[%(session_id)s])
    AND right(message_data::text, length(%(tail)s)) = %(tail)s COLLATE "C"
ORDER BY session_id DESC, id DESC
LIMIT 1;

-- name: last_change
-- Differs: SQLite loses no answer. How many seconds ago the session's row was written, by this
-- server's clock, and whether that was a removal: whoever adds a row dates it no earlier. A row
-- that is dated in the future tells nothing, so it counts as one. By instants: where summer time begins, two local times
-- lie an hour further apart. One that comes twice is taken for the later, so that nothing counts as older than it is.
SELECT
    extract(epoch FROM clock.now - session.updated_at::timestamptz)::numeric,
    coalesce(newest.created_at < session.updated_at OR newest.created_at::timestamptz > clock.now, TRUE),
    extract(epoch FROM clock.now::timestamp::time),
    CASE
        WHEN session.created_at > date_trunc('second', session.created_at)
            THEN extract(microseconds FROM session.created_at - date_trunc('second', session.created_at))
    END
FROM (SELECT clock_timestamp() AS now) AS clock
CROSS JOIN agent_sessions AS session
LEFT JOIN (
    SELECT created_at
    FROM agent_messages
    WHERE session_id = ANY (ARRAY[%(session_id)s])
    ORDER BY session_id DESC, id DESC
    LIMIT 1
) AS newest ON TRUE
WHERE session.session_id = %(session_id)s;

-- name: look_anew
-- Within a transaction pg_stat_activity stays as it was at the first look.
SELECT pg_stat_clear_snapshot();

-- name: orphan_is_busy
-- Whether a server session whose connection was lost may still be executing something; no
-- row when it has ended. It is known by its number, unless the one with this number is
-- too young to be it. A pooler invents numbers, as that of this connection tells: then it is
-- every write on our tables, and every COMMIT, whatever it commits, of a transaction that was under way when the
-- waiting began, waiting seconds ago. session_user, because current_user may be another role by now; one that may not see
-- when the session began, or what it does. With track_activities off nobody can see what it does.
-- One that waits for its client executes nothing, in the middle of a transaction or of a message too.
SELECT state IS DISTINCT FROM 'idle'
    AND (pg_backend_pid() <> %(own)s OR wait_event IS DISTINCT FROM 'ClientRead')
FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_backend_pid()
    AND datname = current_database()
    AND usename = session_user
    AND CASE
        WHEN pg_backend_pid() = %(own)s
            THEN pid = %(id)s AND coalesce(backend_start < clock_timestamp() - make_interval(secs => %(age)s), TRUE)
        WHEN state = 'active'
            THEN coalesce(xact_start, query_start) < clock_timestamp() - make_interval(secs => %(waiting)s)
            AND (
                query ~* '^\s*(COMMIT|END)\M'
                OR query ~ '(INSERT INTO|UPDATE|DELETE FROM)'
                AND (
                    strpos(query, 'agent_sessions') > 0
                    OR strpos(query, 'agent_messages') > 0
                    OR strpos(query, 'agent_session_leases') > 0
                    OR strpos(query, 'agent_session_seals') > 0
                )
            )
        ELSE state = 'disabled'
    END
LIMIT 1;

-- name: end_session
-- The session of orphan_is_busy, if it executes nothing, no pooler stands between, and it began when the connection
-- that was lost was opened, by one of our clocks at least: after a failover another server may have given the number to
-- somebody else. Where it is not known when that was, nothing is ended.
SELECT pg_terminate_backend(pid)
FROM pg_catalog.pg_stat_activity
WHERE pid = %(id)s
    AND pid <> pg_backend_pid()
    AND pg_backend_pid() = %(own)s
    AND datname = current_database()
    AND usename = session_user
    AND (state = 'idle' OR wait_event = 'ClientRead')
    AND backend_start < clock_timestamp() - make_interval(secs => %(age)s)
    AND (
        abs(extract(epoch FROM clock_timestamp() - backend_start)::float8 - %(monotonic_age)s::float8) <= 10
        OR abs(extract(epoch FROM clock_timestamp() - backend_start)::float8 - %(clock_age)s::float8) <= 10
    );

-- name: savepoint
SAVEPOINT agent_sql_sessions;

-- name: release_savepoint
RELEASE SAVEPOINT agent_sql_sessions;

-- name: rollback_to_savepoint
ROLLBACK TO SAVEPOINT agent_sql_sessions;
