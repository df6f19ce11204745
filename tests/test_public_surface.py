"""What completion shows is what README documents, and every annotation can be resolved."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions._settings.options import Keywords
from sessions.openai_agents import AgentsSession

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CLASSES = [
    sessions.Session,
    sessions.InMemorySession,
    sessions.Backend,
    sessions.MemoryBackend,
    sessions.SQLiteBackend,
    sessions.PostgresBackend,
    sessions.MySQLBackend,
    AgentsSession,
]
# What stands in the first column of a table, in code, up to its parenthesis.
_DOCUMENTED = {
    name for cell in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE) for name in re.findall(r"(\w+)", cell)
}


@pytest.mark.parametrize("cls", CLASSES)
def test_completion_shows_only_what_is_documented(cls: type) -> None:
    assert {name for name in dir(cls) if not name.startswith("_")} - _DOCUMENTED == set()


def test_completion_on_an_object_shows_no_more(backend: Any, session: Any) -> None:
    for thing in (backend, session, AgentsSession(session)):
        assert {name for name in dir(thing) if not name.startswith("_")} - _DOCUMENTED == set()


@pytest.mark.parametrize("option", sorted(Keywords.__required_keys__ | Keywords.__optional_keys__))
def test_the_help_of_connect_tells_of_every_option(option: str) -> None:
    assert re.search(rf"^ *(\w+, )*{option}(, \w+)* \(", sessions.connect.__doc__ or "", re.MULTILINE)


def _public_functions() -> Iterator[Callable[..., Any]]:
    yield sessions.connect
    yield sessions.bind
    for cls in CLASSES:
        for name, member in inspect.getmembers(cls):
            function = member.fget if isinstance(member, property) else member
            public = name == "__init__" or not name.startswith("_")
            if public and inspect.isroutine(function) and function.__qualname__ != "object.__init__":
                yield function


@pytest.mark.parametrize("function", list(_public_functions()), ids=lambda function: function.__qualname__)
def test_the_annotations_of_a_public_function_can_be_resolved(function: Callable[..., Any]) -> None:
    hints = typing.get_type_hints(function)
    assert set(inspect.signature(function).parameters) - {"self", "cls"} <= set(hints)


@pytest.mark.parametrize("name", sessions.__all__)
def test_every_public_name_can_be_imported_without_a_driver(name: str) -> None:
    assert getattr(sessions, name).__module__.startswith(("sessions", "builtins"))
