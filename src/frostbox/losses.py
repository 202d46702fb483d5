"""Losses that heads share and torchvision.ops does not have by one name.

Box losses take normalised (cx, cy, w, h) pairs and return one value a box, so that a head decides
how to weigh and average them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import (
    box_convert,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

from frostbox.errors import SettingsError

_IOU_LOSSES = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}
BOX_LOSSES = ("smooth_l1", "l1", *_IOU_LOSSES)


def box_loss(name: str, predicted: Tensor, target: Tensor) -> Tensor:
    """Loss of each box.

    Args:
        name: smooth_l1 (beta 1, mean over the four coordinates), l1 (mean over the four), or giou,
            diou, ciou (torchvision.ops).
        predicted: (N, 4); target: (N, 4); normalised (cx, cy, w, h).

    Returns:
        (N,).
    """
    if name == "smooth_l1":
        return F.smooth_l1_loss(predicted, target, reduction="none").mean(-1)
    if name == "l1":
        return F.l1_loss(predicted, target, reduction="none").mean(-1)
    if name in _IOU_LOSSES:
        boxes = (box_convert(b, "cxcywh", "xyxy") for b in (predicted, target))
        loss: Tensor = _IOU_LOSSES[name](*boxes, reduction="none")
        return loss
    raise SettingsError(f"unknown box loss '{name}': choose one of {', '.join(BOX_LOSSES)}")


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of a[i] with b[i], both (N, 4) normalised (cx, cy, w, h); (N,)."""
    low = torch.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = torch.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    inter = (high - low).clamp(min=0).prod(-1)
    union = a[:, 2:].prod(-1) + b[:, 2:].prod(-1) - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).tiny)
