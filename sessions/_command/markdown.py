"""Draw the Markdown of an answer on a terminal, with rich where it is installed."""

from __future__ import annotations

import io
import re
from importlib.util import find_spec

from .parsing import parsed
from .terminal import Stream

# Nothing but blanks and colours.
_EMPTY = re.compile(r"(?:\s|\x1b\[[0-9;]*m)*")


def drawn(text: str, out: Stream) -> list[str] | None:
    """Return the lines of a text in Markdown; None where it is to be shown as it is written."""
    if not out.is_terminal or find_spec("rich") is None:
        return None
    tokens = parsed(text)
    if tokens is None:
        return None
    from rich.console import Console
    from rich.markdown import Markdown

    markdown = Markdown("", hyperlinks=False, code_theme="ansi_dark")
    # rich leaves out what it takes for HTML; here it is text.
    markdown.parsed = tokens
    console = Console(
        file=io.StringIO(),
        width=max(20, out.width - 2),
        force_terminal=out.has_colour,
        color_system="standard" if out.has_colour else None,
        legacy_windows=False,
    )
    with console.capture() as captured:
        console.print(markdown)
    lines = [line.rstrip() for line in captured.get().rstrip().split("\n")]
    return [
        line for number, line in enumerate(lines) if not (_is_empty(line) and number and _is_empty(lines[number - 1]))
    ]


def _is_empty(line: str) -> bool:
    return _EMPTY.fullmatch(line) is not None
