"""Parse the Markdown of an answer so that nothing of it is lost, and nothing hides in it.

HTML is text. A text stays as written where the package markdown-it-py is missing, where it
is long, and where something of it would not be seen: Markdown drops cells that a table has
no column for, and what is nested deeply.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .escapes import harmless

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# Longer texts are shown as written.
_LONGEST = 100_000

_LETTERS = re.compile(r"[^\W_]")
_WEB = re.compile(r"https?://[^/\\]|mailto:", re.IGNORECASE)


def parsed(text: str) -> list[Token] | None:
    """Return the tokens of a text; None where it is to be shown as it is written."""
    parser = _parser() if len(text) <= _LONGEST else None
    if parser is None:
        return None
    safe = harmless(text.replace("\r\n", "\n"))
    tokens = parser.parse(safe)
    if sum(_letters(token.content + token.info) for token in tokens) != _letters(safe):
        return None
    for token in tokens:
        token.info = harmless(token.info)
        for child in token.children or ():
            # A reference such as &#x202e; stands for what was written out before.
            child.content = harmless(child.content)
            child.attrs = {name: harmless(str(value)) for name, value in child.attrs.items()}
    return tokens


@cache
def _parser() -> MarkdownIt | None:
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        return None
    # A link by reference would take its definition out of the text.
    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")
    made.validateLink = _is_link  # type: ignore[method-assign]  # how the package is told
    return made


def _is_link(url: str) -> bool:
    """Whether a link leads to the web or to a mailbox; another one stays as it is written."""
    if not _WEB.match(url):
        return False
    try:
        return url[:1] in "mM" or bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _letters(text: str) -> int:
    return len(_LETTERS.findall(text))
