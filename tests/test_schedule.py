"""Budgets: epochs that fill the time that is left, and times as people write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from frostbox import schedule as scheduling
from frostbox.arguments import parse_time
from frostbox.clock import Clock
from frostbox.errors import SettingsError
from frostbox.overhead import Overhead
from frostbox.progress import Progress
from frostbox.sampling import ViewSampler
from frostbox.schedule import Schedule
from frostbox.training import FitSettings, Samples, validation_interval

FIT = FitSettings(batch_size=32, validate_every=0)


class _Images(Samples):
    """So many images, every tenth without an object."""

    views = 1

    def __init__(self, count: int) -> None:
        self.objects = [int(k % 10 > 0) for k in range(count)]

    def __len__(self) -> int:
        return len(self.objects)

    def __getitems__(self, rows):
        raise AssertionError("nothing is read: the steps are given")


class _Stopped(Clock):
    """At its start, however busy the machine is."""

    def elapsed(self) -> float:
        return 0.0


def planned(monkeypatch, budget, images, *, step=0.32, forward=0.08, val=0, **options):
    """A plan for machine whose steps take what is given, at the start of a training."""
    head, checked = torch.nn.Linear(3, 2), _Images(val) if val else None

    def overhead(weights, settings, device, folder, *, validated):
        assert (weights, device, folder) == (8, "cpu", Path("run"))
        assert validated == (val > 0)
        return Overhead(0.01, 0.1)

    def steps(*arguments):
        assert arguments[0] is head
        assert arguments[-1] == 0.01  # goes into every step
        return step, forward

    monkeypatch.setattr(scheduling, "time_steps", steps)
    monkeypatch.setattr(scheduling, "measured_overhead", overhead)
    clock = _Stopped(Progress())
    plan = Schedule(budget, clock, options.pop("reserve", 0.0), options.pop("share", 1.0))
    fit, measured, said = plan.fit(
        options.pop("fit", FIT), head, _Images(images), checked, None, "cpu", Path("run")
    )
    assert measured == step
    return fit, said


@example(budget=870.0, images=5018, val=0, step=2.625)
@given(
    budget=st.floats(20, 36000), images=st.integers(40, 20000), val=st.integers(0, 3000),
    step=st.floats(0.01, 3),
)  # fmt: skip
def test_what_is_planned_takes_the_time_that_is_left(budget, images, val, step):
    assume(budget > 30 * step)
    with pytest.MonkeyPatch.context() as patch:
        fit, said = planned(patch, budget, images, step=step, val=val)
    length = fit.epoch_images or images
    learning = fit.epochs * (length * step / 32 + 0.1)
    checking = -(-fit.epochs // validation_interval(fit)) * val * 0.08 / 32
    assert 0 < length <= images
    assert f"{fit.epochs:,} epoch" in said
    one = 32 * step / 32
    # Half of the time learns in any case, and an epoch has a batch at least.
    if checking < budget / 2 and one < budget / 2:
        # A validation may be spared, and a batch is not cut.
        assert learning + checking <= 0.97 * budget * 1.06 + one
        # Nor is an epoch added for a twentieth of it.
        spared = one + val * 0.08 / 32 + 0.05 * (images * step / 32 + 0.1)
        assert learning + checking >= 0.97 * budget * 0.98 - spared


def test_the_end_and_the_thawing_keep_their_time(monkeypatch):
    whole, _ = planned(monkeypatch, 1000, 1000)
    rest, _ = planned(monkeypatch, 1000, 1000, reserve=500)
    share, _ = planned(monkeypatch, 1000, 1000, share=0.25)
    assert whole.epochs == pytest.approx(97, abs=1)
    assert rest.epochs == pytest.approx(47, abs=1)
    assert share.epochs == pytest.approx(24, abs=1)


def test_less_than_an_epoch_is_a_part_of_one(monkeypatch):
    fit, _ = planned(monkeypatch, 40, 10000)
    assert fit.epochs == 1
    assert fit.epoch_images == pytest.approx(3880, abs=40)
    with pytest.raises(SettingsError, match="not even 5 steps: the features that were extracted"):
        planned(monkeypatch, 40, 10000, reserve=100)
    without, _ = planned(monkeypatch, 40, 10000, fit=replace(FIT, empty=False))
    assert without.epoch_images == fit.epoch_images


def test_a_part_of_the_images_is_another_one_each_epoch():
    sampler = ViewSampler(range(100), views=2, seed=0, length=30)
    seen = []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        rows = [image for image, _ in sampler]
        assert len(rows) == len(set(rows)) == len(sampler) == 30
        seen += rows
    assert len(set(seen)) > 90


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10min", 600), ("2h", 7200), ("90s", 90), ("1h30min", 5400), ("1.5 h", 5400), ("5m", 300)],
)
def test_times_as_people_write_them(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0min", "soon", "10min!", "-5min", "min"])
def test_other_times_are_refused(text):
    with pytest.raises(SettingsError, match="give a time such as 10min"):
        parse_time(text)


def test_without_a_budget_there_is_no_time():
    assert parse_time(None) is None
