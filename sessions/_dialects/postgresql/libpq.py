"""Say in libpq's words where to connect and how, TLS included."""

from __future__ import annotations

import math
import os
from itertools import zip_longest
from pathlib import Path
from typing import Any

from psycopg import pq

from sessions._dialects import sockets
from sessions._settings.key_files import KeyFiles
from sessions._settings.material import system_roots
from sessions._settings.settings import Settings
from sessions._settings.tls import TLS, make_context
from sessions._settings.tls_words import TLS_PARAMETERS
from sessions._settings.url import Address
from sessions.errors import ConfigurationError

from .contexts import check_carried, protocol_of, roots_of

# sslcertmode, which the environment may set.
_LIBPQ_WITH_CERTIFICATE_MODE = 160000

# There is no file below a file. libpq then finds neither a default root, which would turn
# `require` into verify-ca, nor a client certificate in the home directory.
_NO_FILE = f"{os.devnull}/none"


def libpq_parameters(settings: Settings, files: KeyFiles) -> dict[str, Any]:
    """Say in libpq's words what connect() was asked for, without the password; keys go into files.

    Raises ConfigurationError for TLS where libpq would ignore it, TLSError for
    certificates and keys that do not fit together.
    """
    address, options, tls = settings.address, settings.options, settings.tls
    parameters: dict[str, Any] = {
        name: value for name, value in address.parameters.items() if name not in TLS_PARAMETERS
    }
    if "sslcrldir" in parameters:
        _check_lists(parameters["sslcrldir"], tls)
    if tls is not None:
        if tls.required and _may_be_local(address):
            raise ConfigurationError(
                "TLS is required, but this may lead to a Unix socket, where libpq ignores it; name the host in the URL"
            )
        parameters = _without_contradiction(parameters, tls_parameters(tls, files))
    hosts = [host for host, _ in address.hosts]
    if any(hosts):
        parameters["host"] = ",".join(hosts)
    if any(port for _, port in address.hosts):
        parameters["port"] = ",".join(str(port or "") for _, port in address.hosts)
    # For each host. libpq reads a smaller number as 2.
    connect_timeout = max(2, math.ceil(options.connection_timeout / max(1, len(hosts))))
    parameters = {
        "fallback_application_name": "agent-sql-sessions",
        "keepalives_idle": sockets.KEEPALIVE_SECONDS,
        "keepalives_interval": sockets.KEEPALIVE_INTERVAL_SECONDS,
        "keepalives_count": sockets.KEEPALIVE_PROBES,
        # Milliseconds, and while connecting too.
        "tcp_user_timeout": max(sockets.UNACKNOWLEDGED_SECONDS, connect_timeout) * 1000,
    } | parameters
    parameters |= {
        "dbname": address.database,
        "user": address.user,
        "connect_timeout": connect_timeout,
        # The rows of a database in another encoding arrive as str all the same.
        "client_encoding": "utf8",
    }
    return {name: value for name, value in parameters.items() if value is not None}


def with_host_first(parameters: dict[str, Any], host: str, port: int) -> dict[str, Any]:
    """Return the same hosts, beginning with this one: one that answers nothing is not to be waited for each time."""
    if "hostaddr" in parameters:
        return parameters
    hosts = parameters.get("host", "").split(",")
    ports = parameters.get("port", "").split(",")
    ports *= len(hosts) if len(ports) == 1 else 1
    pairs = list(zip(hosts, ports, strict=True))
    pairs.sort(key=lambda pair: pair not in ((host, str(port)), (host, "")))
    return parameters | {"host": ",".join(host for host, _ in pairs), "port": ",".join(port for _, port in pairs)}


def _may_be_local(address: Address) -> bool:
    """Tell whether libpq could take one of the hosts for a Unix socket; an empty one is its default socket."""
    numbers = address.parameters.get("hostaddr", "").split(",")
    names = [host for host, _ in address.hosts]
    if not any(names) and not any(numbers):
        # A service may name a socket, and comes before the environment's host.
        names = [] if {"service", "PGSERVICE"} & {*address.parameters, *os.environ} else [os.environ.get("PGHOST", "")]
    count = max(len(names), len(numbers))
    pairs = zip_longest(names[:count], numbers[:count], fillvalue="")
    return any(not number and (not name or name.startswith(("/", "@"))) for name, number in pairs)


def tls_parameters(tls: TLS, files: KeyFiles) -> dict[str, Any]:
    """Say the same in libpq's words (PostgreSQL manual, "SSL Support"), with the material in files."""
    if not tls.required:
        return {"sslmode": tls.mode}
    # Shows now what libpq would say at the first connection, or would not say at all.
    context = make_context(tls)
    if tls.context is not None:
        check_carried(tls.context, crl=tls.crl is not None)
    # libpq would ask for an encrypted key's password on the terminal: one that is never empty
    # prevents it. GSS encryption would come before TLS, and sslmode does not apply to it.
    parameters = {"sslmode": tls.mode, "gssencmode": "disable", "sslrootcert": _NO_FILE}
    parameters |= {"sslcert": _NO_FILE, "sslkey": _NO_FILE, "sslcrl": _NO_FILE, "sslcrldir": ""}
    if tls.cert is not None and tls.key is not None:
        parameters |= {
            "sslcert": files.add(tls.cert),
            "sslkey": files.add(tls.key),
            "sslpassword": tls.key_password or " ",
        }
    if pq.version() >= _LIBPQ_WITH_CERTIFICATE_MODE:
        parameters["sslcertmode"] = "allow"
    if tls.verified:
        roots = tls.ca or (system_roots() if tls.context is None else roots_of(tls.context))
        parameters["sslrootcert"] = files.add(roots)
    if tls.crl is not None:
        parameters["sslcrl"] = files.add(tls.crl)
    return parameters | protocol_of(context)


def _check_lists(folder: str, tls: TLS | None) -> None:
    """Refuse a directory of revocation lists that would have no effect: libpq says nothing of it."""
    if tls is None or not tls.verified or tls.crl is not None or not any(Path(folder).glob("*.r[0-9]*")):
        raise ConfigurationError(
            "sslcrldir in the URL or the environment would have no effect; name a directory with hashed lists "
            "(HASH.r0), verify the server (sslmode=verify-full), and give no sslcrl"
        )


def _without_contradiction(given: dict[str, Any], derived: dict[str, Any]) -> dict[str, Any]:
    """Put together what the URL says to libpq alone and what the TLS settings mean."""
    if "sslcrldir" in given:
        derived = derived | {"sslcrl": "", "sslcrldir": given["sslcrldir"]}
    if "sslcertmode" in given and (given["sslcertmode"] != "disable" or derived.get("sslcert") == _NO_FILE):
        derived = derived | {"sslcertmode": given["sslcertmode"]}
    for name in sorted(given.keys() & derived.keys()):
        if given[name] != derived[name]:
            raise ConfigurationError(f"{name} in the URL or the environment contradicts what is asked of TLS; drop one")
    return given | derived
