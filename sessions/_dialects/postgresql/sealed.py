"""The steps of a write under seals, each of which divides by zero unless it has done as it was told (seals.sql)."""

from __future__ import annotations

from sessions._dialects.driver import Parameters
from sessions._sealing import SealedWrite

from .arrays import TextArray


def steps_of(session_id: str, write: SealedWrite, items: TextArray, times: TextArray) -> list[tuple[str, Parameters]]:
    """Return the statements of a common write, which are sent at once, with their parameters."""
    parameters = {
        "session_id": session_id,
        "before": write.before,
        "seal": write.marked,
        "items": items,
        "times": times,
        "position": write.position,
        "id": next(iter(write.removed), None),
    }
    # Behind a removal of all nothing is the newest.
    appended = {**parameters, "position": None if write.removes_all else write.position}
    return [(name, appended if name == "append_sealed" else parameters) for name in _names_of(write)]


def _names_of(write: SealedWrite) -> list[str]:
    steps = ["make_seal_or_fail" if write.before is None else "move_seal_or_fail"]
    if write.after is None:
        return [*steps, "remove_seal", "lock_session_for_removal", "delete_items", "check_emptied", "delete_session"]
    steps.append("lock_session_for_removal" if write.removed else "touch_session")
    if write.position is not None and (write.removes_all or not write.texts):
        steps.append("check_newest")
    if write.removes_all:
        steps += ["delete_items", "check_emptied"]
    if write.removed:
        steps.append("delete_newest_at")
    if write.texts:
        steps += ["use_utc", "append_sealed"]
    return steps
