"""Errors as a user meets them."""

from __future__ import annotations

import traceback
from typing import Any
from urllib.parse import quote

import pytest

import sessions
from tls.tls_server import PASSWORD

KEY_PASSWORD = "open/sesame"


def refusal(url: str, **options: Any) -> sessions.SessionsError:
    """Return the error that the first use of the URL gives, checked to be fit for a user."""
    with (
        pytest.raises(sessions.SessionsError) as caught,
        sessions.connect(url, **{"max_retries": 0, **options}) as backend,
    ):
        backend.session("chat").get_items()
    _check_message(caught.value)
    return caught.value


def refusal_at_once(url: str, **options: Any) -> sessions.SessionsError:
    """Return the error of `connect` itself, before anything could be sent."""
    with pytest.raises(sessions.SessionsError) as caught:
        sessions.connect(url, **options)
    _check_message(caught.value)
    return caught.value


def _check_message(error: BaseException) -> None:
    """Check form and discretion of an error: what is wrong; then what to do; and no secret."""
    message = str(error)
    first = message.split(maxsplit=1)[0]
    assert first[0].islower() or first.isupper(), message
    assert not message.endswith("."), message
    assert "; " in message, f"no remedy in {message!r}"
    told = message + repr(error) + "".join(traceback.format_exception(error))
    cause: BaseException | None = error
    while cause is not None:
        told += repr(vars(cause)) + repr(cause.args)
        cause = cause.__cause__ or cause.__context__
    for secret in (PASSWORD, quote(PASSWORD, safe=""), KEY_PASSWORD, "PRIVATE KEY-----\nM"):
        assert secret not in told, f"{secret!r} can be seen through {message!r}"
