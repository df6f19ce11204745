# PYTHON_ARGCOMPLETE_OK
"""Read the command line, open the database, and say in one line what failed."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from .arguments import make_parser, rotated
from .escapes import cell, id_from
from .terminal import OutputError, Stream, drop_unwritten

_SERVER = re.compile(r"(?:postgres|postgresql|mysql|mariadb)(?:\+\w+)?://", re.IGNORECASE)

_SCHEMA = ("create_sessions", "create_messages", "create_leases", "create_seals")
# Whose exit code is a verdict.
_JUDGING = ("check", "selftest", "verify")
# What can be interrupted and given once more.
_RESUMED = ("import", "copy", "prune", "rekey")
_GOES_ON = "; what was done is whole, and the same command goes on from there"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        complete(make_parser())
    arguments = _parsed(sys.argv[1:] if argv is None else argv)
    out = Stream(sys.stdout, colour=arguments.color)
    err = Stream(sys.stderr, colour=arguments.color, aside=True)
    try:
        status = _run(arguments, out, err)
        out.flush()
    except BrokenPipeError:
        out.abandon()
        if arguments.command in _JUDGING:
            err.line("agent-sessions: the output was closed before all had been looked at")
            return 1
        # Whoever read has seen enough.
        return 0
    except OutputError as exc:
        out.abandon()
        err.line(f"agent-sessions: {exc}")
        return 1
    except KeyboardInterrupt:
        goes_on = arguments.command in _RESUMED and getattr(arguments, "on_existing", None) != "append"
        err.again("")
        err.line(f"agent-sessions: interrupted{_GOES_ON if goes_on else ''}")
        return 1
    return status


def _parsed(written: Sequence[str]) -> argparse.Namespace:
    try:
        if written and written[0].startswith("-"):
            written = rotated(written)
        return _unescaped(make_parser(*written[:1]).parse_args(written))
    except SystemExit:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()  # a help text
        except OSError:
            drop_unwritten(sys.stdout)
        raise


def _unescaped(arguments: argparse.Namespace) -> argparse.Namespace:
    """Read the ids as they are written by `ls`, where that is asked for."""
    if getattr(arguments, "escaped", False):
        for name in vars(arguments).keys() & {"session_id", "new_id"}:
            setattr(arguments, name, id_from(getattr(arguments, name)))
        if "session_ids" in arguments:
            arguments.session_ids = list(map(id_from, arguments.session_ids))
    return arguments


def _run(arguments: argparse.Namespace, out: Stream, err: Stream) -> int:
    from sessions.errors import SessionsError

    from .context import CommandFailedError
    from .failing import said, status_of

    try:
        if arguments.command == "schema":
            return _schema(arguments, out)
        if arguments.command == "demo":
            from .demo import demo

            return demo(arguments.file, out, err)
        if arguments.command == "selftest":
            from .trying import selftest

            return selftest(arguments, out)
        return _with_backend(arguments, out, err)
    except BrokenPipeError:
        raise
    except (SessionsError, CommandFailedError, OSError, ValueError) as exc:
        if arguments.debug:
            raise
        err.line(f"agent-sessions: {cell(_without_urls(said(exc), arguments))}")
        return exc.status if isinstance(exc, CommandFailedError) else status_of(exc)


def _without_urls(text: str, arguments: argparse.Namespace) -> str:
    """Leave out what was given in the wrong place and names a server: a password may stand anywhere in it."""
    for value in vars(arguments).values():
        for given in value if isinstance(value, list) else [value]:
            if isinstance(given, str) and _SERVER.search(given):
                for form in (given, repr(given)[1:-1], repr(str(Path(given)))[1:-1]):
                    text = text.replace(form, "***")
    return text


def _with_backend(arguments: argparse.Namespace, out: Stream, err: Stream) -> int:
    from .commands import COMMANDS
    from .context import Context
    from .database import open_database

    backend, where = open_database(arguments)
    with backend:
        status: int = COMMANDS[arguments.command](Context(backend, where, arguments, out, err))
        return status


def _schema(arguments: argparse.Namespace, out: Stream) -> int:
    from sessions._dialects.statements import load_statements
    from sessions._settings.options import options_from

    names = ("sessions_table", "messages_table")
    options = options_from({name: getattr(arguments, name) for name in names if getattr(arguments, name)})
    dialect = arguments.dialect.replace("mariadb", "mysql")
    quote = "`" if dialect == "mysql" else '"'
    statements = load_statements(dialect, options.sessions_table, options.messages_table, quote=quote)
    out.line("\n\n".join(f"{statements[name]};" for name in _SCHEMA))
    return 0
