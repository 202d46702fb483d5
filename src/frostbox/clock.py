"""The clock of a command: seconds of each part, and since the start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from frostbox.progress import Progress


class Clock:
    """Starts when it is made.

    Attributes:
        seconds: of each part that is over, by name.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
