"""The single head: one box and one class for the largest object of the image.

The first step of the classic path. Regression and classification are two branches on the
flattened feature map; `pooled` classifies the averaged map instead, which overfits less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from frostbox.errors import SettingsError
from frostbox.heads import (
    Encoded,
    FeatureSpec,
    Head,
    Raw,
    Targets,
    check_choice,
    check_gamma,
    check_share,
    check_types,
)
from frostbox.losses import BOX_LOSSES, CLASS_LOSSES, box_loss, class_loss, pair_iou
from frostbox.ranks import normaliser


@dataclass(frozen=True)
class SingleSettings:
    """Settings of the single head.

    Attributes:
        pooled: classify the spatially averaged features (as ImageNet classifiers do) instead of
            the flattened map.
        hidden: width of the regression branch. dropout: of the regression branch.
        class_dropout: before the classification layer.
        label_smoothing: of the class loss.
        class_loss: ce (cross-entropy) or focal. focal_gamma: of focal.
        box_loss: smooth_l1, l1, giou, diou or ciou.
        box_weight, class_weight: of the two terms of the loss. The branches share no weights, so
            these decide which epoch has the lowest validation loss rather than what is learned.
    """

    pooled: bool = False
    hidden: int = 1024
    dropout: float = 0.5
    class_dropout: float = 0.5
    label_smoothing: float = 0.0
    class_loss: str = "ce"
    focal_gamma: float = 2.0
    box_loss: str = "smooth_l1"
    box_weight: float = 500.0
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)
        check_share(self, "dropout", "class_dropout", "label_smoothing")
        check_gamma(self)
        check_choice(self, "class_loss", CLASS_LOSSES)
        check_choice(self, "box_loss", BOX_LOSSES)
        if self.hidden < 1:
            raise SettingsError(f"hidden is {self.hidden}: it must be at least 1")


class SingleHead(Head):
    """Raw outputs: `bboxes` (B, 4) normalised (cx, cy, w, h) and `logits` (B, K)."""

    strides = (32,)
    whole = True
    Settings = SingleSettings
    defaults: ClassVar[Mapping[str, Any]] = {"precision": "32"}  # small: nothing to gain

    def __init__(self, features: FeatureSpec, num_classes: int, settings: SingleSettings) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = num_classes
        channels, (rows, columns) = features.channels[-1], features.sizes[-1]
        flat = channels * rows * columns
        # Features come in any scale; this norm has no learned parameters of its own.
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.regression = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(settings.dropout),
            nn.Linear(flat, settings.hidden),
            nn.ReLU(),
            nn.BatchNorm1d(settings.hidden),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, 4),
            nn.Sigmoid(),
        )
        pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)] if settings.pooled else []
        self.classification = nn.Sequential(
            *pool,
            nn.Flatten(),
            nn.Dropout(settings.class_dropout),
            nn.Linear(channels if settings.pooled else flat, num_classes),
        )

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """One box and K logits from the coarsest map."""
        coarsest = self.norm(features[-1])
        return {"bboxes": self.regression(coarsest), "logits": self.classification(coarsest)}

    def encode(self, targets: Sequence[Targets]) -> Encoded:
        """The largest object of each image; `valid` is False for an image without objects."""
        boxes = torch.zeros(len(targets), 4)
        labels = torch.zeros(len(targets), dtype=torch.int64)
        valid = torch.zeros(len(targets), dtype=torch.bool)
        for k, target in enumerate(targets):
            if len(target["boxes"]):
                largest = target["boxes"][:, 2:].prod(-1).argmax()
                boxes[k], labels[k] = target["boxes"][largest], target["labels"][largest]
                valid[k] = True
        return {"bboxes": boxes, "labels": labels, "valid": valid}

    def loss(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """Box loss and class loss, averaged over the images that have an object."""
        s, valid = self.settings, encoded["valid"]
        count = normaliser(valid.sum())
        box = box_loss(s.box_loss, raw["bboxes"][valid], encoded["bboxes"][valid])
        classes = class_loss(
            s.class_loss,
            raw["logits"][valid],
            encoded["labels"][valid],
            gamma=s.focal_gamma,
            label_smoothing=s.label_smoothing,
        )
        return {
            "box_loss": s.box_weight * box.sum() / count,
            "class_loss": s.class_weight * classes.sum() / count,
        }

    def decode(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """One dense box an image; its scores are the softmax over the classes."""
        boxes = box_convert(raw["bboxes"], "cxcywh", "xyxy").clamp(0, 1)
        return boxes[:, None], raw["logits"].softmax(-1)[:, None]

    def metrics(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """Over images with an object: `smooth_l1` (torch's defaults), `l1`, `accuracy`, `mean_iou`.

        The mean over images of the mean over coordinates is torch's mean over N x 4.
        """
        valid = encoded["valid"]
        predicted, target = raw["bboxes"][valid], encoded["bboxes"][valid]
        hits = raw["logits"][valid].argmax(-1) == encoded["labels"][valid]
        return {
            "smooth_l1": box_loss("smooth_l1", predicted, target),
            "l1": box_loss("l1", predicted, target),
            "accuracy": hits.float(),
            "mean_iou": pair_iou(predicted, target),
        }
