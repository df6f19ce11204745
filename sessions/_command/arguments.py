"""What can be written behind `agent-sessions`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from .escapes import harmless

_EPILOG = """\
The database is named by --url or by SESSIONS_URL, such as sqlite:chat.db or
postgresql://app@db.example.com/agents. A password need not stand there: --password-file.
Keys: --encryption-key-file and --integrity-key-file, or the environment variables
SESSIONS_ENCRYPTION_KEY and SESSIONS_INTEGRITY_KEY; one a line, the newest first.
Exit codes: 0 done, an empty list too; 1 failed, not found or interrupted; 2 wrong usage.
"""


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser for a command, or for all of them where it is none: making all takes time."""
    from sessions import __version__

    parser = _Parser(
        prog="agent-sessions",
        description="See, copy and delete the conversations of LLM agents.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agent-sessions {__version__}")
    common = _common()
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in (command,) if command in _COMMANDS else _COMMANDS:
        text, own = _COMMANDS[name]
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])
        for flags, settings in own.items():
            made.add_argument(*flags.split(), **settings)
    return parser


def rotated(written: Sequence[str]) -> list[str]:
    """Put the command before the options that stand before it."""
    takes_value = {
        flag: action.nargs != 0
        for action in _common()._actions  # noqa: SLF001  (argparse has no other way to its options)
        for flag in action.option_strings
    }
    place = 0
    while place < len(written) and written[place] not in _COMMANDS:
        flag, is_joined, _ = written[place].partition("=")
        if flag not in takes_value:
            return list(written)
        place += 2 if takes_value[flag] and not is_joined else 1
    return [*written[place : place + 1], *written[:place], *written[place + 1 :]]


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, without anything of a URL, in which a password may stand anywhere."""

    def error(self, message: str) -> NoReturn:
        # What was given stands behind the colon, and may have blanks, quotes and colons of its own.
        what, _, given = message.partition(": ")
        if "://" in given:
            message = f"{what}: a URL stands there, which is not repeated; a database is named by --url"
        message = harmless(message)
        if message.startswith("unrecognized arguments") and "://" not in given:
            message += "; put a text of several words, or an id with blanks, in quotes"
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` says more)\n")


def _common() -> _Parser:
    common = _Parser(add_help=False)
    group = common.add_argument_group("database")
    group.add_argument("--url", help="its URL; else the environment variable SESSIONS_URL")
    group.add_argument("--password-file", metavar="FILE", help="a file that holds the password")
    for kind, use in (("encryption", "are encrypted with"), ("integrity", "are sealed with")):
        text = f"the keys that texts {use}, one a line, the newest first; else SESSIONS_{kind.upper()}_KEY"
        group.add_argument(f"--{kind}-key-file", metavar="FILE", help=text)
    group.add_argument("--tls-ca", metavar="FILE", help="require TLS, and verify the server by these certificates")
    group.add_argument("--tls-cert", metavar="FILE", help="the client's certificate")
    group.add_argument("--tls-key", metavar="FILE", help="its key")
    group.add_argument("--accept-unsealed", action="store_true", help="also rows of writers without the integrity key")
    group.add_argument("--sessions-table", metavar="NAME", help="instead of agent_sessions")
    group.add_argument("--messages-table", metavar="NAME", help="instead of agent_messages")
    group.add_argument("--engine", metavar="NAME", help="an engine that is refused unless it is named, such as tidb")
    group = common.add_argument_group("output")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    group.add_argument("--quiet", action="store_true", help="no hints and results on stderr")
    group.add_argument("--debug", action="store_true", help="a traceback for an error")
    return common


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _record(text: str) -> int:
    return _number(text.removeprefix("#"))


def _duration(text: str) -> Any:
    from .forms import duration

    try:
        return duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90d, 12h, 2w or 30min") from None


# Without a default argparse says that one is required.
_ANY_IDS: dict[str, Any] = {"nargs": "*", "metavar": "ID", "default": []}
_JSON = {"action": "store_true", "help": "one object a line"}
_DELETING: dict[str, Any] = {
    "--dry-run": {"action": "store_true", "help": "only say what would be deleted"},
    "--yes": {"action": "store_true", "help": "do not ask"},
}
_ESCAPED = {
    "action": "store_true",
    "help": "the ids are written as `ls` writes them: \\n for a line feed, \\\\ for a backslash",
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
            "--size": {"action": "store_true", "help": "with the bytes of each, which reads them"},
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
            "--escaped": _ESCAPED,
            "--only-conversation": {"action": "store_true", "help": "only what user and assistant say"},
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
        "write conversations, or all, as JSON Lines, texts exactly as stored (with a key, decrypted); or as HTML pages",
        {
            "session_ids": _ANY_IDS,
            "--html": {"metavar": "DIR", "help": "a page each and an index with search; a new DIR is for you alone"},
            "--full": {"action": "store_true", "help": "pages with the longest texts whole"},
            "--escaped": _ESCAPED,
        },
    ),
    "import": (
        "write what an export holds, texts exactly, times as tables can; goes on when interrupted (append: by --done)",
        {
            "file": {"metavar": "FILE", "help": "- for standard input"},
            "session_ids": _ANY_IDS,
            "--on-existing": {
                "choices": ("fail", "skip", "append", "replace"),
                "default": "fail",
                "help": "what is done with a conversation that is there: fail (the default, unless it is a beginning)",
            },
            "--done": {
                "type": _number,
                "default": 0,
                "metavar": "N",
                "help": "leave out the first N conversations of the file, as an append that was interrupted says",
            },
            "--yes": {"action": "store_true", "help": "do not ask before something is replaced"},
            "--escaped": _ESCAPED,
        },
    ),
    "copy": (
        "copy conversations, or all, to another database; goes on after an interruption, and compares at the end",
        {
            "target": {"metavar": "TARGET_URL"},
            "--target-password-file": {"metavar": "FILE", "help": "a file that holds its password"},
            "--target-encryption-key-file": {
                "metavar": "FILE",
                "help": "the keys that texts are encrypted with there; without it they are plain there",
            },
            "--target-integrity-key-file": {"metavar": "FILE", "help": "the keys that texts are sealed with there"},
            "--target-engine": {"metavar": "NAME", "help": "what --engine is for the other database"},
            "--escaped": _ESCAPED,
            "session_ids": _ANY_IDS,
        },
    ),
    "fork": (
        "copy a conversation into a new one",
        {
            "session_id": {"metavar": "ID"},
            "new_id": {"metavar": "NEW_ID"},
            "--upto": {"type": _record, "metavar": "RECORD", "help": "up to this record, such as 17"},
            "--escaped": _ESCAPED,
        },
    ),
    "rm": (
        "delete conversations",
        {"session_ids": {"nargs": "+", "metavar": "ID"}, "--escaped": _ESCAPED, **_DELETING},
    ),
    "prune": (
        "delete the conversations that nobody has written to for long",
        {
            "--older-than": {
                "type": _duration,
                "required": True,
                "metavar": "90d",
                "help": "weeks, days, hours or minutes: 2w, 90d, 12h, 30min",
            },
            "--keep-prefix": {"action": "append", "default": [], "metavar": "PREFIX", "help": "but these"},
            **_DELETING,
        },
    ),
    "rekey": (
        "bring conversations, or all, under the newest keys; goes on after an interruption",
        {
            "session_ids": {"nargs": "*", "metavar": "ID"},
            "--adopt": {
                "action": "store_true",
                "help": "also what was written without a key, by whoever may write there",
            },
            "--escaped": _ESCAPED,
        },
    ),
    "verify": (
        "look at conversations, or all, by their seals; 1 when one is not as it was written",
        {
            "session_ids": {"nargs": "*", "metavar": "ID"},
            "--since": {"metavar": "FILE", "help": "what `verify --json` wrote earlier, kept where nobody else writes"},
            "--json": _JSON,
            "--escaped": _ESCAPED,
        },
    ),
    "stats": (
        "say how much there is, by day, and which conversations are the biggest",
        {
            "--prefix": _PREFIX,
            "--biggest": {"type": _number, "default": 10, "metavar": "N", "help": "how many of the biggest (10)"},
            "--json": {"action": "store_true", "help": "one object"},
        },
    ),
    "check": (
        "look whether the database is as it should be; 1 when something will fail",
        {
            "--fix": {
                "action": "store_true",
                "help": "make the tables and indexes that are missing, while others write",
            },
            "--json": {"action": "store_true", "help": "one object"},
        },
    ),
    "selftest": (
        "try what the library promises, in tables that are removed again; 1 when a promise does not hold",
        {
            "database": {"nargs": "?", "metavar": "URL", "help": "instead of --url"},
            "--json": {"action": "store_true", "help": "one object"},
        },
    ),
    "schema": (
        "print the statements that make the tables",
        {"dialect": {"choices": ("sqlite", "postgresql", "mysql", "mariadb")}},
    ),
    "demo": (
        "write a few made-up conversations to a new SQLite file, and say what to try",
        {"file": {"nargs": "?", "default": "agent-sessions-demo.db", "metavar": "FILE"}},
    ),
}
