"""Average precision by the rules of the Pascal VOC development kit. numpy in, numbers out.

The rules, from the kit's VOCevaldet.m and its documentation (Everingham and Winn, section 4.4):

- detections of one class are taken by descending score (equal scores keep their order);
- a detection belongs to the ground-truth box of its image and class with the largest IoU;
- IoU below the threshold: false positive. Otherwise, a difficult ground truth: neither hit nor
  miss. A ground truth that has been hit before: false positive (a duplicate). Else: hit;
- difficult ground truth does not count as a miss either;
- VOC has no crowds. COCO's (boxes around a group) are difficult, and what is no hit and lies in one
  by the threshold's share is ignored, however many such detections there are.

AP is the area under the precision envelope at all points (VOC2010 on), or the mean of the
envelope at 11 recalls (VOC2007). Boxes are 0-based and continuous; with
`(xmin - 1, ymin - 1, xmax, ymax)` for the kit's inclusive pixels, plain IoU equals the kit's +1
rule on its integer boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostbox.metrics.pairing import Floats as Floats
from frostbox.metrics.pairing import Ints as Ints
from frostbox.metrics.pairing import Match, best_of, pair_iou, pairs


@dataclass(frozen=True)
class Boxes:
    """Boxes of many images as flat arrays: ground truth, or detections.

    Attributes:
        image: (N,) index of the image that each box lies in.
        box: (N, 4) xyxy in pixels.
        label: (N,) class index.
        score: (N,) for detections; unused for ground truth.
        difficult: (N,) bool for ground truth; unused for detections.
        crowd: (N,) bool for ground truth: boxes around a group, which are difficult too. None for
            none.
        area: (N,) of ground truth, square pixels; None for that of the boxes.
    """

    image: Ints
    box: Floats
    label: Ints
    score: Floats
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_] | None = None
    area: Floats | None = None

    @classmethod
    def join(
        cls,
        boxes: Sequence[NDArray[np.floating]],
        labels: Sequence[NDArray[np.integer]],
        *,
        scores: Sequence[NDArray[np.floating]] | None = None,
        difficult: Sequence[NDArray[np.bool_]] | None = None,
        crowd: Sequence[NDArray[np.bool_]] | None = None,
        area: Sequence[NDArray[np.floating]] | None = None,
    ) -> Boxes:
        """Join per-image arrays: `boxes[i]` (n, 4) and `labels[i]` (n,) belong to image i."""
        counts = [len(b) for b in boxes]
        total = sum(counts)

        def flat(parts: Sequence[NDArray[Any]] | None, dtype: type, default: float) -> NDArray[Any]:
            if not total:
                return np.zeros(0, dtype)
            if parts is None:
                return np.full(total, default, dtype)
            return np.concatenate([np.asarray(p, dtype).reshape(-1) for p in parts])

        return cls(
            image=np.repeat(np.arange(len(counts), dtype=np.int64), counts),
            box=np.concatenate([np.asarray(b, np.float64).reshape(-1, 4) for b in boxes])
            if total
            else np.zeros((0, 4)),
            label=flat(labels, np.int64, 0),
            score=flat(scores, np.float64, 1.0),
            difficult=flat(difficult, np.bool_, False),
            crowd=None if crowd is None else flat(crowd, np.bool_, False),
            area=None if area is None else flat(area, np.float64, 0.0),
        )


@dataclass(frozen=True)
class BestF1:
    """The threshold on the score at which F1 is highest: keep what scores at least `threshold`."""

    f1: float
    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class ClassResult:
    """What one class reached. AP is None when it has no ground truth that counts.

    Attributes:
        ap: area under the precision envelope, all points; ap_11point: mean of it at 11 recalls.
        precision, recall: (D,) after each counted detection, by descending score.
        scores: (D,) the score of each of these detections.
        hit: (D,) bool, whether it was a hit.
        positives: ground truth that is not difficult; difficult: the rest of it.
    """

    ap: float | None
    ap_11point: float | None
    precision: Floats
    recall: Floats
    scores: Floats
    hit: NDArray[np.bool_]
    positives: int
    difficult: int = 0

    def counts(self, threshold: float = -np.inf) -> tuple[int, int, int]:
        """Hits, false positives and misses of the detections that score at least `threshold`."""
        kept = self.hit[self.scores >= threshold]
        hits = int(kept.sum())
        return hits, len(kept) - hits, self.positives - hits

    @property
    def best_f1(self) -> BestF1 | None:
        """Highest F1 = 2 hits / (detections + positives) over all thresholds on the score.

        Of equal F1 the highest threshold is taken. None without any hit.
        """
        if not self.hit.any():
            return None
        # A threshold cannot part equal scores: only the last of each run of them is a choice.
        choice = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))
        hits = np.cumsum(self.hit)[choice]
        f1 = 2 * hits / (choice + 1 + self.positives)
        at = int(choice[np.argmax(f1)])
        return BestF1(
            float(f1.max()),
            float(self.scores[at]),
            float(self.precision[at]),
            float(self.recall[at]),
        )


@dataclass(frozen=True)
class Result:
    """The classes in order, and the means over those with ground truth (None without any)."""

    classes: tuple[ClassResult, ...]
    iou_threshold: float

    @property
    def mean_ap(self) -> float | None:
        """Mean of the all-point AP over the classes that have ground truth."""
        return _mean([c.ap for c in self.classes])

    @property
    def mean_ap_11point(self) -> float | None:
        """Mean of the 11-point AP over the classes that have ground truth."""
        return _mean([c.ap_11point for c in self.classes])

    def thresholds(self, default: float) -> Floats:
        """(K,) threshold of the best F1 of each class; `default` for a class without any hit."""
        best = [c.best_f1 for c in self.classes]
        return np.array([default if b is None else b.threshold for b in best], np.float64)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None


@dataclass(frozen=True)
class Assignment:
    """What became of each detection; all arrays in the order of the detections.

    Attributes:
        order: (D,) indices of the detections by descending score, stable.
        hit, ignored: (D,) bool; neither: a false positive.
        truth: (D,) index of the ground truth of its image and class with the largest IoU, -1
            without one. iou: (D,) that IoU, 0 without one.
    """

    order: Ints
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truth: Ints
    iou: Floats


def assign(
    detections: Boxes, ground_truth: Boxes, num_classes: int, iou_threshold: float = 0.5
) -> Assignment:
    """Hit, ignored or false positive for each detection, by the rules above.

    Args:
        iou_threshold: a detection whose IoU equals it is a hit, as in the kit.

    Raises:
        ValueError: arrays of different lengths, a label outside the classes, a score that is
            no finite number.
    """
    check(detections, num_classes, "detections")
    check(ground_truth, num_classes, "ground truth")
    order = np.argsort(-detections.score, kind="stable")
    match = best_match(
        detections.image, detections.box, detections.label, ground_truth, num_classes
    )
    reached = match.iou >= iou_threshold
    ignored = np.zeros(len(order), bool)
    ignored[reached] = ground_truth.difficult[match.index[reached]]
    if ground_truth.crowd is not None and ground_truth.crowd.any():
        inside = _in_crowd(detections, ground_truth, num_classes)
        forgiven = ~reached & (inside.iou >= iou_threshold)
        ignored |= forgiven
        match.index[forgiven], match.iou[forgiven] = inside.index[forgiven], inside.iou[forgiven]
    hit = np.zeros(len(order), bool)
    claims = order[(reached & ~ignored)[order]]
    # np.unique gives the first, that is the best-scored, claim on each ground truth.
    hit[claims[np.unique(match.index[claims], return_index=True)[1]]] = True
    return Assignment(order, hit, ignored, match.index, match.iou)


def evaluate(
    detections: Boxes, ground_truth: Boxes, num_classes: int, iou_threshold: float = 0.5
) -> Result:
    """AP of each class by the rules above. Arguments and errors as in `assign`.

    Args:
        detections: with scores; ground_truth: with the difficult flags.
    """
    assignment = assign(detections, ground_truth, num_classes, iou_threshold)
    counted = assignment.order[~assignment.ignored[assignment.order]]
    by_class = np.argsort(detections.label[counted], kind="stable")
    counted = counted[by_class]
    start = np.searchsorted(detections.label[counted], np.arange(num_classes + 1))
    hit, score = assignment.hit[counted], detections.score[counted]

    difficult = ground_truth.difficult
    positives = np.bincount(ground_truth.label[~difficult], minlength=num_classes)
    ignorable = np.bincount(ground_truth.label[difficult], minlength=num_classes)
    results = []
    for k in range(num_classes):
        part = slice(start[k], start[k + 1])
        results.append(curve(hit[part], score[part], int(positives[k]), int(ignorable[k])))
    return Result(tuple(results), iou_threshold)


def take(boxes: Boxes, index: Ints) -> Boxes:
    """The boxes at `index`, in that order."""
    return Boxes(
        boxes.image[index],
        boxes.box[index],
        boxes.label[index],
        boxes.score[index],
        boxes.difficult[index],
        None if boxes.crowd is None else boxes.crowd[index],
        None if boxes.area is None else boxes.area[index],
    )


def above(boxes: Boxes, threshold: float | Floats, num_classes: int) -> NDArray[np.bool_]:
    """(N,) bool: scores at least `threshold`, which is one number or (K,) one a class."""
    kept: NDArray[np.bool_] = boxes.score >= np.broadcast_to(threshold, num_classes)[boxes.label]
    return kept


def check(boxes: Boxes, num_classes: int, name: str, num_images: int | None = None) -> None:
    """Raise ValueError, with `name` in it, for what would give wrong figures silently."""
    lengths = {len(a) for a in (boxes.image, boxes.box, boxes.label, boxes.score, boxes.difficult)}
    if len(lengths) > 1:
        raise ValueError(f"{name}: arrays of {sorted(lengths)} entries; all need the same length")
    if len(boxes.label) and not 0 <= boxes.label.min() <= boxes.label.max() < num_classes:
        raise ValueError(
            f"{name}: labels from {boxes.label.min()} to {boxes.label.max()}; "
            f"{num_classes} classes allow 0 to {num_classes - 1}"
        )
    if (
        num_images is not None
        and len(boxes.image)
        and not (0 <= boxes.image.min() <= boxes.image.max() < num_images)
    ):
        raise ValueError(
            f"{name}: image indices from {boxes.image.min()} to {boxes.image.max()}; "
            f"there are {num_images} images"
        )
    if not np.isfinite(boxes.score).all():
        at = int(np.flatnonzero(~np.isfinite(boxes.score))[0])
        raise ValueError(f"{name}: the score of entry {at} is {boxes.score[at]}, not a number")


def curve(hit: NDArray[np.bool_], score: Floats, positives: int, difficult: int) -> ClassResult:
    """Precision, recall and AP of (D,) counted detections by descending score.

    Args:
        positives: objects that count; difficult: those that do not.
    """
    hits = np.cumsum(hit)
    precision = hits / np.arange(1, len(hit) + 1)
    recall = hits / positives if positives else np.zeros(len(hit))
    ap = ap_11point = None
    if positives:
        ap = average_precision(hit, positives)
        ap_11point = average_precision_11point(hit, positives)
    return ClassResult(ap, ap_11point, precision, recall, score, hit, positives, difficult)


def average_precision(hit: NDArray[np.bool_], positives: int) -> float:
    """Area under the precision envelope at all points (VOC2010 to 2012, VOCap.m).

    Args:
        hit: (D,) bool by descending score; positives: number of ground truths, > 0.
    """
    if not len(hit):
        return 0.0
    envelope = _envelope(hit)
    # Recall rises by 1 / positives at each hit; the envelope there is the strip's height.
    return float(envelope[hit].sum() / positives)


def average_precision_11point(hit: NDArray[np.bool_], positives: int) -> float:
    """Mean of the precision envelope at recall 0, 0.1, ..., 1 (VOC2007)."""
    if not len(hit):
        return 0.0
    envelope = np.append(_envelope(hit), 0.0)
    # 10 * hits >= k * positives in integers: 3 of 10 reach recall 0.3, whatever 3 * 0.1 is in
    # binary floating point.
    first = np.searchsorted(10 * np.cumsum(hit), np.arange(11) * positives, side="left")
    return float(envelope[first].mean())


def _envelope(hit: NDArray[np.bool_]) -> Floats:
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    envelope: Floats = np.maximum.accumulate(precision[::-1])[::-1]
    return envelope


def best_match(
    image: Ints, box: Floats, label: Ints, ground_truth: Boxes, num_classes: int
) -> Match:
    """Match without loops: all pairs of the same image and class, then the best of each detection.

    Of equal IoUs the ground truth that comes first is taken, as in the kit. Crowds are no objects
    and are left out.
    """
    found, truth = pairs(
        image * num_classes + label, ground_truth.image * num_classes + ground_truth.label
    )
    if ground_truth.crowd is not None:
        single = ~ground_truth.crowd[truth]
        found, truth = found[single], truth[single]
    return best_of(found, truth, pair_iou(box[found], ground_truth.box[truth]), len(image))


def _in_crowd(detections: Boxes, ground_truth: Boxes, num_classes: int) -> Match:
    """For each detection the crowd of its image and class that holds most of it, and how much."""
    assert ground_truth.crowd is not None
    crowds = np.flatnonzero(ground_truth.crowd)
    found, at = pairs(
        detections.image * num_classes + detections.label,
        ground_truth.image[crowds] * num_classes + ground_truth.label[crowds],
    )
    share = pair_iou(detections.box[found], ground_truth.box[crowds[at]], np.ones(len(found), bool))
    return best_of(found, crowds[at], share, len(detections.image))
