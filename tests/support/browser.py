"""Chromium without a screen, driven by Playwright: the system's, since nothing is downloaded here."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from support.servers import ServerUnavailableError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")

# It looks for updates and the like on its own otherwise.
_FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; raises ServerUnavailableError where none is installed."""
    path = os.environ.get("SESSIONS_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise ServerUnavailableError(f"none of {', '.join(_NAMES)} is installed")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise ServerUnavailableError("the package playwright is not installed") from None
    # Its sandbox refuses to work for root, which is what a container has.
    flags = [*_FLAGS, *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=flags)
        except Error as exc:
            raise ServerUnavailableError(f"{path} does not start: {exc.message.splitlines()[0]}") from None
        try:
            yield browser
        finally:
            browser.close()
