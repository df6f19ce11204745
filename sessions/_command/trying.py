"""Try a database, and say each verdict when it is there."""

from __future__ import annotations

import argparse
from contextlib import closing

from sessions._selftest.run import run

from .context import CommandFailedError
from .database import named_database, options_of
from .forms import check_line, checks_object
from .terminal import Stream


def selftest(arguments: argparse.Namespace, out: Stream) -> int:
    """Try every promise in scratch tables; 1 when one does not hold."""
    if arguments.database and arguments.url:
        raise CommandFailedError("the database is named twice; drop --url", 2)
    arguments.url = arguments.database or arguments.url
    url, _ = named_database(arguments)
    found = []
    with closing(run(url, **options_of(arguments))) as checks:
        for check in checks:
            found.append(check)
            if not arguments.json:
                out.line(check_line(check, out))
                out.flush()
    if arguments.json:
        out.line(checks_object(found))
    return int(any(check.verdict == "error" for check in found))
