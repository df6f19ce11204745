"""Say how far a long command is: a line that is rewritten on a terminal, else a line a minute."""

from __future__ import annotations

from collections import deque
from time import monotonic

from .terminal import Stream

# In seconds: what takes no longer says nothing; how often a line is written, where a person looks
# and where none does; how far back the rate looks.
_QUIET = 2.0
_EVERY = 0.5
_EVERY_WITHOUT_TERMINAL = 60.0
_WINDOW = 10.0


class Progress:
    """Counts items; the total, where it is known, tells how much time is left."""

    def __init__(self, err: Stream, verb: str, *, total: int | None, quiet: bool) -> None:
        self._err = err
        self._verb = verb
        self._total = total
        self._items = 0
        self._began = monotonic()
        self._shown = self._began + _QUIET - _EVERY if err.is_terminal else self._began
        self._every = _EVERY if err.is_terminal else _EVERY_WITHOUT_TERMINAL
        self._quiet = quiet
        self._is_shown = False
        self._window = deque([(self._began, 0)])

    def add(self, items: int) -> None:
        """Count items, and say so when it is time."""
        self._items += items
        now = monotonic()
        if now - self._shown < self._every or self._quiet:
            return
        self._shown, self._is_shown = now, True
        while len(self._window) > 1 and now - self._window[0][0] > _WINDOW:
            self._window.popleft()
        then, before = self._window[0]
        self._window.append((now, self._items))
        self._say((self._items - before) / max(now - then, 0.001))

    def end(self) -> float:
        """Take the line away; return how many seconds it took."""
        if self._is_shown:
            self._err.again("")
        return monotonic() - self._began

    def _say(self, rate: float) -> None:
        words = [self._verb, f"{self._items:,} items", f"{rate:,.0f}/s"]
        if self._total:
            words[1] = f"{self._items:,} / {self._total:,} items"
            words.insert(2, f"{min(100, self._items * 100 // self._total)}%")
            left = int(max(0, self._total - self._items) / rate) if rate else 0
            words.append(f"{left // 60}:{left % 60:02d} left")
        text = "  ".join(words)
        if self._err.is_terminal:
            self._err.again(text)
        else:
            self._err.line(text)
            self._err.flush()
