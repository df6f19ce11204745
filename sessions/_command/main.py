# PYTHON_ARGCOMPLETE_OK
"""Read the command line, open the database, and say in one line what failed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .arguments import make_parser
from .terminal import Stream, harmless

_GOES_ON = "what was done is whole, and the same command goes on from there"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        complete(make_parser())
    written = sys.argv[1:] if argv is None else argv
    arguments = make_parser(*written[:1]).parse_args(written)
    out = Stream(sys.stdout, colour=arguments.color)
    err = Stream(sys.stderr, colour=arguments.color)
    try:
        status = _run(arguments, out, err)
        out.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        err.line(f"agent-sessions: interrupted; {arguments.__dict__.get('interrupted', _GOES_ON)}")
        return 1
    return status


def _run(arguments: argparse.Namespace, out: Stream, err: Stream) -> int:
    from sessions.errors import SessionsError

    from .context import CommandFailedError

    try:
        if arguments.command == "schema":
            return _schema(arguments, out)
        if arguments.command == "demo":
            from .demo import demo

            return demo(arguments.file, out, err)
        return _with_backend(arguments, out, err)
    except BrokenPipeError:
        raise
    except (SessionsError, CommandFailedError, OSError, ValueError) as exc:
        if arguments.debug:
            raise
        err.line(f"agent-sessions: {harmless(str(exc))}")
        return exc.status if isinstance(exc, CommandFailedError) else 1


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
    quote = "`" if arguments.dialect == "mysql" else '"'
    statements = load_statements(arguments.dialect, options.sessions_table, options.messages_table, quote=quote)
    out.line("\n\n".join(f"{statements[name]};" for name in ("create_sessions", "create_messages")))
    return 0
