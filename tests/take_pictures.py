"""Take the README's pictures of the pages and of a terminal, with Chromium; pngquant halves them."""

import contextlib
import io
import os
import pty
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import sessions
from sessions._command.main import main
from support.browser import chromium
from support.conversations import CONVERSATION, said
from support.servers import execute_sql

FOLDER = Path(__file__).with_name("pictures")
URL = "sqlite:shop.db"
FILE = "sqlite:///shop.db"
SECONDS = (0, 41, 4, 2, 0, 1, 3, 3, 2, 4, 0, 3, 1, 6, 95, 3, 1)
OTHERS = (
    (
        "customer-17:returns",
        "Can I send the blue lamp back without its box?",
        "Yes. Here is the label.",
    ),
    (
        "ops-2026-03-16",
        "Is the nightly backup of the orders complete?",
        "It is: 41.2 GB, compared at 04:10.",
    ),
    (
        "customer-204:vat",
        "Why is there VAT on my invoice? We are in Norway.",
        "It was our mistake; here is a new one.",
    ),
    ("ops-2026-03-15", "Which service filled the disk of db-2?", "The checkout: its log had grown to 180 GB."),
    ("customer-17:gift", "Do you wrap things for a birthday?", "We do, with a card of your own words."),
    ("customer-88:late", "My parcel should have been here on Monday.", "It waits at the depot in Cologne."),
)


def write_conversations() -> None:
    """Write the conversations of the pictures, with times of their own."""
    with sessions.connect(URL) as backend:
        backend.session("ops-2026-03-17").add_items(CONVERSATION)
        for name, question, answer in OTHERS:
            backend.session(name).add_items([{"role": "user", "content": question}, said(answer)])
    moment = datetime(2026, 3, 17, 8, 2, 11)  # noqa: DTZ001  (as databases keep it)
    for number, seconds in enumerate(SECONDS, 1):
        moment += timedelta(seconds=seconds)
        execute_sql(
            "sqlite:///shop.db", "UPDATE agent_messages SET created_at = %s WHERE id = %s", (str(moment), number)
        )
    for number, name in enumerate(["ops-2026-03-17", *(name for name, _, _ in OTHERS)]):
        then = str(moment - number * timedelta(hours=7, minutes=13))
        execute_sql(
            "sqlite:///shop.db", "UPDATE agent_sessions SET updated_at = %s WHERE session_id = %s", (then, name)
        )


def take_pictures(pages: Path) -> None:
    """Look at the pages as a reader does."""
    page = next(pages.glob("ops-2026-03-17-*.html"))
    with chromium() as browser:
        wide = browser.new_page(viewport={"width": 960, "height": 640})
        wide.goto(page.as_uri())
        wide.screenshot(path=FOLDER / "page-light.png", full_page=True)
        wide.goto((pages / "index.html").as_uri())
        wide.keyboard.press("/")
        wide.keyboard.type("checkout log")
        wide.screenshot(path=FOLDER / "index-search.png", clip={"x": 0, "y": 0, "width": 960, "height": 470})
        phone = browser.new_page(
            viewport={"width": 390, "height": 1500}, color_scheme="dark", device_scale_factor=1.5, is_mobile=True
        )
        phone.goto(page.as_uri())
        phone.screenshot(path=FOLDER / "page-phone-dark.png")


def take_terminal(columns: int = 96) -> None:
    """Look at a conversation on a terminal."""
    command = [sys.executable, "-P", "-m", "sessions", "show", "bike-shop:1042", "--url", "sqlite:demo.db"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        written = bytearray()
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                written += part
    os.close(ours)
    console = Console(record=True, width=columns, file=io.StringIO())
    console.print(Text.from_ansi(written.decode().replace("\r", "").rstrip()), soft_wrap=True)
    code = (
        "<pre style='font:15px/1.35 DejaVu Sans Mono,monospace;margin:0;padding:16px;display:inline-block'>{code}</pre>"
    )
    html = console.export_html(
        theme=MONOKAI,
        inline_styles=True,
        code_format=f"<meta charset=utf-8><body style='background:{{background}};color:{{foreground}};margin:0'>{code}",
    )
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 960, "height": 640})
        page.set_content(html)
        page.locator("pre").screenshot(path=FOLDER / "show.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_conversations()
        assert main(["export", "--html", "pages", "--url", URL]) == 0
        take_pictures(Path(folder) / "pages")
        assert main(["demo", "demo.db"]) == 0
        take_terminal()
        os.chdir(FOLDER)
