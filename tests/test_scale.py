"""The simulation of many machines: what it must give where the answer is known."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def scale():
    path = Path(__file__).parents[1] / "benchmarks" / "scale.py"
    spec = importlib.util.spec_from_file_location("scale", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_without_failures_it_takes_what_the_slowest_rank_has_to_do(scale):
    done = scale.extraction(random.Random(0), 4, 10, 2.0, 0.0, 300.0)
    assert (done.seconds, done.lost, done.failures) == (3 * 2.0, 0.0, 0)
    done = scale.training(random.Random(0), 4, 5, 7.0, 0.0, 300.0)
    assert (done.seconds, done.lost, done.failures) == (35.0, 0.0, 0)


def test_few_failures_cost_a_restart_and_half_a_shard_each(scale):
    workers, shards, shard, restart = 64, 64 * 200, 10.0, 100.0
    ideal = 200 * shard
    rate = 0.2 / (workers * ideal)  # one run in five has one
    runs = scale.simulated(
        lambda draw: scale.extraction(draw, workers, shards, shard, rate, restart), 0, 4000
    )
    expected = ideal * (1 + workers * rate * (restart + shard / 2))
    assert fmean(r.seconds for r in runs) == pytest.approx(expected, rel=0.002)
    assert fmean(r.failures for r in runs) == pytest.approx(0.2, rel=0.15)
    lost = fmean(r.lost for r in runs) / fmean(r.failures for r in runs)
    assert lost == pytest.approx(workers * shard / 2, rel=0.05)


def test_training_loses_what_follows_its_last_checkpoint(scale):
    # Daly: with exponential failures of mean M, an epoch of t takes (M + R)(exp(t / M) - 1).
    epochs, epoch, restart, mean = 10, 50.0, 20.0, 100.0
    runs = scale.simulated(
        lambda draw: scale.training(draw, 8, epochs, epoch, 1 / (8 * mean), restart), 1, 4000
    )
    expected = epochs * (mean + restart) * (2.718281828 ** (epoch / mean) - 1)
    assert fmean(r.seconds for r in runs) == pytest.approx(expected, rel=0.03)


@given(st.integers(1, 20), st.integers(1, 200), st.floats(0.1, 50), st.floats(0, 1e-3))
def test_a_run_is_never_faster_than_its_work_and_loses_no_more_than_it_did(
    scale, workers, shards, shard, rate
):
    done = scale.extraction(random.Random(3), workers, shards, shard, rate, 30.0)
    ideal = -(-shards // workers) * shard
    assert done.seconds >= ideal * (1 - 1e-9) + 30.0 * done.failures
    assert 0 <= done.lost <= done.failures * workers * shard


def test_published_rates(scale):
    assert scale.RATES["Llama 3 405B"] == pytest.approx(3.79, abs=0.01)


def test_the_tables_are_printed(scale, capsys):
    scale.main(["run", "--images", "1e6", "--workers", "8", "--runs", "20", "--size", "64"])
    printed = capsys.readouterr().out
    assert "1,000,000 images, 1 views of efficientnet_lite0 at 64" in printed
    assert printed.count("RSC-1 of Meta") == 2
