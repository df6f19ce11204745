"""Read the command line, open the database, and say in one line what failed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import OutputError, Stream, harmless

if TYPE_CHECKING:
    from sessions._settings.options import Keywords

_EPILOG = """\
The database is named by --url or by SESSIONS_URL, such as sqlite:chat.db or
postgresql://app@db.example.com/agents. A password need not stand there: --password-file.
Exit codes: 0 done, an empty list too; 1 failed, not found or interrupted; 2 wrong usage.
"""
# What can be interrupted and given once more.
_RESUMED = ("import", "copy", "prune")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    arguments = _parser().parse_args(argv)
    out = Stream(sys.stdout, colour=arguments.color)
    err = Stream(sys.stderr, colour=arguments.color, aside=True)
    try:
        status = _run(arguments, out, err)
        out.flush()
    except BrokenPipeError:
        # Whoever read has seen enough.
        out.abandon()
        return 0
    except OutputError as exc:
        out.abandon()
        err.line(f"agent-sessions: {exc}")
        return 1
    except KeyboardInterrupt:
        goes_on = arguments.command in _RESUMED and getattr(arguments, "on_existing", None) != "append"
        rest = "; what was done is whole, and the same command goes on from there" if goes_on else ""
        err.line(f"agent-sessions: interrupted{rest}")
        return 1
    return status


def _run(arguments: argparse.Namespace, out: Stream, err: Stream) -> int:
    from sessions.errors import SessionsError

    from .commands import CommandFailedError

    try:
        if arguments.command == "schema":
            return _schema(arguments, out)
        return _with_backend(arguments, out, err)
    except BrokenPipeError:
        raise
    except (SessionsError, CommandFailedError, OSError, ValueError) as exc:
        if arguments.debug:
            raise
        err.line(f"agent-sessions: {harmless(str(exc))}")
        return exc.status if isinstance(exc, CommandFailedError) else 1


def _with_backend(arguments: argparse.Namespace, out: Stream, err: Stream) -> int:
    import sessions

    from . import commands

    url = arguments.url or os.environ.get("SESSIONS_URL")
    if not url:
        raise commands.CommandFailedError("no database; pass --url or set SESSIONS_URL, such as sqlite:chat.db", 2)
    where = _checked(url, must_exist=arguments.command != "import")
    with sessions.connect(url, **_options(arguments)) as backend:
        context = commands.Context(backend, where, arguments, out, err)
        status: int = commands.COMMANDS[arguments.command](context)
        return status


def _options(arguments: argparse.Namespace) -> Keywords:
    # A look makes nothing: neither a file nor a table.
    options: Keywords = {"create_tables": arguments.command == "import"}
    if arguments.password_file:
        options["password"] = Path(arguments.password_file).read_text(encoding="utf-8").rstrip("\r\n")
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
    from sessions._dialects.registry import parse

    address, _ = parse(url)
    name = address.database
    if must_exist and address.dialect == "sqlite" and name and name != ":memory:" and not Path(name).exists():
        raise FileNotFoundError(f"there is no file {name!r}; check the URL {str(address)!r}")
    return str(address)


def _schema(arguments: argparse.Namespace, out: Stream) -> int:
    from sessions._dialects.statements import load_statements
    from sessions._settings.options import options_from

    names = ("sessions_table", "messages_table")
    options = options_from({name: getattr(arguments, name) for name in names if getattr(arguments, name)})
    quote = "`" if arguments.dialect == "mysql" else '"'
    statements = load_statements(arguments.dialect, options.sessions_table, options.messages_table, quote=quote)
    out.line("\n\n".join(f"{statements[name]};" for name in ("create_sessions", "create_messages")))
    return 0


def _parser() -> argparse.ArgumentParser:
    from sessions import __version__

    parser = argparse.ArgumentParser(
        prog="agent-sessions",
        description="See, copy and delete the conversations of LLM agents.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agent-sessions {__version__}")
    common = _common()
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, own) in _COMMANDS.items():
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])
        for flags, settings in own.items():
            made.add_argument(*flags.split(), **settings)
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("database")
    group.add_argument("--url", help="its URL; else the environment variable SESSIONS_URL")
    group.add_argument("--password-file", metavar="FILE", help="a file that holds the password")
    group.add_argument("--tls-ca", metavar="FILE", help="require TLS, and verify the server by these certificates")
    group.add_argument("--tls-cert", metavar="FILE", help="the client's certificate")
    group.add_argument("--tls-key", metavar="FILE", help="its key")
    group.add_argument("--sessions-table", metavar="NAME", help="instead of agent_sessions")
    group.add_argument("--messages-table", metavar="NAME", help="instead of agent_messages")
    group = common.add_argument_group("output")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    group.add_argument("--quiet", action="store_true", help="no hints and results on stderr")
    group.add_argument("--debug", action="store_true", help="a traceback for an error")
    return common


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _duration(text: str) -> Any:
    from .forms import duration

    try:
        return duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90d, 12h or 30m") from None


_JSON = {"action": "store_true", "help": "one object a line"}
_DELETING: dict[str, Any] = {
    "--dry-run": {"action": "store_true", "help": "only say what would be deleted"},
    "--yes": {"action": "store_true", "help": "do not ask"},
}
_PREFIX = {"help": "only conversations whose ids begin so"}

# Each command: what it does, and its arguments.
_COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ls": (
        "list conversations, the one written to last first",
        {
            "--prefix": _PREFIX,
            "--limit": {"type": _number, "default": 50, "help": "how many (50)"},
            "--all": {"action": "store_true", "help": "all of them"},
            "--first": {"action": "store_true", "help": "with the first question of each"},
            "--json": _JSON,
        },
    ),
    "show": (
        "show a conversation as a transcript",
        {
            "session_id": {"metavar": "ID"},
            "--limit": {"type": _number, "default": 200, "help": "the newest so many items (200)"},
            "--all": {"action": "store_true", "help": "all items"},
            "--full": {"action": "store_true", "help": "fold nothing"},
            "--no-reasoning": {"action": "store_true", "help": "without the items of reasoning"},
            "--follow": {"action": "store_true", "help": "go on with what is added, until Ctrl-C"},
            "--raw": {"action": "store_true", "help": "one stored text a line"},
            "--json": _JSON,
        },
    ),
    "grep": (
        "find the records that contain a text, tool calls and their outputs included",
        {
            "text": {"metavar": "TEXT"},
            "--prefix": _PREFIX,
            "-i --ignore-case": {"action": "store_true", "help": "whatever the case"},
            "--limit": {"type": _number, "help": "end after so many"},
            "--json": _JSON,
        },
    ),
    "export": (
        "write conversations, or all, as JSON Lines, texts exactly as stored",
        {"session_ids": {"nargs": "*", "metavar": "ID"}},
    ),
    "import": (
        "write what an export holds, texts and times exactly; goes on after an interruption",
        {
            "file": {"metavar": "FILE", "help": "- for standard input"},
            "--on-existing": {
                "choices": ("fail", "skip", "append", "replace"),
                "default": "fail",
                "help": "what is done with a conversation that is there, unless an import began it: fail (the default)",
            },
        },
    ),
    "copy": (
        "copy conversations, or all, to another database; goes on after an interruption, and compares at the end",
        {
            "target": {"metavar": "TARGET_URL"},
            "session_ids": {"nargs": "*", "metavar": "ID"},
        },
    ),
    "fork": (
        "copy a conversation into a new one",
        {
            "session_id": {"metavar": "ID"},
            "new_id": {"metavar": "NEW_ID"},
            "--upto": {"type": _number, "metavar": "RECORD", "help": "up to this record"},
        },
    ),
    "rm": ("delete conversations", {"session_ids": {"nargs": "+", "metavar": "ID"}, **_DELETING}),
    "prune": (
        "delete the conversations that nobody has written to for long",
        {
            "--older-than": {"type": _duration, "required": True, "metavar": "90d", "help": "w, d, h or m"},
            "--keep-prefix": {"action": "append", "default": [], "metavar": "PREFIX", "help": "but these"},
            **_DELETING,
        },
    ),
    "check": ("look whether the database is as it should be; 1 when something will fail", {"--json": _JSON}),
    "schema": (
        "print the statements that make the tables",
        {"dialect": {"choices": ("sqlite", "postgresql", "mysql")}},
    ),
}
