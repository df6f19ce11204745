"""The forms in which a transaction travels, and how a batch is cut.

It takes one round trip: on MariaDB as one compound statement, on MySQL, and with a large batch, as a packet of several.
With multi_statements=False, and on Galera, these are sent ahead instead, and it takes two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import NamedTuple

from sessions._reentry import note_held
from sessions.errors import DatabaseError, numberless_error

from .answers import MyConnection, Result
from .cluster import GALERA
from .connection import PacketConnection
from .packets import send, send_compound
from .values import Quote, literal

# Large batches are cut into packets of about so many bytes, or one item each if that is larger.
_PACKET = 4 * 1024 * 1024

# Larger batches do not go into a compound, of which the server copies every text twice.
_COMPOUND = 64 * 1024

# What a packet holds beside the rows, generously: the statements, the session id twice.
_OVERHEAD = 16_384


class Packet(NamedTuple):
    """An INSERT statement, what proves that the tables did as they were told, and how many rows it has."""

    statement: str
    check: str
    rows: int


def transact(connection: PacketConnection, words: Mapping[str, str], statements: Sequence[str]) -> list[Result]:
    """Run the statements as one transaction; return each one's result."""
    if connection.takes_compounds:
        return send_compound(connection, words["compound"], statements)
    begin, commit = _frame(connection, words)
    return send(connection, *begin, *statements, then=commit)[len(begin) : -1]


def transact_insert(
    connection: PacketConnection, words: Mapping[str, str], before: Sequence[str], packets: Iterator[Packet]
) -> int:
    """Run the statements before, and insert, as one transaction; return the newest id, or 0 without a row."""
    first = list(islice(packets, 2))
    if connection.takes_compounds and len(first) < 2 and sum(len(packet.statement) for packet in first) < _COMPOUND:
        inserts = [statement for packet in first for statement in packet[:2]]
        results = transact(connection, words, [*before, *inserts])
        if not first:
            return 0
        [(first_id, step, _)] = results[-1].rows
        return _newest(first_id, first[0].rows, step)
    begin, commit = _frame(connection, words)
    statements = [*begin, *before]
    return _insert(connection, words, chain(first, packets), connection.id_step, before=statements, then=commit)


def _frame(connection: PacketConnection, words: Mapping[str, str]) -> tuple[list[str], str]:
    """Return what begins a transaction of several statements, and what ends it."""
    if connection.multi_statements:
        return [words["begin"]], words["commit"]
    note_held()
    # What is sent ahead must not be committed by itself: not when the first statement fails, nor behind
    # a deadlock, after which the server has rolled back.
    return [words["suspend_autocommit"], words["begin"]], words["resume_autocommit"]


def insert(connection: MyConnection, words: Mapping[str, str], packets: Iterable[Packet], step: int) -> int:
    """Send the packets in an open transaction; return the newest id, or 0 without a row."""
    if isinstance(connection, PacketConnection):
        return _insert(connection, words, packets, step)
    newest = 0
    for statement, check, rows in packets:
        [result] = send(connection, statement)
        newest = _newest(result.first_id, rows, step)
        send(connection, check)
    return newest


def _insert(
    connection: PacketConnection,
    words: Mapping[str, str],
    packets: Iterable[Packet],
    step: int,
    *,
    before: Sequence[str] = (),
    then: str | None = None,
) -> int:
    """Send the packets, the first and the last with the rest; return the newest id, or 0 without a row."""
    statements = list(before)
    count = last = 0
    for statement, check, rows in packets:
        if count:
            note_held()
            send(connection, *statements)
            statements.clear()
        last = len(statements)
        statements += (statement, check)
        count = rows
    ids = len(statements)
    if count > 1 and connection.server.cluster == GALERA:
        statements.append(words["id_step"])
    results = send(connection, *statements, then=then) if statements else []
    if not count:
        return 0
    if statements[ids:]:
        [(step,)] = results[ids].rows
    return _newest(results[last].first_id, count, step)


def _newest(first_id: int, count: int, step: int) -> int:
    """Return the last id of an INSERT: they keep the server's step, and its answer tells the first, if it gave any."""
    if not first_id:
        raise numberless_error()
    return int(first_id + (count - 1) * step)


def check_size(size: int, packet_limit: int) -> None:
    """Raise DatabaseError for what the server would hang up at."""
    if size > (room := packet_limit - _OVERHEAD):
        raise DatabaseError(
            f"an item takes {size} bytes, more than the {room} that the server's max_allowed_packet of "
            f"{packet_limit} leaves it; raise it or make the item smaller"
        )


def size_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def cut(
    statement: str,
    session_id: str,
    texts: Sequence[str],
    times: Sequence[str],
    quotes: tuple[Quote, Quote],
    packet_limit: int,
    check: Callable[[int], str],
) -> Iterator[Packet]:
    """Cut a batch into packets that the server takes; check makes what proves so many rows."""
    head, _, row = statement.rpartition("VALUES")
    quote_id, quote_item = quotes
    escaped_id = quote_id(session_id)
    limit = packet_limit - _OVERHEAD
    rows: list[str] = []
    room = min(limit, _PACKET)
    for text, time in zip(texts, times or repeat(""), strict=False):
        values = row % {
            "session_id": escaped_id,
            "message_data": quote_item(text),
            "created_at": literal(time or None, quote_id),
        }
        size = size_of(values) + 1
        check_size(size, packet_limit)
        if size > room and rows:
            yield Packet(head + "VALUES" + ",".join(rows), check(len(rows)), len(rows))
            rows.clear()
            room = min(limit, _PACKET)
        rows.append(values)
        room -= size
    if rows:
        yield Packet(head + "VALUES" + ",".join(rows), check(len(rows)), len(rows))
