"""A call that waits in the middle until a test lets it go on."""

import threading
from typing import Any

import pytest


class Held:
    """A method that waits until it is released, and says when it has begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()
        method = getattr(owner, name)

        def wait(*arguments: Any, **named: Any) -> Any:
            self.begun.set()
            assert self.released.wait(60)
            return method(*arguments, **named)

        monkeypatch.setattr(owner, name, wait)
