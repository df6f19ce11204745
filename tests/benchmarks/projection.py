"""What ten thousand million messages would cost, calculated from what ten million do.

Bytes and levels of the index follow from the rows. What is slowest follows from the pages that an operation touches in
a conversation that nobody has touched for long: those for which there is no memory come from the disk, one after
the other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.growth import READ, Growth

# What is calculated for where nothing else is asked: bytes of a message, GiB of memory, milliseconds of a page.
USUAL = (1_000.0, 64.0, 0.2)

_PROJECTED = (10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
_SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Machine:
    """What the calculation supposes of the server."""

    text: int  # bytes of a message's JSON
    memory: float  # bytes for pages
    disk: float  # seconds that a page takes from the disk


@dataclass(frozen=True)
class Projection:
    """What so many messages would cost; times in seconds."""

    messages: int
    stored: float  # bytes
    levels: int  # of the index that finds the rows of a conversation
    days: float  # of adding without a pause, at the rate that was measured
    read: float  # the newest messages of a conversation that is not in memory, at the 99th percentile
    add: float  # a message to such a conversation


def project(dialect: str, growth: Growth, messages: int, machine: Machine) -> Projection:
    """Calculate from what was measured at the largest size."""
    stored = growth.stored - growth.text + machine.text
    absent = max(0.0, 1 - machine.memory / (stored * messages))
    rows, own = _PAGES[dialect](growth.page_size / stored)
    return Projection(
        messages,
        stored * messages,
        _levels(messages, growth.page_size),
        messages / growth.writes / _SECONDS_A_DAY,
        growth.read[1] + rows * absent * machine.disk,
        growth.add[1] + own * absent * machine.disk,
    )


def _levels(messages: int, page_size: int) -> int:
    entries = page_size * _FULL / _ENTRY
    return max(1, math.ceil(math.log(messages, entries)))


# Of a page that was split and filled at random.
_FULL = 0.7
# Bytes of a session's id such as a UUID, of a message's id, and of what an entry of an index has around them.
_ENTRY = 37 + 8 + 16


def _in_order_of_writing(_: float) -> tuple[int, int]:
    # Others wrote between two messages of a conversation, so each is in a page of its own. Who adds one finds a place
    # in the index, and changes the session's row and what points to it.
    return 1 + READ, 3


def _by_conversation(rows_a_page: float) -> tuple[int, int]:
    return 1 + math.ceil(READ / (rows_a_page * _FULL)), 2


# How many pages that are not those of everybody the two operations touch.
_PAGES: dict[str, Callable[[float], tuple[int, int]]] = {
    "sqlite": _in_order_of_writing,
    "postgresql": _in_order_of_writing,
    "mysql": _by_conversation,
    "mariadb": _by_conversation,
}


def render(found: dict[str, list[Growth]], machine: Machine) -> str:
    """Two tables: what was measured, and what follows."""
    measured = [_measured(dialect, one) for dialect, sizes in found.items() for one in sizes]
    calculated = [
        _calculated(dialect, project(dialect, sizes[-1], messages, machine))
        for dialect, sizes in found.items()
        if dialect in _PAGES
        for messages in _PROJECTED
    ]
    memory, disk = f"{machine.memory / 2**30:.0f} GiB", f"{machine.disk * 1e3:g} ms"
    supposed = f"{machine.text} bytes a message, {memory} of memory and {disk} for a page"
    return "\n".join(
        [
            "Measured; times in ms, as median and 99th percentile:\n",
            "| database | messages | bytes stored | of which text | add | read 20 | pop | adds a second | pages read |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            *measured,
            f"\nCalculated, for {supposed} from the disk:\n",
            "| database | messages | GB | levels of the index | days of adding | cold read of 20, ms | cold add, ms |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *calculated,
        ]
    )


def _measured(dialect: str, one: Growth) -> str:
    times = (f"{median * 1e3:.2f}, {slowest * 1e3:.2f}" for median, slowest in (one.add, one.read, one.pop))
    pages = f"{one.pages:.0f}" if one.pages else ""
    cells = (dialect, f"{one.messages:,}", f"{one.stored:.0f}", one.text, *times, f"{one.writes:,.0f}", pages)
    return f"| {' | '.join(map(str, cells))} |"


def _calculated(dialect: str, what: Projection) -> str:
    times = (f"{seconds * 1e3:.1f}" for seconds in (what.read, what.add))
    cells = (dialect, f"{what.messages:,}", f"{what.stored / 1e9:,.0f}", what.levels, f"{what.days:,.1f}", *times)
    return f"| {' | '.join(map(str, cells))} |"
