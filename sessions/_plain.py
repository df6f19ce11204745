"""Make exact texts and numbers of those of subclasses.

A subclass may show, compare, escape or send itself as something else: an id of such a class would be several ids,
one for each driver and message. What comes from the application goes through here before it is looked at.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")

_EXACT = frozenset((str, int, float, bytes, bool, type(None)))
# By the methods of the kind itself, which return an exact one, and not by those of the subclass.
_COPIES: tuple[tuple[type, Any], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes.__bytes__),
)


def flag(name: str, value: object) -> bool:
    """Return True or False; raise TypeError for what only counts as one, as None does for whoever forgot a value."""
    if value not in (True, False):
        raise TypeError(f"{name} is a {type(value).__name__}; pass True or False")
    return bool(value)


def plain(value: T) -> T:
    """Return a str, int, float or bytes of a subclass as the exact value that it holds, all else as it is."""
    if type(value) in _EXACT:
        return value
    for kind, copy in _COPIES:
        if isinstance(value, kind):
            exact: T = copy(value)
            return exact
    return value
