-- The tables of the OpenAI Agents SDK's SQLAlchemySession. Differs: session ids are
-- compared byte for byte, trailing spaces included, which needs one collation on MySQL
-- and another on MariaDB; each server reads the comment that is meant for it. A session's
-- times have microseconds, since a lost write is settled by what happened since; a message's
-- have none, or those of writers that write whole seconds would sort before ours. The row format is the default, and
-- said: in COMPACT, which a server may have as its default, no id of 255 characters is indexed.

-- name: create_sessions
CREATE TABLE IF NOT EXISTS agent_sessions (
    session_id VARCHAR(255)
        CHARACTER SET utf8mb4 COLLATE /*!80017 utf8mb4_0900_bin */ /*M!100203 utf8mb4_nopad_bin */
        NOT NULL PRIMARY KEY,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- name: create_messages
-- Differs: the primary key begins with the session, so that InnoDB keeps the rows of a
-- conversation together. LONGTEXT, because TEXT ends at 64 KiB.
CREATE TABLE IF NOT EXISTS agent_messages (
    id BIGINT NOT NULL AUTO_INCREMENT,
    session_id VARCHAR(255)
        CHARACTER SET utf8mb4 COLLATE /*!80017 utf8mb4_0900_bin */ /*M!100203 utf8mb4_nopad_bin */
        NOT NULL,
    message_data LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (session_id, id),
    UNIQUE KEY (id),
    FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- name: create_messages_without_cascade
-- Differs: create_messages without ON DELETE CASCADE, which a group with several primaries refuses where it checks
-- updates everywhere. We delete the rows ourselves.
CREATE TABLE IF NOT EXISTS agent_messages (
    id BIGINT NOT NULL AUTO_INCREMENT,
    session_id VARCHAR(255)
        CHARACTER SET utf8mb4 COLLATE /*!80017 utf8mb4_0900_bin */ /*M!100203 utf8mb4_nopad_bin */
        NOT NULL,
    message_data LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (session_id, id),
    UNIQUE KEY (id),
    FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- name: create_leases
-- Made when exclusive() first wants it: who may write to a conversation under it, and until when by this server's
-- clock, in UTC. A lease may precede its conversation, hence no foreign key.
CREATE TABLE IF NOT EXISTS agent_session_leases (
    session_id VARCHAR(255)
        CHARACTER SET utf8mb4 COLLATE /*!80017 utf8mb4_0900_bin */ /*M!100203 utf8mb4_nopad_bin */
        NOT NULL PRIMARY KEY,
    token VARCHAR(32) CHARACTER SET ascii NOT NULL,
    expires_at DATETIME(6) NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- name: create_seals
-- Made when a conversation is first sealed: what its end is. The conversation may go without it, hence no foreign key.
CREATE TABLE IF NOT EXISTS agent_session_seals (
    session_id VARCHAR(255)
        CHARACTER SET utf8mb4 COLLATE /*!80017 utf8mb4_0900_bin */ /*M!100203 utf8mb4_nopad_bin */
        NOT NULL PRIMARY KEY,
    seal VARCHAR(200) CHARACTER SET ascii NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
