"""The options of connect() and Session.from_url(), checked.

An option that is unknown, of the wrong type or out of range is an error that names the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict, Union

from sessions._operation import OperationHooks
from sessions._plain import plain
from sessions.errors import ConfigurationError, kind_of

if TYPE_CHECKING:
    import ssl

Password = str | Callable[[], str]
# The newest first.
IntegrityKey = str | bytes | Sequence[str | bytes] | None
SSLOption = Union[bool, Mapping[str, Any], "ssl.SSLContext", None]

# PostgreSQL cuts longer identifiers at 63 bytes without an error.
_MAX_NAME = 63
_MAX_SECONDS = 31_536_000.0
# An HMAC key has at least the strength that is asked for, here 128 bits (NIST SP 800-107, section 5.3.4).
_LEAST_KEY = 16


class BoundKeywords(TypedDict, total=False):
    """What bind() accepts, for type checkers and for itself."""

    create_tables: bool
    sessions_table: str
    messages_table: str
    default_limit: int | None
    whole_turns: bool
    ensure_ascii: bool
    engine: str | None
    on_operation: OperationHooks | None
    operation_ids: bool
    encryption_key: str | Sequence[str] | None
    encryption_ttl: float | None


class PoolKeywords(BoundKeywords, total=False):
    """What connect() accepts beside a pool."""

    max_retries: int
    retry_delay: float
    retry_timeout: float


class Keywords(PoolKeywords, total=False):
    """What connect() accepts beside a URL."""

    connection_timeout: float
    statement_timeout: float
    ssl: SSLOption
    password: Password
    pool_size: int
    max_idle: float
    prepared_statements: bool
    multi_statements: bool
    causal_reads: bool
    integrity_key: IntegrityKey
    unsealed: str
    on_broken_seal: str


@dataclass(frozen=True)
class Options:
    """The settings of one backend; times are seconds."""

    create_tables: bool = True
    max_retries: int = 10
    retry_delay: float = 1.0
    retry_timeout: float = 30.0  # a failover takes up to 20, a MySQL server 13 to start
    connection_timeout: float = 10.0
    statement_timeout: float = 30.0
    ssl: SSLOption = field(default=None, repr=False)
    password: Password | None = field(default=None, repr=False)
    sessions_table: str = "agent_sessions"
    messages_table: str = "agent_messages"
    pool_size: int = 10
    max_idle: float = 180.0  # load balancers forget what is idle for 240 (Azure) or 350 (AWS)
    default_limit: int | None = None
    whole_turns: bool = False
    ensure_ascii: bool = True
    engine: str | None = None
    on_operation: OperationHooks | None = None
    operation_ids: bool = False
    prepared_statements: bool = True
    multi_statements: bool = True
    causal_reads: bool = True
    integrity_key: IntegrityKey = field(default=None, repr=False)
    unsealed: str = "refuse"
    on_broken_seal: str = "raise"
    encryption_key: str | Sequence[str] | None = field(default=None, repr=False)  # a tuple once it is checked
    encryption_ttl: float | None = None

    def __post_init__(self) -> None:
        for option in fields(self):
            given = getattr(self, option.name)
            if (exact := plain(given)) is not given:
                object.__setattr__(self, option.name, exact)
        switches = (
            "create_tables",
            "whole_turns",
            "ensure_ascii",
            "operation_ids",
            "prepared_statements",
            "multi_statements",
            "causal_reads",
        )
        for name in switches:
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; pass True or False")
        _check_int("max_retries", self.max_retries, 0, 1000)
        _check_int("pool_size", self.pool_size, 1, 10_000)
        if self.default_limit is not None:
            _check_int("default_limit", self.default_limit, 0, 2**63 - 1)
        _check_seconds("retry_delay", self.retry_delay, zero=True)
        _check_seconds("retry_timeout", self.retry_timeout, zero=True)
        _check_seconds("max_idle", self.max_idle, zero=True)
        _check_seconds("connection_timeout", self.connection_timeout)
        _check_seconds("statement_timeout", self.statement_timeout)
        if self.password is not None and not isinstance(self.password, str) and not callable(self.password):
            raise ConfigurationError("password is neither a str nor a callable; pass one of them")
        if self.integrity_key is not None:
            integrity_keys(self.integrity_key)
        _check_word("unsealed", self.unsealed, "refuse", "accept")
        _check_word("on_broken_seal", self.on_broken_seal, "raise", "report")
        _check_hooks(self.on_operation)
        object.__setattr__(self, "encryption_key", _checked_keys("encryption_key", self.encryption_key))
        if self.encryption_ttl is not None:
            _check_seconds("encryption_ttl", self.encryption_ttl)
            if self.encryption_key is None:
                raise ConfigurationError("encryption_ttl is given without encryption_key; give both, or drop it")
        _check_table("sessions_table", self.sessions_table)
        _check_table("messages_table", self.messages_table)
        if self.sessions_table.lower() == self.messages_table.lower():
            raise ConfigurationError(
                f"sessions_table and messages_table are both {self.messages_table!r}; give them two names"
            )


_DEFAULTS = {option.name: option.default for option in fields(Options)}
# What only some dialects have.
_SPECIAL = ("ssl", "password", "prepared_statements", "multi_statements", "causal_reads", "engine")


def options_from(keywords: Mapping[str, Any]) -> Options:
    """Build the options; raise ConfigurationError that names the known ones for an unknown one."""
    for name in keywords:
        if name not in _DEFAULTS:
            raise ConfigurationError(f"unknown option {name!r}; use one of {', '.join(_DEFAULTS)}")
    return Options(**keywords)


def check_special(options: Options, dialect: str, own: Collection[str]) -> None:
    """Raise ConfigurationError for an option that is set and that the dialect does not have."""
    for name in _SPECIAL:
        if name not in own and getattr(options, name) != _DEFAULTS[name]:
            raise ConfigurationError(f"{name} is given, but {dialect} has no such option; drop it")


def password_of(password: Password) -> str:
    """Ask for the password: a token may have expired since the last connection."""
    asked = plain(password() if callable(password) else password)
    if not isinstance(asked, str):
        raise ConfigurationError(f"the password callable returned a {type(asked).__name__}; return a str")
    # Not by what encode() raises, which has the password in it.
    if asked.encode(errors="ignore").decode() != asked:
        raise ConfigurationError("the password contains a lone surrogate; use valid Unicode")
    if "\0" in asked:
        raise ConfigurationError("the password contains a NUL character, at which PostgreSQL would cut it; remove it")
    return asked


def integrity_keys(given: object) -> list[bytes]:
    """Return the keys as bytes, the newest first, a str as UTF-8; raise ConfigurationError for what is none."""
    keys = [given] if isinstance(given, (str, bytes)) else given
    if not isinstance(keys, (list, tuple)) or not keys or not all(isinstance(key, (str, bytes)) for key in keys):
        raise ConfigurationError(
            "integrity_key is neither a str or bytes nor a list of them; pass the newest key first"
        )
    found = [_key_bytes(plain(key)) for key in keys]
    if min(map(len, found)) < _LEAST_KEY:
        raise ConfigurationError(
            f"integrity_key has fewer than {_LEAST_KEY} bytes; make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return found


def _key_bytes(key: str | bytes) -> bytes:
    if isinstance(key, bytes):
        return key
    # Not by what encode() raises, which has the key in it.
    if key.encode(errors="ignore").decode() != key:
        raise ConfigurationError("integrity_key contains a lone surrogate; use valid Unicode")
    return key.encode()


def _check_word(name: str, value: object, *known: str) -> None:
    if value not in known:
        raise ConfigurationError(f"{name} is {value!r}; pass {' or '.join(map(repr, known))}")


def _check_int(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{name} is {value!r}; pass a whole number from {least} to {most}")


def _check_seconds(name: str, value: object, *, zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_SECONDS:
        raise ConfigurationError(f"{name} is {value!r}; pass a number of seconds")
    if value == 0 and not zero:
        raise ConfigurationError(f"{name} is 0; pass a number of seconds above 0")


def _checked_keys(name: str, keys: object) -> tuple[str, ...] | None:
    """Return one key or several as several; raise ConfigurationError, without any of them, for what is none."""
    if keys is None:
        return None
    found = (keys,) if isinstance(keys, str) else tuple(map(plain, keys)) if isinstance(keys, (list, tuple)) else ()
    if not found:
        raise ConfigurationError(f"{name} is a {kind_of(keys)} without a key; pass a str, or a list, the newest first")
    for key in found:
        if not isinstance(key, str):
            raise ConfigurationError(f"{name} holds a {kind_of(key)}; pass a str, or a list of them, the newest first")
        if not key:
            raise ConfigurationError(f"{name} holds an empty key; pass one of many random characters")
        # Not by what encode() raises, which has the key in it.
        if key.encode(errors="ignore").decode() != key:
            raise ConfigurationError(f"{name} holds a lone surrogate; use valid Unicode")
    return found


def _check_hooks(hooks: object) -> None:
    if hooks is None:
        return
    from inspect import iscoroutinefunction

    for hook in hooks if isinstance(hooks, (list, tuple)) else (hooks,):
        if not callable(hook) or isinstance(hook, type):
            raise ConfigurationError(f"on_operation is a {kind_of(hook)}; pass a function, or a list of functions")
        if iscoroutinefunction(hook) or iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
            raise ConfigurationError("on_operation is asynchronous, and nothing would await it; pass a plain function")


def _check_table(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a {type(value).__name__}; pass a str such as 'chat_messages'")
    parts = value.split(".")
    if len(parts) > 2 or not all(re.fullmatch(r"[\w$-](?:[\w$ -]*[\w$-])?", part) for part in parts):
        raise ConfigurationError(
            f"{name} is {value!r}; use letters, digits, '_', '$', '-' and inner spaces, as 'table' or 'schema.table'"
        )
    if any(len(part.encode()) > _MAX_NAME for part in parts):
        raise ConfigurationError(f"{name} is {value!r}; use at most {_MAX_NAME} bytes a name")
