"""The steps of a write under seals, each of which divides by zero unless it has done as it was told (seals.sql)."""

from __future__ import annotations

from sessions._sealing import SealedWrite


def steps_of(write: SealedWrite) -> list[str] | None:
    """Return the names of the statements, which are sent at once; None for a write that takes others."""
    if not write.is_common:
        return None
    steps = ["make_seal_or_fail" if write.before is None else "move_seal_or_fail"]
    if write.after is None:
        return [*steps, "remove_seal", "lock_session_for_removal", "delete_items", "check_emptied", "delete_session"]
    steps.append("touch_session" if write.removed is None else "lock_session_for_removal")
    if write.position is not None and (write.removes_all or not write.texts):
        steps.append("check_newest")
    if write.removes_all:
        steps += ["delete_items", "check_emptied"]
    if write.removed is not None:
        steps.append("delete_newest_at")
    if write.texts:
        steps += ["use_utc", "append_sealed"]
    return steps
