"""The public suite agent-memory-integrity (import name agmi), which edits a store behind its back and reads again."""

import sys
from typing import Any

import pytest
from agmi.adapters.openai_agents_session import (
    OTHER_SESSION,
    OTHER_TOKEN,
    SEED_TOKEN,
    SESSION,
    OpenAIAgentsSessionAdapter,
)
from agmi.attacks.at_rest import ALL_AT_REST_ATTACKS, AT_REST_ATTACKS_WITH_SNAPSHOT, SnapshotRollbackAttack
from agmi.runner import format_scorecard, run_matrix

import sessions

KEY = "a key that is long enough for a test"


class SealedAdapter(OpenAIAgentsSessionAdapter):  # type: ignore[misc]  # it has no types
    """Ours in the place of the SDK's session: the same file, the same edits, our own reads and writes."""

    name = "agent-sql-sessions"
    options: dict[str, Any] = {"integrity_key": KEY}  # noqa: RUF012  (as its own attributes)
    kept: str | None = None

    def setup(self) -> None:
        super().setup()
        self.kept = None

    def _session(self, sid: str) -> sessions.Session:
        return sessions.Session.from_url(sid, f"sqlite:///{self._db}", **self.options)

    def _add(self, sid: str, token: str, count: int) -> None:
        roles = ("user", "assistant")
        with self._session(sid) as session:
            session.add_items([{"role": roles[n % 2], "content": f"{token}{n}"} for n in range(count)])

    def seed(self, n: int) -> None:
        self._add(SESSION, SEED_TOKEN, n)
        self._seeded = n

    def seed_other(self, n: int) -> None:
        self._add(OTHER_SESSION, OTHER_TOKEN, n)

    def append_genuine(self) -> None:
        with self._session(SESSION) as session:
            session.add_items([{"role": "user", "content": f"{SEED_TOKEN}late"}])

    def verify(self) -> bool:
        self.verify_detail = None
        try:
            with self._session(SESSION) as session:
                session.get_items()
                if self.kept is not None:
                    session.verify(since=self.kept)
        except sessions.SealBrokenError as exc:
            self.verify_detail = f"{type(exc).__name__}: {exc}"
            return False
        return True


class KeptSealAdapter(SealedAdapter):
    """The same, with the application's newest seal kept elsewhere."""

    name = "agent-sql-sessions, seal kept"

    def append_genuine(self) -> None:
        super().append_genuine()
        with self._session(SESSION) as session:
            self.kept = session.seal()


class UnsealedAdapter(SealedAdapter):
    name = "agent-sql-sessions, no key"
    options: dict[str, Any] = {}  # noqa: RUF012


@pytest.mark.parametrize("attack", ALL_AT_REST_ATTACKS, ids=lambda attack: attack.name)
def test_with_a_key_every_edit_is_rejected_on_the_read_path(attack: Any) -> None:
    result = attack().run(SealedAdapter())
    assert result.status == "safe", f"{result.detail} {result.error} {result.guard}"
    assert "SealBrokenError" in result.detail


@pytest.mark.parametrize("attack", ALL_AT_REST_ATTACKS, ids=lambda attack: attack.name)
def test_without_a_key_an_edit_is_accepted(attack: Any) -> None:
    assert attack().run(UnsealedAdapter()).status == "VULNERABLE"


def test_a_whole_earlier_copy_is_rejected_with_a_kept_seal_and_only_then() -> None:
    assert SnapshotRollbackAttack().run(SealedAdapter()).status == "VULNERABLE"
    result = SnapshotRollbackAttack().run(KeptSealAdapter())
    assert result.status == "safe"
    assert "earlier history" in result.detail


if __name__ == "__main__":
    attacks = [attack() for attack in AT_REST_ATTACKS_WITH_SNAPSHOT]
    adapters = [UnsealedAdapter(), SealedAdapter(), KeptSealAdapter(), OpenAIAgentsSessionAdapter()]
    sys.stdout.write(format_scorecard(run_matrix(adapters, attacks), attacks) + "\n")
