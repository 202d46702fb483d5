"""The progress of long work, as a log file shows it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from frostbox import progress as module
from frostbox.progress import Progress


@pytest.mark.parametrize(
    ("total", "unit", "seconds", "line"),
    [
        (100, "images", 10.0, "working: 50/100, 5.0 images/s, 10 s left, loss 1.0"),
        (100, "epochs", 2000.0, "working: 50/100, 40 s an epoch, 33 min 20 s left, loss 1.0"),
    ],
)
def test_a_line_says_how_far_how_fast_and_how_long(total, unit, seconds, line, monkeypatch, capsys):
    now = iter([0.0, seconds])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(now))
    shown = Progress(Console(file=io.StringIO()))
    shown.start("working", total, unit)
    shown.update(50, "loss 1.0")
    assert capsys.readouterr().err == line + "\n"
