"""Pairs of boxes and the best of them, without loops. numpy in, numpy out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """For each detection the ground truth of its image and class with the largest IoU.

    Attributes:
        index: (D,) index of that ground truth, -1 without one. iou: (D,), 0 without one.
    """

    index: Ints
    iou: Floats


def best_of(found: Ints, truth: Ints, iou: Floats, count: int) -> Match:
    """The pair with the largest IoU of each detection; of equal ones the first.

    Args:
        found, truth: (P,) as `pairs` returns them; iou: (P,); count: number of detections.
    """
    index, best = np.full(count, -1, np.int64), np.zeros(count)
    if len(found):
        first = np.flatnonzero(np.diff(found, prepend=-1))  # where each detection's pairs begin
        some = found[first]
        best[some] = np.maximum.reduceat(iou, first)
        position = np.where(iou == best[found], np.arange(len(iou)), len(iou))
        index[some] = truth[np.minimum.reduceat(position, first)]
    return Match(index, best)


def pairs(key: Ints, other: Ints) -> tuple[Ints, Ints]:
    """All (i, j) with `key[i] == other[j]`, ordered by i, then by j.

    Args:
        key: (N,), other: (M,). Returns two arrays of equal length: i and j.
    """
    order = np.argsort(other, kind="stable")
    start = np.searchsorted(other[order], key, side="left")
    count = np.searchsorted(other[order], key, side="right") - start
    segment = np.cumsum(count) - count
    i = np.repeat(np.arange(len(key), dtype=np.int64), count)
    j: Ints = order[np.arange(len(i)) + np.repeat(start - segment, count)]
    return i, j


def pair_iou(a: Floats, b: Floats, crowd: NDArray[np.bool_] | None = None) -> Floats:
    """IoU of a[i] with b[i]. a, b: (N, 4) xyxy. 0 where both are empty.

    Args:
        crowd: (N,) where b[i] is a crowd: there, by COCO's rule, the share of a[i] that lies in it.
    """
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    inter = np.clip(width, 0, None) * np.clip(height, 0, None)
    whole = _area(a) + _area(b) - inter
    if crowd is not None:
        whole = np.where(crowd, _area(a), whole)
    iou: Floats = np.divide(inter, whole, out=np.zeros(len(a)), where=whole > 0)
    return iou


def _area(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
