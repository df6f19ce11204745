"""Where the claims are tried: two scratch tables, backends on them, and what removes them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from sessions._checks import Verdict
from sessions._connections.pool import Pool
from sessions._dialects.registry import parse
from sessions._settings.options import Keywords, options_from
from sessions._settings.settings import Settings, settings_from
from sessions._settings.url import Address
from sessions._stores.attempts import Attempts
from sessions._stores.opening import open_address
from sessions.backend import Backend
from sessions.errors import ConfigurationError, ConnectionFailedError, SessionsError
from sessions.session import Session

T = TypeVar("T")

# What the names of the tables begin with; nothing else is ever dropped.
PREFIX = "selftest_"


class Outcome(Exception):  # noqa: N818  (a verdict; an error only where it says so)
    """What a claim came to that was not simply kept."""

    def __init__(self, verdict: Verdict, found: str, remedy: str = "") -> None:
        super().__init__(verdict, found, remedy)
        self.verdict = verdict
        self.found = found
        self.remedy = remedy


def refuted(found: str, remedy: str) -> Outcome:
    """Say that a promise does not hold here."""
    return Outcome("error", found, remedy)


class Place:
    """Scratch tables of one database, made when it is entered and removed when it is left, whatever happens."""

    # How long writers go on, at most, and a connection is left alone, at least.
    seconds = 4.0
    idle_seconds = 10.0

    backend: Backend

    def __init__(self, url: str, **options: Unpack[Keywords]) -> None:
        self.address, self.package = parse(url)
        self.dialect = self.address.dialect
        token = os.urandom(6).hex()

        def scratch(name: str, given: str) -> str:
            schema, dot, _ = given.rpartition(".")
            return f"{schema}{dot}{PREFIX}{token}_{name}"

        self.options: Keywords = {
            **options,
            "sessions_table": scratch("sessions", options.get("sessions_table", "")),
            "messages_table": scratch("messages", options.get("messages_table", "")),
            "create_tables": True,
            # A claim reads all that there is.
            "default_limit": None,
            "whole_turns": False,
        }
        self.tables = (self.options["sessions_table"], self.options["messages_table"])
        # What claims write through: each another connection, and to another server where the URL names several.
        self.backends: list[Backend] = []
        self._in_memory = self.package is None or (self.dialect == "sqlite" and self.address.database is None)
        self._stack = ExitStack()
        self._made = False

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            # What kept the tables from being made may keep them from being removed.
            with self._stack, suppress(SessionsError):
                self.remove()
            raise
        return self

    def _open(self) -> None:
        self.backend = self._stack.enter_context(Backend(open_address(self.address, self.package, self.options)))
        # Said before: the first look makes the tables, in which it may be interrupted.
        self._made = not self._in_memory
        try:
            self.session("idle").position()
        except (ConnectionFailedError, ConfigurationError):
            self._made = False
            raise
        self.idle = self.connect()
        self.idle.session("idle").position()
        self.idle_since = time.monotonic()
        several = len(self.address.hosts) > 1
        self.backends = self._writable() if several else [self.backend, self.connect()]

    def _writable(self) -> list[Backend]:
        found: list[Backend] = []
        refusal: SessionsError | None = None
        for host in self.address.hosts:
            address = replace(self.address, hosts=(host,))
            try:
                self.connect(address, max_retries=0).session("idle").add_items([{}])
            except SessionsError as exc:
                refusal = exc
            else:
                found.append(self.connect(address))
        if refusal is not None and not found:
            raise refusal
        return found

    def connect(self, address: Address | None = None, **changed: Unpack[Keywords]) -> Backend:
        """Make one more backend on the tables, which is closed at the end; what is in memory has but one."""
        if self._in_memory:
            return self.backend
        store = open_address(address or self.address, self.package, {**self.options, **changed})
        return self._stack.enter_context(Backend(store))

    def session(self, name: str, number: int = 0) -> Session:
        """Make a handle for a conversation; other numbers, other backends."""
        backends = self.backends or [self.backend]
        return backends[number % len(backends)].session(name)

    @property
    def settings(self) -> Settings:
        """What connect() was asked for."""
        return settings_from(self.address, self.options, self.package.OWN_OPTIONS if self.package else ())

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
        finally:
            self.remove()

    def remove(self) -> None:
        """Remove the tables, if they are there."""
        if not self._made or self.package is None:
            return
        # Once: what refuses it now refuses it again.
        self._made = False
        settings = self.settings
        dialect, connector = self.package.dialect_and_connector(settings)
        if not all(table.rpartition(".")[2].startswith(PREFIX) for table in dialect.tables):
            raise ConfigurationError(f"{dialect.tables!r} are no scratch tables; nothing was removed")
        options = options_from(self.options)
        pool: Pool[Any] = Pool(connector, size=1, timeout=options.connection_timeout, max_idle=options.max_idle)

        def drop(connection: Any) -> None:
            for name in ("drop_scratch_messages", "drop_scratch_sessions"):
                dialect.execute(connection, name, {})

        try:
            Attempts(dialect, pool, options, str(self.address)).run(drop, settle=drop, may_create=False)
        finally:
            pool.close()


def in_threads(count: int, work: Callable[[int, threading.Event], T]) -> list[T]:
    """Do work count times at once, with a number and an event that says when to stop; raise what one of them raises."""
    stop = threading.Event()
    with ThreadPoolExecutor(count, thread_name_prefix="selftest") as pool:
        futures = [pool.submit(copy_context().run, work, number, stop) for number in range(count)]
        try:
            return [future.result() for future in futures]
        finally:
            stop.set()
