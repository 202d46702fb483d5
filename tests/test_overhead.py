"""What a training takes besides its computations."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from frostbox.finite import FiniteLoss
from frostbox.overhead import _Idle, measured_overhead
from frostbox.resuming import WholeCheckpoints
from frostbox.training import FitSettings

SETTINGS = FitSettings(epochs=7, batch_size=8, ema=0.998, clip=5.0, patience=3, shuffle_window=2)


@pytest.mark.parametrize("validated", [False, True])
def test_a_slower_loop_and_a_slower_epoch_are_seen(monkeypatch, tmp_path, validated):
    usual = measured_overhead(1000, SETTINGS, "cpu", tmp_path, validated=validated)

    def slow_step(self, trainer, module, loss):
        time.sleep(0.1)

    def slow_epoch(self, trainer, module):
        time.sleep(1.0)

    monkeypatch.setattr(FiniteLoss, "on_before_backward", slow_step)
    monkeypatch.setattr(FiniteLoss, "on_train_epoch_end", slow_epoch)
    slowed = measured_overhead(1000, SETTINGS, "cpu", tmp_path, validated=validated)
    assert 0 < usual.step < slowed.step
    assert slowed.step >= 0.095
    assert usual.epoch < slowed.epoch
    assert slowed.epoch >= 0.95


@pytest.mark.parametrize(("validated", "written"), [(False, 8), (True, 4)])
def test_checkpoints_are_as_large_and_as_many_as_in_a_training(
    monkeypatch, tmp_path, validated, written
):
    sizes = []
    usual = WholeCheckpoints.save_checkpoint

    def save(self, checkpoint, path, storage_options=None):
        usual(self, checkpoint, path, storage_options)
        assert Path(path).is_relative_to(tmp_path)
        sizes.append(sum(f.stat().st_size for f in tmp_path.rglob("*.ckpt")))

    monkeypatch.setattr(WholeCheckpoints, "save_checkpoint", save)
    weights = 100_000
    measured_overhead(weights, SETTINGS, "cpu", tmp_path, validated=validated)
    assert written <= len(sizes) <= written + 1
    assert 4 * 4 * weights < sizes[0] < 4 * 4 * weights + 100_000


def test_it_leaves_nothing_behind(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    measured_overhead(10, SETTINGS, "cpu", tmp_path, validated=True)
    assert torch.equal(torch.rand(2), expected)
    assert list(tmp_path.iterdir()) == []


def test_what_computes_nothing_is_a_head_all_the_same():
    head = _Idle(10)
    raw = head([torch.zeros(3, 1, 1, 1)])
    boxes, scores = head.decode(raw)
    assert (boxes.shape, scores.shape) == ((3, 0, 4), (3, 0, 1))
    encoded = head.encode([{}] * 3)
    assert all(len(t) == 3 for t in (*raw.values(), *encoded.values()))
    sum(head.loss(raw, encoded).values()).backward()
    assert head.weight.grad == 1
