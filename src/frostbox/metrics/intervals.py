"""Confidence intervals of AP by the bootstrap over images, for one model or two on the same images.

Images are drawn with replacement, as many as there are (Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993, chapter 13: percentile intervals). A drawn image brings all of its objects and
detections, as often as it was drawn. What is matched to what stays the same then, and so does the
order of the scores; only the weights of the images change. So matching is done once, and the AP of
all resamples comes from cumulative sums of weights at the detections that are hits. With few images
such intervals are a little too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from frostbox.metrics import coco_match, voc
from frostbox.metrics.voc import Boxes, Floats, Ints

Rule = Literal["ap50", "ap50_11point", "coco_ap"]
Weights = NDArray[np.int32]
_BLOCK = 128  # resamples at a time: the rows that are gathered stay in the processor's cache


@dataclass(frozen=True)
class Interval:
    """A figure on all images, and the interval that holds `confidence` of the resamples.

    None where no image has ground truth of the class, and bounds None where no resample has.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A minus B on the same images, its interval, and the share of resamples where A is better.

    A resample in which both are equal counts half.
    """

    a: float | None
    b: float | None
    difference: Interval
    probability: float | None


@dataclass(frozen=True)
class RuleIntervals:
    """Intervals of one rule: of the mean over classes, and of each class in order."""

    mean: Interval
    classes: tuple[Interval, ...]


@dataclass(frozen=True)
class RuleDifferences:
    """Differences of one rule: of the mean over classes, and of each class in order."""

    mean: Difference
    classes: tuple[Difference, ...]


@dataclass(frozen=True)
class _Ranked:
    """One class: detections by descending score, their outcomes at T thresholds, its objects."""

    image: Ints  # (D,)
    hit: NDArray[np.bool_]  # (T, D)
    ignored: NDArray[np.bool_]  # (T, D)
    truth_image: Ints  # (P,) of the objects that count


def bootstrap(
    detections: Boxes,
    ground_truth: Boxes,
    num_classes: int,
    num_images: int,
    *,
    rules: tuple[Rule, ...] = ("ap50", "ap50_11point"),
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[Rule, RuleIntervals]:
    """Percentile intervals of the mean AP and of each class, by rule.

    Args:
        num_images: all images that were scored, those without boxes too.
        rules: `ap50` (all-point area), `ap50_11point`, `coco_ap` (mean over ten IoUs).
        confidence: share of the resamples inside, between 0 and 1.

    Raises:
        ValueError: as `voc.assign`; an image index outside `num_images`.
    """
    weights = _draw(num_images, resamples, seed)
    results: dict[Rule, RuleIntervals] = {}
    for rule, sampled in _sampled(
        detections, ground_truth, num_classes, num_images, rules, weights
    ).items():
        columns = [_interval(column, confidence) for column in sampled.T]
        results[rule] = RuleIntervals(columns[-1], tuple(columns[:-1]))
    return results


def compare(
    a: Boxes,
    b: Boxes,
    ground_truth: Boxes,
    num_classes: int,
    num_images: int,
    *,
    rules: tuple[Rule, ...] = ("ap50", "ap50_11point"),
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[Rule, RuleDifferences]:
    """Paired bootstrap of the detections `a` and `b`: both are scored on the same resamples.

    Arguments and errors as in `bootstrap`.
    """
    weights = _draw(num_images, resamples, seed)
    ap_a = _sampled(a, ground_truth, num_classes, num_images, rules, weights)
    ap_b = _sampled(b, ground_truth, num_classes, num_images, rules, weights)
    results: dict[Rule, RuleDifferences] = {}
    for rule in rules:
        columns = [
            _difference(column_a, column_b, confidence)
            for column_a, column_b in zip(ap_a[rule].T, ap_b[rule].T, strict=True)
        ]
        results[rule] = RuleDifferences(columns[-1], tuple(columns[:-1]))
    return results


def weighted_ap(
    detections: Boxes,
    ground_truth: Boxes,
    num_classes: int,
    weights: Weights,
    rules: tuple[Rule, ...] = ("ap50", "ap50_11point"),
) -> dict[Rule, Floats]:
    """AP of each class (R, K) as if image i were there `weights[i, r]` times; NaN without objects.

    Args:
        weights: (images, R) integers, not negative.
    """
    found: dict[Rule, Floats] = {}
    at_half: list[Rule] = [rule for rule in rules if rule != "coco_ap"]
    if at_half:
        ranked = _rank_voc(detections, ground_truth, num_classes)
        columns = [_class_ap(one, weights, at_half) for one in ranked]
        for n, rule in enumerate(at_half):
            found[rule] = np.column_stack([column[n] for column in columns])
    if "coco_ap" in rules:
        ranked = _rank_coco(detections, ground_truth, num_classes)
        found["coco_ap"] = np.column_stack([_class_ap(o, weights, ["coco_ap"])[0] for o in ranked])
    return found


def _draw(num_images: int, resamples: int, seed: int) -> Weights:
    """(images, 1 + resamples): the first column is the sample itself."""
    rng = np.random.default_rng(seed)
    weights = np.ones((num_images, 1 + resamples), np.int32)
    for r in range(1, 1 + resamples):
        drawn = rng.integers(0, num_images, num_images)
        weights[:, r] = np.bincount(drawn, minlength=num_images)
    return weights


def _sampled(
    detections: Boxes,
    ground_truth: Boxes,
    num_classes: int,
    num_images: int,
    rules: tuple[Rule, ...],
    weights: Weights,
) -> dict[Rule, Floats]:
    """(1 + resamples, K + 1) by rule: AP of the classes, and their mean in the last column."""
    for boxes in (detections, ground_truth):
        voc.check(boxes, num_classes, "boxes", num_images)
    found = weighted_ap(detections, ground_truth, num_classes, weights, rules)
    results: dict[Rule, Floats] = {}
    for rule, ap in found.items():
        known = ~np.isnan(ap)
        count = known.sum(axis=1)
        total = np.where(known, ap, 0.0).sum(axis=1)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        results[rule] = np.column_stack([ap, mean])
    return results


def _interval(column: Floats, confidence: float) -> Interval:
    if np.isnan(column[0]):
        return Interval(None, None, None)
    # A resample without any object of the class has no AP and is left out.
    known = column[1:][~np.isnan(column[1:])]
    if not len(known):
        return Interval(float(column[0]), None, None)
    outside = (1 - confidence) / 2
    low, high = np.quantile(known, [outside, 1 - outside])
    return Interval(float(column[0]), float(low), float(high))


def _difference(a: Floats, b: Floats, confidence: float) -> Difference:
    if np.isnan(a[0]):
        return Difference(None, None, Interval(None, None, None), None)
    gain = (a - b)[1:]
    gain = gain[~np.isnan(gain)]
    better = float(((gain > 0) + 0.5 * (gain == 0)).mean()) if len(gain) else None
    return Difference(float(a[0]), float(b[0]), _interval(a - b, confidence), better)


def _rank_voc(detections: Boxes, ground_truth: Boxes, num_classes: int) -> list[_Ranked]:
    assigned = voc.assign(detections, ground_truth, num_classes)
    order = assigned.order
    return _by_class(
        detections,
        ground_truth,
        num_classes,
        order,
        assigned.hit[order][None],
        assigned.ignored[order][None],
    )


def _rank_coco(detections: Boxes, ground_truth: Boxes, num_classes: int) -> list[_Ranked]:
    found = coco_match.match(detections, ground_truth, num_classes)
    return _by_class(
        detections, ground_truth, num_classes, found.detection, found.hit, found.ignored
    )


def _by_class(
    detections: Boxes,
    ground_truth: Boxes,
    num_classes: int,
    order: Ints,
    hit: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> list[_Ranked]:
    image, label = detections.image[order], detections.label[order]
    wanted = ~ground_truth.difficult
    ranked = []
    for k in range(num_classes):
        mine = np.flatnonzero(label == k)
        objects = ground_truth.image[wanted & (ground_truth.label == k)]
        ranked.append(_Ranked(image[mine], hit[:, mine], ignored[:, mine], objects))
    return ranked


def _class_ap(ranked: _Ranked, weights: Weights, rules: list[Rule]) -> list[Floats]:
    """AP (R,) of one class under each rule, mean over the T thresholds."""
    per_image = np.bincount(ranked.truth_image, minlength=len(weights))
    positives = per_image @ weights
    sums = [np.zeros(weights.shape[1]) for _ in rules]
    # Precision is needed at the hits alone. What is a hit or ignored at some threshold is marked;
    # the rest, nearly all, is a false positive throughout and summed up between the marked ones.
    marked = np.flatnonzero((ranked.hit | ranked.ignored).any(axis=0))
    rest = np.delete(np.arange(len(ranked.image)), marked)
    before = np.searchsorted(marked, rest)  # the marked detection that each one precedes
    rest, before = rest[before < len(marked)], before[before < len(marked)]
    first = np.flatnonzero(np.diff(before, prepend=-1))
    for start in range(0, weights.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        part = np.ascontiguousarray(weights[:, block])
        own = part[ranked.image[marked]]
        counted = own.copy()
        if len(rest):
            counted[before[first]] += np.add.reduceat(part[ranked.image[rest]], first, axis=0)
        np.cumsum(counted, axis=0, out=counted)
        for hit, ignored in zip(ranked.hit[:, marked], ranked.ignored[:, marked], strict=True):
            at_hit, at_ignored = np.flatnonzero(hit), np.flatnonzero(ignored)
            gained = own[at_hit]
            hits = np.cumsum(gained, axis=0, dtype=np.int32)
            detected = counted[at_hit]
            if len(at_ignored):
                skipped = np.zeros((len(at_ignored) + 1, detected.shape[1]), np.int32)
                np.cumsum(own[at_ignored], axis=0, out=skipped[1:])
                detected -= skipped[np.searchsorted(at_ignored, at_hit)]
            precision = hits / np.maximum(detected, 1)
            envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            for total, rule in zip(sums, rules, strict=True):
                if rule == "ap50":
                    area = (gained * envelope).sum(axis=0)
                    total[block] += area / np.maximum(positives[block], 1)
                else:
                    total[block] += _mean_at_recalls(rule, hits, envelope, positives[block])
    return [np.where(positives > 0, total / len(ranked.hit), np.nan) for total in sums]


def _mean_at_recalls(rule: Rule, hits: Weights, envelope: Floats, positives: Ints) -> Floats:
    """Mean of the envelope (H, R) at the recalls of the rule, zero where they are not reached."""
    if rule == "ap50_11point":
        # In integers, as in voc.py: 3 of 10 reach recall 0.3.
        needed = -(-np.arange(11) * positives[:, None] // 10)
    else:
        recall = np.linspace(0.0, 1.0, 101)
        count = np.maximum(positives[:, None], 1)
        needed = np.ceil(recall * count).astype(np.int64)
        # pycocotools compares quotients in floating point: the smallest n with n / count >= recall.
        needed -= ((needed - 1) / count >= recall) & (needed > 0)
        needed += needed / count < recall
    # One search for all resamples: each column of hits is lifted above the one before.
    rows, columns = hits.shape
    lift = (np.arange(columns) * (int(positives.max(initial=0)) + 2))[:, None]
    keys = (hits.T + lift).ravel()
    at = np.searchsorted(keys, (needed + lift).ravel(), side="left")
    at = at.reshape(needed.shape) - np.arange(columns)[:, None] * rows
    padded = np.vstack([envelope, np.zeros((1, columns))])
    mean: Floats = padded[at, np.arange(columns)[:, None]].mean(axis=1)
    return mean
