"""The grid head: every cell of the coarsest map predicts the object whose centre it hosts.

YOLO's idea (Redmon et al. 2016) on frozen features, for a grid of any size. Two objects whose
centres share a cell cannot both be predicted: the larger one is the target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from frostbox.boxes import decode_grid, encode_grid
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

SCORES = ("product", "objectness")


@dataclass(frozen=True)
class GridSettings:
    """Settings of the grid head.

    Attributes:
        width: channels of the hidden 1x1 convolutions.
        deep_classification: give the classification branch the two hidden convolutions as well.
        neck: number of 3x3 convolutions in front of both branches; 0 as in the practical. They
            let a cell see its neighbours, which tells where an object ends.
        neck_width: channels of the neck.
        dropout: of the features (training only).
        label_smoothing: of the class loss.
        class_loss: ce (cross-entropy) or focal. focal_gamma: of focal.
        box_loss: smooth_l1, l1, giou, diou or ciou.
        box_weight, class_weight, objectness_weight: of the three terms of the loss.
        score: "product" (objectness x class probability) or "objectness".
    """

    width: int = 512
    deep_classification: bool = False
    neck: int = 0
    neck_width: int = 256
    dropout: float = 0.2
    label_smoothing: float = 0.0
    class_loss: str = "ce"
    focal_gamma: float = 2.0
    box_loss: str = "giou"
    box_weight: float = 2.0
    class_weight: float = 1.0
    objectness_weight: float = 1.0
    score: str = "product"

    def __post_init__(self) -> None:
        check_types(self)
        check_share(self, "dropout", "label_smoothing")
        check_gamma(self)
        check_choice(self, "class_loss", CLASS_LOSSES)
        check_choice(self, "box_loss", BOX_LOSSES)
        check_choice(self, "score", SCORES)
        if min(self.width, self.neck_width) < 1 or self.neck < 0:
            raise SettingsError(
                f"width is {self.width}, neck_width {self.neck_width}, neck {self.neck}: widths "
                "must be at least 1 and neck at least 0"
            )


# Share of cells that host an object, roughly; the objectness starts there (as in RetinaNet, Lin et
# al. 2017, section 4.1), or the first epochs go into learning that most cells are empty.
_PRIOR = 0.05


def _convolution(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    return [convolution, nn.ReLU(), nn.BatchNorm2d(outputs)]


class GridHead(Head):
    """Raw outputs: `bboxes` (B, 4, n, n) in (0, 1) and `logits` (B, K + 1, n, n), objectness last.

    The centre in `bboxes` is relative to the cell, the size to the image.
    """

    strides = (32,)
    Settings = GridSettings
    defaults: ClassVar[Mapping[str, Any]] = {"precision": "32"}  # small: nothing to gain
    SCORES = SCORES

    def __init__(self, features: FeatureSpec, num_classes: int, settings: GridSettings) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = num_classes
        self.rows, self.columns = features.sizes[-1]
        channels, width = features.channels[-1], settings.width
        # Features of a frozen backbone come in any scale; without learned parameters this norm
        # leaves the branches as expressive as they are.
        stem: list[nn.Module] = [
            nn.BatchNorm2d(channels, affine=False),
            nn.Dropout(settings.dropout),
        ]
        for _ in range(settings.neck):
            stem += _convolution(channels, settings.neck_width, 3)
            channels = settings.neck_width
        self.stem = nn.Sequential(*stem)

        def hidden() -> list[nn.Module]:
            return _convolution(channels, width, 1) + _convolution(width, width, 1)

        boxes = nn.Conv2d(width, 4, 1)
        # Start in the middle of the sigmoid: IoU losses drive a saturated one to its ends for good.
        nn.init.normal_(boxes.weight, std=0.01)
        nn.init.zeros_(boxes.bias)  # type: ignore[arg-type]
        self.regression = nn.Sequential(*hidden(), boxes, nn.Sigmoid())
        deep = hidden() if settings.deep_classification else []
        last = nn.Conv2d(width if deep else channels, num_classes + 1, 1)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        nn.init.constant_(last.bias[-1:], math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[index]
        self.classification = nn.Sequential(*deep, last)

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """Boxes and logits for every cell of the coarsest map, of any size."""
        coarsest = self.stem(features[-1])
        return {"bboxes": self.regression(coarsest), "logits": self.classification(coarsest)}

    def encode(self, targets: Sequence[Targets]) -> Encoded:
        """Stack `boxes.encode_grid` of each image."""
        grids = [encode_grid(t["boxes"], t["labels"], self.rows, self.columns) for t in targets]
        boxes, has_obj, labels = (torch.stack(part) for part in zip(*grids, strict=True))
        return {"bboxes": boxes, "has_obj": has_obj, "labels": labels}

    def _hosting(self, raw: Raw, encoded: Encoded) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the cells that host an object: predicted and true boxes (M, 4), class logits, labels.

        Boxes have cell-relative centres.
        """
        host = encoded["has_obj"].bool()
        predicted = raw["bboxes"].permute(0, 2, 3, 1)[host]
        target = encoded["bboxes"].permute(0, 2, 3, 1)[host]
        logits = raw["logits"][:, :-1].permute(0, 2, 3, 1)[host]
        return predicted, target, logits, encoded["labels"][host].long()

    def _in_image(self, cell_boxes: Tensor) -> Tensor:
        """Scale cell-relative centres to image units, so that IoU between them is the image's.

        Prediction and target lie in the same cell, so the cell's own offset cancels.
        """
        scale = cell_boxes.new_tensor([1 / self.columns, 1 / self.rows, 1, 1])
        return cell_boxes * scale

    def loss(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """Box loss and class loss averaged over hosting cells; objectness over all cells."""
        predicted, target, logits, labels = self._hosting(raw, encoded)
        s = self.settings
        if s.box_loss not in ("smooth_l1", "l1"):
            predicted, target = self._in_image(predicted), self._in_image(target)
        count = normaliser(encoded["has_obj"].bool().sum())
        box = box_loss(s.box_loss, predicted, target).sum() / count
        classes = class_loss(
            s.class_loss, logits, labels, gamma=s.focal_gamma, label_smoothing=s.label_smoothing
        ).sum()
        objectness = F.binary_cross_entropy_with_logits(
            raw["logits"][:, -1], encoded["has_obj"].to(raw["logits"].dtype)
        )
        cells = raw["logits"].new_tensor(encoded["has_obj"].numel())
        share = cells / normaliser(cells)  # 1, but for a part of a batch
        return {
            "box_loss": s.box_weight * box,
            "class_loss": s.class_weight * classes / count,
            "objectness_loss": s.objectness_weight * objectness * share,
        }

    def decode(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """One dense box a cell, row by row; scores as `settings.score` says."""
        boxes = box_convert(decode_grid(raw["bboxes"]), "cxcywh", "xyxy").clamp(0, 1)
        logits = raw["logits"].flatten(2).transpose(1, 2)
        objectness = logits[..., -1:].sigmoid()
        probabilities = logits[..., :-1].softmax(-1)
        if self.settings.score == "objectness":
            best = probabilities == probabilities.amax(-1, keepdim=True)
            return boxes, objectness * best
        return boxes, objectness * probabilities

    def metrics(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """`box_l1`, `accuracy` and `mean_iou` over hosting cells, `objectness_loss` over cells."""
        predicted, target, logits, labels = self._hosting(raw, encoded)
        objectness = F.binary_cross_entropy_with_logits(
            raw["logits"][:, -1], encoded["has_obj"].to(raw["logits"].dtype), reduction="none"
        )
        return {
            "box_l1": box_loss("l1", predicted, target),
            "accuracy": (logits.argmax(-1) == labels).float(),
            "mean_iou": pair_iou(self._in_image(predicted), self._in_image(target)),
            "objectness_loss": objectness.flatten(),
        }
