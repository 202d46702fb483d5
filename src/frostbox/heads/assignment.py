"""Assignment: which points or anchors of the feature maps learn which object.

`task_aligned` goes by the present predictions, `match_anchors` by the anchors alone. Both are
written over all objects of a batch at once; no loop over images or objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_convert

from frostbox.heads import Encoded, Targets

_TINY = 1e-9
_NEAR = 1e-6
"""What the distance of centres, in shares of the image, counts against IoU: it parts equal ones."""


def padded(targets: Sequence[Targets]) -> Encoded:
    """Boxes (N, M, 4) normalised cxcywh and labels (N, M), padded with label -1."""
    most = max((len(t["labels"]) for t in targets), default=0)
    boxes = torch.zeros(len(targets), most, 4)
    labels = torch.full((len(targets), most), -1, dtype=torch.int64)
    for row, t in enumerate(targets):
        boxes[row, : len(t["labels"])] = t["boxes"]
        labels[row, : len(t["labels"])] = t["labels"]
    return {"boxes": boxes, "labels": labels}


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

    After TOOD (Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, section
    3.2): each object takes the points inside it whose prediction serves it best, by
    score^alpha x IoU^beta.

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

    overlap = iou[truth, point]
    kept = _highest_of_each(image * count + point, overlap, batch * count)
    image, point, truth, overlap = image[kept], point[kept], truth[kept], overlap[kept]

    value = aligned[truth, point]
    objects = len(truth_box)
    top_value = value.new_zeros(objects).scatter_reduce_(0, truth, value, "amax")
    top_iou = overlap.new_zeros(objects).scatter_reduce_(0, truth, overlap, "amax")
    quality = value / top_value[truth].clamp(min=_TINY * _TINY) * top_iou[truth]
    return Assignment(image, point, truth, quality.clamp(0, 1))


def _highest_of_each(key: Tensor, value: Tensor, keys: int) -> Tensor:
    """(P,) whether a pair has the highest value of those with its key, the first of equal ones."""
    highest = value.new_full((keys,), -torch.inf).scatter_reduce_(0, key, value, "amax")
    kept = value == highest[key]
    position = torch.arange(len(key), device=key.device)
    first = torch.full((keys,), len(key), device=key.device)
    first.scatter_reduce_(0, key[kept], position[kept], "amin")
    return kept & (first[key] == position)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of xyxy boxes by broadcasting."""
    width, height = (
        (torch.minimum(a[..., k + 2], b[..., k + 2]) - torch.maximum(a[..., k], b[..., k])).clamp_(
            min=0
        )
        for k in (0, 1)
    )
    inter = width.mul_(height)
    union = (_area(a) + _area(b)).sub_(inter)
    return inter.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def _area(box: Tensor) -> Tensor:
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])


@dataclass(frozen=True)
class Matches:
    """P pairs of an anchor and the object that it learns; an anchor is in at most one pair.

    Attributes:
        image, anchor, truth: (P,) int64; `truth` indexes the objects that were given. The first
            pairs are each object's own, in the order of the objects.
        own: how many those are: all objects, unless an image has more of them than anchors.
        unsure: (B, A) bool, anchors without an object that overlap one too much for background.
    """

    image: Tensor
    anchor: Tensor
    truth: Tensor
    own: int
    unsure: Tensor


@torch.no_grad()
def match_anchors(
    anchors: Tensor,
    truth_image: Tensor,
    truth_box: Tensor,
    batch: int,
    *,
    match_iou: float = 0.5,
    background_iou: float = 0.4,
) -> Matches:
    """Match by IoU (SSD, Liu et al. 2016, section 2.2).

    Every object gets an anchor of its own, pairs of the highest IoU first, of equal ones that of
    the nearest centre; then every other anchor learns the object that it overlaps most, if by
    `match_iou` or more.

    Args:
        anchors: (A, 4) cxcywh in shares of the image; truth_box: (G, 4), the same.
        truth_image: (G,) index below `batch` of the image of each object.
        background_iou: other anchors that overlap an object by as much are `unsure`.
    """
    count = len(anchors)
    truth_corners, corners = (box_convert(b, "cxcywh", "xyxy") for b in (truth_box, anchors))
    iou = _iou(truth_corners[:, None], corners)  # (G, A)
    own = _one_each(iou - _NEAR * torch.cdist(truth_box[:, :2], anchors[:, :2]), truth_image)
    mine = (own >= 0).nonzero().squeeze(1)

    truth, anchor = (iou >= background_iou).nonzero(as_tuple=True)
    overlap = iou[truth, anchor]
    unsure = torch.zeros(batch * count, dtype=torch.bool, device=iou.device)
    unsure[truth_image[truth] * count + anchor] = True
    enough = overlap >= match_iou
    truth = torch.cat((mine, truth[enough]))
    anchor = torch.cat((own[mine], anchor[enough]))
    # An object's own anchor beats every overlap.
    overlap = torch.cat((overlap.new_full((len(mine),), 2.0), overlap[enough]))
    image = truth_image[truth]
    key = image * count + anchor
    kept = _highest_of_each(key, overlap, batch * count)
    unsure[key] = False
    return Matches(image[kept], anchor[kept], truth[kept], len(mine), unsure.view(batch, count))


def _one_each(rank: Tensor, image: Tensor) -> Tensor:
    """(G,) an anchor of its own for each object, best pairs first; -1 when an image has no more.

    A pair in which both are each other's best is one that going through all pairs by rank would
    take too, so whole rounds of such pairs are taken at once. `rank` (G, A) is changed.
    """
    chosen = torch.full_like(image, -1)
    left = torch.arange(len(image), device=image.device)
    while len(left):
        value, wanted = (rank if len(left) == len(rank) else rank[left]).max(1)
        there = value > -torch.inf
        left, wanted = left[there], wanted[there]
        if not len(left):
            break
        together = image[left][:, None] == image[left]
        rivals = rank[left[:, None], wanted].masked_fill(~together, -torch.inf)
        wins = rivals.argmax(0) == torch.arange(len(left), device=image.device)
        chosen[left[wins]] = wanted[wins]
        loser, winner = (together & wins).nonzero(as_tuple=True)
        rank[left[loser], wanted[winner]] = -torch.inf
        left = left[~wins]
    return chosen
