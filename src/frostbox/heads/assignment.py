"""Task-aligned assignment: which points of the feature maps learn which object.

After TOOD (Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, section 3.2):
each object takes the points inside it whose present prediction serves it best, by
score^alpha x IoU^beta. Written over all objects of a batch at once; no loop over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-9


@dataclass(frozen=True)
class Assignment:
    """P pairs of a point and the object that it learns; a point is in at most one pair.

    Attributes:
        image, point, truth: (P,) int64; `truth` indexes the objects that were given.
        quality: (P,) in (0, 1]: the score that the point should give the object's class. The best
            point of an object gets the IoU of the object's best prediction, the others less.
    """

    image: Tensor
    point: Tensor
    truth: Tensor
    quality: Tensor


@torch.no_grad()
def task_aligned(
    boxes: Tensor,
    scores: Tensor,
    points: Tensor,
    reach: Tensor,
    truth_image: Tensor,
    truth_box: Tensor,
    truth_label: Tensor,
    *,
    topk: int = 9,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Assignment:
    """Assign by the present predictions.

    Args:
        boxes: (B, A, 4) predicted, xyxy; scores: (B, A, K) in [0, 1].
        points: (A, 2) centres (x, y) of the cells, in the unit of the boxes.
        reach: (2,) half a cell of the finest map: an object counts as at least that large, so that
            one smaller than a cell is not lost between two points.
        truth_image: (G,) index of the image of each object; truth_box: (G, 4) xyxy;
            truth_label: (G,).
        topk: points an object takes at most.
    """
    batch, count = boxes.shape[:2]
    centre = (truth_box[:, :2] + truth_box[:, 2:]) / 2
    half = torch.maximum((truth_box[:, 2:] - truth_box[:, :2]) / 2, reach * 1.001)
    inside = ((points[None] - centre[:, None]).abs() < half[:, None]).all(-1)  # (G, A)

    iou = _iou(truth_box[:, None], boxes[truth_image])  # (G, A)
    score = scores.transpose(1, 2)[truth_image, truth_label]  # (G, A)
    aligned = (score.pow(alpha) * iou.pow(beta) + _TINY * _TINY) * inside
    best, taken = aligned.topk(min(topk, count), dim=1)
    truth, rank = best.nonzero(as_tuple=True)
    point, image = taken[truth, rank], truth_image[truth]

    # A point that several objects want goes to the one it overlaps most.
    overlap = iou[truth, point]
    key = image * count + point
    highest = overlap.new_full((batch * count,), -1.0)
    highest.scatter_reduce_(0, key, overlap, "amax")
    kept = overlap == highest[key]
    # Equal overlaps: the first object.
    position = torch.arange(len(key), device=key.device)
    first = torch.full((batch * count,), len(key), device=key.device)
    first.scatter_reduce_(0, key[kept], position[kept], "amin")
    kept &= first[key] == position
    image, point, truth, overlap = image[kept], point[kept], truth[kept], overlap[kept]

    value = aligned[truth, point]
    objects = len(truth_box)
    top_value = value.new_zeros(objects).scatter_reduce_(0, truth, value, "amax")
    top_iou = overlap.new_zeros(objects).scatter_reduce_(0, truth, overlap, "amax")
    quality = value / top_value[truth].clamp(min=_TINY * _TINY) * top_iou[truth]
    return Assignment(image, point, truth, quality.clamp(0, 1))


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of xyxy boxes by broadcasting."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    size = (high - low).clamp(min=0)
    inter = size[..., 0] * size[..., 1]
    union = _area(a) + _area(b) - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).tiny)


def _area(box: Tensor) -> Tensor:
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
