"""Turn the records of a conversation into a transcript: who said what, each call beside its output.

It knows the items of the OpenAI Responses API and chat messages; what it does not know
is shown as it is stored. Nothing is left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sessions._items import Item, Record

from .terminal import one_line, size

_OUTPUT = "_output"
_CALL = "_call"


@dataclass
class Entry:
    """One thing that happened: a heading, and what was said."""

    kind: str  # user, assistant, tool, reasoning, handoff, or the type as stored
    title: str  # what stands beside the kind
    ids: list[int]
    created_at: datetime | None
    text: str = ""
    output: str | None = None  # of a call, once it is known
    failed: bool = False
    notes: list[str] = field(default_factory=list)


def entries(records: Iterable[Record]) -> Iterator[Entry]:
    """Make the entries of a transcript, in order; an output goes to its call."""
    found: list[Entry] = []
    calls: dict[str, Entry] = {}
    for record in records:
        item = record.item
        if item is None:
            found.append(
                Entry("corrupt", "no JSON object, shown as stored", [record.id], record.created_at, record.text)
            )
            continue
        kind = str(item.get("type") or "message")
        call_id = item.get("call_id") or item.get("tool_call_id")
        if item.get("role") == "tool" or kind.endswith(_OUTPUT):
            call = calls.pop(str(call_id), None)
            if call is None:
                found.append(_lonely_output(record, item))
            else:
                call.output, call.failed = _content(item.get("output", item.get("content")))
                call.ids.append(record.id)
            continue
        entry = _entry(record, item, kind)
        found.append(entry)
        if call_id is not None and kind.endswith(_CALL):
            calls[str(call_id)] = entry
        for call in item.get("tool_calls") or ():
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                function = call["function"]
                made = _call(record, str(function.get("name")), function.get("arguments"))
                found.append(made)
                calls[str(call.get("id"))] = made
    for call in calls.values():
        call.notes.append("no output")
    return iter(found)


def first_question(records: Iterable[Record]) -> str:
    """Return the first text of a user, in one line."""
    for record in records:
        if record.item is not None and record.item.get("role") == "user":
            return one_line(_content(record.item.get("content"))[0])
    return ""


def role_of(item: Item | None) -> str:
    """Return the word that a list has for an item."""
    if item is None:
        return "corrupt"
    return str(item.get("role") or item.get("type") or "item")


def _entry(record: Record, item: Item, kind: str) -> Entry:
    if kind == "reasoning":
        text, _ = _content(item.get("summary") or item.get("content") or [])
        notes = ["encrypted"] if item.get("encrypted_content") else []
        return Entry("reasoning", "", [record.id], record.created_at, text, notes=notes)
    if kind.endswith(_CALL):
        arguments = item.get("arguments", item.get("input", item.get("action")))
        return _call(record, str(item.get("name") or kind.removesuffix(_CALL)), arguments)
    if kind == "message" and item.get("role"):
        text, refused = _content(item.get("content"))
        return Entry(str(item["role"]), "refused" if refused else "", [record.id], record.created_at, text)
    return Entry(kind, "shown as stored", [record.id], record.created_at, _indented(item))


def _call(record: Record, name: str, arguments: object) -> Entry:
    text = arguments if isinstance(arguments, str) else _indented(arguments)
    try:
        known = json.loads(text)
    except (ValueError, RecursionError):
        known = None
    if isinstance(known, dict):
        short = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in known.items())
        if len(short) <= 100 and "\\n" not in short:
            return Entry("tool", f"{name}({short})", [record.id], record.created_at)
        text = _indented(known)
    return Entry("tool", f"{name}(…)" if text else f"{name}()", [record.id], record.created_at, text)


def _lonely_output(record: Record, item: Item) -> Entry:
    output, failed = _content(item.get("output", item.get("content")))
    return Entry(
        "tool", "", [record.id], record.created_at, output=output, failed=failed, notes=["an output without its call"]
    )


def _content(content: object) -> tuple[str, bool]:
    """Return a content as text, and whether it is a refusal or a failure."""
    if content is None:
        return "", False
    if isinstance(content, str):
        return _pretty(content), content.startswith("An error occurred")
    if not isinstance(content, list):
        return _indented(content), False
    parts, refused = [], False
    for part in content:
        if not isinstance(part, dict):
            parts.append(str(part))
        elif isinstance(part.get("refusal"), str):
            parts.append(part["refusal"])
            refused = True
        elif isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif "image" in str(part.get("type")):
            parts.append(_image(part))
        elif "file" in str(part.get("type")):
            parts.append(f"[file: {part.get('filename') or part.get('file_id') or 'without a name'}]")
        else:
            parts.append(_indented(part))
    return "\n".join(parts), refused


def _image(part: Item) -> str:
    url = part.get("image_url")
    if isinstance(url, dict):
        url = url.get("url")
    if isinstance(url, str) and url.startswith("data:"):
        kind, _, data = url[5:].partition(",")
        return f"[image: {kind.partition(';')[0].removeprefix('image/').upper()}, {size(len(data) * 3 // 4)}]"
    return f"[image: {url or part.get('file_id') or 'without an address'}]"


def _pretty(text: str) -> str:
    """Indent what is JSON and long."""
    if text[:1] in ("{", "[") and len(text) > 60:
        try:
            return _indented(json.loads(text))
        except (ValueError, RecursionError):
            pass
    return text


def _indented(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False, indent=2)
