"""What an item says, part by part: texts, refusals, images, files, sound.

What is only for the model or the API (encrypted content, signatures, log-probabilities) is
left out; what is not known is JSON.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sessions._odd_json import text_of

from . import images, reindent
from .images import Image
from .terminal import size

Object = dict[str, Any]


class Part(NamedTuple):
    """A part of what an item says, in words, and the image where it is one."""

    kind: str  # text, refusal, json, image, or a line that stands for what is not shown
    text: str
    image: Image | None = None


def parts_of(content: object) -> list[Part]:
    """Return the parts of a content, which is a text, an object, or a list of both."""
    if content is None or content == "":
        return []
    if isinstance(content, list):
        return [_part(one) for one in content]
    return [_part(content)]


def words(parts: list[Part]) -> str:
    """Join what parts say."""
    return "\n".join(part.text for part in parts)


def indented(value: object) -> str:
    """Write a value as JSON for a reader; nothing where there is none."""
    return "" if value is None else reindent.json_of(value, readable=True)


def laid_out(part: Part) -> Part:
    """Indent a text that is JSON and long."""
    if part.kind == "text" and part.text[:1] in ("{", "[") and len(part.text) > 60:
        try:
            return Part("json", reindent.indented(part.text))
        except ValueError:
            pass
    return part


def _part(one: object) -> Part:
    if isinstance(one, str):
        return Part("text", one)
    if not isinstance(one, dict):
        return Part("json", indented(one))
    kind = text_of(one.get("type"))
    if isinstance(one.get("refusal"), str):
        return Part("refusal", one["refusal"])
    if isinstance(one.get("text"), str):
        return Part("text", one["text"])
    if "image" in kind or "screenshot" in kind:
        return _image(one)
    if "audio" in kind:
        return _sound(one)
    if "file" in kind or kind == "document":
        return _file(one)
    if "encrypted_content" in one or kind == "redacted_thinking":
        return Part("line", "[encrypted]")
    return Part("json", indented(one))


def _image(part: Object) -> Part:
    url = part.get("image_url")
    if isinstance(url, dict):
        url = url.get("url")
    source = part.get("source")
    if isinstance(source, dict):
        data = f"data:{text_of(source.get('media_type'))};base64,{text_of(source.get('data'))}"
        url = source.get("url") or data
    if isinstance(url, str) and url[:5].lower() == "data:":
        kind, _, data = url[5:].partition(",")
        return made_image(data, kind.partition(";")[0].removeprefix("image/"))
    return Part("line", f"[image: {text_of(url or part.get('file_id') or 'without an address')}]")


def made_image(data: str, called: str) -> Part:
    """Make a part of an image in base64, of which it is said what it is."""
    image = images.decoded(data)
    if image is None:
        return Part("line", f"[image: {called.upper()}, {_bytes(data)}]")
    return Part("image", f"[image: {image.words}]", image)


def _sound(part: Object) -> Part:
    inner = part.get("input_audio")
    sound: Object = inner if isinstance(inner, dict) else part
    named = [text_of(sound.get("format") or "").upper(), _bytes(sound.get("data")), _one_line(sound.get("transcript"))]
    return Part("line", f"[audio: {', '.join(filter(None, named)) or text_of(sound.get('id') or 'without data')}]")


def _file(part: Object) -> Part:
    inner = part.get("file")
    file: Object = inner if isinstance(inner, dict) else part
    name = file.get("filename") or file.get("file_url") or file.get("file_id") or file.get("title") or "without a name"
    return Part("line", f"[file: {', '.join(filter(None, [_one_line(name), _bytes(file.get('file_data'))]))}]")


def _bytes(data: object) -> str:
    """The size of what is in base64, a data URL or not."""
    return size(len(data.rpartition(",")[2]) * 3 // 4) if isinstance(data, str) and data else ""


def _one_line(value: object) -> str:
    return " ".join(text_of(value).split()) if value else ""
