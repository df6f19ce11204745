"""Small conversations and looks at the tables behind the library's back."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support.servers import dialect_of, execute_sql

Item = dict[str, Any]


def item(text: str) -> Item:
    return {"role": "user", "content": text}


def items(*texts: str) -> list[Item]:
    return [item(text) for text in texts]


def texts(history: Iterable[Item]) -> list[str]:
    return [entry["content"] for entry in history]


def plant(url: str, session_id: str, *rows: str) -> list[int]:
    """Write raw message texts for a session that has its parent row; their ids, oldest first."""
    for row in rows:
        execute_sql(
            url,
            "INSERT INTO agent_messages (session_id, message_data) VALUES (%s, %s)",
            (session_id, row),
        )
    found = execute_sql(url, "SELECT id FROM agent_messages WHERE session_id = %s ORDER BY id", (session_id,))
    return [row[0] for row in found[-len(rows) :]]


def stored_texts(url: str, session_id: str = "chat_1") -> list[str]:
    """The message texts as they are stored, oldest first."""
    rows = execute_sql(url, "SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY id", (session_id,))
    return [row[0] for row in rows]


def stored_sessions(url: str) -> list[str]:
    return [row[0] for row in execute_sql(url, "SELECT session_id FROM agent_sessions ORDER BY 1")]


def make_tables_without_foreign_key(url: str, *, nullable: bool = False) -> None:
    """The two tables as a store without foreign keys leaves them; nullable: a message may have no text."""
    number, name, text = {
        "sqlite": ("INTEGER PRIMARY KEY AUTOINCREMENT", "VARCHAR(255)", "TEXT"),
        "postgresql": ("BIGSERIAL PRIMARY KEY", "VARCHAR(255)", "TEXT"),
    }.get(
        dialect_of(url),
        ("BIGINT PRIMARY KEY AUTO_INCREMENT", "VARCHAR(255) CHARACTER SET utf8mb4", "LONGTEXT"),
    )
    time = "TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL"
    execute_sql(
        url,
        f"CREATE TABLE agent_sessions (session_id {name} PRIMARY KEY, created_at {time}, updated_at {time})",
    )
    execute_sql(
        url,
        f"CREATE TABLE agent_messages (id {number}, session_id {name} NOT NULL, "
        f"message_data {text} {'NULL' if nullable else 'NOT NULL'}, created_at {time})",
    )


def refuse_poisoned_rows(url: str) -> None:
    """Let the database refuse a message that holds the word poison, and each deletion of a precious one."""
    if dialect_of(url) == "postgresql":
        execute_sql(
            url,
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''refused by trigger''; END'",
        )
    for event, row, word in (("INSERT", "NEW", "poison"), ("DELETE", "OLD", "precious")):
        text, body = f"{row}.message_data", "BEGIN SELECT RAISE(ABORT, 'refused by trigger'); END"
        action = {
            "sqlite": f"WHEN instr({text}, '{word}') {body}",
            "postgresql": f"FOR EACH ROW WHEN (strpos({text}, '{word}') > 0) EXECUTE FUNCTION refuse()",
        }.get(
            dialect_of(url),
            f"FOR EACH ROW IF LOCATE('{word}', {text}) > 0 THEN "
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by trigger'; END IF",
        )
        execute_sql(url, f"CREATE TRIGGER no_{word} BEFORE {event} ON agent_messages {action}")


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work(0) to work(count - 1) in as many threads that start together; their results."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def batch(writer: str, number: int, size: int) -> list[Item]:
    return [{"writer": writer, "batch": number, "part": part} for part in range(size)]


def assert_contiguous_and_ordered(history: Sequence[Item], writers: Iterable[str], *, batches: int, size: int) -> None:
    """Every batch of every writer is there once, in one piece, in its writer's order."""
    chunks = [history[start : start + size] for start in range(0, len(history), size)]
    for chunk in chunks:
        assert list(chunk) == batch(chunk[0]["writer"], chunk[0]["batch"], size)
    for writer in writers:
        numbers = [chunk[0]["batch"] for chunk in chunks if chunk[0]["writer"] == writer]
        assert numbers == list(range(batches))
    assert len(history) == len(list(writers)) * batches * size
