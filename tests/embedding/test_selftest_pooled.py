"""selftest() behind PgBouncer: what holds there, and what a pooler takes away."""

import pytest

from embedding.pooler import pooler
from sessions._selftest.claims import CLAIMS, try_claim
from sessions._selftest.place import Place
from support.servers import Server, with_parts


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "seconds", 0.3)
    monkeypatch.setattr(Place, "idle_seconds", 0.1)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_holds_through_the_pooler(name: str, pgbouncer: tuple[str, int], postgresql_url: str) -> None:
    host, port = pgbouncer
    with Place(with_parts(postgresql_url, host=host, port=port)) as place:
        assert try_claim(name, place).verdict == "ok"


@pytest.mark.slow
def test_both_forms_work_where_a_pooler_keeps_no_prepared_statements(
    postgresql_server: Server, postgresql_url: str
) -> None:
    with (
        pooler(postgresql_server, MAX_PREPARED_STATEMENTS="0") as (host, port),
        Place(with_parts(postgresql_url, host=host, port=port)) as place,
    ):
        assert try_claim("other form", place).verdict == "ok"
