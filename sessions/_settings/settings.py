"""URL, options and TLS of one backend as one checked value.

What the URL says and an option contradicts is an error, never a silent choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sessions._plain import plain
from sessions.errors import ConfigurationError, InvalidURLError, SessionsError

from .options import Keywords, Options, check_special, options_from
from .tls_words import TLS_PARAMETERS
from .url import Address

if TYPE_CHECKING:
    from .tls import TLS  # it imports ssl, 13 ms that a program with SQLite does not pay


@dataclass(frozen=True)
class Settings:
    """What connect() was asked for."""

    address: Address
    options: Options
    tls: TLS | None  # None: the driver's default


def settings_from(address: Address, keywords: Keywords, own_options: Collection[str]) -> Settings:
    """Put together what the URL and the options say; own_options are those that not every dialect has.

    Raises InvalidURLError and ConfigurationError, and TLSError for certificates and
    keys that cannot be used.
    """
    options = _with_url(address, keywords)
    check_special(options, address.dialect, own_options)
    if "ssl" not in own_options:
        return Settings(address, options, None)
    from .tls import read_tls

    added = _left_to_the_environment(address) if options.ssl is None else {}
    address = replace(address, parameters={**added, **address.parameters})
    try:
        return Settings(address, options, read_tls(options.ssl, address.parameters))
    except SessionsError as exc:
        if not added:
            raise
        raise type(exc)(f"{exc}; or correct the environment, which says {', '.join(sorted(added))}") from None


def _left_to_the_environment(address: Address) -> Mapping[str, str]:
    """Return what the environment says where the URL speaks of TLS without a mode.

    A mode chosen by us must not be weaker than the one that is asked for there.
    """
    said, added = address.parameters, dict(address.surroundings)
    if "sslmode" in said or not any(name in said for name in TLS_PARAMETERS):
        return {}
    if "service" in said or "service" in added:
        raise InvalidURLError(
            "the URL speaks of TLS without a mode, and the service may ask for a stricter one; say sslmode= in the URL"
        )
    if "sslrootcert" in said or "sslcrl" in said:
        added.pop("sslmode", None)  # they mean the strictest one
    return {name: value for name, value in added.items() if name not in said}


def _with_url(address: Address, options: Keywords) -> Options:
    """Add what the URL says about an option; raise ConfigurationError where the two differ."""
    keywords: Keywords = {**options}
    if "password" in keywords:
        keywords["password"] = plain(keywords["password"])
    if address.password is not None:
        if keywords.get("password") not in (None, address.password):
            raise ConfigurationError("the URL and password= give different passwords; keep one")
        keywords["password"] = address.password
    if (text := address.parameters.get("connect_timeout")) is not None:
        if not text.isdecimal() or not int(text):
            raise InvalidURLError("connect_timeout in the URL is no whole number of seconds above 0; correct it")
        if keywords.get("connection_timeout", int(text)) != int(text):
            raise ConfigurationError("the URL's connect_timeout and connection_timeout= differ; keep one")
        keywords["connection_timeout"] = float(text)
    return options_from(keywords)
