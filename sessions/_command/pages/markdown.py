"""Write the Markdown of an answer as markup; its images stay text, and its links say where they lead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sessions._command.parsing import parsed

from .markup import escaped

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token


def rendered(text: str) -> str | None:
    """Return markup; None where the text is to be shown as written."""
    tokens = parsed(text)
    if tokens is None:
        return None
    for token in tokens:
        _adapt(token)
    writer = _writer()
    return f'<div class="md" dir="auto">{writer.renderer.render(tokens, writer.options, {})}</div>'


@cache
def _writer() -> MarkdownIt:
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark")
    rules: dict[str, Any] = made.renderer.rules  # type: ignore[attr-defined]
    rules["text"] = lambda tokens, index, *_: escaped(tokens[index].content)
    rules["image"] = _image
    rules["host"] = _host
    rules["fence"] = rules["code_block"] = _code
    rules["table_open"] = lambda *_: '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    return made


def _adapt(token: Token) -> None:
    """Let headings stand below those of the page, align by classes, and say where a link leads."""
    if token.tag in ("h1", "h2", "h3", "h4", "h5"):
        token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    # A style attribute would be refused by the page's policy.
    if "style" in token.attrs:
        token.attrs = {"class": str(token.attrs["style"]).removeprefix("text-align:")}
    if token.children:
        token.children = list(_with_hosts(token.children))


def _with_hosts(tokens: Sequence[Token]) -> list[Token]:
    from markdown_it.token import Token

    made: list[Token] = []
    opened: list[int] = []
    for token in tokens:
        made.append(token)
        if token.type == "link_open":
            opened.append(len(made) - 1)
            token.attrs["rel"] = "noopener noreferrer nofollow"
        elif token.type == "link_close" and opened:
            at = opened.pop()
            text = "".join(inner.content for inner in made[at:])
            target = _target(str(made[at].attrs["href"]))
            if not re.fullmatch(rf"(https?://|mailto:)?{re.escape(target)}([/?#].*)?", text, re.IGNORECASE):
                made.append(Token("host", "", 0, content=target))
    return made


def _target(url: str) -> str:
    if _is_mail(url):
        return url[len("mailto:") :]
    return urlsplit(url).hostname or url


def _is_mail(url: str) -> bool:
    return url[:7].lower() == "mailto:"


def _host(tokens: Sequence[Token], index: int, *_: Any) -> str:
    return f' <span class="host">({escaped(tokens[index].content)})</span>'


def _image(tokens: Sequence[Token], index: int, *_: Any) -> str:
    token = tokens[index]
    words = " ".join(filter(None, [token.content, str(token.attrs["src"]), str(token.attrs.get("title", ""))]))
    return f'<span class="note">[image: {escaped(words)}]</span>'


def _code(tokens: Sequence[Token], index: int, *_: Any) -> str:
    language = f'<p class="note">{escaped(tokens[index].info)}</p>' if tokens[index].info.strip() else ""
    return f'{language}<pre dir="auto"><code>{escaped(tokens[index].content)}</code></pre>\n'
