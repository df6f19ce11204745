"""What is of unknown outcome when that is said is done by then, or never: to compare is of use."""

import sessions
from sessions import OutcomeUnknownError
from support.claims import refused
from support.proxy import Proxy
from support.rivals import connection_of, driver_of, eventually, others
from support.samples import items, texts


def test_a_pop_that_was_held_up_is_not_done_once_its_outcome_is_unknown(server_url: str) -> None:
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, statement_timeout=1.0, retry_delay=0.001) as behind,
    ):
        direct.session("chat_1").add_items(items("a", "b"))
        behind.session("chat_1").position()
        with connection_of(behind) as connection:
            orphan = driver_of(behind).server_session(connection)
        proxy.hold()
        with refused(OutcomeUnknownError):
            behind.session("chat_1").pop_item()
        direct.session("chat_1").add_items(items("c"))
        proxy.release()
        assert eventually(lambda: orphan not in others(server_url))
        assert texts(direct.session("chat_1").get_items()) == ["a", "b", "c"]
