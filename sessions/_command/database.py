"""Open the database that a command is for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import sessions
from sessions import Backend
from sessions._dialects.registry import parse

from .context import CommandFailedError

if TYPE_CHECKING:
    from sessions._settings.options import Keywords

# In seconds: how long a statement may take that makes an index.
_DAY = 86_400.0


def open_database(arguments: argparse.Namespace) -> tuple[Backend, str]:
    """Return the backend, and its URL without secrets; raise CommandFailedError when none is named.

    Raises FileNotFoundError for a SQLite file that is not there.
    """
    url = arguments.url or os.environ.get("SESSIONS_URL")
    if not url:
        raise CommandFailedError("no database; pass --url or set SESSIONS_URL, such as sqlite:chat.db", 2)
    where = _checked(url, must_exist=arguments.command != "import")
    return sessions.connect(url, **_options(arguments)), where


def read_password(path: str) -> str:
    """Read the password that a file holds."""
    return Path(path).read_text(encoding="utf-8").rstrip("\r\n")


def _options(arguments: argparse.Namespace) -> Keywords:
    # A look makes nothing: neither a file nor a table.
    options: Keywords = {"create_tables": arguments.command == "import"}
    if arguments.command == "check" and arguments.fix:
        options["statement_timeout"] = _DAY
    if arguments.password_file:
        options["password"] = read_password(arguments.password_file)
    tls = {name: getattr(arguments, f"tls_{name}") for name in ("ca", "cert", "key")}
    if any(tls.values()):
        options["ssl"] = {name: path for name, path in tls.items() if path}
    if arguments.sessions_table:
        options["sessions_table"] = arguments.sessions_table
    if arguments.messages_table:
        options["messages_table"] = arguments.messages_table
    return options


def _checked(url: str, *, must_exist: bool) -> str:
    """Return a URL without its secrets; raise FileNotFoundError for a SQLite file that is not there."""
    address, _ = parse(url)
    name = address.database
    if must_exist and address.dialect == "sqlite" and name and name != ":memory:" and not Path(name).exists():
        raise FileNotFoundError(f"there is no file {name!r}; check the URL {str(address)!r}")
    return str(address)
