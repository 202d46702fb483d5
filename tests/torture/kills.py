"""kill -9 at random moments of a real process, again and again, until the work is done.

The moment is drawn from a seed, over the time that an undisturbed run works after its start: a
process that is killed while it imports torch proves nothing. What the work leaves in the end is
compared with what the undisturbed run left.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.works import Work

_PATIENCE = 3600  # seconds, after which a process counts as stuck; machines may be busy
_MOST = 4  # kills of one piece of work


@dataclass
class Report:
    """What became of one kind of work.

    Attributes:
        seconds: of the undisturbed run, after its start.
        moments: of the kills, as shares of that.
        completed: pieces of work that were killed at least once, and came to their end.
        differing: what differed of those.
        refused: restarts that failed, with what they said.
    """

    name: str
    seconds: float = 0.0
    moments: list[float] = field(default_factory=list)
    completed: int = 0
    differing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def row(self) -> str:
        """A line of a table in Markdown."""
        low, high = (f"{100 * f(self.moments):.0f}" for f in (min, max))
        bad = len(self.refused) + len(self.differing)
        return (
            f"| `{self.name}` | {self.seconds:.1f} s | {len(self.moments)} | {low} to {high} % | "
            f"{self.completed} | {bad or 'none'} |"
        )


HEAD = (
    "| command | undisturbed | kills | at | ended | refused or different |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


class Running:
    """A process `python -m frostbox ...`, in a session of its own, and what it prints."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._log = log
        self._stamp = log.with_suffix(".stamp")
        self._stamp.touch()
        self.since = self._stamp.stat().st_ctime
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "frostbox", *words], stdout=file, stderr=file,
                start_new_session=True, cwd=Path(__file__).parents[2], preexec_fn=_hearing,
            )  # fmt: skip

    @property
    def said(self) -> str:
        """All that it printed."""
        return self._log.read_text(errors="replace")

    def wait(self, until: float | None = None) -> bool:
        """Whether it has ended, by itself, before that time of time.monotonic()."""
        limit = time.monotonic() + _PATIENCE
        try:
            self.process.wait((limit if until is None else until) - time.monotonic())
        except subprocess.TimeoutExpired:
            if until is None:
                self.kill()
                raise
            return False
        return True

    def started(self, work: Work, folder: Path) -> float:
        """Wait until it works; the time of that."""
        limit = time.monotonic() + _PATIENCE
        while self.process.poll() is None and not work.working(folder, self.since, self.said):
            assert time.monotonic() < limit, self.said
            time.sleep(0.01)
        return time.monotonic()

    def kill(self) -> None:
        """kill -9, of all that it started too: as when a machine loses its power."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended by itself, which who waits for it sees
            assert self.process.poll() is not None
        self.process.wait()


def _hearing() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def torture(work: Work, kills: int, folder: Path, seed: int = 0) -> Report:
    """Kill the work so often, in pieces of a few kills each, and compare every end."""
    draw = random.Random(f"{work.name}/{seed}")
    report = Report(work.name)
    expected = _undisturbed(work, folder / "undisturbed", report)
    number = 0
    while len(report.moments) < kills:
        place = folder / f"run{number}"
        place.mkdir(parents=True)
        work.lay(folder / "undisturbed", place)
        number += 1
        before = len(report.moments)
        most = min(draw.randint(1, _MOST), kills - before)
        words, ended = work.first(place), False
        while True:
            running = Running(words, place / "log")
            if len(report.moments) - before < most:
                share = draw.uniform(0, 1)
                until = running.started(work, place) + share * report.seconds
                if not running.wait(until):
                    running.kill()
                    report.moments.append(share)
                    ended = work.ended(place)  # killed between its last step and its exit
                    if ended:
                        break
                    words = work.again(place)
                    continue
            running.wait()
            break
        if running.process.returncode != 0 and not ended:
            report.refused.append(f"{' '.join(words)}: {running.said}")
        elif len(report.moments) > before:
            report.completed += 1
            report.differing += _differences(expected, work.result(place))
        shutil.rmtree(place)
    return report


def _undisturbed(work: Work, place: Path, report: Report) -> dict[str, str]:
    place.mkdir(parents=True)
    running = Running(work.first(place), place / "log")
    began = running.started(work, place)
    running.wait()
    report.seconds = time.monotonic() - began
    assert running.process.returncode == 0, running.said
    return work.result(place)


def _differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
