"""What a training takes besides its computations."""

from __future__ import annotations

import time

import torch

from frostbox.finite import FiniteLoss
from frostbox.overhead import measured_overhead
from frostbox.training import FitSettings

SETTINGS = FitSettings(epochs=7, batch_size=8, ema=0.998, clip=5.0, patience=3, shuffle_window=2)
PARAMETERS = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), ())]


def test_a_slower_loop_and_a_slower_epoch_are_seen(monkeypatch):
    usual = measured_overhead(PARAMETERS, SETTINGS, "cpu")
    assert usual.step > 0
    assert usual.epoch >= 0

    def slow_step(self, trainer, module, loss):
        time.sleep(0.05)

    def slow_epoch(self, trainer, module):
        time.sleep(0.5)

    monkeypatch.setattr(FiniteLoss, "on_before_backward", slow_step)
    monkeypatch.setattr(FiniteLoss, "on_train_epoch_end", slow_epoch)
    slowed = measured_overhead(PARAMETERS, SETTINGS, "cpu")
    assert slowed.step >= 0.045
    assert slowed.epoch >= 0.4


def test_it_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    measured_overhead(PARAMETERS, SETTINGS, "cpu")
    assert torch.equal(torch.rand(2), expected)
    assert list(tmp_path.iterdir()) == []
    assert all(p.grad is None for p in PARAMETERS)
