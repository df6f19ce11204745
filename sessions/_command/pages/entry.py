"""An entry of a transcript as markup."""

from __future__ import annotations

from typing import NamedTuple

from sessions._command.content import Part
from sessions._command.images import Image
from sessions._command.terminal import size
from sessions._command.transcript import Entry, Place

from .markdown import rendered
from .markup import Limits, box, escaped, heading, is_long, prose, time_of

# Up to so many characters an output, and what is shown as stored, is open.
_OPEN_OUTPUT = 600
_OPEN_STORED = 1500


class Look(NamedTuple):
    """What an entry has to know of the page around it."""

    limits: Limits
    with_date: bool
    begins_run: bool


def markup_of(entry: Entry, look: Look) -> str:
    """Write an entry."""
    if entry.kind in ("reasoning", "system", "developer") or not entry.is_known:
        return _folded(entry, look)
    if entry.kind == "tool":
        return _tool(entry, look)
    if entry.kind == "handoff":
        return _handoff(entry, look)
    known = entry.kind if entry.kind in ("user", "assistant", "corrupt") else "other"
    badge = '<span class="badge warn">refused</span>' if entry.title == "refused" else _note(entry.title)
    role = "corrupt row" if entry.kind == "corrupt" else entry.kind
    body = _stored(entry, look) if known == "corrupt" else _said(entry, look)
    return (
        f'<article class="e {known}" id="{anchor(entry.place)}"><header><h2 class="role">{heading(role)}</h2>{badge}'
        f'<span class="meta">{_link(entry.place)} {_time(entry, look)}</span></header>'
        f'<div class="body">{body}</div></article>\n'
    )


def anchor(place: Place) -> str:
    """Return the id of the element of a place, unique on its page."""
    return f"r{place.record_id}-{place.number}" if place.number else f"r{place.record_id}"


def _folded(entry: Entry, look: Look) -> str:
    known = "reasoning" if entry.kind == "reasoning" else "system" if entry.is_known else "unknown"
    said = _said(entry, look) if entry.is_known else _stored(entry, look)
    text = entry.text
    line = text.lstrip("*# \n").partition("\n")[0].rstrip("*") if entry.is_known else f"unknown type, {entry.title}"
    opened = " open" if not entry.is_known and len(text) <= _OPEN_STORED else ""
    role, meta = heading(entry.kind), f'<span class="meta">#{entry.place.record_id} {_time(entry, look)}</span>'
    place = anchor(entry.place)
    if not said:
        note = _note(f"[{', '.join(entry.notes) or 'empty'}]")
        return (
            f'<article class="e {known} other" id="{place}"><header><h2 class="role">{role}</h2>{note}{meta}</header>'
            "</article>\n"
        )
    return (
        f'<article class="e {known} other"><details{opened}><summary><h2 class="role">{role}</h2>'
        f'<span class="sum" dir="auto">{heading(line)}</span>{meta}</summary>'
        f'<div class="body" id="{place}">{said}<p class="self">{_link(entry.place)}</p></div></details></article>\n'
    )


def _handoff(entry: Entry, look: Look) -> str:
    asked = f'<div class="body">{_said(entry, look)}</div>' if entry.parts else ""
    return (
        f'<article class="e handoff other" id="{anchor(entry.place)}"><header><h2 class="role">handoff</h2>'
        f'<b dir="auto">{heading(entry.title)}</b><span class="meta">{_link(entry.place)}{_arrow(entry)} '
        f"{_time(entry, look)}</span></header>{asked}</article>\n"
    )


