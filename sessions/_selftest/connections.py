"""Claims about connections and clocks: a lost answer is settled, idle ones work, times are understood."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sessions._settings.options import Keywords
from sessions._settings.url import Address
from sessions.errors import OutcomeUnknownError, SessionsError
from sessions.session import Session

from .place import Outcome, Place, in_threads, refuted
from .proxy import Proxy, When

_PORTS = {"postgresql": 5432, "mysql": 3306}
_UNSETTLED = "look for a proxy in between that answers for a server that is gone, and for triggers that rewrite rows"


def cut_connection(place: Place) -> str:
    """A write whose connection is cut happens once; a pop whose connection is cut says so."""
    _refuse_what_has_no_proxy(place)
    cuts = 0
    with _proxied(place) as (session, cut):
        for when in ("before", "after"):
            name = session.session_id
            session.replace_items([{"number": 0}])
            cut(when)
            session.add_items([{"number": 1}, {"number": 2}])
            _expect(place, name, [0, 1, 2], f"add_items(), cut {when} the server had acted")
            cut(when)
            session.replace_items([{"number": 3}, {"number": 4}])
            _expect(place, name, [3, 4], f"replace_items(), cut {when} the server had acted")
            cut(when)
            try:
                popped = [] if (item := session.pop_item()) is None else [item["number"]]
            except OutcomeUnknownError:
                popped = None
            left = [item["number"] for item in place.session(name).get_items()]
            if (popped is None and left not in ([3], [3, 4])) or (popped is not None and [*left, *popped] != [3, 4]):
                raise refuted(f"pop_item(), cut {when} the server had acted, gave {popped} and left {left}", _UNSETTLED)
            cuts += 3
    return f"after {cuts} cuts, before and after the server had acted, each batch was there once and no pop was lost"


def _refuse_what_has_no_proxy(place: Place) -> None:
    address, tls = place.address, place.settings.tls
    if place.dialect not in _PORTS:
        raise Outcome("skipped", "there is no connection that could be cut")
    hosts = [host for host, _ in address.hosts]
    is_local = "unix_socket" in address.parameters or any(not host or host.startswith(("/", "@")) for host in hosts)
    if is_local or not hosts:
        raise Outcome("skipped", "the URL names no host; a proxy stands in front of a TCP port only")
    if place.dialect == "mysql" and tls is not None and tls.mode == "verify-full":
        raise Outcome(
            "skipped",
            "the server's certificate has to have the name of its host, which a proxy in between has not",
            "run it once with sslmode=verify-ca, on a network that you trust",
        )


@contextmanager
def _proxied(place: Place) -> Iterator[tuple[Session, Callable[[When], None]]]:
    """Give a session behind proxies, and a function that cuts its connection at what it sends next."""
    address = place.address
    numbers = address.parameters.get("hostaddr", "").split(",") + [""] * len(address.hosts)
    servers = [
        (number or host, port or _PORTS[place.dialect])
        for (host, port), number in zip(address.hosts, numbers, strict=False)
    ]
    with closing(Proxy(servers)) as proxy, _unlogged(_through(address, proxy.ports)):
        # Soon again, since nothing is wrong with the server; and the one connection is the one that is cut.
        options: Keywords = {"retry_delay": 0.05, "max_retries": 10, "pool_size": 1}
        session = place.connect(_through(address, proxy.ports), **options).session("cut connection")

        def cut(when: When) -> None:
            check_was_cut()
            session.position()  # so that a connection is open
            proxy.cut_next(when)

        def check_was_cut() -> None:
            if not proxy.was_cut():
                raise Outcome("skipped", "what is sent to the server goes past a proxy in front of the URL's host")

        yield session, cut
        check_was_cut()


@contextmanager
def _unlogged(address: Address) -> Iterator[None]:
    """Keep out of the log what is meant to fail at an address."""

    def is_other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(f"{address}:")

    logger = logging.getLogger("sessions")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _through(address: Address, ports: list[int]) -> Address:
    if address.dialect == "mysql":
        return replace(address, hosts=tuple(("127.0.0.1", port) for port in ports))
    # The name stays, for the certificate.
    hosts = tuple((host, port) for (host, _), port in zip(address.hosts, ports, strict=True))
    numbers = ",".join(["127.0.0.1"] * len(ports))
    return replace(address, hosts=hosts, parameters={**address.parameters, "hostaddr": numbers})


def _expect(place: Place, name: str, numbers: list[int], what: str) -> None:
    found = [item["number"] for item in place.session(name).get_items()]
    if found != numbers:
        raise refuted(f"{what}, left {found}, not {numbers}", _UNSETTLED)


def idle_connection(place: Place) -> str:
    """A connection that was idle for a while is used, or replaced, without an error."""
    left = place.idle_since + place.idle_seconds - time.monotonic()
    time.sleep(max(0.0, left))
    idle = time.monotonic() - place.idle_since
    session = place.idle.session("idle connection")
    session.add_items([{"number": 0}])
    if session.pop_item() != {"number": 0}:
        raise refuted("what was added over a connection that had been idle is not there", "look for a proxy in between")
    max_idle = place.settings.options.max_idle
    return f"after {idle:.0f} s without use one works; after max_idle ({max_idle:g} s) it is replaced unasked"


def times(place: Place) -> str:
    """What was written now is neither old nor of the future, whatever the clocks and time zones."""
    remedy = "set the clocks by NTP, and one time zone for all that write to the tables"
    for number, writer in enumerate(place.backends):
        name = f"times {number}"
        writer.session(name).add_items([{"number": number}])
        for reader in place.backends:
            [info] = reader.list_sessions(prefix=name)
            if info.idle is None or not -5 < info.idle < 60:
                raise refuted(f"what was written now counts as written {info.idle} s ago", remedy)
            if reader.list_sessions(prefix=name, idle_since=timedelta(minutes=10)):
                raise refuted("what was written now would be pruned as 10 minutes old", remedy)
            if not reader.list_sessions(prefix=name, idle_since=datetime.now(UTC) + timedelta(minutes=10)):
                raise refuted("what was written now counts as written in more than 10 minutes", remedy)
    [record] = place.session("times 0").records()
    if record.created_at is None:
        raise refuted("the time of a record cannot be read", "make created_at the timestamp of `agent-sessions schema`")
    hours = round((record.created_at - datetime.now(UTC).replace(tzinfo=None)).total_seconds() / 900) / 4
    return f"what was written now is not taken for older or newer; records are dated at UTC{hours:+g} h"


def other_form(place: Place) -> str:
    """Statements can also be sent in the form that is not used unless it is asked for."""
    if place.dialect not in _PORTS:
        raise Outcome("skipped", "there is one form only")
    settings = place.settings.options
    if place.dialect == "postgresql":
        form = f"prepared_statements={not settings.prepared_statements}"
        changed: Keywords = {"prepared_statements": not settings.prepared_statements}
    else:
        form = f"multi_statements={not settings.multi_statements}"
        changed = {"multi_statements": not settings.multi_statements}
    changed["max_retries"] = min(2, settings.max_retries)
    backend = place.connect(**changed)

    def use(number: int, _: object) -> list[int]:
        session = backend.session(f"other form {number}")
        for turn in range(8):
            session.add_items([{"number": turn}])
            session.get_items()
        return [item["number"] for item in session.get_items()]

    try:
        found = in_threads(4, use)
    except SessionsError as exc:
        said = str(exc).rpartition("; ")[0]
        raise Outcome("warning", f"{form} does not work here: {said}", f"do not pass {form}") from exc
    if any(numbers != list(range(8)) for numbers in found):
        raise Outcome("warning", f"{form} does not work here: items are missing or changed", f"do not pass {form}")
    return f"{form} works too"
