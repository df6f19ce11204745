"""The OpenAI Agents SDK in this process: whether it can use a synchronous session directly, and its settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError, kind_of

if TYPE_CHECKING:
    from agents.memory import SessionSettings


class RunLimit(int):
    """How many items a run is to see, as the SDK hands it on from its settings."""


@cache
def _settings_type() -> type[SessionSettings]:
    from agents.memory import SessionSettings

    class RunSettings(SessionSettings):
        """The SDK's settings, whose limit is known again when it is asked for with it."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            return RunLimit(value) if name == "limit" and value is not None else value

        def resolve(self, override: Any) -> SessionSettings:
            return settings_from(SessionSettings(**self.to_dict()).resolve(override))

        def __eq__(self, other: object) -> bool:
            return isinstance(other, SessionSettings) and self.to_dict() == other.to_dict()

        __hash__ = None  # type: ignore[assignment]  # as theirs

    RunSettings.__qualname__ = SessionSettings.__qualname__
    return RunSettings


def settings_from(values: SessionSettings | Mapping[str, Any]) -> SessionSettings:
    """Make settings whose limit is a RunLimit."""
    from agents.memory import SessionSettings

    if isinstance(values, SessionSettings):
        values = {field.name: getattr(values, field.name) for field in fields(SessionSettings)}
    if not isinstance(values, Mapping):
        raise TypeError(f"session_settings is a {kind_of(values)}; pass SessionSettings or a mapping: {{'limit': 50}}")
    # Older SDKs take no mapping, and SessionSettings itself ignores what it does not know.
    unknown = values.keys() - SessionSettings.__dataclass_fields__.keys()
    if unknown:
        raise TypeError(f"Unknown session settings: {', '.join(sorted(unknown))}")
    return _settings_type()(**values)


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
