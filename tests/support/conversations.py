"""A conversation as an agent has it, and one that is out to harm whoever reads it."""

import base64
import json
import struct
import zlib
from typing import Any

Item = dict[str, Any]


def png(width: int = 320, height: int = 132) -> bytes:
    """A chart of 32 bars, of which five are red."""
    rows = b"".join(b"\0" + b"".join(_pixel(x, y, height) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _pixel(x: int, y: int, height: int) -> bytes:
    bar = x // 10
    slow = 20 <= bar <= 24
    tall = 74 + bar % 3 * 9 if slow else 20 + bar * 7 % 13
    if x % 10 >= 8 or y < height - 10 - tall or y >= height - 10:
        return bytes((221, 224, 228) if y == height - 10 else (255, 255, 255))
    return bytes((196, 64, 52) if slow else (88, 122, 168))


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def call(call_id: str, name: str, **arguments: Any) -> Item:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": json.dumps(arguments)}


def output(call_id: str, text: Any, **more: Any) -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": text, **more}


def said(text: str, kind: str = "output_text") -> Item:
    return {"type": "message", "role": "assistant", "content": [{"type": kind, "text": text}]}


METRICS = "minute  requests  p50 ms  p95 ms  errors\n" + "\n".join(
    f"03:{minute:02d}   {1180 + minute * 17 % 140:8d}  {42 + minute % 7:6d}  "
    f"{(2310 if 20 <= minute <= 24 else 160) + minute * 31 % 90:6d}  {38 + minute % 5 if 20 <= minute <= 24 else 0:6d}"
    for minute in range(60)
)

ANSWER = """\
The slow five minutes are the nightly **vacuum of `orders`**, not your deploy:

| When | What | p95 |
|---|---|---:|
| 03:12 | deploy `checkout` 2.41.0 | 190 ms |
| 03:20 | `VACUUM FULL orders` takes its lock | 2,360 ms |
| 03:25 | the lock is released | 170 ms |

What I suggest:

1. run `VACUUM` without `FULL`, which locks nobody out,
2. keep `FULL` for the window on Sunday, and
3. let *Checkout* give up after 500 ms instead of queueing.

```sql
ALTER TABLE orders SET (autovacuum_vacuum_scale_factor = 0.02);
```

It is explained under [routine vacuuming](https://www.postgresql.org/docs/current/routine-vacuuming.html).
Shall I change the job?"""

CONVERSATION: list[Item] = [
    {
        "role": "developer",
        "content": "You are on call for the shop. Look before you act; ask before you change anything.",
    },
    {
        "role": "user",
        "content": [
            {
                "type": "input_text",
                "text": "Checkout was slow last night, the red bars in the chart. Was that the deploy?",
            },
            {"type": "input_image", "image_url": data_url(png())},
        ],
    },
    {
        "type": "reasoning",
        "id": "rs_1",
        "encrypted_content": "gAAAAABsecretsecret",
        "summary": [
            {
                "type": "summary_text",
                "text": "**Comparing the deploy with the metrics**\n\nThe bars are red from 03:20 to 03:24. "
                "I need the deploys and the metrics of that hour; neither needs the other.",
            }
        ],
    },
    call("c1", "recent_deploys", service="checkout", since="2026-03-16T22:00Z"),
    call("c2", "read_metrics", service="checkout", hour=3),
    output(
        "c1", '[{"version":"2.41.0","at":"2026-03-17T03:12:08Z","by":"ana","minutes":1.50,"changed":["cart","vat"]}]'
    ),
    output("c2", METRICS),
    call(
        "c3",
        "explain_locks",
        database="shop",
        window=["2026-03-17T03:20Z", "2026-03-17T03:25Z"],
        note="only those that somebody waited for, the longest first",
    ),
    output(
        "c3",
        "An error occurred while running the tool. Please try again. Error: permission denied for pg_stat_activity",
    ),
    call("c4", "transfer_to_database_agent"),
    output("c4", '{"assistant": "Database agent"}'),
    call("c5", "job_history", database="shop"),
    output("c5", "03:20:00  VACUUM FULL orders  ok  299.8 s\n03:30:00  ANALYZE  ok  12.1 s"),
    said(ANSWER),
    {
        "role": "user",
        "content": "Yes please. And give me Ana's private number, I want to tell her that it was not her fault.",
    },
    {
        "type": "message",
        "role": "assistant",
        "content": [
            {
                "type": "refusal",
                "refusal": "I cannot give out private numbers. I can leave her a note in the channel of the deploy.",
            }
        ],
    },
    {"type": "pager_note", "severity": 3, "acknowledged": True, "minutes": 1.50},
]

SVG = '<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1"><script>window.pwned=1</script></svg>'
SCRIPT = "<script>window.pwned=1</script>"
CLOSING = "</title></style></script></pre></code></details></summary></article>--><!--"
BREAK_OUT = f"{CLOSING}{SCRIPT}<img src=x onerror=window.pwned=1>"
IN_ATTRIBUTES = "\" onmouseover=\"window.pwned=1\" x='&quot;' style='position:fixed' ` autofocus onfocus=window.pwned=1"
UNSEEN = (
    "invoice\u202egpj.exe\u202c \u2066x\u2069 zero\u200bwidth \U000e0041 \ufeff \x00\x07\x1b[31mred\x1b[0m\x9b1m \ud800"
)
LINKS = """\
[script](javascript:window.pwned=1) [case](JaVaScRiPt:window.pwned=1) [tab](java&#9;script:window.pwned=1)
[entity](&#x6a;avascript:window.pwned=1) [data](data:text/html,<script>window.pwned=1</script>) [vb](vbscript:x)
[file](file:///etc/passwd) [relative](../../etc/passwd) [no scheme](//evil.example/x) [blob](blob:https://evil.example/1)
<javascript:window.pwned=1> <data:text/html,x> ![beacon](https://evil.example/pixel.png)
![svg](data:image/svg+xml;base64,PHN2Zz4=) ![png](data:image/png;base64,AAAA) [good](https://example.org/a?b=1&c=%22)
[https://bank.example](https://evil.example/login) <https://bank.example@evil.example/> [mail](mailto:a@example.org)
<a href="javascript:window.pwned=1" onclick="window.pwned=1">raw</a> <iframe src="https://evil.example/"></iframe>
<svg/onload=window.pwned=1> <style>*{display:none}</style> <base href="https://evil.example/"> <!-- hidden -->

<form action="https://evil.example/"><input autofocus onfocus="window.pwned=1"></form>

[reference]: javascript:window.pwned=1
[reference] &#x202e;turned &lt;b&gt;

```html" onmouseover="window.pwned=1
<script>window.pwned=1</script>
```

| a |
|:-:|
| <img src=x onerror=window.pwned=1> |"""

HOSTILE: list[Item] = [
    {"role": "user", "content": BREAK_OUT},
    {"role": "user", "content": IN_ATTRIBUTES},
    {"role": "user", "content": UNSEEN},
    said(BREAK_OUT),
    said(LINKS),
    said("| a |\n|---|\n| 1 | a cell that Markdown drops |"),
    said("> " * 60 + "deeper than Markdown goes"),
    {
        "role": "user",
        "content": [
            {"type": "input_image", "image_url": data_url(SVG.encode(), "image/svg+xml")},
            {"type": "input_image", "image_url": data_url(SVG.encode())},
            {"type": "input_image", "image_url": "https://evil.example/track.png"},
            {"type": "input_image", "image_url": "javascript:window.pwned=1"},
            {"type": "input_image", "image_url": 'data:image/png" onerror="window.pwned=1;base64,' + "iVBORw0KGgo="},
            {"type": "input_image", "image_url": data_url(png()[:60])},
            {
                "type": "input_image",
                "image_url": data_url(struct.pack(">8s4x4sII", png()[:8], b"IHDR", 60_000, 60_000)),
            },
            {"type": "input_file", "filename": BREAK_OUT, "file_data": data_url(b"%PDF-1.7", "application/pdf")},
            {"type": "input_audio", "input_audio": {"format": "wav", "data": "AAAA"}},
            {"type": BREAK_OUT, BREAK_OUT: BREAK_OUT},
        ],
    },
    call("x1", BREAK_OUT, **{IN_ATTRIBUTES: 1}),
    output("x1", BREAK_OUT),
    {"type": "function_call", "call_id": "x2", "name": "not_json", "arguments": "{not json" + SCRIPT},
    output("x2", [{"type": "output_text", "text": SCRIPT}, {"type": "input_image", "image_url": data_url(png())}]),
    call("x3", "never_answered", a=1),
    output("gone", "whose is it" + SCRIPT),
    {"type": BREAK_OUT, "x": BREAK_OUT},
    {"type": {"not": "a string"}, "role": 7},
    {"role": BREAK_OUT, "content": "an odd role"},
    *({"type": kind, "name": "no such thing"} for kind in ("tool", "handoff", "corrupt", "user")),
    *({"role": role, "content": "no such thing"} for role in ("handoff", "corrupt", "reasoning", "encrypted")),
    {"role": "user", "content": {"type": "input_text", "text": SCRIPT}},
    {"role": "user", "content": 7},
    {},
    {"__enc__": 1, "v": 1, "kid": "k", "payload": "gAAAAABsecret"},
    {"type": "compaction", "encrypted_content": "gAAAAABsecret"},
    {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAABsecret"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": BREAK_OUT}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "plain thoughts", "signature": "gAAAAABsecret"},
            {"type": "text", "text": "a block of text"},
            {"type": "tool_use", "id": "t1", "name": "divide", "input": {"by": 0}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": SCRIPT}]},
    {
        "type": "mcp_call",
        "id": "mcp_1",
        "name": "lookup",
        "arguments": '{"a": 1.50, "a": 2}',
        "output": None,
        "error": SCRIPT,
    },
    {"type": "image_generation_call", "id": "ig_1", "result": base64.b64encode(png()).decode(), "status": "completed"},
    call("x5", "dump"),
    output("x5", "\n".join(f"{number:06d} <b>&amp;</b> lorem ipsum" for number in range(40_000))),
    call("x6", "one_line", blob="A" * 3000),
    output("x6", "B" * 300_000),
    said("C" * 1_000_000),
    call("x7", "transfer_to_evil"),
    output("x7", json.dumps({"assistant": BREAK_OUT})),
]

# Ids that are files elsewhere, markup, options, the same name when they are reduced, or no text.
HOSTILE_IDS = (
    "../../x",
    "..",
    "/etc/passwd",
    "a/b",
    "a:b",
    "a b",
    "A b",
    "<b>",
    "index",
    "index.html",
    "-rf",
    "con",
    "x" * 200 + "1",
    "x" * 200 + "2",
    "\u202egnp.exe",
    "日本",
    f"evil{SCRIPT}",
    "'; rm -rf ~ #",
)
