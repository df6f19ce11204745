"""Whether the OpenAI Agents SDK in this process can use a synchronous session directly."""

from __future__ import annotations

import re
import sys

from .errors import ConfigurationError


def check_direct_use() -> None:
    """Refuse an SDK that cannot use a synchronous session directly.

    Its Runner awaits only what is awaitable since 0.20; before, it fails with a TypeError that
    names neither the session nor the remedy.
    """
    if "agents.memory" not in sys.modules:
        return
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, which others need not pay

    try:
        installed = version("openai-agents")
    except PackageNotFoundError:  # another package of the name `agents`
        return
    numbers = re.match(r"(\d+)\.(\d+)", installed)
    if numbers and (int(numbers[1]), int(numbers[2])) < (0, 20):
        raise ConfigurationError(
            f"openai-agents {installed} cannot use a synchronous session; "
            "pass sessions.openai_agents.AgentsSession(session), or install openai-agents>=0.20"
        )
