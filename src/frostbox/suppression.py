"""Suppression: of many boxes of one object, one. The ways to do it, by name, for one image.

All take boxes by descending score and give them back so. Class-wise means that boxes of different
classes leave each other alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, nms

from frostbox.errors import SettingsError

Found = tuple[Tensor, Tensor, Tensor]
"""Boxes (N, 4) xyxy, scores (N,) descending, labels int64 (N,)."""


def suppress(
    name: str,
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    iou: float,
    lowest: Tensor,
    limit: int,
) -> Found:
    """The detections that stay, by descending score.

    Args:
        name: one of SUPPRESSIONS:

            - nms: class-wise; a box that overlaps a better one by more than `iou` goes.
            - agnostic: the same, whatever the classes.
            - soft-linear: class-wise; its score is multiplied by 1 - IoU instead.
            - soft-gaussian: class-wise; every score is multiplied by exp(-IoU^2 / sigma), and
              `iou` is sigma.
            - wbf: class-wise; boxes that overlap by more than `iou` are averaged.
        boxes: (N, 4) xyxy; scores: (N,) in [0, 1], descending; labels: int64 (N,).
        lowest: (N,), the score below which a lowered one is left out.
        limit: detections at most.

    Raises:
        SettingsError: unknown name.
    """
    if name not in _WAYS:
        raise SettingsError(f"suppression is '{name}': choose one of {', '.join(SUPPRESSIONS)}")
    return _WAYS[name](boxes, scores, labels, iou, lowest, limit)


def _nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, lowest: Tensor, limit: int
) -> Found:
    keep = batched_nms(boxes, scores, labels, iou)[:limit]
    return boxes[keep], scores[keep], labels[keep]


def _agnostic(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, lowest: Tensor, limit: int
) -> Found:
    keep = nms(boxes, scores, iou)[:limit]
    return boxes[keep], scores[keep], labels[keep]


def _soft_linear(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, lowest: Tensor, limit: int
) -> Found:
    def decay(overlap: Tensor) -> Tensor:
        return torch.where(overlap > iou, 1 - overlap, 1.0)

    return _soft(boxes, scores, labels, decay, lowest, limit)


def _soft_gaussian(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, lowest: Tensor, limit: int
) -> Found:
    def decay(overlap: Tensor) -> Tensor:
        return torch.exp(-overlap.square() / iou)

    return _soft(boxes, scores, labels, decay, lowest, limit)


def _soft(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    decay: Callable[[Tensor], Tensor],
    lowest: Tensor,
    limit: int,
) -> Found:
    """Bodla et al., "Soft-NMS", ICCV 2017, figure 2: the best stays, its neighbours lose score."""
    left = torch.where(scores >= lowest, scores, -1.0)
    kept: list[int] = []
    kept_scores: list[float] = []
    while len(kept) < min(limit, len(boxes)):
        best = int(left.argmax())
        score = float(left[best])
        if score < 0:
            break
        kept.append(best)
        kept_scores.append(score)
        same = labels == labels[best]
        overlap = box_iou(boxes[best : best + 1], boxes)[0]
        left = torch.where(same, left * decay(overlap), left)
        left[best] = -1.0
        left = torch.where(left >= lowest, left, -1.0)
    keep = torch.tensor(kept, dtype=torch.int64, device=boxes.device)
    return boxes[keep], scores.new_tensor(kept_scores), labels[keep]


def _wbf(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, lowest: Tensor, limit: int
) -> Found:
    """Solovyev et al., "Weighted boxes fusion", 2021, section 3, for one detector.

    A fused box keeps the score of its best one, as with conf_type="max" in the authors' code: their
    mean suits a few detectors of a few boxes each and would bury an object under its duplicates.
    """
    corners, weights = boxes.double().numpy(force=True), scores.double().numpy(force=True)
    classes = labels.numpy(force=True)
    fused, sums = np.empty_like(corners), np.empty_like(corners)
    areas, totals = np.empty(len(corners)), np.empty(len(corners))
    owners = np.empty(len(corners), dtype=np.int64)  # the class of each fused box
    first: list[int] = []  # the best box of each fused one
    for k, (box, weight) in enumerate(zip(corners, weights, strict=True)):
        n = len(first)
        low = np.maximum(fused[:n, :2], box[:2])
        size = np.minimum(fused[:n, 2:], box[2:]) - low
        np.maximum(size, 0, out=size)
        inter = size[:, 0] * size[:, 1]
        union = areas[:n] + (box[2] - box[0]) * (box[3] - box[1]) - inter
        overlap = np.where(owners[:n] == classes[k], inter / np.maximum(union, 1e-300), -1.0)
        row = int(overlap.argmax()) if n else -1
        if row < 0 or overlap[row] <= iou:
            row = n
            first.append(k)
            sums[row], totals[row], owners[row] = 0.0, 0.0, classes[k]
        sums[row] += weight * box
        totals[row] += weight
        fused[row] = sums[row] / totals[row] if totals[row] > 0 else box
        areas[row] = (fused[row, 2] - fused[row, 0]) * (fused[row, 3] - fused[row, 1])
    kept = torch.tensor(first[:limit], dtype=torch.int64, device=boxes.device)
    return torch.from_numpy(fused[: len(kept)]).to(boxes), scores[kept], labels[kept]


_Way = Callable[[Tensor, Tensor, Tensor, float, Tensor, int], Found]
_WAYS: dict[str, _Way] = {
    "nms": _nms,
    "agnostic": _agnostic,
    "soft-linear": _soft_linear,
    "soft-gaussian": _soft_gaussian,
    "wbf": _wbf,
}
SUPPRESSIONS = tuple(_WAYS)
RESCORING = ("soft-linear", "soft-gaussian")
"""Those that change scores."""
