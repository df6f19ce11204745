"""Random input of every kind: only errors of ours, no leak between sessions, the same answer everywhere.

SESSIONS_TEST_FUZZ is the number of cases of each kind, SESSIONS_TEST_FUZZ_SEED replays a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from typing import Any

import pytest

import sessions
from support.servers import connect_raw

CASES = int(os.environ.get("SESSIONS_TEST_FUZZ", "400"))
SEED = int(os.environ.get("SESSIONS_TEST_FUZZ_SEED", random.randrange(2**32)))
# Through a server a case costs a thousand times as much.
STORED_CASES = max(40, CASES // 50)

ALPHABET = "aZ0 _-.:/?#[]@!$&'()*+,;=%\\\"`~\n\t\0\x1b\x7fé水😀\u200b\ud800"
ESCAPES = ("%00", "%2F", "%40", "%zz", "%", "%E4", "%25")
URL_PARTS = (
    *(
        "sqlite:",
        "sqlite::memory:",
        "postgresql://",
        "postgres://",
        "mysql://",
        "mariadb://",
        "memory:",
        "://",
        "+aiomysql",
    ),
    *("user", ":secret", "@", "localhost", "[::1]", "[::1", ":5432", ":99999", ",", "/", "db", "?", "&", "="),
    *("sslmode=verify-full", "sslmode", "ssl-mode=REQUIRED", "host=/tmp", "charset=latin1", "unix_socket=/x", "#"),
)
VALUES: tuple[Any, ...] = (None, True, 0, -1, 2**63, 1.5, float("nan"), float("inf"), "", [], {}, b"x", {1}, object())


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    print(f"SESSIONS_TEST_FUZZ_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


def text(rng: random.Random, longest: int = 20) -> str:
    return "".join(rng.choices(ALPHABET, k=rng.randint(0, longest)))


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(6 if depth < 4 else 3)
    if kind == 0:
        return rng.choice(VALUES)
    if kind < 3:
        return text(rng) if kind == 1 else rng.random() * 10 ** rng.randint(-300, 300)
    if kind == 3:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {
        (text(rng) if rng.random() < 0.9 else rng.choice([1, None, True, 1.5, (1,)])): value(rng, depth + 1)
        for _ in range(rng.randint(0, 3))
    }


def test_any_url_is_read_or_refused_without_its_password(rng: random.Random) -> None:
    for _ in range(CASES):
        url = "".join(rng.choices((*URL_PARTS, *ESCAPES, text(rng, 3)), k=rng.randint(1, 9)))
        try:
            sessions.connect(url).close()
        except sessions.SessionsError as exc:
            assert "secret" not in str(exc), url  # noqa: PT017  (many URLs are good)


def test_any_option_is_taken_or_refused(rng: random.Random) -> None:
    names = ["sessions_table", "messages_table", "pool_size", "ssl", "password", "default_limit", "retry_delay", "x"]
    for _ in range(CASES):
        options = {name: rng.choice([value(rng), text(rng)]) for name in rng.sample(names, rng.randint(1, 3))}
        with contextlib.suppress(sessions.SessionsError):
            sessions.connect("sqlite::memory:", **options).close()


def test_any_table_name_is_used_as_it_is_or_refused(rng: random.Random) -> None:
    for _ in range(STORED_CASES):
        name = text(rng, 8)
        with (
            contextlib.suppress(sessions.SessionsError),
            sessions.connect("sqlite::memory:", messages_table=name) as backend,
        ):
            backend.session("chat").add_items([{"a": 1}])
            assert backend.session("chat").get_items() == [{"a": 1}]


def test_any_item_comes_back_as_json_has_it_or_is_refused(rng: random.Random) -> None:
    with sessions.connect("memory:") as backend:
        for number in range(CASES):
            item = value(rng)
            session = backend.session(f"chat_{number}")
            try:
                session.add_items([item])
            except sessions.InvalidItemError:
                assert session.get_items() == []
            else:
                assert repr(session.get_items()) == repr([json.loads(json.dumps(item))])


def test_any_id_is_a_session_of_its_own_or_refused(backend: sessions.Backend, rng: random.Random) -> None:
    known: dict[str, int] = {}
    for number in range(STORED_CASES):
        session_id = text(rng, rng.choice([2, 5, 300]))
        try:
            backend.session(session_id).add_items([{"number": number}])
        except (ValueError, TypeError):
            assert not 1 <= len(session_id) <= 255 or "\0" in session_id or "\ud800" in session_id
        else:
            known[session_id] = known.get(session_id, 0) + 1
    for session_id, count in known.items():
        assert len(backend.session(session_id).get_items()) == count, session_id


def test_any_row_is_an_item_or_skipped(sql_url: str, rng: random.Random) -> None:
    texts = []
    for _ in range(STORED_CASES):
        row = rng.choice([text(rng), json.dumps({"a": text(rng)}), '{"a": ' + text(rng, 4) + "}", "[1]", "null", "NaN"])
        texts.append(row.replace("\0", "").encode(errors="ignore").decode())
    with sessions.Session.from_url("chat", sql_url) as session:
        session.add_items([{"first": True}])
        connection = connect_raw(sql_url)
        mark = "?" if sql_url.startswith("sqlite") else "%s"
        insert = f"INSERT INTO agent_messages (session_id, message_data) VALUES ({mark}, {mark})"
        connection.cursor().executemany(insert, [("chat", row) for row in texts])
        connection.close()
        expected = [item for item in ({"first": True}, *map(_object, texts)) if item is not None]
        assert session.get_items() == expected
        assert session.get_items(3) == session.get_items()[-3:]
        while (popped := session.pop_item()) is not None:
            assert popped == expected.pop()
        assert expected == []


def _object(row: str) -> dict[str, Any] | None:
    try:
        item = json.loads(row, parse_constant=int)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None