def _tool(entry: Entry, look: Look) -> str:
    output = entry.output_parts
    title = f"<code>{heading(entry.title)}</code>" if entry.title else heading(", ".join(entry.notes))
    badges = [
        _note(_extent(output)) if output is not None else "",
        *(_note(note) for note in entry.notes if entry.title),
    ]
    if entry.failed:
        badges.append('<span class="badge bad">failed</span>')
    asked = [Part("text", entry.title), *entry.parts] if is_long(entry.title) else entry.parts
    sections = _sections(entry, asked, look)
    length = len(entry.text if output is None else entry.output or "")
    opened = " open" if entry.failed or length <= _OPEN_OUTPUT else ""
    head = (
        f'<h2 class="sum" dir="auto">{title}</h2>{"".join(badges)}'
        f'<span class="meta">#{entry.place.record_id} {_time(entry, look)}</span>'
    )
    run = entry.run.calls if entry.run else 1
    label = f'<p class="run">{run:,} calls in parallel</p>' if run > 1 and look.begins_run else ""
    beside = " beside" if run > 1 and not look.begins_run else ""
    kind = f"tool{' failed' if entry.failed else ''}"
    if not sections:
        return (
            f'<article class="e tools{beside}">{label}<div class="{kind}" id="{anchor(entry.place)}"><header>{head}'
            "</header></div></article>\n"
        )
    columns = " two" if asked and output is not None else ""
    return (
        f'<article class="e tools{beside}">{label}<details class="{kind}"{opened}><summary>{head}</summary>'
        f'<div class="io{columns}" id="{anchor(entry.place)}">{sections}</div></details></article>\n'
    )


def _sections(entry: Entry, asked: list[Part], look: Look) -> str:
    made = []
    output = entry.output_parts
    number = _link(entry.place)
    if asked:
        arguments = "".join(_shown(part, look.limits, "arguments") for part in asked)
        made.append(f"<section><h3>Arguments <span>{number}</span></h3>{arguments}</section>")
        number = ""
    if output is not None:
        numbers = number + _arrow(entry, alone=not number) if entry.output_place else number
        shown = "".join(_shown(part, look.limits, "output") for part in output) or _note("empty")
        made.append(f'<section class="output"><h3>Output <span>{numbers}</span></h3>{shown}</section>')
    return "".join(made)


def _said(entry: Entry, look: Look) -> str:
    is_markdown = entry.kind in ("assistant", "reasoning")
    made = []
    for part in entry.parts:
        if part.kind == "text" and is_markdown:
            made.append(rendered(part.text) or prose(part.text, look.limits))
        elif part.kind in ("text", "refusal"):
            made.append(prose(part.text, look.limits))
        else:
            made.append(_shown(part, look.limits, "content"))
    return "".join(made)


def _stored(entry: Entry, look: Look) -> str:
    return "".join(box(part.text, look.limits, "as stored") for part in entry.parts)


def _shown(part: Part, limits: Limits, label: str) -> str:
    if part.image is not None:
        return _figure(part.image)
    return _note(part.text, "p") if part.kind == "line" else box(part.text, limits, label)


def _figure(image: Image) -> str:
    return (
        f'<figure><img src="{image.url}" width="{image.width}" height="{image.height}" alt="Image of the conversation">'
        f"<figcaption>{escaped(image.words)}</figcaption></figure>"
    )


def _extent(output: list[Part]) -> str:
    """Say how much an output is."""
    texts = [part.text for part in output if part.kind in ("text", "json")]
    lines = sum(len(text.splitlines()) for text in texts)
    count = size(sum(len(text.encode(errors="replace")) for text in texts))
    said = [f"{lines:,} line{'s' * (lines != 1)}, {count}"] if any(texts) else []
    images = sum(part.image is not None for part in output)
    return ", ".join([*said, *([f"{images} image{'s' * (images != 1)}"] if images else [])])


def _note(text: str, tag: str = "span") -> str:
    return f'<{tag} class="note" dir="auto">{escaped(text)}</{tag}>' if text else ""


def _time(entry: Entry, look: Look) -> str:
    return time_of(entry.created_at, with_date=look.with_date)


def _link(place: Place, *, own_id: bool = False) -> str:
    its_id = f' id="{anchor(place)}"' if own_id else ""
    number = place.record_id
    return f'<a{its_id} class="id" href="#{anchor(place)}" aria-label="Link to item {number}">#{number}</a>'


def _arrow(entry: Entry, *, alone: bool = False) -> str:
    if entry.output_place is None:
        return ""
    return ("" if alone else " → ") + _link(entry.output_place, own_id=True)
