"""HAProxy in front of servers, in a container of our own."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from support.rivals import eventually
from support.servers import ServerUnavailableError, _free_port

# By its own default of retries it holds a client for seconds at a host that has vanished.
_CONFIGURATION = """
defaults
    mode tcp
    timeout connect 1s
    retries 0
    timeout client 1h
    timeout server 1h
    timeout check 3s
listen database
    bind 127.0.0.1:{port}
{check}
    default-server check inter 500ms fastinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


@contextlib.contextmanager
def haproxy(
    ports: Sequence[int],
    directory: Path,
    is_ready: Callable[[int], bool],
    *,
    check: Sequence[str],
    check_ports: Sequence[int] = (),
) -> Iterator[int]:
    """The port of an HAProxy that leads to those servers of this machine that pass the check, in turn.

    Each is asked itself, or at a port of its own.
    """
    image = os.environ.get("SESSIONS_TEST_HAPROXY_IMAGE", "haproxy:3")
    port, file = _free_port(), directory / "haproxy.cfg"
    servers = "\n".join(
        f"    server db{there} 127.0.0.1:{there} port {asked}"
        for there, asked in zip(ports, check_ports or ports, strict=True)
    )
    file.write_text(_CONFIGURATION.format(port=port, check="\n".join(f"    {line}" for line in check), servers=servers))
    directory.chmod(0o755)
    try:
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(image).with_kwargs(network_mode="host")
        container.with_volume_mapping(str(file), "/usr/local/etc/haproxy/haproxy.cfg")
        container.start()
    except Exception as exc:
        raise ServerUnavailableError(
            f"no HAProxy: {str(exc).splitlines()[0][:120]}; name an image in SESSIONS_TEST_HAPROXY_IMAGE"
        ) from exc
    try:
        # In turn to each, until it has found out which of them it may not lead to: at first it takes all for well.
        assert eventually(lambda: all(is_ready(port) for _ in range(2 * len(ports)))), container.get_logs()
        yield port
    finally:
        container.stop()
