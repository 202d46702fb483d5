"""Losses that heads share and torchvision.ops does not have by one name.

No loss is averaged or summed over boxes, points or objects: a head decides how to weigh them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchvision.ops import (
    box_convert,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from frostbox.errors import SettingsError

_IOU_LOSSES = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}
BOX_LOSSES = ("smooth_l1", "l1", *_IOU_LOSSES)
CLASS_LOSSES = ("ce", "focal")
"""For one class of several: softmax."""
DENSE_LOSSES = ("varifocal", "quality", "focal", "ce")
"""For every point and class by itself: sigmoid."""


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


def class_loss(
    name: str, logits: Tensor, labels: Tensor, *, gamma: float = 2.0, label_smoothing: float = 0.0
) -> Tensor:
    """Loss of each object's class.

    Args:
        name: ce (cross-entropy), or focal (`softmax_focal_loss` with gamma).
        logits: (N, K); labels: int64 (N,).

    Returns:
        (N,).
    """
    if name not in CLASS_LOSSES:
        raise SettingsError(f"unknown class loss '{name}': choose one of {', '.join(CLASS_LOSSES)}")
    return softmax_focal_loss(
        logits, labels, gamma=gamma if name == "focal" else 0.0, label_smoothing=label_smoothing
    )


def softmax_focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`-alpha (1 - p)^gamma log p` of the true class's probability p among the classes.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5, by softmax. gamma 0
    is cross-entropy.

    Args:
        logits: (N, K); labels: int64 (N,).
        gamma: how much less the well classified count; 2 in the paper.
        alpha: (K,), a weight for each class; None for 1.
        label_smoothing: share of the target that is spread over all classes; the sum of the
            formula over the classes, by their share of the target.

    Returns:
        (N,).
    """
    if gamma == 0:
        return F.cross_entropy(
            logits, labels, alpha, label_smoothing=label_smoothing, reduction="none"
        )
    log_p = logits.log_softmax(-1)
    of_label = log_p.gather(-1, labels[:, None]).squeeze(-1)
    loss = _focal_term(of_label, gamma)
    if alpha is not None:
        loss = alpha[labels] * loss
    if label_smoothing:
        every = _focal_term(log_p, gamma)
        spread = (every if alpha is None else every * alpha).mean(-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    return loss


def _focal_term(log_p: Tensor, gamma: float) -> Tensor:
    # The clamp keeps the gradient of the power finite where p rounds to 1 and gamma is below 1.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).eps)
    return -rest.pow(gamma) * log_p


def dense_class_loss(
    name: str, logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float = 0.75
) -> Tensor:
    """Loss of each point and class.

    Args:
        name: varifocal, quality, focal (torchvision's, against 1 wherever the target is above 0)
            or ce (binary cross-entropy).
        logits: any shape; target: the same, the score in [0, 1] to be predicted; 0 for background.
        gamma: of all but ce. alpha: weight of the background, of varifocal and focal.

    Returns:
        The shape of `logits`.
    """
    if name == "varifocal":
        return varifocal_loss(logits, target, gamma=gamma, alpha=alpha)
    if name == "quality":
        return quality_focal_loss(logits, target, gamma=gamma)
    if name == "focal":
        loss: Tensor = sigmoid_focal_loss(logits, (target > 0).to(logits.dtype), 1 - alpha, gamma)
        return loss
    if name == "ce":
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    raise SettingsError(f"unknown class loss '{name}': choose one of {', '.join(DENSE_LOSSES)}")


def varifocal_loss(
    logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float = 0.75
) -> Tensor:
    """Binary cross-entropy with a quality, weighed by it; background by `alpha p^gamma`.

    Zhang et al., "VarifocalNet", CVPR 2021, equation 2. The weights carry no gradient.

    Args:
        logits: any shape; target: the same, the quality in [0, 1]; 0 for background.

    Returns:
        The shape of `logits`.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    score = logits.detach().sigmoid()
    return torch.where(target > 0, target, alpha * score.pow(gamma)) * loss


def quality_focal_loss(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """`|y - p|^gamma` times the binary cross-entropy with the quality y.

    Li et al., "Generalized Focal Loss", NeurIPS 2020, equation 5. gamma 0 is cross-entropy.

    Args:
        logits: any shape; target: the same, the quality in [0, 1]; 0 for background.

    Returns:
        The shape of `logits`.
    """
    if gamma == 2 and not target.requires_grad:
        found: Tensor = _SquaredFocal.apply(logits, target)  # type: ignore[no-untyped-call]
        return found
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (target - logits.sigmoid()).abs().pow(gamma) * loss


class _SquaredFocal(torch.autograd.Function):
    """Quality focal loss of gamma 2, whose gradient is found on the way: half the time.

    With d = p - y and cross-entropy c, the derivative of d^2 c is d (2 p (1 - p) c + d^2).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        p = logits.sigmoid()
        off = p - target
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        slope = p.mul_(1 - p).mul_(entropy).mul_(2).addcmul_(off, off).mul_(off)
        ctx.save_for_backward(slope)
        return off.square_().mul_(entropy)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return above * slope, None


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the two whole numbers around the target, by nearness.

    A distance is predicted as a distribution over 0 ... n - 1; its mean is the prediction. Li et
    al., "Generalized Focal Loss", NeurIPS 2020, equation 6.

    Args:
        logits: (N, n); target: (N,) in [0, n - 1], clamped to it.

    Returns:
        (N,).
    """
    last = logits.shape[-1] - 1
    target = target.clamp(0, last)
    left = target.floor().clamp(max=last - 1)
    of_right = target - left
    log_p = logits.log_softmax(-1)
    index = left.long()[:, None]
    at_left, at_right = (log_p.gather(-1, index + k).squeeze(-1) for k in (0, 1))
    return -(1 - of_right) * at_left - of_right * at_right
