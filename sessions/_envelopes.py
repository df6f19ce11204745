"""Encrypt texts as the SDK's EncryptedSession does, so that either reads what the other has written.

Each conversation has a key of its own: HKDF-SHA256 (RFC 5869) over the key that was given, with the
conversation's id as the salt. A text is a Fernet token, which is authenticated and says when it was made, in
an envelope that is JSON. The package cryptography does all of it, and is imported when there is a key.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, NamedTuple

from ._items import EPOCH, decode_item, read_time
from .errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_INFO = b"agents.session-store.hkdf.v1"
_KEY_BYTES = 32

# How many conversations' keys are kept, of each key that was given.
_CONVERSATIONS = 1000

# The white space before the closing brace, in which the token of a write stands.
_TAIL = re.compile(r"[ \t]+(?=}\Z)")

# What its version and time are in. Characters of no meaning are passed over where a token is read as a whole.
_BEGINNING = re.compile(r"[A-Za-z0-9_-]{12}")

# A key of one conversation, by the number of the key that was given and the conversation's id.
_Keys = Callable[[int, str], "Fernet"]


class Opened(NamedTuple):
    """What an envelope holds."""

    text: str
    made: int  # in Unix seconds, by the clock of who has encrypted it
    is_newest: bool  # it is under the key that writes


class Envelopes:
    """Texts under one key or several, the newest first: it writes, and each of them reads."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys, self._refusal = _keys_from([_master_key(key) for key in keys])
        self._numbers = range(len(keys))

    def wrap(self, session_id: str, text: str, made: int | None = None) -> str:
        """Encrypt a text; made is when it was written, None for now."""
        token = self._keys(0, session_id).encrypt_at_time(text.encode(), int(time()) if made is None else made)
        return f'{{"__enc__":1,"v":1,"kid":"hkdf-v1","payload":"{token.decode()}"}}'

    def unwrap(self, session_id: str, stored: object) -> Opened | None:
        """Decrypt a text as it is stored; None where it is no envelope, or under another key, or damaged."""
        envelope = decode_item(stored)
        if envelope is None or not _is_envelope(envelope):
            return None
        payload = envelope["payload"]
        if not isinstance(payload, str) or not payload.isascii() or not _BEGINNING.match(payload):
            return None
        for number in self._numbers:
            try:
                plain = self._keys(number, session_id).decrypt(payload)
            except self._refusal:
                continue
            # It begins with a version and the time, which are authenticated too.
            made = int.from_bytes(urlsafe_b64decode(payload[:12])[1:], "big")
            return Opened(plain.decode(errors="backslashreplace"), made, not number)
        return None


def is_envelope(stored: object) -> bool:
    """Tell whether a text is an envelope, whoever can open it."""
    item = decode_item(stored)
    return item is not None and _is_envelope(item)


def with_tail_of(stored: str, envelope: str) -> str:
    """Give an envelope the token of the write that it takes the place of, by which that one may yet be looked for."""
    tail = _TAIL.search(stored)
    return f"{envelope[:-1]}{tail[0]}}}" if tail else envelope


def seconds_from(moment: object) -> int:
    """Return the time of a row for an envelope: taken for UTC, and not later than now, which readers would refuse."""
    now = int(time())
    made = read_time(moment)
    try:
        return now if made is None else min(now, max(0, int((made - EPOCH).total_seconds())))
    except OverflowError:
        return now


def _is_envelope(item: dict[str, object]) -> bool:
    return item.get("__enc__") == 1 and item.keys() >= {"v", "kid", "payload"}


def _master_key(key: str) -> bytes:
    """Return what keys are derived from: the 32 bytes that a Fernet key is in base64, else the text as it is."""
    try:
        raw = urlsafe_b64decode(key)
    except ValueError:
        raw = b""
    return raw if len(raw) == _KEY_BYTES else key.encode()


def _keys_from(masters: Sequence[bytes]) -> tuple[_Keys, type[Exception]]:
    """Return what derives the keys of conversations, and what they raise for a text that they cannot open."""
    try:
        from cryptography.fernet import Fernet, InvalidToken
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as exc:
        what = exc.name if isinstance(exc, ModuleNotFoundError) else " ".join(str(exc).split())
        raise ConfigurationError(
            f"encryption_key needs the package cryptography, which cannot be imported ({what}); "
            "install it with: pip install 'agent-sql-sessions[crypto]'"
        ) from exc

    @lru_cache(_CONVERSATIONS * len(masters))
    def key_of(number: int, session_id: str) -> Fernet:
        derivation = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=session_id.encode(), info=_INFO)
        return Fernet(urlsafe_b64encode(derivation.derive(masters[number])))

    return key_of, InvalidToken
