"""The README's examples run: each chapter in one namespace, in a directory of its own."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import agents
import pytest

import sessions
from support.model_api import serve_model_api
from tls.authority import Authority

README = Path(__file__).parent.parent / "README.md"
CHAPTER = re.compile(r"^## (.+)$", re.MULTILINE)
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# The servers that the README names, and the fixtures that give those of the tests.
SERVERS = {
    "postgresql://app:secret@localhost/agents": "postgresql",
    "mysql://app:secret@127.0.0.1/agents": "mysql",
}


def _chapters() -> dict[str, list[str]]:
    introduction, *parts = CHAPTER.split(README.read_text(encoding="utf-8"))
    texts = {"introduction": introduction} | dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: examples for name, text in texts.items() if (examples := EXAMPLE.findall(text))}


def _marked(chapter: str, examples: list[str]) -> Any:
    marks = [getattr(pytest.mark, dialect) for url, dialect in SERVERS.items() if url in "".join(examples)]
    return pytest.param(examples, id=chapter, marks=marks)


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the text around the examples takes for granted: a backend, certificates, a model."""
    monkeypatch.chdir(tmp_path)
    authority = Authority("README")
    client = authority.client("app")
    Path("rds-bundle.pem").write_text(authority.cert)
    Path("client.pem").write_text(client.cert)
    Path("client-key.pem").write_text(client.key)
    with serve_model_api() as api, sessions.connect("sqlite:chat.db") as backend:
        monkeypatch.setenv("OPENAI_BASE_URL", api.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        agents.set_tracing_disabled(True)
        yield {"backend": backend, "encryption_key": "a key of the application"}


# The SDK's run_sync() ends the generators of its event loop, and uses the loop again; it asks for a policy, which
# asyncio warns of from Python 3.14 on.
@pytest.mark.filterwarnings("ignore:'asyncio.get_event_loop_policy':DeprecationWarning")
@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
@pytest.mark.parametrize("examples", [_marked(chapter, examples) for chapter, examples in _chapters().items()])
def test_the_examples_run(
    examples: list[str], namespace: dict[str, Any], make_url: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    ours = {url: make_url(dialect) for url, dialect in SERVERS.items() if url in "".join(examples)}
    for example in examples:
        for named, url in ours.items():
            example = example.replace(named, url)  # noqa: PLW2901
        exec(compile(example, f"README.md, {request.node.name}", "exec"), namespace)  # noqa: S102  (they are ours)


def test_every_name_of_the_package_is_in_the_reference() -> None:
    text = README.read_text(encoding="utf-8")
    assert [name for name in sessions.__all__ if name not in text] == []


@pytest.mark.parametrize("name", ["get_items", "add_items", "pop_item", "replace_items", "records", "position"])
def test_the_types_of_a_method_can_be_asked_for(name: str) -> None:
    # Frameworks that make a tool of a function do.
    assert "return" in typing.get_type_hints(getattr(sessions.Session, name))
