"""Histories are read alike by msgspec and by the json module, whatever stands in their rows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions._quick_json import quick_reader
from support.claims import exactly

cases = settings(max_examples=int(os.environ.get("SESSIONS_TEST_FUZZ") or 100))

_digits = st.text("0123456789", min_size=1, max_size=40)
numbers = st.one_of(
    st.builds(lambda bits, off: str(off + 2**bits), st.sampled_from([31, 53, 63, 64, 128]), st.integers(-2, 2)),
    st.builds(lambda bits, off: str(off - 2**bits), st.sampled_from([31, 53, 63, 64, 128]), st.integers(-2, 2)),
    st.floats().map(json.dumps),
    st.builds("{}{}.{}e{}".format, st.sampled_from(["", "-"]), st.integers(0, 10**30), _digits, st.integers(-350, 320)),
    st.sampled_from(["-0", "-0.0", "0e9", "1E+2", "1e400", "01", "1.", ".5", "+1", "-", "1e", "9" * 4301, "NaN"]),
)
escapes = st.sampled_from([r"\n", r"\/", r"\"", r"\\", r"\u00e9", r"\ud83d\ude00", r"\ud800", r"\u12", r"\x", "\\"])
strings = st.text(st.characters(exclude_categories=()), max_size=9).map(json.dumps) | st.lists(
    escapes | st.characters(), max_size=5
).map(lambda parts: f'"{"".join(parts)}"')
blanks = st.sampled_from(["", "", "", " ", "\n\t", "\r", "\x0b", "\ufeff"])


def _container(parts: list[str], brackets: str, blank: str) -> str:
    return f"{brackets[0]}{blank}{f'{blank},{blank}'.join(parts)}{blank}{brackets[1]}"


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    keys = st.sampled_from(['"a"', '"\\u0061"', '""']) | strings
    members = st.builds("{}{}:{}".format, keys, blanks, values)
    return st.builds(_container, st.lists(members, max_size=4), st.just("{}"), blanks)


values = st.recursive(
    numbers | strings | st.sampled_from(["null", "true", "false", "nul"]),
    lambda inner: _objects(inner) | st.builds(_container, st.lists(inner, max_size=3), st.just("[]"), blanks),
    max_leaves=9,
)
deep_values = st.builds(lambda value, depth: "[" * depth + value + "]" * depth, values, st.integers(1, 20))


@st.composite
def mutated(draw: Any) -> str:
    text = draw(_objects(values))
    start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    other = draw(st.sampled_from([*'{}[]",:0.e-\\', "\n", "\0", "\ud800", "é"]) | numbers)
    return str(text[:start] + other + text[start + length :])


@pytest.fixture(scope="module")
def read() -> Any:
    return quick_reader()


@cases
@given(_objects(values | deep_values) | mutated())
def test_what_is_read_quickly_is_what_json_reads(read: Any, text: str) -> None:
    try:
        item = read(text)
    except (ValueError, TypeError, RecursionError):
        return  # which is no verdict
    assert exactly(item) == exactly(json.loads(text))


# --- in processes of their own: what is chosen is chosen once

_READ = """
import json, sys, threading, sessions
before = "msgspec" in sys.modules
session = sessions.Session.from_url("chat_1", "sqlite::memory:")
looked = sys.modules["sessions._items"]._read_quickly
items = [{"content": "\\U0001f600", "n": [2**64, -0.0, 1e23]}, {"deep": json.loads("[" * 890 + "]" * 890)}]
session.add_items(items)
found = []
read = threading.Thread(target=lambda: found.extend(session.get_items()))
read.start()
read.join()
assert repr(found) == repr(items)
assert sys.modules["sessions._items"]._read_quickly is looked
print(before, "msgspec" in sys.modules, looked is not None)
"""


def read_in_a_process(before: str = "", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", before + _READ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_quick_reader_is_loaded_with_the_first_backend_and_not_later() -> None:
    assert read_in_a_process() == "False True True"


def test_without_msgspec_all_is_read() -> None:
    assert read_in_a_process("import sys; sys.modules['msgspec'] = None\n") == "True True False"


def test_what_is_deep_is_read_on_a_small_stack() -> None:
    assert read_in_a_process("import threading; threading.stack_size(256 * 1024)\n") == "False True True"


DECODER = "class DecodeError({error}): ...\nclass Decoder:\n    def __init__(self, type): ...\n    decode = {decode}\n"
JSON = "staticmethod(__import__('json').loads)"
BROKEN = {
    "not-for-this-python": "raise ImportError('undefined symbol')",
    "incomplete": "",
    "failing": "raise SystemError",
    "unreadable": "def",
    "of-another-kind": "raise Warning",
    "with-another-error": DECODER.format(error="Exception", decode=JSON),
    "inexact": DECODER.format(error="ValueError", decode="lambda self, text: {}"),
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_with_a_broken_msgspec_all_is_read(tmp_path: Path, source: str) -> None:
    (tmp_path / "msgspec").mkdir()
    for name in ("__init__.py", "json.py"):
        (tmp_path / "msgspec" / name).write_text(source)
    assert read_in_a_process(PYTHONPATH=str(tmp_path)).endswith(" False")


def test_a_stand_in_that_reads_exactly_is_used(tmp_path: Path) -> None:
    (tmp_path / "msgspec").mkdir()
    for name in ("__init__.py", "json.py"):
        (tmp_path / "msgspec" / name).write_text(DECODER.format(error="ValueError", decode=JSON))
    assert read_in_a_process(PYTHONPATH=str(tmp_path)) == "False True True"


_LIMITED = """
import signal, sessions
class Late(Exception): ...
def end(number, frame):
    raise Late
signal.signal(signal.SIGALRM, end)
try:
    sessions.InMemorySession("chat_1")
except Late:
    print("late")
signal.signal(signal.SIGALRM, signal.SIG_IGN)
session = sessions.InMemorySession("chat_1")
session.add_items([{"n": 1}])
print(session.get_items())
"""


def test_a_time_limit_that_ends_while_the_reader_is_loaded_goes_on(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGALRM)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _LIMITED], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines() == ["late", "[{'n': 1}]"]
