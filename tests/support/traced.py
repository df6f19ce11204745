"""A connection as tracing tools hand it out: inside a proxy that passes for one, as wrapt makes them."""

from typing import Any, NoReturn


class Traced:
    """A proxy of a connection, which it is to isinstance() but not to C, and which cannot be copied."""

    __wrapped__: Any

    def __init__(self, wrapped: Any) -> None:
        vars(self)["__wrapped__"] = wrapped

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(vars(self)["__wrapped__"])

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["__wrapped__"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["__wrapped__"], name, value)

    def __copy__(self) -> NoReturn:
        raise NotImplementedError("object proxy must define __copy__()")


class Hidden(Traced):
    """One that does not say what it is around."""

    @property
    def __wrapped__(self) -> None:
        return None
