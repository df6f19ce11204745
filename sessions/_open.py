"""Choose the backend that a URL asks for, and import its driver only then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ._options import Keywords, Options, options_from_keywords
from ._url import Address, parse
from .errors import ConfigurationError, DriverNotInstalledError, InvalidURLError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .backend import Backend


def connect(url: str, **options: Unpack[Keywords]) -> Backend:
    """Make the backend for a URL; connections are opened when they are needed.

    Raises InvalidURLError, ConfigurationError (an option, a certificate or a key
    that cannot be used) or DriverNotInstalledError at once. What only the server
    can tell, such as a wrong password, comes with the first operation.
    """
    address = parse(url)
    settings = _with_url(address, options_from_keywords(options))
    if address.dialect == "memory":
        from .memory import MemoryBackend

        if settings.ssl is not None or settings.password is not None:
            raise ConfigurationError("ssl and password are for servers; drop them for memory:")
        return MemoryBackend(settings)
    try:
        if address.dialect == "sqlite":
            from .sqlite import SQLiteBackend

            return SQLiteBackend(address, settings)
        if address.dialect == "postgresql":
            from .postgresql import PostgresBackend

            return PostgresBackend(address, settings)
        from .mysql import MySQLBackend

        return MySQLBackend(address, settings)
    except ImportError as exc:
        raise DriverNotInstalledError(
            f"{address.dialect} needs a driver that cannot be imported ({exc.name or exc}); "
            f"install it with: pip install 'agent-sql-sessions[{address.dialect}]'"
        ) from exc


def _with_url(address: Address, options: Options) -> Options:
    """Add what the URL says about an option; raise ConfigurationError where the two differ."""
    if address.password is not None:
        if options.password not in (None, address.password):
            raise ConfigurationError("the URL and password= give different passwords; keep one")
        options = replace(options, password=address.password)
    if (text := address.parameters.get("connect_timeout")) is not None:
        if not text.isdecimal() or not int(text):
            raise InvalidURLError("connect_timeout in the URL is no whole number of seconds above 0; correct it")
        if options.connection_timeout not in (Options.connection_timeout, int(text)):
            raise ConfigurationError("the URL's connect_timeout and connection_timeout= differ; keep one")
        options = replace(options, connection_timeout=float(text))
    return options
