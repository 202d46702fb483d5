"""Reliability and temperature scaling: worked by hand, against hotcoco, and on known scores."""

from __future__ import annotations

import hotcoco.metrics
import numpy as np
import pytest

from frostbox.metrics import calibration, voc
from tests.metrics.scenes import random_scene


def test_reliability_worked_by_hand():
    # Bins of 0.5: {0.1 miss, 0.3 hit} and {0.5 hit, 0.9 hit, 1.0 miss}.
    found = calibration.reliability([0.1, 0.3, 0.5, 0.9, 1.0], [0, 1, 1, 1, 0], bins=2)
    assert found.count.tolist() == [2, 3]
    assert found.score.tolist() == pytest.approx([0.2, 0.8])
    assert found.accuracy.tolist() == pytest.approx([1 / 2, 2 / 3])
    # gaps 0.3 and 0.8 - 2/3; weighted 2/5 and 3/5.
    assert found.ece == pytest.approx(0.4 * 0.3 + 0.6 * (0.8 - 2 / 3))
    assert found.mce == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(10))
def test_ece_equals_hotcocos(seed):
    rng = np.random.default_rng(seed)
    score, hit = rng.random(200), rng.random(200) < 0.4
    found = calibration.reliability(score, hit, bins=10)
    theirs = hotcoco.metrics.calibration_error(score, hit, 10)
    assert (found.ece, found.mce) == pytest.approx(theirs, abs=1e-12)


def test_reliability_of_nothing():
    found = calibration.reliability([], [], bins=4)
    assert found.count.tolist() == [0, 0, 0, 0]
    assert found.ece is None


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_scores_is_found_again(true):
    rng = np.random.default_rng(1)
    honest = rng.beta(1, 1, 40_000)
    hit = rng.random(40_000) < honest
    spoilt = calibration.scale(honest, 1 / true)
    fit = calibration.fit_temperature(spoilt, hit)
    assert fit.temperature == pytest.approx(true, rel=0.05)
    assert fit.nll_after <= fit.nll_before
    assert fit.ece_after < 0.02
    if true != 1.0:
        assert fit.ece_after < fit.ece_before / 3


def test_the_fit_is_the_minimum_of_the_likelihood():
    rng = np.random.default_rng(3)
    score = rng.random(300)
    hit = rng.random(300) < score**2
    fit = calibration.fit_temperature(score, hit)

    def nll(temperature):
        p = calibration.scale(score, temperature)
        return -np.mean(np.where(hit, np.log(p), np.log(1 - p)))

    assert fit.nll_after == pytest.approx(nll(fit.temperature))
    assert fit.nll_before == pytest.approx(nll(1.0))
    grid = [nll(t) for t in np.geomspace(0.5, 20, 400)]
    assert fit.nll_after <= min(grid) + 1e-9


def test_scaling_keeps_the_order_and_the_ap():
    detections, truth = random_scene(0)
    scaled = voc.Boxes(
        detections.image,
        detections.box,
        detections.label,
        calibration.scale(detections.score, 2.5),
        detections.difficult,
    )
    assert ((scaled.score > 0) & (scaled.score < 1)).all()
    assert voc.evaluate(scaled, truth, 3).mean_ap == voc.evaluate(detections, truth, 3).mean_ap
    np.testing.assert_allclose(calibration.scale([0.2, 0.5, 0.9], 1.0), [0.2, 0.5, 0.9])


def test_outcomes_leave_out_what_is_ignored():
    detections, truth = random_scene(0, difficult=0.5)
    assigned = voc.assign(detections, truth, 3)
    score, hit = calibration.outcomes(detections, assigned)
    assert len(score) == len(detections.score) - assigned.ignored.sum()
    assert assigned.ignored.any()
    assert hit.sum() == assigned.hit.sum()


@pytest.mark.parametrize("hit", [[], [True, True], [False, False]])
def test_what_cannot_be_fitted_keeps_temperature_one(hit):
    fit = calibration.fit_temperature([0.3, 0.8][: len(hit)], hit)
    assert fit.temperature == 1.0
    assert fit.nll_before == fit.nll_after


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        calibration.fit_temperature([1.5], [True])
    with pytest.raises(ValueError, match="one hit for each score"):
        calibration.reliability([0.5, 0.5], [True])
    with pytest.raises(ValueError, match="above 0"):
        calibration.scale([0.5], 0.0)
