"""Say what failed to who gave a command, whose remedies are other commands and not Python."""

from __future__ import annotations

import errno

# What the library advises, and what that is for a command.
_REMEDIES = (
    (
        "create the tables by check(fix=True) of a backend of connect() with the same table names and keys",
        "if this is the right database, and these are its names and keys, `check --fix` with them makes the tables",
    ),
    (", or pass ssl=False", ""),
    ("give the key that it was written with", "pass that one too by --encryption-key-file"),
    (
        "give encryption_key or integrity_key, the newest key first",
        "pass --encryption-key-file or --integrity-key-file, the newest key in its first line",
    ),
    (
        "unsealed='accept' reads it, and `agent-sessions rekey --adopt`",
        "--accept-unsealed reads it, and `rekey --adopt`",
    ),
    ("give one to connect()", "pass --integrity-key-file"),
    ("give integrity_key too", "pass --integrity-key-file too"),
    ("call rekey() again", "run it again"),
    ("once that has ended, load it again", "once that has ended, give the command again"),
)

# Of a disk, of a user's share of it, and of what a process may make of a file.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class BadFileError(ValueError):
    """A file that is no export."""


def said(exc: BaseException) -> str:
    """Return a message in one line."""
    if isinstance(exc, UnicodeDecodeError):
        return "the file is no text in UTF-8; an export is"
    if isinstance(exc, OSError) and exc.strerror and exc.filename is not None:
        remedy = (
            "make room for it, and give the command again" if exc.errno in _FULL else "check the path and the rights"
        )
        return f"{str(exc.filename)!r}: {exc.strerror[:1].lower()}{exc.strerror[1:]}; {remedy}"
    text = str(exc)
    for advice, ours in _REMEDIES:
        text = text.replace(advice, ours)
    return text


def status_of(exc: BaseException) -> int:
    """Return the exit code: 2 for what was written wrong."""
    # The errors about URLs and options are ValueErrors too.
    return 2 if isinstance(exc, ValueError) and not isinstance(exc, (BadFileError, UnicodeError)) else 1
