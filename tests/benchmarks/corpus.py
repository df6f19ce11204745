"""Deterministic items in the shape of the Responses API's, of 0.2 to 4 KB."""

import random
from typing import Any

Item = dict[str, Any]

_SENTENCE = (
    "the agent reads a history and appends to it while a tool call returns rows of weather in "
    "Zürich, prices, tickets, and a plan for tomorrow that nobody has asked about yet"
)
_WORDS = _SENTENCE.split()


def make_items(count: int, *, seed: int = 1) -> list[Item]:
    """Make turns of four: a question, a function call, its output, an answer."""
    chance = random.Random(seed)
    return [_SHAPES[number % 4](chance, number) for number in range(count)]


def make_short_items(count: int, *, length: int = 60) -> list[Item]:
    """Items with a text of this length, some 200 bytes in all, for tables of millions of rows."""
    return [_question(random.Random(number), number, length=length) for number in range(count)]


def _text(chance: random.Random, length: int) -> str:
    words: list[str] = []
    while length > 0:
        words.append(chance.choice(_WORDS))
        length -= len(words[-1]) + 1
    return " ".join(words)


def _question(chance: random.Random, number: int, *, length: int = 0) -> Item:
    text = _text(chance, length or chance.randint(40, 600))
    return {"role": "user", "content": [{"type": "input_text", "text": text}], "type": "message"}


def _call(chance: random.Random, number: int) -> Item:
    return {
        "id": f"fc_{number:032x}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{number:024x}",
        "name": "look_up_weather",
        "arguments": '{"city": "Z\\u00fcrich", "days": 3, "note": "' + _text(chance, chance.randint(20, 200)) + '"}',
    }


def _output(chance: random.Random, number: int) -> Item:
    rows = [
        {"day": day, "degrees": chance.randint(-10, 35), "sky": _text(chance, 30)}
        for day in range(chance.randint(2, 50))
    ]
    return {"type": "function_call_output", "call_id": f"call_{number - 1:024x}", "output": rows}


def _answer(chance: random.Random, number: int) -> Item:
    text = _text(chance, chance.randint(100, 2500))
    return {
        "id": f"msg_{number:032x}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }


_SHAPES = (_question, _call, _output, _answer)
