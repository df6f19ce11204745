"""What libpq can be told of an ssl.SSLContext, which it cannot use itself.

What it cannot be told is refused by name: to drop it would be to connect with less than was
asked for. A client certificate, ALPN, curves and a directory of roots leave no trace in a context.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from psycopg import pq

from sessions.errors import ConfigurationError

_CRL_CHECKS = ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN
_VERSIONS = (
    ("TLSv1", ssl.TLSVersion.TLSv1, ssl.OP_NO_TLSv1),
    ("TLSv1.1", ssl.TLSVersion.TLSv1_1, ssl.OP_NO_TLSv1_1),
    ("TLSv1.2", ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TLSv1_2),
    ("TLSv1.3", ssl.TLSVersion.TLSv1_3, ssl.OP_NO_TLSv1_3),
)
# libpq never offers these.
_TOO_OLD = ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3
_LIBPQ_WITH_KEY_LOG = 180000


def check_carried(context: ssl.SSLContext, *, crl: bool) -> None:
    """Raise ConfigurationError that names what libpq would not do; crl: it was given revocation lists."""
    if lost := list(_lost(context, crl=crl)):
        raise ConfigurationError(
            f"libpq cannot be told what the SSLContext holds: {', '.join(lost)}; take it away, or pass "
            "ssl={'ca': ...} with cert and key, and sslcrl or ssl_min_protocol_version in the URL"
        )


def _lost(context: ssl.SSLContext, *, crl: bool) -> Iterator[str]:
    # What Python itself sets may stay, such as the strictness of 3.13.
    usual = ssl.create_default_context()
    if type(context) is not type(usual):
        yield f"the class {type(context).__name__}"
    yield from vars(context)
    if context.verify_mode is not ssl.CERT_NONE:
        flags = context.verify_flags & ~usual.verify_flags
        yield from _names(ssl.VerifyFlags(flags & ~_CRL_CHECKS if crl else flags))
        if context.check_hostname and not context.hostname_checks_common_name:
            yield "hostname_checks_common_name=False"
    versions = sum(without for _, _, without in _VERSIONS) | _TOO_OLD
    yield from _names(ssl.Options(context.options & ~usual.options & ~versions))
    if context.get_ciphers() != usual.get_ciphers():
        yield "ciphers"
    if context.security_level != usual.security_level:
        yield f"security_level={context.security_level}"
    if context.keylog_filename not in (None, usual.keylog_filename) and pq.version() < _LIBPQ_WITH_KEY_LOG:
        yield "keylog_filename"
    if context.post_handshake_auth:
        yield "post_handshake_auth"


def _names(flags: ssl.VerifyFlags | ssl.Options) -> list[str]:
    named = [name for name, flag in type(flags).__members__.items() if flag and flags & flag == flag]
    return named or ([hex(flags)] if flags else [])


def roots_of(context: ssl.SSLContext) -> bytes:
    """Read a context's root certificates back."""
    counts = context.cert_store_stats()
    roots = context.get_ca_certs(binary_form=True)
    if not roots or counts["x509"] != counts["x509_ca"]:
        raise ConfigurationError(
            "the SSLContext's root certificates cannot be read back for libpq; pass them as ssl={'ca': ...}"
        )
    return "".join(map(ssl.DER_cert_to_PEM_cert, roots)).encode()


def protocol_of(context: ssl.SSLContext) -> dict[str, str]:
    """Say which versions a context allows, so that no environment says otherwise, and where it logs its keys."""
    lowest, highest = context.minimum_version, context.maximum_version
    allowed = [
        place
        for place, (_, version, without) in enumerate(_VERSIONS)
        if (version >= lowest or lowest == ssl.TLSVersion.MINIMUM_SUPPORTED)
        and (version <= highest or highest == ssl.TLSVersion.MAXIMUM_SUPPORTED)
        and not context.options & without
    ]
    if not allowed or allowed[-1] - allowed[0] >= len(allowed):
        raise ConfigurationError("libpq takes a range of TLS versions, which this context has not; set minimum_version")
    parameters = {
        "ssl_min_protocol_version": _VERSIONS[allowed[0]][0],
        "ssl_max_protocol_version": _VERSIONS[allowed[-1]][0],
    }
    if context.keylog_filename and pq.version() >= _LIBPQ_WITH_KEY_LOG:
        parameters["sslkeylogfile"] = context.keylog_filename
    return parameters
