"""Writes on our own connections, each of them one transaction that is sent at once.

None, and nothing is written, unless all is as it was asked for: then the statements go one by one, which tells why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import pymysql

from sessions._dialects.driver import Parameters
from sessions._leases import Lease
from sessions._reentry import own
from sessions._sealing import SealedWrite

from .answers import MyConnection, Result
from .connection import PacketConnection
from .driver import MySQLDriver, quotes
from .errors import OUT_OF_RANGE, errno_of
from .packets import roll_back
from .transactions import Packet, cut, transact, transact_insert

T = TypeVar("T")

# What tells, in one transaction with it, that MariaDB has executed a statement: see MySQLDriver.
_PROVED = {
    "touch_session": ("touch_session", "check_session_changed"),
    "check_position": ("prove_position",),
    "lock_session_for_removal": ("lock_session_for_removal", "check_session_changed"),
    "delete_session": ("delete_session", "check_session_changed"),
    "lock_newest_items": ("lock_newest_items", "check_items_found"),
    "delete_items": ("delete_items", "check_items_gone"),
    "delete_newest_item": ("delete_newest_item", "check_item_deleted"),
    "remove_seal": ("remove_seal", "check_seal_removed"),
}


def write_batch(
    driver: MySQLDriver,
    connection: PacketConnection,
    session_id: str,
    texts: Sequence[str],
    if_position: int | None,
    lease: Lease | None,
    *then: str,
) -> int | None:
    """Write a batch behind statements that come before it; return the newest id."""
    check = [] if if_position is None else ["check_position"]
    parameters = {"session_id": session_id, "position": if_position}
    return _insert_behind(driver, connection, ["touch_session", *check, *then], parameters, texts, (), lease)


def write_behind(
    driver: MySQLDriver,
    connection: PacketConnection,
    session_id: str,
    names: Sequence[str],
    write: SealedWrite,
    lease: Lease | None,
) -> int | None:
    """Do a write under seals, whose statements have these names; return the newest id, 0 where it has no texts."""
    parameters = {"session_id": session_id, "position": write.position, "before": write.before, "seal": write.marked}
    if not write.texts:
        return None if transacted(driver, connection, names, parameters, lease) is None else 0
    return _insert_behind(driver, connection, names, parameters, write.texts, write.times, lease)


def _insert_behind(
    driver: MySQLDriver,
    connection: PacketConnection,
    names: Sequence[str],
    parameters: Parameters,
    texts: Sequence[str],
    times: Sequence[str],
    lease: Lease | None,
) -> int | None:
    before = _checks_of(driver, connection, lease)
    before += driver.with_parameters(connection, _proved(connection, names), parameters)
    packets = packets_of(driver, connection, parameters["session_id"], texts, times, connection.packet_limit)
    return _if_passed(connection, lambda: transact_insert(connection, driver.statements, before, packets))


def transacted(
    driver: MySQLDriver, connection: MyConnection, names: Sequence[str], parameters: Parameters, lease: Lease | None
) -> Mapping[str, Result] | None:
    """Run statements as one transaction; None also on a connection of the application's."""
    if not isinstance(connection, PacketConnection):
        return None
    steps = _proved(connection, names)
    statements = _checks_of(driver, connection, lease) + driver.with_parameters(connection, steps, parameters)
    results = _if_passed(connection, lambda: transact(connection, driver.statements, statements))
    return None if results is None else dict(zip(steps, results[-len(steps) :], strict=True))


def packets_of(
    driver: MySQLDriver,
    connection: MyConnection,
    session_id: str,
    texts: Sequence[str],
    times: Sequence[str],
    limit: int,
) -> Iterator[Packet]:
    """Cut the insertion of a batch into packets of at most limit bytes."""

    def check(count: int) -> str:
        name = "check_item" if count == 1 else "check_items"
        [statement] = driver.with_parameters(connection, [name], {"session_id": session_id, "count": count})
        return statement

    statement = driver.statements["load_item" if times else "insert_item"]
    return cut(statement, session_id, texts, times, quotes(connection), limit, check)


def _checks_of(driver: MySQLDriver, connection: MyConnection, lease: Lease | None) -> list[str]:
    """Return what keeps the statements behind it from being executed unless the lease is held."""
    names = ["renew_lease", "check_lease"]
    return [] if lease is None else driver.with_parameters(connection, names, lease._asdict())


def _proved(connection: PacketConnection, names: Sequence[str]) -> list[str]:
    """Return the names of statements, each with that of what proves it."""
    if not connection.server.is_mariadb:
        return list(names)
    return [step for name in names for step in _PROVED.get(name, (name,))]


def _if_passed(connection: PacketConnection, transact: Callable[[], T]) -> T | None:
    """Run a transaction; None, and it is rolled back, when a check within it did not hold."""
    try:
        return transact()
    except own(pymysql.Error) as exc:
        if errno_of(exc) != OUT_OF_RANGE:
            raise
    roll_back(connection)
    return None
