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
    name = "ours, unprepared"
    options = MappingProxyType({"prepared_statements": False})


class SeparateOurs(Ours):
    name = "ours, no multi-statements"
    options = MappingProxyType({"multi_statements": False})


class _OurHandle:
    def __init__(self, session: sessions.Session) -> None:
        self._session = session
        self.get = session.get_items
        self.add = session.add_items
        self.pop = session.pop_item
        self.clear = session.clear_session

    def stream(self) -> Iterator[Item | None]:
        return (record.item for record in self._session.records())


_ON_POSTGRESQL = (floor.PostgresFloor, Ours, floor.UnpreparedPostgresFloor, UnpreparedOurs)
_ON_MYSQL = (floor.MySQLFloor, Ours, floor.SeparateMySQLFloor, SeparateOurs, peers.SDKAiomysql, peers.LangChainSQL)
_CONTESTANTS: dict[str, tuple[type[Store], ...]] = {
    "sqlite": (floor.SQLiteFloor, Ours, peers.SDKSQLite, peers.SDKAiosqlite, peers.LangChainSQL),
    "postgresql": (
        *_ON_POSTGRESQL,
        *(peers.SDKAsyncpg, peers.SDKPsycopg, peers.LangChainSQL, peers.LangChainPostgres),
    ),
    "mysql": _ON_MYSQL,
    "mariadb": _ON_MYSQL,
}


def contestants(dialect: str) -> list[type[Store]]:
    """The contestants of a dialect whose packages are installed; floor and ours first."""
    return [kind for kind in _CONTESTANTS[dialect] if all(find_spec(package) for package in kind.needs)]


def is_peer(name: str) -> bool:
    """Tell whether a contestant is another library, not a floor or ours."""
    return not name.startswith(("ours", "floor"))


def rival_of(name: str) -> str | None:
    """Say whom a contestant is compared with: ours with the floor that works alike, a peer with ours."""
    if is_peer(name):
        return "ours"
    return name.replace("ours", "floor", 1) if name.startswith("ours") else None


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
    """Make our tables, which the floor and the SDK share."""
    with opened([Ours], url) as [ours]:
        ours.handle("makes the tables").add(make_items(1))
