"""Ours, and who takes part beside it; peers that are not installed do not."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import sessions
from benchmarks import floor, peers
from benchmarks.corpus import Item, make_items
from benchmarks.stores import Store
from support.servers import dialect_of

_KEY = "of a length that a key should have"


class Ours(Store):
    """The library as its users call it."""

    name = "ours"
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._backend = sessions.connect(url + _plain(url), **self.options)

    def handle(self, session_id: str) -> Any:
        return _OurHandle(self._backend.session(session_id))

    def close(self) -> None:
        self._backend.close()


def _plain(url: str) -> str:
    # MySQL's server has a certificate of its own making; nobody else here would use it.
    return "?ssl-mode=DISABLED" if dialect_of(url) in ("mysql", "mariadb") else ""


class UnpreparedOurs(Ours):
    name = "ours, not prepared"
    options = MappingProxyType({"prepared_statements": False})


class SeparateOurs(Ours):
    name = "ours, no multi-statements"
    options = MappingProxyType({"multi_statements": False})


class SealedOurs(Ours):
    name = "ours, sealed"
    limits = False  # of histories that the floor has filled
    options = MappingProxyType({"integrity_key": _KEY})


class EncryptedOurs(Ours):
    name = "ours, encrypted"
    limits = False
    options = MappingProxyType({"encryption_key": _KEY})


class KeyedOurs(Ours):
    name = "ours, sealed and encrypted"
    limits = False
    options = MappingProxyType({"integrity_key": _KEY, "encryption_key": _KEY})


class _OurHandle:
    def __init__(self, session: sessions.Session) -> None:
        self._session = session
        self.get = session.get_items
        self.add = session.add_items
        self.pop = session.pop_item
        self.clear = session.clear_session

    def stream(self) -> Iterator[Item | None]:
        return (record.item for record in self._session.records())


_ON_MYSQL = (floor.MySQLFloor, Ours, SeparateOurs, peers.SDKAiomysql, peers.LangChainSQL)
_CONTESTANTS: dict[str, tuple[type[Store], ...]] = {
    "sqlite": (floor.SQLiteFloor, Ours, peers.SDKSQLite, peers.SDKAiosqlite, peers.LangChainSQL),
    "postgresql": (
        *(floor.PostgresFloor, Ours, UnpreparedOurs),
        *(peers.SDKAsyncpg, peers.SDKPsycopg, peers.LangChainSQL, peers.LangChainPostgres),
    ),
    "mysql": _ON_MYSQL,
    "mariadb": _ON_MYSQL,
}


# Instead of the peers, where keys are what is measured.
_KEYED = (Ours, SealedOurs, EncryptedOurs, KeyedOurs)


def measure_keys() -> None:
    """Let ours take part with keys, and nobody else beside the floor."""
    for dialect, (floor_, *_) in list(_CONTESTANTS.items()):
        _CONTESTANTS[dialect] = (floor_, *_KEYED)


def contestants(dialect: str) -> list[type[Store]]:
    """The contestants of a dialect whose packages are installed; floor and ours first."""
    return [kind for kind in _CONTESTANTS[dialect] if all(find_spec(package) for package in kind.needs)]


def is_peer(name: str) -> bool:
    """Tell whether a contestant is another library, not a floor or ours."""
    return not name.startswith(("ours", "floor"))


def rival_of(name: str) -> str | None:
    """Say whom a contestant is compared with: ours with the floor, a peer with ours."""
    if is_peer(name):
        return "ours"
    return "floor" if name.startswith("ours") else None


@contextlib.contextmanager
def opened(kinds: Sequence[type[Store]], url: str) -> Iterator[list[Store]]:
    """Open the contestants on one database and close them afterwards."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stores = []
        for kind in kinds:
            store = kind(url)
            stack.callback(store.close)
            stores.append(store)
        yield stores


def make_tables(url: str) -> None:
    """Make our tables, which the SDK shares and most floors do, and those of the others."""
    with opened([Ours], url) as [ours]:
        ours.handle("makes the tables").add(make_items(1))
    with opened(_CONTESTANTS[dialect_of(url)][:1], url) as [lowest]:
        assert isinstance(lowest, floor.Floor)
        lowest.make_tables()
