"""A selftest cuts connections without giving up what is asked of TLS."""

import pytest

from sessions._selftest.claims import try_claim
from sessions._selftest.place import Place
from tls.tls_server import TLSServer


def test_a_verified_name_is_verified_through_the_proxy_or_nothing_is_cut(server: TLSServer) -> None:
    with Place(server.url(), ssl={"ca": server.authority.cert}) as place:
        check = try_claim("cut connection", place)
    # PyMySQL connects to the name that it verifies.
    assert check.verdict == ("ok" if server.dialect == "postgresql" else "skipped"), check


def test_where_no_name_is_verified_connections_are_cut(server: TLSServer) -> None:
    with Place(server.url(), ssl={"ca": server.authority.cert, "check_hostname": False}) as place:
        check = try_claim("cut connection", place)
    assert check.verdict == "ok", check


@pytest.mark.parametrize("server", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_a_name_that_is_wrong_is_refused_with_a_proxy_too(server: TLSServer) -> None:
    with Place(server.url(), ssl={"ca": server.authority.cert}) as place:
        server.present(server.other_name)
        check = try_claim("cut connection", place)
        server.present(server.good)
    assert check.verdict == "error"
    assert "name" in check.found + check.remedy
