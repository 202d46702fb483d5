"""Whether an exported file finds what PyTorch finds: detections paired, differences measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from frostbox.detections import Detections
from frostbox.metrics.calibration import scale
from frostbox.selection import Selection

_SAME = 0.5  # IoU from which two detections are of the same object
_FLAT = 0.01  # pixels; what is thinner has an IoU of rounding errors


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from PyTorch.

    Attributes:
        boxes: of a box's side, in shares of the picture's longer side. scores: of a score.
        unpaired: share of the detections that only one of the two may have, besides those whose
            score lies within `scores` of their threshold or that the suppression nearly took.
    """

    boxes: float
    scores: float
    unpaired: float


TOLERANCES = {
    "32": Tolerance(0.005, 0.01, 0.0),
    "16": Tolerance(0.02, 0.03, 0.02),
    "int8": Tolerance(0.25, 0.3, 0.25),
}
"""By precision. An int8 net is another net: its AP says more than its distance."""


@dataclass(frozen=True)
class Difference:
    """What a comparison found.

    Attributes:
        pictures: compared; detections: of PyTorch in them.
        boxes_px, boxes_share: the largest distance of a side, in pixels and in shares of the
            picture's longer side. scores: the largest distance of a score.
                Those of `swapped` are left out.
        swapped: detections in whose place the file has another box of the same object, one that
            PyTorch has too with nearly that score: it is suppressed by a hair.
        labels: detections of the same place and another class.
        missing, extra: that only PyTorch, only the file has. borderline: those of them that
            rounding explains.
    """

    pictures: int
    detections: int
    boxes_px: float
    boxes_share: float
    scores: float
    swapped: int
    labels: int
    missing: int
    extra: int
    borderline: int

    def wrong(self, tolerance: Tolerance) -> list[str]:
        """What goes beyond a tolerance, in words; empty if nothing does."""
        odd = self.missing + self.extra - self.borderline + self.labels
        found = []
        if self.boxes_share > tolerance.boxes:
            found.append(
                f"boxes differ by up to {self.boxes_px:.2f} px, {100 * self.boxes_share:.2f} % of "
                f"the picture (allowed: {100 * tolerance.boxes:g} %)"
            )
        if self.scores > tolerance.scores:
            found.append(
                f"scores differ by up to {self.scores:.4f} (allowed: {tolerance.scores:g})"
            )
        if odd > tolerance.unpaired * self.detections:
            found.append(
                f"{self.missing} detections are missing, {self.extra} are extra and {self.labels} "
                f"have another class, of {self.detections} (allowed besides "
                f"{self.borderline} at a threshold: {100 * tolerance.unpaired:g} %)"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def compare(
    reference: Sequence[Detections],
    candidates: Sequence[Detections],
    found: Sequence[Detections],
    selection: Selection,
    tolerance: Tolerance,
) -> Difference:
    """Pair the detections of the same pictures, and measure.

    Args:
        reference: PyTorch's, by `selection`; candidates: the same before the suppression.
        found: the file's.
    """
    boxes_px = boxes_share = scores = 0.0
    swapped = labels = missing = extra = borderline = 0
    for a, before, b in zip(reference, candidates, found, strict=True):
        overlap = _overlap(a, b, tolerance)
        same = a.labels[:, None] == b.labels
        pairs = _paired(np.where(same, overlap, 0.0))
        for i, j in pairs:
            moved = float(np.abs(a.boxes[i] - b.boxes[j]).max())
            if moved > tolerance.boxes * max(a.image_size) and _is_candidate(
                before, b, j, tolerance
            ):
                swapped += 1
                moved = 0.0
            boxes_px = max(boxes_px, moved)
            boxes_share = max(boxes_share, moved / max(a.image_size))
            scores = max(scores, float(abs(a.scores[i] - b.scores[j])))
        alone = [set(range(len(d))) - {p[k] for p in pairs} for k, d in enumerate((a, b))]
        edge = [
            {n for n in left if _at_limit(d, n, selection, tolerance)}
            for left, d in zip(alone, (a, b), strict=True)
        ]
        missing, extra = missing + len(edge[0]), extra + len(edge[1])
        borderline += len(edge[0]) + len(edge[1])
        alone = [left - own for left, own in zip(alone, edge, strict=True)]
        rest = np.zeros_like(overlap)
        rest[np.ix_(sorted(alone[0]), sorted(alone[1]))] = overlap[
            np.ix_(sorted(alone[0]), sorted(alone[1]))
        ]
        renamed = _paired(rest)
        # Where classes suppress each other, nearly equal scores decide the class by a hair.
        hairs = sum(
            selection.suppression == "agnostic"
            and abs(float(a.scores[i] - b.scores[j])) <= tolerance.scores
            and _is_candidate(before, b, j, tolerance)
            for i, j in renamed
        )
        swapped, labels = swapped + hairs, labels + len(renamed) - hairs
        for k, (own, other) in enumerate(((a, b), (b, a))):
            left = alone[k] - {p[k] for p in renamed}
            borderline += sum(_hair(own, n, other, selection) for n in left)
            missing, extra = (
                (missing + len(left), extra) if k == 0 else (missing, extra + len(left))
            )
    return Difference(
        len(reference), sum(len(d) for d in reference), boxes_px, boxes_share, scores, swapped,
        labels, missing, extra, borderline,
    )  # fmt: skip


def _overlap(a: Detections, b: Detections, tolerance: Tolerance) -> NDArray[np.float32]:
    """IoU of all pairs; 1 for boxes that are equal within the tolerance, also flat ones."""
    overlap: NDArray[np.float32] = (
        box_iou(torch.from_numpy(a.boxes), torch.from_numpy(b.boxes)).nan_to_num().numpy()
    )
    apart = np.abs(a.boxes[:, None] - b.boxes).max(-1) / max(a.image_size)
    return np.where(apart <= tolerance.boxes, np.maximum(overlap, 1 - apart), overlap)


def _paired(overlap: NDArray[np.floating[Any]]) -> list[tuple[int, int]]:
    """Rows and columns, each at most once, best first, that overlap enough."""
    pairs: list[tuple[int, int]] = []
    left = overlap.copy()
    while left.size and left.max() >= _SAME:
        i, j = (int(k) for k in np.unravel_index(left.argmax(), left.shape))
        pairs.append((i, j))
        left[i], left[:, j] = 0.0, 0.0
    return pairs


def _is_candidate(before: Detections, b: Detections, j: int, tolerance: Tolerance) -> bool:
    """Whether a detection of the file is among PyTorch's before the suppression."""
    near = np.abs(before.boxes - b.boxes[j]).max(1) <= tolerance.boxes * max(b.image_size)
    alike = np.abs(before.scores - b.scores[j]) <= tolerance.scores
    return bool((near & alike & (before.labels == b.labels[j])).any())


def _at_limit(own: Detections, n: int, selection: Selection, tolerance: Tolerance) -> bool:
    """Whether rounding of its score explains that the other lacks a detection."""
    label, score = int(own.labels[n]), float(own.scores[n])
    thresholds = selection.class_thresholds
    lowest = selection.threshold if thresholds is None else thresholds[label]
    if selection.calibrated and thresholds is not None and selection.temperature is not None:
        lowest = float(scale(lowest, selection.temperature))
    full = len(own) >= selection.max_detections
    return score < max(lowest, float(own.scores[-1]) if full else 0.0) + tolerance.scores


def _hair(own: Detections, n: int, other: Detections, selection: Selection) -> bool:
    """Whether rounding of its box explains that the other's suppression took a detection."""
    low, high = own.boxes[n].reshape(2, 2)
    if (high - low).min() < _FLAT:
        return True
    near = other.labels == own.labels[n] if selection.suppression == "nms" else other.labels >= 0
    if selection.nms is None or not near.any():
        return False
    overlap = box_iou(
        torch.from_numpy(own.boxes[n : n + 1]), torch.from_numpy(other.boxes[near])
    ).numpy()
    return bool(overlap.max() > selection.nms - 0.02)
