"""Progress of a run on stderr: one line that is rewritten on a terminal, and a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter

from shadow.compare import Comparison

# Between two plain lines, in seconds.
PLAIN_EVERY_S = 10.0


class Progress:
    """Counts comparisons as they come, from any thread."""

    def __init__(self, ticks: int, done: int = 0) -> None:
        self._ticks, self._done, self._before = ticks, done, done
        self._kinds: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._shown = 0.0
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()

    def tell(self, tick: int, comparison: Comparison) -> None:
        """Count a comparison and show how far the run is."""
        with self._lock:
            self._done += 1
            self._kinds[comparison.kind.value] += 1
            now = time.monotonic()
            if self._done == self._ticks or now - self._shown >= (0.1 if self._terminal else PLAIN_EVERY_S):
                self._shown = now
                self._show(now)

    def _show(self, now: float) -> None:
        counts = ", ".join(f"{count} {kind}" for kind, count in self._kinds.most_common())
        left_s = (now - self._begun) / max(1, self._done - self._before) * (self._ticks - self._done)
        line = f"{self._done}/{self._ticks} ticks, {_clock(left_s)} left: {counts}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        if self._terminal and self._done == self._ticks:
            sys.stderr.write("\n")
        sys.stderr.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
