"""Complete what is typed in a shell, conversations' ids among it; needs argcomplete."""

from __future__ import annotations

import argparse
from itertools import chain
from typing import Any

import argcomplete

# How many ids are offered.
_MOST = 100


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end the process; do nothing for who is no shell."""
    for action in parser._actions:  # noqa: SLF001  (argparse has no other way to its subcommands)
        commands = action.choices.items() if isinstance(action.choices, dict) else ()
        # Those of an import are the file's, and its database may still have to be made.
        asking = (command for name, command in commands if name != "import")
        for argument in chain.from_iterable(command._actions for command in asking):  # noqa: SLF001
            if argument.dest in ("session_id", "session_ids"):
                argument.completer = _session_ids
    argcomplete.autocomplete(parser)


def _session_ids(prefix: str, parsed_args: argparse.Namespace, **_others: Any) -> list[str]:
    from sessions.errors import SessionsError

    from .context import CommandFailedError

    try:
        found = _found(prefix, parsed_args)
    except (SessionsError, CommandFailedError, OSError, ValueError):
        return []  # who presses a key is told nothing
    # Shells are told an id a line, and print what they are told.
    return [session_id for session_id in found if session_id.isprintable()]


def _found(prefix: str, arguments: argparse.Namespace) -> list[str]:
    import sessions

    from .database import named_database, options_of

    # Whoever presses a key does not wait for a failover, nor makes tables.
    options = options_of(arguments) | {"max_retries": 0, "connection_timeout": 2.0, "statement_timeout": 2.0}
    options["create_tables"] = False
    with sessions.connect(named_database(arguments)[0], **options) as backend:
        found = backend.list_sessions(prefix=prefix, order="id", limit=_MOST, count_limit=1)
        if len(found) == _MOST:
            # With the last one the shell knows how far all of them are alike.
            found += backend.list_sessions(prefix=prefix, order="id", newest_first=True, limit=1, count_limit=1)
    return [info.session_id for info in found]
