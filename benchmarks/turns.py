"""What the benchmarks share: rivals that take turns, rows of a table, memory, the machine."""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from frostbox.backbones import Backbone
from frostbox.data.annotations import DetectionSet
from frostbox.heads import Head, create_head
from frostbox.learning import feature_spec
from frostbox.settings import TrainSettings
from frostbox.training import FitSettings

NAME, STRIDES = "efficientnet_lite0", (8, 16, 32)
SIZE = (320, 320)
BATCH = 32
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results.md"


@dataclass
class Row:
    """A line of the table: a ratio, or a figure with its unit; a value for each turn."""

    part: str
    what: str
    values: list[float]
    unit: str = "x"
    target: str = ""

    @property
    def key(self) -> str:
        return f"{self.part}: {self.what}"

    def text(self) -> str:
        """The median, and the range where there is one."""
        shown = number(median(self.values)) + ("" if self.unit == "x" else f" {self.unit}")
        if len(self.values) > 1:
            shown += f" ({number(min(self.values))} to {number(max(self.values))})"
        return shown


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Bench:
    """What the parts share.

    Attributes:
        dataset: the photos and boxes. many: more of them, for what takes its time to get going.
        folder: for files that go away again. turns: of the rivals.
    """

    dataset: DetectionSet
    many: DetectionSet
    folder: Path
    turns: int
    backbone: Backbone
    rows: list[Row] = field(default_factory=list)

    def add(
        self, part: str, what: str, values: list[float], unit: str = "x", target: str = ""
    ) -> None:
        row = Row(part, what, values, unit, target)
        self.rows.append(row)
        print(f"{row.key}: {row.text()}" + (f" (aim: {target})" if target else ""), flush=True)

    def ratios(
        self, part: str, seconds: dict[str, list[float]], ours: str, aims: dict[str, str]
    ) -> None:
        """How many times faster one is than each of the others, turn by turn."""
        for rival, taken in seconds.items():
            if rival != ours:
                ratios = [a / b for a, b in zip(taken, seconds[ours], strict=True)]
                self.add(part, f"{ours} against {rival}", ratios, target=aims.get(rival, ""))


def in_turns(rivals: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Seconds of each, every rival once in every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(turns):
        for name, run in rivals.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def new_head(bench: Bench) -> Head:
    """The default head, as `train` makes it."""
    torch.manual_seed(0)
    spec = feature_spec(bench.backbone, SIZE)
    return create_head("pyramid", spec, len(bench.dataset.classes))


def fit_settings(**changes: Any) -> FitSettings:
    return replace(TrainSettings.create({}).fit, batch_size=BATCH, validate_every=0, **changes)


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """MB of anonymous memory, several times a second."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    seen.append(int(line.split()[1]) / 1e3)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def write_part(begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of docs/results.md."""
    before, rest = RESULTS.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    RESULTS.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def machine() -> str:
    """Cores and name of the processor, and torch's version."""
    name = platform.processor() or platform.machine()
    known = Path("/proc/cpuinfo")
    if known.exists():
        lines = known.read_text().splitlines()
        name = next((x.split(": ", 1)[1] for x in lines if x.startswith("model name")), name)
    extra = [k for k in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(k)]
    return ", ".join([f"{os.cpu_count()} cores of {name}", *extra, f"torch {torch.__version__}"])
