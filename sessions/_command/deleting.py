"""Delete conversations: first say what, then ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING

from sessions._listing import moment_from

from .context import NO_ROW, CommandFailedError, Context
from .escapes import written_id
from .forms import count_of
from .terminal import ask, size

if TYPE_CHECKING:
    from sessions import SessionInfo

# Above so many conversations their number has to be typed.
_MANY = 1000
_PAGE = 500


def rm(context: Context) -> int:
    """Delete conversations."""
    wanted = context.arguments
    infos = context.named
    if wanted.dry_run or not wanted.yes:
        confirm(context, infos, "delete", dry_run=wanted.dry_run)
    if not wanted.dry_run:
        deleted = context.backend.delete_sessions(info.session_id for info in infos)
        context.say(f"deleted {count_of(deleted + sum(info.cursor == NO_ROW for info in infos))}")
    return 0


def prune(context: Context) -> int:
    """Delete the conversations that nobody has written to for long."""
    wanted = context.arguments
    # One moment: what grows old while somebody makes up his mind stays.
    moment = moment_from("--older-than", wanted.older_than, context.backend._store.clock)  # noqa: SLF001
    asked = wanted.dry_run or not wanted.yes
    if asked and not confirm(context, _idle(context, moment), "delete", dry_run=wanted.dry_run):
        context.say("nothing to delete")
    elif not wanted.dry_run:
        done = context.backend.prune(moment, keep_prefix=wanted.keep_prefix)
        context.say(f"deleted {count_of(done.sessions)}, {done.items:,} items")
    return 0


def confirm(context: Context, infos: Iterable[SessionInfo], verb: str, *, dry_run: bool) -> int:
    """Say what would go, and ask; return how many it is, raise CommandFailedError unless it is wanted.

    With dry_run only say it, and name the conversations.
    """
    sessions = items = held = 0
    newest = None
    left = iter(infos)
    while page := list(islice(left, _PAGE)):
        sizes = context.backend.sizes(info.session_id for info in page)
        sessions += len(page)
        items += sum(size.items for size in sizes.values())
        items += sum(info.items for info in page if info.cursor == NO_ROW)
        held += sum(size.bytes for size in sizes.values())
        newest = max((info.updated_at for info in page if info.updated_at), default=newest)
        if dry_run:
            for info in page:
                context.out.line(written_id(info.session_id))
    if not sessions:
        return 0
    what = f"{count_of(sessions)}, {items:,} items, {size(held)}"
    if newest is not None:
        what += f", newest {newest:%Y-%m-%d}"
    if dry_run:
        context.say(f"would {verb} {what}")
        return sessions
    if not (context.err.is_terminal and context.out.is_terminal):
        raise CommandFailedError("--yes required when not running interactively", 2)
    expected = str(sessions) if sessions > _MANY else "y"
    hint = "type the number of sessions" if sessions > _MANY else "y/N"
    if ask(f"{what}. {verb.capitalize()}? [{hint}] ").replace(",", "").lower() != expected:
        raise CommandFailedError(f"nothing was {verb}d")
    return sessions


def _idle(context: Context, moment: datetime) -> Iterator[SessionInfo]:
    wanted = context.arguments
    listed = chain.from_iterable(context.pages(idle_since=moment, newest_first=False, count_limit=1))
    return (info for info in listed if not info.session_id.startswith(tuple(wanted.keep_prefix)))
