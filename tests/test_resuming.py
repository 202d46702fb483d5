# ruff: noqa: F811
"""What a training leaves to go on with, and what happens to it when something goes wrong."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from frostbox.resuming import command_to_resume
from frostbox.steps import HeadModule
from tests.test_training import SETTINGS, assert_equal_weights, run, shapes, weights  # noqa: F401


class Stop(Exception):
    """Stands for a training that is killed before a step."""


def stop_before(monkeypatch, step):
    """Raise before this step of the whole run; the function that takes it back."""
    original = HeadModule.training_step

    def stopped(self, batch, index):
        if self.global_step == step:
            raise Stop
        return original(self, batch, index)

    monkeypatch.setattr(HeadModule, "training_step", stopped)
    return lambda: monkeypatch.setattr(HeadModule, "training_step", original)


# Three batches an epoch: in the first one, behind a validation, and the last of an epoch.
@pytest.mark.parametrize(("step", "ema"), [(1, 0.0), (4, 0.9), (5, 0.9)])
def test_within_an_epoch_too_no_more_is_lost_than_was_said(
    shapes, step, ema, tmp_path, monkeypatch
):
    every_batch = replace(SETTINGS, batch_size=8, keep_minutes=1e-9, ema=ema)
    whole, expected = run(shapes, "grid", tmp_path / "whole", every_batch)
    mend = stop_before(monkeypatch, step)
    with pytest.raises(Stop):
        run(shapes, "grid", tmp_path / "cut", every_batch)
    mend()
    seen = []
    original = HeadModule.on_train_batch_start

    def noted(self, batch, index):
        seen.append(self.global_step)
        original(self, batch, index)

    monkeypatch.setattr(HeadModule, "on_train_batch_start", noted)
    resumed, result = run(shapes, "grid", tmp_path / "cut", every_batch, resume=True)
    assert seen[0] == step  # the step that was not done, and none twice
    assert_equal_weights(weights(whole), weights(resumed))
    assert result == expected
    rows = [
        list(csv.DictReader((tmp_path / part / "metrics.csv").open())) for part in ("whole", "cut")
    ]
    assert rows[0] == rows[1]


def test_the_command_that_is_printed():
    given = {"cache": None, "devices": 2, "nodes": None}
    command = command_to_resume("my voc", Path("run"), given)
    assert command == "frostbox train 'my voc' --out run --devices 2 --resume"
