"""What refusals to connect mean, as data: the server's, a pooler's, libpq's and OpenSSL's.

By SQLSTATE: a server may speak any language. Words count only where there is no code, or one that poolers give to
everything. What is permanent is named here; the rest may pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import psycopg

from sessions._dialects import failures
from sessions._dialects.failures import Failure
from sessions.errors import AuthenticationError, ConfigurationError, ConnectionFailedError, DatabaseError, TLSError

T = TypeVar("T")
U = TypeVar("U")

_UNREACHABLE = replace(
    failures.UNREACHABLE, remedy="check host, port and firewall, and that a PostgreSQL server runs there"
)
_OTHER_SERVER = Failure(
    ConnectionFailedError, "no PostgreSQL server listens there: check host and port, and the URL's scheme"
)
_NO_USER = Failure(AuthenticationError, "check the user and the password, and pg_hba.conf on the server")
_NOT_ADMITTED = Failure(
    AuthenticationError,
    "check the user, and pg_hba.conf on the server, which may ask for TLS (ssl=...) or a client certificate",
)
_NO_CONNECT = Failure(ConnectionFailedError, 'GRANT CONNECT ON DATABASE "{name}" TO <role>')
_SETTING = Failure(ConfigurationError, "correct the parameter in the URL or the environment (PG...)")
_NO_BINDING = Failure(
    TLSError, "channel_binding=require needs TLS: pass ssl=True, or better ssl={'ca': ...}; or drop the parameter"
)
_UNWANTED = replace(
    failures.UNREACHABLE, remedy="no server of the URL is what its target_session_attrs asks for: name others too"
)
_OPTION = Failure(ConfigurationError, "drop the parameter, or install a newer libpq")
# libpq says the same of each.
_NOT_VERIFIED = replace(
    failures.UNKNOWN_ROOT,
    remedy=f"{failures.UNKNOWN_ROOT.remedy}, unless that certificate is not in date, or revoked (sslcrl), or one of "
    "its authorities has no list there",
)
_NOT_SHOWN = Failure(
    TLSError, "pass a client certificate that the server asks for as ssl={'cert': ..., 'key': ...}, or drop sslcertmode"
)
_NOT_READY = Failure(
    ConnectionFailedError, "wait until the server has started or recovered, and try again", transient=True, is_away=True
)
_NOT_YET_ASKED = replace(
    failures.BUSY,
    remedy="see the server's log: it may be out of memory or of processes, or full; or it is no PostgreSQL server",
)
_PARAMETER = Failure(ConnectionFailedError, "drop the parameter that the server or the pooler does not take")

_NO_SERVER = replace(
    failures.BUSY,
    remedy="check that the server behind the pooler runs, and lower pool_size, or raise the pooler's limits",
)
# Also in the middle: the pooler has not passed the statement on.
_POOL_MODE = Failure(DatabaseError, "let the pooler pool transactions or sessions, not statements")

# SQLSTATEs of a refused connection, or their classes (PostgreSQL manual, appendix A). Others may pass.
_REFUSALS: Mapping[str, Failure] = {
    "53300": failures.BUSY,
    "57P": _NOT_READY,
    "28": _NO_USER,
    "28000": _NOT_ADMITTED,
    "3D000": failures.NO_DATABASE,
    "42501": _NO_CONNECT,
    "22023": _PARAMETER,
    "42704": _PARAMETER,
    "55P02": _PARAMETER,
}
# What these say is told by the words behind them alone: PostgreSQL's 28000, and the one code for everything of
# PgBouncer (08P01), Supavisor (XX000), RDS Proxy (08000), pgcat (58000) and Odyssey (08006).
_VAGUE = ("08", "28000", "58", "XX")
# Capacity first: a name in the text may be any word.
_WORDS: Mapping[str, Failure] = {
    "no more connections allowed": failures.BUSY,
    "query_wait_timeout": _NO_SERVER,
    "client connections exceeded": failures.BUSY,
    "max client": failures.BUSY,
    "Max client": failures.BUSY,
    "MaxClients": failures.BUSY,
    "too many": failures.BUSY,
    "statement pooling mode": _POOL_MODE,
    "waiting to acquire": failures.BUSY,
    "could not get connection from the pool": failures.BUSY,
    "remote server connection": failures.BUSY,
    "server login": failures.GONE,
    "cannot connect to server": failures.GONE,
    "no encryption": failures.TLS_WANTED,
    "SSL required": failures.TLS_WANTED,
    "SSL encryption": Failure(TLSError, "pg_hba.conf on the server admits no such TLS connection"),
    "not permitted to log in": Failure(AuthenticationError, "ALTER ROLE <role> LOGIN, or connect as another one"),
    "valid client certificate": Failure(
        AuthenticationError, "pass your client certificate as ssl={'cert': ..., 'key': ...}"
    ),
    "bouncer config error": Failure(
        ConnectionFailedError, "see the pooler's log: its configuration names no such database, or no user that gets in"
    ),
    "unsupported startup parameter": _PARAMETER,
    "unsupported pkt": failures.NO_TLS,
    "no such database": failures.NO_DATABASE,
    "no such user": _NO_USER,
    "user not found": _NO_USER,
    "no credentials": _NO_USER,
    "authentication failed": _NO_USER,
    "auth failed": _NO_USER,
}
# The SQLSTATE of PostgreSQL's own words, for a libpq that cannot be made to tell it. Capacity first.
_SQLSTATES: Mapping[str, str] = {
    "too many": "53300",
    "remaining connection slots": "53300",
    "the database system is": "57P03",
    "terminating connection": "57P01",
    "permission denied for database": "42501",
    'database "" does not exist': "3D000",
    'role "" does not exist': "28000",
    "not permitted to log in": "28000",
    "authentication failed": "28P01",
    "no pg_hba.conf entry": "28000",
    "pg_hba.conf rejects": "28000",
    "valid client certificate": "28000",
    "configuration parameter": "42704",
    "for parameter": "22023",
}
# libpq's and OpenSSL's words for what does not pass by itself; the first that fits counts.
_CONNECT_FAILURES: Mapping[str, Failure] = {
    "channel binding required, but SSL": _NO_BINDING,
    "used with sslnegotiation": _SETTING,
    "invalid when": _OPTION,  # for a libpq that was built without it
    "definition of service": _SETTING,
    "service file": _SETTING,
    "could not match": _SETTING,
    "could not parse network address": _SETTING,
    'is greater than ""': _SETTING,
    "GSSAPI encryption": _SETTING,
    "socket path": _SETTING,
    "authentication method requirement": Failure(
        AuthenticationError,
        "the server asks for a way that require_auth (PGREQUIREAUTH) does not allow: find out why before you allow it",
    ),
    "requirepeer": Failure(AuthenticationError, "look who listens at the socket, or correct requirepeer"),
    "hot standby mode": _UNWANTED,
    "session is": _UNWANTED,
    "invalid response to": _OTHER_SERVER,
    "expected authentication request": _OTHER_SERVER,
    "wrong version number": _OTHER_SERVER,
    "lost synchronization": _OTHER_SERVER,
    # What the server says of our certificate names a certificate too: before those about its own.
    "alert unknown ca": Failure(TLSError, "give a client certificate that an authority known to the server has signed"),
    "alert certificate": failures.CLIENT_CERTIFICATE,
    "alert bad certificate": failures.CLIENT_CERTIFICATE,
    "alert no certificate": failures.CLIENT_CERTIFICATE,
    "alert unsupported certificate": failures.CLIENT_CERTIFICATE,
    "alert access denied": failures.CLIENT_CERTIFICATE,
    "alert handshake failure": failures.NO_AGREEMENT,
    "alert insufficient security": failures.NO_AGREEMENT,
    "does not match host name": failures.WRONG_NAME,
    "server does not support SSL": failures.NO_TLS,
    "protocol version": failures.NO_COMMON_TLS,
    "no protocols available": failures.NO_COMMON_TLS,
    "unsupported protocol": failures.NO_COMMON_TLS,
    " alert ": _UNREACHABLE,  # what was sent has not arrived as it was
    "bad record mac": _UNREACHABLE,  # so of what the server sent
    # Before TLS has begun libpq repeats nothing: a server that cannot start a process for us, or a full pooler.
    "error response during SSL": _NOT_YET_ASKED,
    "SSL SYSCALL": _UNREACHABLE,
    "unexpected eof": _UNREACHABLE,
    "local user with ID": failures.NO_USER_NAME,
    "invalid connection option": _OPTION,
    "did not request an SSL certificate": _NOT_SHOWN,
    "without a valid SSL certificate": _NOT_SHOWN,
    "certificate verify failed": _NOT_VERIFIED,
    "certificate": failures.UNKNOWN_ROOT,
    "SSL": failures.UNKNOWN_ROOT,
    "password": _NO_USER,
    "authentication": _NO_USER,
    "channel binding": _NO_USER,
    "Temporary failure": _UNREACHABLE,
    "resolve host": failures.UNKNOWN_HOST,
    "translate host name": failures.UNKNOWN_HOST,
    "invalid ": _SETTING,
    "No such file": replace(_UNREACHABLE, remedy="check the socket's directory, and that the server runs"),
}

# A verbose error of the server: severity, SQLSTATE, words. And one that is not verbose.
_VERBOSE = re.compile(r"^.*?:  ([0-9A-Z]{5}): (.*)$", re.MULTILINE)
_TERSE = re.compile(r"^.*?\bFATAL:  (.*)$", re.MULTILINE)
_DATABASE = re.compile(r'permission denied for database "(.*)"')


def connect_failure(exc: Exception) -> Failure:
    """Say what an exception of connecting means; of several servers' answers one that may pass counts."""
    text = str(exc)
    answers = [_refusal(sqlstate, words) for sqlstate, words in _VERBOSE.findall(text)]
    answers = answers or [_refusal(_sqlstate(words), words) for words in _TERSE.findall(text)]
    # Where TLS was refused libpq also tries it in the clear: the reason is what was said of TLS, if anything was.
    reasons = [answer for answer in answers if answer is not failures.TLS_WANTED]
    if not reasons and "SSL error" not in text:
        reasons = answers
    if reasons:
        return next((answer for answer in reasons if answer.transient), reasons[-1])
    if isinstance(exc, psycopg.ProgrammingError):
        return _OPTION
    return _first(_CONNECT_FAILURES, text, _UNREACHABLE)


