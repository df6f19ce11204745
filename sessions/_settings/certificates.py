"""Read a certificate's dates, which the ssl module tells of no certificate of ours (RFC 5280, section 4.1)."""

from __future__ import annotations

from datetime import UTC, datetime

from sessions.errors import TLSError

_UTC_TIME = 0x17


def validity_of(certificate: bytes) -> tuple[float, float]:
    """Return a DER certificate's notBefore and notAfter as Unix times."""
    try:
        _, body, _ = _read(certificate, 0)
        _, fields, _ = _read(body, 0)
        offset = 0
        tag, _, after = _read(fields, offset)
        if tag == 0xA0:  # the version is optional
            offset = after
        for _ in ("serial number", "signature", "issuer"):
            _, _, offset = _read(fields, offset)
        _, validity, _ = _read(fields, offset)
        since_tag, since, after = _read(validity, 0)
        until_tag, until, _ = _read(validity, after)
        return _time(since_tag, since), _time(until_tag, until)
    except (IndexError, ValueError):
        raise TLSError("a certificate cannot be decoded; give it in PEM form (-----BEGIN ...)") from None


def _read(data: bytes, offset: int) -> tuple[int, bytes, int]:
    """Return the element at offset, its tag and content, and where the next one begins."""
    tag, length, start = data[offset], data[offset + 1], offset + 2
    if length & 0x80:
        octets = length & 0x7F
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    if start + length > len(data):
        raise ValueError("truncated")
    return tag, data[start : start + length], start + length


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 is 1950, 49 is 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
