"""A few conversations to try the command on, in a new SQLite file."""

from __future__ import annotations

import base64
import json
import shlex
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sessions import connect

from .context import CommandFailedError
from .forms import count_of
from .terminal import Stream


class _Row(NamedTuple):
    created_at: datetime
    text: str


def demo(file: str, out: Stream, err: Stream) -> int:
    """Make the file, and say what to try."""
    if Path(file).exists():
        raise CommandFailedError(f"{file!r} is there already; name another file, or remove it")
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    with connect(f"sqlite:{file}") as backend:
        for session_id, (ago, items) in _conversations().items():
            began = now - ago
            rows = [
                _Row(began + timedelta(seconds=4 * number), json.dumps(item, ensure_ascii=False))
                for number, item in enumerate(items)
            ]
            backend.load(session_id, rows, created_at=began, updated_at=rows[-1].created_at)
    url = shlex.quote(f"sqlite:{file}")
    err.line(f"{count_of(len(_conversations()))} were written to {file}; nobody has said any of it. Try:")
    for line in (
        f"export SESSIONS_URL={url}",
        "agent-sessions ls --first",
        "agent-sessions show bike-shop:1042",
        "agent-sessions grep derailleur",
        "agent-sessions stats",
    ):
        out.line(line)
    return 0


def _conversations() -> dict[str, tuple[timedelta, list[dict[str, Any]]]]:
    return {
        "bike-shop:1042": (timedelta(minutes=7), _a_repair()),
        "bike-shop:1043": (timedelta(hours=5), _a_short_one()),
        "recipes:7": (timedelta(days=40), _a_chat()),
    }


def _a_repair() -> list[dict[str, Any]]:
    """In the items of the Responses API: an image, reasoning, calls, a failure, a handoff, a refusal."""
    stock = "\n".join(
        f"shop {n:02d}   RD-9   {n * 37 % 9:3d} in stock   {n * 11 % 4:2d} reserved" for n in range(1, 61)
    )
    question = "My bike came back from repair 1042, but still skips in third gear. Here is the chain; ready by Friday?"
    answer = (
        "Your chain is **worn**, and that is why it skips: the repair replaced the derailleur only.\n\n"
        "| Option | Ready | Price |\n|---|---|---:|\n"
        "| Chain | Thursday | 34 € |\n| Chain and cassette | Friday | 79 € |\n\n"
        "A new chain on the old cassette may skip for a while. Shall I book *both* for Friday?"
    )
    plan = "**Look at the repair and the stock**\n\nBoth can be asked at the same time; the photo shows a worn chain."
    return [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": question}, {"type": "input_image", "image_url": _picture()}],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": plan}], "encrypted_content": "gAAAA"},
        {"type": "function_call", "call_id": "c1", "name": "get_repair", "arguments": '{"number":1042}'},
        {"type": "function_call", "call_id": "c2", "name": "get_stock", "arguments": '{"part":"RD-9","radius_km":50}'},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": '{"number":1042,"done":["derailleur"],"paid":true}',
        },
        {"type": "function_call_output", "call_id": "c2", "output": stock},
        {
            "type": "function_call",
            "call_id": "c3",
            "name": "book_repair",
            "arguments": '{"number":1042,"day":"Friday"}',
        },
        {
            "type": "function_call_output",
            "call_id": "c3",
            "output": "An error occurred while running the tool. Please try again. Error: the calendar does not answer",
        },
        {"type": "function_call", "call_id": "c4", "name": "transfer_to_workshop", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c4", "output": '{"assistant": "Workshop"}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer}]},
        {"role": "user", "content": "Both, please. And what does the mechanic earn?"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "That I cannot tell you. Friday is booked."}],
        },
    ]


def _a_short_one() -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Do you rent cargo bikes on Sundays?"},
        {"role": "assistant", "content": "We do, from ten to six. The derailleur of the red one is being repaired."},
    ]


def _a_chat() -> list[dict[str, Any]]:
    """In the messages of chat completions."""
    call = {"id": "t1", "type": "function", "function": {"name": "convert", "arguments": '{"cups": 2}'}}
    return [
        {"role": "system", "content": "You help in a kitchen."},
        {"role": "user", "content": "How many grams are two cups of flour?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "250 g"},
        {"role": "assistant", "content": "About 250 g."},
    ]


def _picture() -> str:
    """A chain, as the data of a PNG."""
    width, height = 160, 48
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            link = (x % 20 - 10) ** 2 + (y - 24) ** 2
            rows.append(90 if 30 < link < 90 or (22 < y < 27 and x % 20 > 14) else 235)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
