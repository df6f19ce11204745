"""The examples of README run, each by itself; those of the pages behind it, each page in one namespace."""

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

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# What it leads to; tests/test_recipes.py runs the page that needs frameworks.
PAGES = sorted(
    page for page in [*ROOT.glob("sql/*.md"), *ROOT.glob("tests/*/README.md")] if page.parent.name != "examples"
)
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# The servers that the README names, and the fixtures that give those of the tests.
SERVERS = {
    "postgresql://app:secret@localhost/agents": "postgresql",
    "mysql://app:secret@127.0.0.1/agents": "mysql",
}


def _examples(page: Path) -> list[str]:
    return EXAMPLE.findall(page.read_text(encoding="utf-8"))


def _marked(text: str, what: Any, name: str) -> Any:
    return pytest.param(
        what, id=name, marks=[getattr(pytest.mark, dialect) for url, dialect in SERVERS.items() if url in text]
    )


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


def _run(example: str, namespace: dict[str, Any], make_url: Callable[[str], str], where: str) -> None:
    for named, dialect in SERVERS.items():
        if named in example:
            example = example.replace(named, make_url(dialect))
    exec(compile(example, where, "exec"), namespace)  # noqa: S102  (they are ours)


@uses_run_sync
# It ends the generators of its event loop, and uses the loop again.
@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize(
    "example", [_marked(example, example, f"{number}") for number, example in enumerate(_examples(README), 1)]
)
def test_each_example_of_the_readme_runs_alone(example: str, make_url: Callable[[str], str]) -> None:
    _run(example, {}, make_url, "README.md")


@uses_run_sync
@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
@pytest.mark.parametrize(
    "page",
    [_marked("".join(_examples(page)), page, str(page.relative_to(ROOT))) for page in PAGES if _examples(page)],
)
def test_the_examples_of_a_page_run_one_behind_the_other(
    page: Path, namespace: dict[str, Any], make_url: Callable[[str], str]
) -> None:
    for example in _examples(page):
        _run(example, namespace, make_url, str(page))


def test_every_name_of_the_package_is_in_the_reference() -> None:
    text = README.read_text(encoding="utf-8")
    assert [name for name in sessions.__all__ if name not in text] == []


_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [README, *ROOT.glob("sql/*.md"), *ROOT.glob("tests/**/README.md")], ids=str)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists() or target.suffix in {".png", ".svg"}, path  # an sdist has no pictures
        assert not anchor or anchor in _anchors(target), f"{path}#{anchor}"