def _pooler_failure(sqlstate: str, words: str) -> Failure | None:
    """Say what a pooler means where its SQLSTATE tells nothing."""
    return _first(_WORDS, words, None) if sqlstate.startswith(_VAGUE) else None


def pooler_kept(sqlstate: str, words: str) -> Failure | None:
    """Say why a pooler has not passed a statement on; None where it may have."""
    failure = _pooler_failure(sqlstate, words)
    return failure if failure is not None and (failure.transient or failure is _POOL_MODE) else None


def by_sqlstate(table: Mapping[str, Failure], sqlstate: str) -> Failure | None:
    """Look a SQLSTATE up, or the class that it belongs to."""
    return next((found for length in (5, 3, 2) if (found := table.get(sqlstate[:length])) is not None), None)


def _refusal(sqlstate: str, words: str) -> Failure:
    failure = _pooler_failure(sqlstate, words) or by_sqlstate(_REFUSALS, sqlstate) or failures.REFUSED
    if failure is _NO_CONNECT:
        named = _DATABASE.search(words)
        return replace(failure, remedy=failure.remedy.format(name=named[1] if named else "..."))
    return failure


def _sqlstate(words: str) -> str:
    return _first(_SQLSTATES, words, "XX000")


def _first(table: Mapping[str, T], text: str, otherwise: U) -> T | U:
    """Return what belongs to the first fragment that the text has, outside of the names in it."""
    plain = re.sub(r'"[^"]*"', '""', text)
    return next((found for fragment, found in table.items() if fragment in plain), otherwise)
