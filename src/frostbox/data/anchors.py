"""Anchor sizes for a data set, by k-means on IoU distance. numpy only.

Redmon & Farhadi, "YOLO9000: Better, Faster, Stronger" (2017), section 2: boxes are compared by
shape alone, as if they shared a corner, with the distance 1 - IoU. Euclidean distance would let
large boxes decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sizes = NDArray[np.float64]

_STARTS = 3
_ROUNDS = 100


class Anchors(TypedDict):
    """`sizes` are (width, height), smallest area first; `mean_iou` is the mean best IoU."""

    k: int
    sizes: list[tuple[float, float]]
    mean_iou: float


def size_iou(sizes: ArrayLike, anchors: ArrayLike) -> Sizes:
    """IoU of boxes that share their centre, so of their shapes alone.

    Args:
        sizes: (N, 2) positive widths and heights; anchors: (K, 2), in the same unit.

    Returns:
        (N, K) float64 in [0, 1].
    """
    a, b = np.asarray(sizes, dtype=float), np.asarray(anchors, dtype=float)
    overlap = np.minimum(a[:, None, 0], b[None, :, 0]) * np.minimum(a[:, None, 1], b[None, :, 1])
    union = a.prod(axis=1)[:, None] + b.prod(axis=1)[None, :] - overlap
    return np.asarray(overlap / union)


def suggest_anchors(sizes: ArrayLike, counts: Iterable[int], seed: int = 0) -> list[Anchors]:
    """The anchors that k-means on IoU distance finds, for each number of anchors.

    The best of several starts (k-means++ on the same distance) is kept, by mean best IoU.

    Args:
        sizes: (N, 2) widths and heights, relative to the image or in pixels.
        counts: numbers of anchors; those above the number of different sizes are left out.
        seed: the same seed and sizes give the same anchors.

    Returns:
        One entry a count, in the unit of `sizes`; none when there is no box.

    Raises:
        ValueError: a width or height that is not positive.
    """
    boxes = np.asarray(sizes, dtype=float).reshape(-1, 2)
    if not (boxes > 0).all():
        raise ValueError("widths and heights of boxes must be positive")
    different = len(np.unique(boxes, axis=0))
    return [_best_of_starts(boxes, k, seed) for k in counts if 1 <= k <= different]


def _best_of_starts(boxes: Sizes, k: int, seed: int) -> Anchors:
    rng = np.random.default_rng([seed, k])
    runs = [_k_means(boxes, _spread_start(boxes, k, rng)) for _ in range(_STARTS)]
    anchors, mean_iou = max(runs, key=lambda run: run[1])
    anchors = anchors[np.argsort(anchors.prod(axis=1), kind="stable")]
    return {"k": k, "sizes": [(float(w), float(h)) for w, h in anchors], "mean_iou": mean_iou}


def _spread_start(boxes: Sizes, k: int, rng: np.random.Generator) -> Sizes:
    """Boxes far from one another (k-means++, Arthur & Vassilvitskii 2007)."""
    chosen = [boxes[rng.integers(len(boxes))]]
    distance = 1 - size_iou(boxes, [chosen[0]])[:, 0]
    while len(chosen) < k:
        weight = distance**2
        chosen.append(boxes[rng.choice(len(boxes), p=weight / weight.sum())])
        distance = np.minimum(distance, 1 - size_iou(boxes, [chosen[-1]])[:, 0])
    return np.array(chosen)


def _k_means(boxes: Sizes, anchors: Sizes) -> tuple[Sizes, float]:
    """Lloyd's rounds from a start; the best anchors seen, and their mean best IoU.

    The mean of a cluster does not minimise IoU distance exactly, so the last round need not be
    the best one.
    """
    best, best_iou = anchors, -1.0
    previous = None
    for _ in range(_ROUNDS):
        iou = size_iou(boxes, anchors)
        nearest = iou.argmax(axis=1)
        mean_iou = float(iou.max(axis=1).mean())
        if mean_iou > best_iou:
            best, best_iou = anchors, mean_iou
        if previous is not None and np.array_equal(nearest, previous):
            break
        previous = nearest
        members = np.bincount(nearest, minlength=len(anchors))
        sums = [np.bincount(nearest, boxes[:, side], len(anchors)) for side in (0, 1)]
        means = np.stack(sums, axis=1) / np.maximum(members, 1)[:, None]
        anchors = np.where(members[:, None] > 0, means, anchors)
    return best, best_iou
