"""Read a record: what it says, which calls it makes, which outputs it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sessions._items import Item, Record
from sessions._odd_json import encode_odd, text_of

from . import reindent
from .content import Part, indented, laid_out, made_image, parts_of

_OUTPUT = "_output"
_CALL = "_call"

# What an output begins with when the OpenAI Agents SDK caught the tool's exception.
_SDK_ERROR = "An error occurred while"

# Fields of calls: what was asked for, by any name, and what says nothing to a reader.
_ASKED = ("arguments", "input", "action", "code", "queries", "operation")
_SILENT = {"type", "id", "call_id", "status", "name", "server_label", "provider_data", *_ASKED}
# What entries that are no messages are called: a role of that name is quoted.
_KINDS = {"tool", "reasoning", "handoff", "corrupt", "encrypted"}

_SILENT_OF_MESSAGES = {"type", "role", "id", "status", "content"}

# Longer arguments do not stand in a heading.
_SHORT = 100


@dataclass(frozen=True)
class Said:
    """What somebody said or thought, or a record as it is stored."""

    kind: str
    parts: list[Part]
    title: str = ""
    is_known: bool = True
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """A call of a tool; its output comes under call_id, or is here where there is no such id."""

    title: str
    parts: list[Part]
    call_id: str | None
    output: list[Part] | None = None
    failed: bool = False


@dataclass(frozen=True)
class Output:
    """What a call returned."""

    call_id: str
    parts: list[Part]
    failed: bool
    handoff_to: str | None = None


def read(record: Record) -> Iterator[Said | Call | Output]:
    """Return what a record holds, in order; at least one thing."""
    item = record.item
    if item is None:
        yield Said("corrupt", parts_of(record.text), "no JSON object, shown as stored")
        return
    kind = text_of(item.get("type") or "message")
    call_id = item.get("call_id") or item.get("tool_call_id")
    if item.get("role") == "tool" or kind.endswith(_OUTPUT):
        yield _output(text_of(call_id), item, item.get("output", item.get("content")))
    elif kind == "reasoning":
        yield _reasoning(item)
    elif kind.endswith(_CALL):
        yield _call_of(item, kind, None if call_id is None else text_of(call_id))
    elif kind == "message" and item.get("role"):
        yield from _message(item)
    elif "__enc__" in item:
        # The OpenAI Agents SDK's EncryptedSession wraps items so.
        yield Said("encrypted", [Part("line", "[encrypted]")])
    else:
        yield Said(kind, [Part("json", _as_stored(record, item))], "shown as stored", is_known=False)


def _as_stored(record: Record, item: Item) -> str:
    if "encrypted_content" in item:
        return indented(item | {"encrypted_content": "[encrypted]"})
    try:
        return reindent.indented(record.text)
    except ValueError:
        return record.text


def _reasoning(item: Item) -> Said:
    parts = [*parts_of(item.get("summary")), *parts_of(item.get("content"))]
    return Said("reasoning", parts, notes=["encrypted"] if item.get("encrypted_content") else [])


def _message(item: Item) -> Iterator[Said | Call | Output]:
    role = text_of(item["role"])
    role = repr(role) if role in _KINDS else role
    content = item.get("content")
    blocks = content if isinstance(content, list) else [content]
    objects: list[Item] = [block for block in blocks if isinstance(block, dict)]
    thoughts = [block.get("thinking") for block in objects if block.get("type") == "thinking"]
    said = parts_of([block for block in blocks if block is not None and not _stands_apart(block)])
    if isinstance(item.get("refusal"), str):
        said.append(Part("refusal", item["refusal"]))
    if isinstance(item.get("audio"), dict):
        said += parts_of({"type": "audio", **item["audio"]})
    found: list[Said | Call | Output] = []
    if thoughts:
        found.append(Said("reasoning", parts_of(thoughts)))
    if said:
        title = "refused" if any(part.kind == "refusal" for part in said) else ""
        found.append(Said(role, said, title))
    for block in objects:
        if block.get("type") == "tool_use":
            found.append(_call(text_of(block.get("name")), block.get("input"), text_of(block.get("id"))))
        elif block.get("type") == "tool_result":
            found.append(_output(text_of(block.get("tool_use_id")), block, block.get("content")))
    for call in item.get("tool_calls") or ():
        if isinstance(call, dict):
            function = call.get("function") or call.get("custom")
            named: Item = function if isinstance(function, dict) else call
            found.append(_call(text_of(named.get("name")), _asked(named), text_of(call.get("id"))))
    if not found:
        rest = {name: value for name, value in item.items() if name not in _SILENT_OF_MESSAGES and value}
        found.append(Said(role, [Part("json", indented(rest))] if rest else []))
    yield from found


def _stands_apart(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") in ("thinking", "tool_use", "tool_result")


def _call_of(item: Item, kind: str, call_id: str | None) -> Call:
    asked = _asked(item)
    rest = {name: value for name, value in item.items() if name not in _SILENT and value not in (None, [], "")}
    made = _call(text_of(item.get("name") or kind.removesuffix(_CALL)), asked or rest if call_id else asked, call_id)
    if call_id is not None:
        return made
    # What runs on the side of the API has call and result in one item.
    output = [*map(laid_out, parts_of(rest.pop("output", None))), *parts_of(rest.pop("error", None))]
    if isinstance(rest.get("result"), str):
        output.append(made_image(rest.pop("result"), text_of(rest.get("output_format") or "image")))
    if rest:
        output.append(Part("json", indented(rest)))
    return Call(made.title, made.parts, None, output or None, _is_failed(item, output))


def _asked(item: Item) -> object:
    return next((item[name] for name in _ASKED if item.get(name) is not None), None)


def _call(name: str, asked: object, call_id: str | None) -> Call:
    text = asked if isinstance(asked, str) else "" if asked is None else encode_odd(asked, ensure_ascii=False)
    try:
        short = reindent.arguments(text) if len(text) <= 2 * _SHORT else None
        if short is not None and len(short) <= _SHORT and "\\n" not in short:
            return Call(f"{name}({short})", [], call_id)
        text = reindent.indented(text)
    except ValueError:
        pass
    return Call(f"{name}(…)" if text else f"{name}()", [Part("json", text)] if text else [], call_id)


def _output(call_id: str, item: Item, content: object) -> Output:
    parts = parts_of(content)
    return Output(call_id, [laid_out(part) for part in parts], _is_failed(item, parts), _handoff_to(content))


def _is_failed(item: Item, parts: list[Part]) -> bool:
    return (
        item.get("is_error") is True
        or item.get("error") is not None
        or item.get("status") in ("failed", "incomplete")
        or any(part.text.startswith(_SDK_ERROR) for part in parts[:1])
    )


def _handoff_to(content: object) -> str | None:
    """Return the agent that a handoff of the OpenAI Agents SDK names."""
    try:
        found = json.loads(content) if isinstance(content, str) and len(content) < 1000 else None
    except (ValueError, RecursionError):
        return None
    name = found.get("assistant") if isinstance(found, dict) and len(found) == 1 else None
    return name if isinstance(name, str) else None
