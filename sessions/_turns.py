"""Cut a history where a model accepts it: at a user's message, each call beside its output.

The APIs of OpenAI and Anthropic refuse an output without its call, a call without its
output, and a reasoning item without what it led to; their references say so for the items of
the Responses API, the messages of chat completions and the blocks of messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ._items import Item
from ._odd_json import text_of

_OUTPUT = "_output"

# The key by which the SDK's EncryptedSession knows what it has encrypted.
_ENVELOPE = "__enc__"

# What stands for everything before it.
_COMPACTION = "compaction"

# Its call and output may have no common id, where the API itself has searched; each output is then of the call before.
_TOOL_SEARCH = "tool_search"

# Blocks of Anthropic's that no message may end with.
_THOUGHTS = ("thinking", "redacted_thinking")

# Between a call and its output: the place of each among the items, by their common id.
_Link = tuple[int, int]


def whole_turns(items: Sequence[Item], *, is_all: bool) -> list[Item]:
    """Return the newest items that begin at a user's message and are complete in themselves.

    is_all: nothing was cut off before them, so they may also begin as they do. What the SDK's EncryptedSession has
    stored says nothing of turns, and is left as it is.
    """
    if any(_ENVELOPE in item for item in items):
        return list(items)
    links: list[_Link] = []
    answered: list[set[str]] = [set() for _ in items]
    lonely = -1
    for found, call, output in _pairs(items):
        if call is None:
            lonely = output
            continue
        links.append((call, output))
        answered[call].add(found)
        answered[output].add(found)
    start = next(_starts(items, links, after=-1 if is_all else lonely, is_all=is_all), len(items))
    there = zip(items[start:], answered[start:], strict=True)
    return _with_what_they_led_to([_answered(item, ids) for item, ids in there])


def _starts(items: Sequence[Item], links: Sequence[_Link], *, after: int, is_all: bool) -> Iterator[int]:
    """The places at which no call is cut from its output, in order."""
    for place, item in enumerate(items):
        if place <= after or not (_begins_a_turn(item) or (is_all and place == 0)):
            continue
        if not any(call < place <= output for call, output in links):
            yield place


def _begins_a_turn(item: Item) -> bool:
    if item.get("type") == _COMPACTION:
        return True
    return item.get("role") == "user" and not any(kind == "tool_result" for kind, _ in _blocks(item))


def _pairs(items: Sequence[Item]) -> Iterator[tuple[str, int | None, int]]:
    """The outputs: the id of each, the place of the newest call before it that has the same, and its own.

    Ids come back: some models number the calls of each answer anew.
    """
    calls: dict[str, int] = {}
    for place, item in enumerate(items):
        for found in _outputs(item):
            yield found, calls.get(found), place
        for found in _calls(item):
            calls[found] = place


def _calls(item: Item) -> Iterator[str]:
    """The ids under which an item expects outputs."""
    kind = text_of(item.get("type"))
    if item.get("call_id") and not kind.endswith(_OUTPUT):
        yield text_of(item["call_id"])
    elif kind == f"{_TOOL_SEARCH}_call":
        yield _TOOL_SEARCH
    elif kind == "mcp_approval_request":
        yield text_of(item.get("id"))
    for call in _list(item, "tool_calls"):
        yield text_of(call.get("id"))
    for block, found in _blocks(item):
        if block == "tool_use":
            yield found


def _outputs(item: Item) -> Iterator[str]:
    """The ids of the calls whose outputs an item is or holds."""
    kind = text_of(item.get("type"))
    if kind == _TOOL_SEARCH + _OUTPUT:
        yield text_of(item.get("call_id") or _TOOL_SEARCH)
    elif kind.endswith(_OUTPUT):
        yield text_of(item.get("call_id") or item.get("id"))  # that of a local shell has its call's in "id"
    elif kind == "mcp_approval_response":
        yield text_of(item.get("approval_request_id"))
    elif item.get("role") == "tool":
        yield text_of(item.get("tool_call_id"))
    for block, found in _blocks(item):
        if block == "tool_result":
            yield found


def _answered(item: Item, answered: set[str]) -> Item | None:
    """Return an item without the calls and outputs that have no counterpart; None when nothing is left of it."""
    if all(found in answered for found in (*_calls(item), *_outputs(item))):
        return item
    left = dict(item)
    if calls := _list(item, "tool_calls"):
        left["tool_calls"] = [call for call in calls if text_of(call.get("id")) in answered]
        if not left["tool_calls"]:
            del left["tool_calls"]
    elif any(_blocks(item)):
        left["content"] = [block for block in item["content"] if _block_id(block) in (None, *answered)]
        while left["content"] and _kind_of(left["content"][-1]) in _THOUGHTS:
            left["content"].pop()
    else:
        return None
    return left if left.get("tool_calls") or left.get("content") else None


def _with_what_they_led_to(items: Sequence[Item | None]) -> list[Item]:
    """Leave out the reasoning of which nothing that it led to is left; None stands for what is left out already."""
    kept: list[Item] = []
    follows = is_of_next = False
    for item in reversed(items):
        if item is None:
            # What follows it may be of the same answer, but for what another reasoning has led to.
            follows = follows and not is_of_next
            continue
        if item.get("type") == "reasoning":
            is_of_next = True
            if follows:
                kept.append(item)
            continue
        kept.append(item)
        is_of_next = False
        follows = item.get("role") == "assistant" or (
            "role" not in item and not text_of(item.get("type")).endswith((_OUTPUT, "_response"))
        )
    kept.reverse()
    return kept


def _list(item: Item, name: str) -> list[Item]:
    found = item.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _blocks(item: Item) -> Iterator[tuple[str, str]]:
    """The blocks of Anthropic's messages that are calls or their outputs: type and id."""
    for block in _list(item, "content"):
        if (found := _block_id(block)) is not None:
            yield text_of(block["type"]), found


def _kind_of(block: object) -> object:
    return block.get("type") if isinstance(block, dict) else None


def _block_id(block: object) -> str | None:
    if not isinstance(block, dict) or block.get("type") not in ("tool_use", "tool_result"):
        return None
    return text_of(block.get("tool_use_id") or block.get("id"))
