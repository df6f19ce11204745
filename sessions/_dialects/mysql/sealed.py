"""The steps of a write under seals before its rows, sent with them: a check that does not hold keeps out the rest."""

from __future__ import annotations

from sessions._sealing import SealedWrite


def steps_of(write: SealedWrite) -> list[str] | None:
    """Return the names of the statements; None for a write that takes others."""
    if not write.is_common:
        return None
    steps = ["make_seal" if write.before is None else "move_seal", "check_seal"]
    if write.after is None:
        return [*steps, "remove_seal", "lock_session_for_removal", "delete_items", "delete_session"]
    steps.append("lock_session_for_removal" if write.removed else "touch_session")
    if write.position is not None:
        steps.append("check_position")
    if write.removes_all:
        steps += ["delete_items", "lock_session_for_removal"]
    if write.removed:
        steps.append("delete_newest_item")
    return steps
