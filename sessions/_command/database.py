"""Open the database that a command is for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import sessions
from sessions import Backend
from sessions._dialects.registry import parse

from .context import CommandFailedError

if TYPE_CHECKING:
    from sessions._settings.options import Keywords

# With or without the byte order mark that editors on Windows begin a file with.
UTF_8 = "utf-8-sig"

# In seconds: how long a statement may take that makes an index.
_DAY = 86_400.0

# What is to outlast a failover; who only looks wants to know soon that nobody answers.
_PATIENT = ("import", "copy", "fork", "rekey", "rm", "prune", "selftest")
_LOOK_SECONDS = 3.0


def open_database(arguments: argparse.Namespace) -> tuple[Backend, str]:
    """Return the backend, and its URL without secrets; raise as named_database() does."""
    url, where = named_database(arguments)
    return sessions.connect(url, **options_of(arguments)), where


def named_database(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the URL, with and without its secrets; raise CommandFailedError when none is named.

    Raises FileNotFoundError for a SQLite file that is not there.
    """
    url = _url_of(arguments)
    if not url:
        raise CommandFailedError("no database; pass --url or set SESSIONS_URL, such as sqlite:chat.db", 2)
    return url, _checked(url, must_exist=arguments.command != "import")


def _url_of(arguments: argparse.Namespace) -> str:
    return arguments.url or os.environ.get("SESSIONS_URL") or ""


def is_one_place(source: Backend, target: Backend, arguments: argparse.Namespace) -> bool:
    """Tell whether the two backends of a copy lead to the same tables, as far as their URLs tell."""
    ours, theirs = source._store, target._store  # noqa: SLF001  (no caller is to compare them)
    if (ours.options.sessions_table, ours.dialect_name) != (theirs.options.sessions_table, theirs.dialect_name):
        return False
    if ours.dialect_name == "sqlite":
        return os.path.realpath(ours.where.partition(":")[2]) == os.path.realpath(theirs.where.partition(":")[2])
    return ours.where == theirs.where and _search_path(_url_of(arguments)) == _search_path(arguments.target)


def _search_path(url: str) -> tuple[str | None, str | None]:
    """Return what may lead to another schema of a PostgreSQL database; its user does by "$user"."""
    address, _ = parse(url)
    return (address.parameters.get("options"), address.user) if address.dialect == "postgresql" else (None, None)


def read_password(path: str) -> str:
    """Read the password that a file holds."""
    return Path(path).read_text(encoding=UTF_8).rstrip("\r\n")


def keys_of(arguments: argparse.Namespace, *, target: bool = False) -> Keywords:
    """Return the keys that the arguments name, or else the environment; a target's are named by arguments alone."""
    found: dict[str, list[str]] = {}
    for name in ("encryption_key", "integrity_key"):
        path = getattr(arguments, f"target_{name}_file" if target else f"{name}_file")
        variable = f"SESSIONS_{name.upper()}"
        if path:
            found[name] = _keys_in(_read_keys(path), repr(path))
        elif not target and os.environ.get(variable):
            found[name] = _keys_in(os.environ[variable], variable)
    return cast("Keywords", found)


def _read_keys(path: str) -> str:
    try:
        return Path(path).read_text(encoding=UTF_8)
    except UnicodeDecodeError:
        # Which has the keys in it.
        raise CommandFailedError(f"{path!r} is no text in UTF-8; write one key a line, the newest first", 2) from None


def _keys_in(text: str, where: str) -> list[str]:
    keys = [key for line in text.split("\n") if (key := line.rstrip("\r")).strip()]
    if not keys:
        raise CommandFailedError(f"{where} holds no key; write one a line, the newest first", 2)
    return keys


def options_of(arguments: argparse.Namespace) -> Keywords:
    """Return the options of connect() that the arguments ask for."""
    # A look makes nothing: neither a file nor a table.
    options: Keywords = {"create_tables": arguments.command in ("import", "rekey"), **keys_of(arguments)}
    if arguments.command not in _PATIENT:
        options["retry_timeout"] = _LOOK_SECONDS
    if arguments.command == "check" and arguments.fix:
        options["statement_timeout"] = _DAY
    if arguments.password_file:
        options["password"] = read_password(arguments.password_file)
    tls = {name: getattr(arguments, f"tls_{name}") for name in ("ca", "cert", "key")}
    if any(tls.values()):
        options["ssl"] = {name: path for name, path in tls.items() if path}
    if arguments.accept_unsealed:
        options["unsealed"] = "accept"
    if arguments.sessions_table:
        options["sessions_table"] = arguments.sessions_table
    if arguments.engine:
        options["engine"] = arguments.engine
    if arguments.messages_table:
        options["messages_table"] = arguments.messages_table
    return options


def _checked(url: str, *, must_exist: bool) -> str:
    """Return a URL without its secrets; raise FileNotFoundError for a SQLite file that is not there."""
    address, _ = parse(url)
    name = address.database
    if must_exist and address.dialect == "sqlite" and name and name != ":memory:":
        if not Path(name).exists():
            raise FileNotFoundError(f"there is no file {name!r}; check the URL {str(address)!r}")
        if Path(name).is_dir():
            raise IsADirectoryError(f"{name!r} is a directory; name the file in it")
    return str(address)
