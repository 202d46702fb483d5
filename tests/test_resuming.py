# ruff: noqa: F811
"""What a training leaves to go on with, and what happens to it when something goes wrong."""

from __future__ import annotations

import csv
import errno
from dataclasses import replace
from pathlib import Path

import pytest

from frostbox import resuming
from frostbox.errors import DivergedError, TrainingError
from frostbox.heads import create_head
from frostbox.resuming import BEFORE, LAST, command_to_resume
from frostbox.steps import HeadModule
from frostbox.training import CachedViews, view_sampler
from tests.damage import spoil_loss
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


def test_a_damaged_checkpoint_never_takes_the_place_of_the_one_before(
    shapes, tmp_path, monkeypatch
):
    every_batch = replace(SETTINGS, batch_size=8, keep_minutes=1e-9)
    mend = stop_before(monkeypatch, 4)
    with pytest.raises(Stop):
        run(shapes, "grid", tmp_path / "run", every_batch)
    mend()
    good = (tmp_path / "run" / BEFORE).read_bytes()
    (tmp_path / "run" / LAST).write_bytes(b"half")

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(resuming, "write_whole", full)
        with pytest.raises(TrainingError, match="go on with --resume from the one before"):
            run(shapes, "grid", tmp_path / "run", every_batch, resume=True)
    assert (tmp_path / "run" / BEFORE).read_bytes() == good
    whole, _ = run(shapes, "grid", tmp_path / "whole", every_batch)
    resumed, _ = run(shapes, "grid", tmp_path / "run", every_batch, resume=True)
    assert_equal_weights(weights(whole), weights(resumed))


def test_a_run_that_was_moved_knows_what_was_best(shapes, tmp_path, monkeypatch):
    # Nothing is learned, and no epoch behind an early one is better.
    still = replace(SETTINGS, lr=1e-9, epochs=8)
    whole, expected = run(shapes, "single", tmp_path / "whole", still)
    assert expected.best_epoch < 6
    mend = stop_before(monkeypatch, 3 * (expected.best_epoch + 2))
    with pytest.raises(Stop):
        run(shapes, "single", tmp_path / "here", still)
    mend()
    (tmp_path / "here").rename(tmp_path / "there")
    resumed, result = run(shapes, "single", tmp_path / "there", still, resume=True)
    assert result == expected
    assert_equal_weights(weights(whole), weights(resumed))
    # Nothing is left to do: the end is found again, also from another place.
    (tmp_path / "there").rename(tmp_path / "further")
    again, result = run(shapes, "single", tmp_path / "further", still, resume=True)
    assert result == expected
    assert_equal_weights(weights(whole), weights(again))


def test_a_run_that_lost_its_patience_stays_at_its_end(shapes, tmp_path):
    impatient = replace(SETTINGS, lr=1e-9, epochs=40, patience=1)
    ended, expected = run(shapes, "single", tmp_path / "run", impatient)
    assert expected.epochs < 40
    again, result = run(shapes, "single", tmp_path / "run", impatient, resume=True)
    assert result == expected
    assert_equal_weights(weights(ended), weights(again))


@pytest.mark.parametrize("validate", [True, False])
def test_a_loss_that_is_no_number_leaves_the_weights_that_were_kept(
    shapes, validate, tmp_path, monkeypatch
):
    spoil_loss(monkeypatch, 4, float("inf"))
    with pytest.raises(DivergedError, match="loss is inf in epoch 2 of 4, batch 2 of 3") as caught:
        run(shapes, "grid", tmp_path / "run", validate=validate)
    assert caught.value.kept == tmp_path / "run" / "best.ckpt"
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0"]
    # The images that it names are those of the batch.
    sets, caches, spec = shapes
    train = CachedViews(caches["train"], sets["train"], create_head("grid", spec, 3))
    sampler = view_sampler(train, SETTINGS)
    sampler.set_epoch(1)
    ids = [train.ids[image] for image, _ in list(sampler)[8:16]]
    assert f"(images {', '.join(ids)})" in str(caught.value)


def test_the_command_that_is_printed():
    given = {"cache": None, "devices": 2, "nodes": None}
    command = command_to_resume("my voc", Path("run"), given)
    assert command == "frostbox train 'my voc' --out run --devices 2 --resume"
