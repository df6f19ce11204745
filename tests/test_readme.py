"""The README's examples run: each chapter in one namespace, in a directory of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import agents
import pytest

import sessions
from openai_agents.event_loop import loop_of_run_sync, uses_run_sync  # noqa: F401  (a fixture)
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
    del texts["With other frameworks"]  # tests/test_recipes.py runs those, where the framework is installed
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


@uses_run_sync
# It ends the generators of its event loop, and uses the loop again.
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
