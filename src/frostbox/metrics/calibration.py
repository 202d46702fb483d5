"""How far scores can be believed: reliability, expected calibration error, temperature scaling.

A score is taken as the probability that the detection is a hit by the VOC rule; detections that the
rule ignores are left out. Temperature scaling (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, section 4.2) divides the logit of the score by one number, fitted on `val` by
the negative log-likelihood. It keeps the order of the scores, and so every AP, as long as floating
point tells the scaled scores apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frostbox.metrics.voc import Assignment, Boxes, Floats

_EDGE = 1e-6  # scores are kept this far from 0 and 1, where the logit has no value
_LOG_RANGE = np.log(20.0)  # temperatures from 1/20 to 20


@dataclass(frozen=True)
class Reliability:
    """Scores in bins of equal width, and how often they were right.

    Attributes:
        edges: (B + 1,) from 0 to 1; a bin holds its lower edge, the last one 1.0 too.
        count: (B,) detections; score: (B,) their mean score; accuracy: (B,) share of hits among
            them; both NaN in an empty bin.
        ece: expected calibration error: mean of `|accuracy - score|`, weighted by count; None
            without any detection. mce: the largest of these gaps.
    """

    edges: Floats
    count: NDArray[np.int64]
    score: Floats
    accuracy: Floats
    ece: float | None
    mce: float | None


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature (above 1: scores were too extreme) and what it changed.

    Attributes:
        nll_before, nll_after: mean negative log-likelihood, in nats a detection.
        ece_before, ece_after: on the detections that it was fitted on; None without any.
    """

    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float | None
    ece_after: float | None


def outcomes(detections: Boxes, assignment: Assignment) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores (N,) and hits (N,) of the detections that the VOC rule does not ignore."""
    counted = ~assignment.ignored
    return detections.score[counted], assignment.hit[counted]


def reliability(scores: ArrayLike, hit: ArrayLike, bins: int = 15) -> Reliability:
    """Reliability of (N,) scores in [0, 1] against (N,) bool hits.

    Raises:
        ValueError: different lengths, or a score outside [0, 1].
    """
    score, right = _checked(scores, hit)
    # Searched in the edges that are returned: 0.3 * 10 is not 3 for every 0.3 in floating point.
    edges = np.arange(bins + 1) / bins
    index = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # an empty bin has no mean
        mean_score = np.bincount(index, score, minlength=bins) / count
        accuracy = np.bincount(index, right, minlength=bins) / count
    ece = mce = None
    if len(score):
        gap = np.abs(accuracy - mean_score)[count > 0]
        ece = float(np.average(gap, weights=count[count > 0]))
        mce = float(gap.max())
    return Reliability(edges, count, mean_score, accuracy, ece, mce)


def scale(scores: ArrayLike, temperature: float) -> Floats:
    """Scores with their logits divided by `temperature`.

    Scores within 1e-6 of 0 or 1 are treated as lying at that distance.
    """
    if not temperature > 0:
        raise ValueError(f"a temperature is above 0; this is {temperature}")
    result: Floats = 1 / (1 + np.exp(-_logit(np.asarray(scores, np.float64)) / temperature))
    return result


def fit_temperature(scores: ArrayLike, hit: ArrayLike, bins: int = 15) -> Temperature:
    """The temperature between 1/20 and 20 with the lowest negative log-likelihood.

    Found by golden-section search over its logarithm: the likelihood is convex in 1 / temperature,
    so there is one minimum. Without hits, without false positives or without detections
    nothing can be fitted: the temperature is 1.

    Args:
        scores: (N,) in [0, 1]; hit: (N,) bool; bins: for the ECE before and after.

    Raises:
        ValueError: different lengths, or a score outside [0, 1].
    """
    score, right = _checked(scores, hit)
    logit = _logit(score)

    def loss(log_temperature: float) -> float:
        if not len(logit):
            return 0.0
        scaled = logit / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0.0, np.where(right, -scaled, scaled))))

    best = 0.0
    if right.any() and not right.all():
        best = _golden_section(loss, -_LOG_RANGE, _LOG_RANGE)
    temperature = float(np.exp(best))
    return Temperature(
        temperature=temperature,
        nll_before=loss(0.0),
        nll_after=loss(best),
        ece_before=reliability(score, right, bins).ece,
        ece_after=reliability(scale(score, temperature), right, bins).ece,
    )


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> float:
    ratio = (np.sqrt(5.0) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-5:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float((low + high) / 2)


def _logit(score: Floats) -> Floats:
    inside = np.clip(score, _EDGE, 1 - _EDGE)
    result: Floats = np.log(inside) - np.log1p(-inside)
    return result


def _checked(scores: ArrayLike, hit: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    score, right = np.asarray(scores, np.float64), np.asarray(hit, bool)
    if score.shape != right.shape:
        raise ValueError(f"{score.shape} scores and {right.shape} hits: one hit for each score")
    if len(score) and not (score.min() >= 0 and score.max() <= 1):
        raise ValueError(f"scores from {score.min()} to {score.max()}; they must be in [0, 1]")
    return score, right
