"""One progress bar for all long work: rate, time left, on stderr so that stdout stays for results.

In a terminal it is a live bar; in a log file it is a line every ten seconds.
"""

from __future__ import annotations

import sys
import time
from typing import ClassVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from frostbox.units import seconds_text


def _pace(rate: float, unit: str) -> str:
    """'14.2 images/s', or '42 s an epoch' where a unit takes seconds."""
    if 0 < rate < 0.5:
        one = unit.removesuffix("s")
        return f"{seconds_text(1 / rate)} {'an' if one[0] in 'aeio' else 'a'} {one}"
    return f"{rate:.1f} {unit}/s"


class Progress:
    """Start, advance, stop; one task at a time."""

    LOG_INTERVAL = 10.0
    hushed: ClassVar[bool] = False
    """Whether this process is one of several, of which another shows what they do."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=self.hushed)
        self._bar: RichProgress | None = None
        self._label, self._unit = "", ""
        self._total: int | None = 0
        self._done = self._first = 0
        self._started = self._logged = 0.0

    def start(self, label: str, total: int | None, unit: str, done: int = 0) -> None:
        """Begin a task of `total` units (None: nobody knows), `done` of which lie behind."""
        self.stop()
        self._label, self._total, self._unit, self._first = label, total, unit, done
        self._done = done
        self._started = self._logged = time.perf_counter()
        if self.console.is_terminal and not self.console.quiet:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
                redirect_stdout=False,  # results may go to another program
            )
            self._bar.add_task(label, total=total, completed=done, rate="", note="")
            self._bar.start()

    def advance(self, by: int = 1, note: str = "") -> None:
        """Move on by so many units; `note` is shown beside the bar."""
        self.update(self._done + by, note)

    def update(self, done: int, note: str = "") -> None:
        """Set the number of units done."""
        self._done = done
        now = time.perf_counter()
        rate = (done - self._first) / max(now - self._started, 1e-9)
        shown = _pace(rate, self._unit)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, rate=shown, note=note)
        elif now - self._logged >= self.LOG_INTERVAL and not self.console.quiet:
            self._logged = now
            of = left = ""
            if self._total is not None:
                seconds = max(0, self._total - done) / rate if rate else 0.0
                of, left = f"/{self._total}", f", {seconds_text(seconds)} left"
            print(
                f"{self._label}: {done}{of}, {shown}{left}" + (f", {note}" if note else ""),
                file=sys.stderr,
            )

    def stop(self) -> None:
        """End the task; without one, nothing happens."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
