"""Say in libpq's words where to connect and how, TLS included."""

from __future__ import annotations

import math
import os
import ssl
from itertools import zip_longest
from typing import Any

from sessions._dialects import sockets
from sessions._settings.key_files import KeyFiles
from sessions._settings.settings import Settings
from sessions._settings.tls import TLS, make_context
from sessions._settings.url import TLS_PARAMETERS, Address
from sessions.errors import ConfigurationError

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
    if tls is not None:
        if tls.required and _may_be_local(address):
            raise ConfigurationError(
                "TLS is required, but this may lead to a Unix socket, where libpq ignores it; name the host in the URL"
            )
        make_context(tls)  # shows now what libpq would say at the first connection
        parameters |= tls_parameters(tls, files)
    hosts = [host for host, _ in address.hosts]
    if any(hosts):
        parameters["host"] = ",".join(hosts)
    if any(port for _, port in address.hosts):
        parameters["port"] = ",".join(str(port or "") for _, port in address.hosts)
    # libpq reads a smaller number as 2.
    connect_timeout = max(2, math.ceil(options.connection_timeout))
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
    # libpq would ask for an encrypted key's password on the terminal: one that is never empty
    # prevents it. GSS encryption would come before TLS, and sslmode does not apply to it.
    parameters = {"sslmode": tls.mode, "gssencmode": "disable", "sslrootcert": _NO_FILE}
    parameters |= {"sslcert": _NO_FILE, "sslkey": _NO_FILE}
    if tls.cert is not None and tls.key is not None:
        parameters |= {
            "sslcert": files.add(tls.cert),
            "sslkey": files.add(tls.key),
            "sslpassword": tls.key_password or " ",
        }
    if tls.verified:
        parameters["sslrootcert"] = files.add(tls.ca or _roots_of(tls.context or ssl.create_default_context()))
    if tls.context is not None:
        parameters |= _protocol_versions(tls.context)
    return parameters


def _roots_of(context: ssl.SSLContext) -> bytes:
    """Read a context's root certificates back; libpq cannot use the context itself."""
    counts = context.cert_store_stats()
    roots = context.get_ca_certs(binary_form=True)
    if not roots or counts["x509"] != counts["x509_ca"]:
        raise ConfigurationError(
            "the SSLContext's root certificates cannot be read back for libpq; pass them as ssl={'ca': ...}"
        )
    return "".join(map(ssl.DER_cert_to_PEM_cert, roots)).encode()


def _protocol_versions(context: ssl.SSLContext) -> dict[str, str]:
    names = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}
    limits = {
        "ssl_min_protocol_version": names.get(context.minimum_version),
        "ssl_max_protocol_version": names.get(context.maximum_version),
    }
    return {name: version for name, version in limits.items() if version}
