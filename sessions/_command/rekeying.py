"""Bring conversations under the newest keys: each as a whole or up to where it is interrupted."""

from __future__ import annotations

from time import monotonic

from sessions._refusals import Refusals
from sessions._rekeying import all_ids
from sessions.errors import ConflictError, DatabaseError, DecryptionError, InvalidItemError, SealBrokenError

from .context import Context
from .escapes import cell
from .failing import said
from .forms import count_of
from .progress import Progress


def rekey(context: Context) -> int:
    """Bring conversations, or all, under the newest keys; 1 when something was refused."""
    progress = Progress(context.err, "rekey", total=None, quiet=context.arguments.quiet)
    # Also where there is nothing: that no key is given is to be said.
    context.backend.rekey([])
    sessions = records = refused = 0
    refusals = Refusals()
    store = context.backend._store  # noqa: SLF001  (one by one, so that each refusal is said)
    chosen = (info.session_id for info in context.named) if context.arguments.session_ids else all_ids(store)
    for session_id in chosen:
        began = monotonic()
        try:
            changed = context.backend.rekey([session_id], adopt=context.arguments.adopt).records
        except (DecryptionError, SealBrokenError, ConflictError, InvalidItemError, DatabaseError) as exc:
            refusals.note(exc, monotonic() - began)
            context.err.line(f"agent-sessions: {cell(said(exc))}")
            refused += 1
            continue
        sessions, records = sessions + 1, records + changed
        progress.add(changed)
    progress.end()
    left = f"; {refused:,} refused, as said above, and left as they are" if refused else ""
    context.say(f"{count_of(sessions)} under the newest key, {records:,} items changed{left}")
    return int(refused > 0)
