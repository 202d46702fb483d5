"""COCO's matching as arrays: which detection is a hit at each of the ten IoU thresholds.

hotcoco gives figures; resampling images (intervals.py) needs the matching behind them. The rule is
pycocotools' `evaluateImg` for boxes: detections of an image and class in descending order of score,
the first 100; each takes the free ground truth with the largest IoU among those that count, else
among the ignored (a crowd is never used up, and is met by the share of the detection that lies in
it); of equal IoUs the last. A test holds its AP to hotcoco's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostbox.metrics.coco import (
    IOU_THRESHOLDS,
    LARGEST_AREA,
    MAX_DETECTIONS,
    ignorable_truth,
)
from frostbox.metrics.pairing import pair_iou, pairs
from frostbox.metrics.voc import Boxes, Ints


@dataclass(frozen=True)
class CocoMatch:
    """Outcomes at T = 10 thresholds of the detections that count, by descending score.

    Attributes:
        detection: (N,) index into the detections. hit, ignored: (T, N) bool.
    """

    detection: Ints
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


def match(detections: Boxes, ground_truth: Boxes, num_classes: int) -> CocoMatch:
    """Match by COCO's rule, difficult objects as in coco.py."""
    truth = ignorable_truth(detections, ground_truth)
    cell = detections.image * num_classes + detections.label
    order = np.lexsort((-detections.score, cell))
    cell = cell[order]
    rank = np.arange(len(cell)) - np.searchsorted(cell, cell, side="left")
    order, cell, rank = (a[rank < MAX_DETECTIONS] for a in (order, cell, rank))

    found, at = pairs(cell, truth.image * num_classes + truth.label)
    crowd = np.zeros(len(truth.image), bool) if truth.crowd is None else truth.crowd
    iou = pair_iou(detections.box[order[found]], truth.box[at], crowd[at])
    near = iou >= IOU_THRESHOLDS[0] - 1e-9
    found, at, iou = found[near], at[near], iou[near]
    # Within a round every detection is of another image and class: they cannot meet. The best
    # candidate of each stands last.
    by_round = np.lexsort((at, iou, ~truth.difficult[at], found, rank[found]))
    found, at, iou = found[by_round], at[by_round], iou[by_round]
    allowed = iou >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    partner = np.full((len(IOU_THRESHOLDS), len(order)), -1, np.int64)
    taken = np.zeros((len(IOU_THRESHOLDS), len(truth.image)), bool)
    ends = np.flatnonzero(np.diff(rank[found], append=-1)) + 1
    start = 0
    for end in ends.tolist():
        free = allowed[:, start:end] & (~taken | crowd)[:, at[start:end]]
        first = np.flatnonzero(np.diff(found[start:end], prepend=-1))
        last = np.maximum.reduceat(np.where(free, np.arange(end - start), -1), first, axis=1)
        threshold, which = np.nonzero(last >= 0)
        chosen = at[start:end][last[threshold, which]]
        partner[threshold, found[start:end][first[which]]] = chosen
        taken[threshold, chosen] = True
        start = end

    # pycocotools joins the images in order and sorts the whole stably.
    by_score = np.lexsort((rank, detections.image[order], -detections.score[order]))
    partner = partner[:, by_score]
    difficult = np.append(truth.difficult, False)[partner]
    order = order[by_score]
    # COCO ignores what is matched to nothing and has an area outside its sizes: inverted boxes.
    box = detections.box[order]
    area = (box[:, 2:] - box[:, :2]).prod(axis=1)
    nowhere = (partner < 0) & ((area < 0) | (area > LARGEST_AREA))
    return CocoMatch(order, (partner >= 0) & ~difficult, (partner >= 0) & difficult | nowhere)
