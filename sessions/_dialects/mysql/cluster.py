"""What a server says of itself and of its cluster, and what follows from that for our statements.

The rule: on Galera a transaction travels as one statement (MariaDB), or is committed by one of its own, sent when all
before it have succeeded. What another member's transaction has ended is then never taken for a beginning. Group
replication ends a transaction with an error, in a packet too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

GALERA = "Galera"
GROUP = "group replication"


@dataclass(frozen=True)
class Server:
    """What a server has said when a connection to it was opened."""

    name: str = ""  # told from every other
    cluster: str = ""
    state: str = ""  # of this member
    size: int = 0  # of the cluster; 0: unknown
    read_only: bool = False
    several_write: bool = False  # of a group
    refuses_cascades: bool = False
    is_mariadb: bool = False
    has_left: bool = False  # the group that it is configured for; what it writes then is in no other member
    wrong: str = ""  # why nothing is to be read from it or written to it

    @property
    def ends_between_statements(self) -> bool:
        """Whether another member's transaction may end one of ours without an error to the statement behind it."""
        return self.cluster == GALERA

    def __str__(self) -> str:
        """Say what there is beyond a server alone; nothing of a server alone."""
        if not self.cluster:
            return ""
        members = f" of {self.size}" if self.size else ""
        form = "statements in one packet"
        if self.ends_between_statements:
            form = "compound statements" if self.is_mariadb else "statements in two trips"
        return f"{self.cluster}{members}, {form}"


def server_from(variables: Iterable[Sequence[Any]]) -> Server:
    """Read the names and values of server_variables."""
    found = {str(name).lower(): str(value) for name, value in variables}
    on = {name for name, value in found.items() if value not in ("OFF", "0", "")}
    server = Server(
        name=":".join(found.get(part, "") for part in ("hostname", "port", "server_id")),
        read_only=bool(on & {"read_only", "super_read_only"}),
        is_mariadb="mariadb" in found.get("version", "").lower(),
        wrong="it is in offline mode" if "offline_mode" in on else "",
    )
    if "wsrep_on" in on:
        return replace(server, cluster=GALERA)
    if "group_replication_group_name" in on:
        return replace(
            server,
            cluster=GROUP,
            several_write="group_replication_single_primary_mode" not in on,
            refuses_cascades="group_replication_enforce_update_everywhere_checks" in on,
        )
    return server


def with_galera_status(server: Server, status: Iterable[Sequence[Any]]) -> Server:
    """Add the answer to galera_status."""
    found = {str(name).lower(): str(value) for name, value in status}
    state = found.get("wsrep_local_state_comment", "")
    ready = found.get("wsrep_ready") == "ON"
    return replace(
        server,
        state=state,
        size=int(found.get("wsrep_cluster_size", 0)),
        wrong=server.wrong or ("" if ready else f"this node is not ready, or not in the primary component ({state})"),
    )


def with_members(server: Server, members: Iterable[Sequence[Any]]) -> Server:
    """Add the answer to group_members."""
    states = [(bool(own), str(state)) for own, state in members]
    own_state = next((state for own, state in states if own), "OFFLINE")
    if own_state == "OFFLINE":  # a server alone, unless it is read-only
        return replace(server, cluster="", several_write=False, refuses_cascades=False, has_left=True)
    there = sum(state != "UNREACHABLE" for _, state in states)
    wrong = server.wrong
    if own_state != "ONLINE":
        wrong = wrong or f"this member is {own_state}"
    elif 2 * there <= len(states):
        wrong = wrong or f"this member reaches {there} of {len(states)}, no majority"
    return replace(server, state=own_state, size=len(states), wrong=wrong)
