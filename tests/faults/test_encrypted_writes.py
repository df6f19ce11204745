"""With a key a connection is cut at each packet of a write: what was looked for is the very envelope that was sent."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import sessions
from sessions import Backend, OutcomeUnknownError
from support.proxy import Proxy, When
from support.samples import item, items, texts

KEY = "a key of many random characters, the first"
OTHER = "a key of many random characters, the second"
OLD = ["0", "1", "2", "3"]
QUICK: dict[str, Any] = {"retry_delay": 0.001, "max_retries": 10}


@dataclass(frozen=True)
class Write:
    """Something done to the history OLD, and what it leaves there, or in a fork."""

    run: Callable[[Backend, str], object]
    leaves: tuple[str, ...]
    # Nothing tells whether it was done.
    may_be_unknown: bool = False
    fork: bool = False


def replace_newest(backend: Backend, name: str) -> None:
    session = backend.session(name)
    session.replace_record(session.position(), item("3, mended"))


def load_more(backend: Backend, name: str) -> int:
    records = [sessions.Record(0, None, None, '{"role":"user","content":"more"}')] * 3
    return backend.load(name, records, on_existing="append")


WRITES = {
    "add_items": Write(lambda backend, name: backend.session(name).add_items(items("4", "5")), (*OLD, "4", "5")),
    "replace_items": Write(lambda backend, name: backend.session(name).replace_items(items("4")), ("4",)),
    "replace_record": Write(replace_newest, (*OLD[:3], "3, mended")),
    "load": Write(load_more, (*OLD, "more", "more", "more")),
    "pop_item": Write(lambda backend, name: backend.session(name).pop_item(), tuple(OLD[:3]), may_be_unknown=True),
    "fork": Write(
        lambda backend, name: backend.session(name).fork(f"{name} fork"), tuple(OLD), may_be_unknown=True, fork=True
    ),
    "rekey": Write(lambda backend, name: backend.rekey([name]), tuple(OLD)),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", WRITES)
def test_an_encrypted_write_survives_a_cut_at_each_packet(server_url: str, name: str, when: When) -> None:
    survive_cuts(server_url, WRITES[name], when, "encryption_key", may_be_unknown=WRITES[name].may_be_unknown)


def survive_cuts(
    server_url: str, write: Write, when: When, option: str, *, may_be_unknown: bool = False, **options: Any
) -> None:
    """Cut a write at each packet, under the keys of an option, and see that it has been done once."""
    new, old, changed = ({option: keys, **options} for keys in (OTHER, KEY, [OTHER, KEY]))
    cuts = 0
    with sessions.connect(server_url, **changed) as witness, Proxy(server_url) as proxy:
        for packet in itertools.count(1):
            session_id = f"{when} {packet}"
            before = () if write.fork else tuple(OLD)
            written = witness.session(f"{session_id} fork" if write.fork else session_id)
            with sessions.connect(server_url, **old) as backend:
                backend.session(session_id).add_items(items(*OLD))
            with sessions.connect(proxy.url, **changed, **QUICK) as backend:
                backend.session("another").position()
                proxy.cut(packet=packet, when=when)
                try:
                    write.run(backend, session_id)
                except OutcomeUnknownError:
                    assert may_be_unknown
                    assert tuple(texts(written.get_items())) in (before, write.leaves)
                else:
                    assert tuple(texts(written.get_items())) == write.leaves
                if not proxy.was_cut:
                    break
                cuts += 1
            proxy.cut(packet=10**9)
            if write is WRITES["rekey"]:
                with sessions.connect(server_url, **new) as backend:
                    assert texts(backend.session(session_id).get_items()) == OLD
    assert cuts
