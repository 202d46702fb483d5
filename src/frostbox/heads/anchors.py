"""The anchors head: at every cell of three maps, several boxes of given shapes wait for an object.

SSD (Liu et al., ECCV 2016) with shapes as in YOLO9000 (Redmon & Farhadi 2017): by k-means on the
training boxes. An anchor that overlaps an object enough learns it, and every object has at least
one. Most anchors see background: hard-negative mining or focal loss keeps it from deciding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from frostbox.boxes import decode_offsets, encode_offsets
from frostbox.data.anchors import suggest_anchors
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
from frostbox.heads.assignment import Matches, match_anchors, padded
from frostbox.heads.neck import TopDown, separable, start_at
from frostbox.losses import BOX_LOSSES, CLASS_LOSSES, box_loss, class_loss, pair_iou
from frostbox.ranks import kept_of_highest, normaliser, of_parts, sharing

_NEGATIVES = 3  # background anchors that learn, for each that has an object (SSD, section 2.2)
# Share of the anchors that learn that have an object: by mining, and of all (RetinaNet, 4.1).
_PRIORS = {"ce": 1 / (1 + _NEGATIVES), "focal": 0.01}
Shapes = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class AnchorsSettings:
    """Settings of the anchors head.

    Attributes:
        width: channels of the neck. depth: blocks of each level before the predictions.
        kernel: side of the depthwise convolutions.
        dropout: of the frozen features, whole channels at a time (training only).
        anchors: (width, height) in shares of the input, small ones first; each level has its share
            of them, the finest the first. Without any: `scales` x `aspect_ratios`.
        kmeans: anchors a cell that training finds in its boxes and writes into `anchors` when that
            is empty; 0 to find none.
        scales: sides of square anchors in shares of the input. aspect_ratios: width by height.
        match_iou: overlap from which an anchor learns an object.
        background_iou: overlap below which an anchor learns background; between, nothing.
        class_loss: ce (cross-entropy with hard-negative mining) or focal (of all anchors).
        focal_gamma: of focal.
        box_loss: smooth_l1 or l1 of the offsets, or giou, diou, ciou.
        box_weight: of the box loss against the class loss.
    """

    width: int = 96
    depth: int = 1
    kernel: int = 3
    dropout: float = 0.0
    anchors: Shapes = ()
    kmeans: int = 3
    scales: tuple[float, ...] = (0.06, 0.12, 0.22, 0.36, 0.58, 0.85)
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)
    match_iou: float = 0.5
    background_iou: float = 0.4
    class_loss: str = "ce"
    focal_gamma: float = 2.0
    box_loss: str = "giou"
    box_weight: float = 2.0

    def __post_init__(self) -> None:
        check_types(self)
        check_share(self, "dropout", "match_iou", "background_iou")
        check_choice(self, "class_loss", CLASS_LOSSES)
        check_choice(self, "box_loss", BOX_LOSSES)
        check_gamma(self)
        if self.background_iou > self.match_iou:
            raise SettingsError(
                f"background_iou is {self.background_iou}: it must be at most match_iou, "
                f"{self.match_iou}"
            )
        if (
            min(self.width, self.kernel) < 1
            or min(self.depth, self.kmeans) < 0
            or (self.kernel % 2 == 0)
        ):
            raise SettingsError(
                f"width is {self.width}, depth {self.depth}, kmeans {self.kmeans}, kernel "
                f"{self.kernel}: width must be at least 1, depth and kmeans 0, kernel odd"
            )
        # A file brings lists.
        object.__setattr__(self, "anchors", _shapes(self.anchors))
        for name in ("scales", "aspect_ratios"):
            values = getattr(self, name)
            if not _positive(values):
                raise SettingsError(f"{name} is {values!r}: give numbers above 0, as in [0.1, 0.5]")
            object.__setattr__(self, name, tuple(float(v) for v in values))

    def shapes(self) -> Shapes:
        """The anchors of all levels."""
        return self.anchors or tuple(
            (scale * math.sqrt(ratio), scale / math.sqrt(ratio))
            for scale in self.scales
            for ratio in self.aspect_ratios
        )


def _positive(values: Any) -> bool:
    return (
        isinstance(values, (list, tuple))
        and len(values) > 0
        and all(isinstance(v, (int, float)) and _LEAST <= v <= 1 / _LEAST for v in values)
    )


def _shapes(values: Any) -> Shapes:
    whole = isinstance(values, (list, tuple))
    if not whole or not all(_positive(pair) and len(pair) == 2 for pair in values):
        raise SettingsError(
            f"anchors is {values!r}: give pairs of width and height in shares of the input, as in "
            "[[0.1, 0.2], [0.3, 0.3]]"
        )
    return tuple((float(width), float(height)) for width, height in values)


_LEAST = 1e-4  # of sizes and ratios; their quotients must stay numbers


class AnchorsHead(Head):
    """Raw outputs: `offsets` (B, A, 4), `logits` (B, A, K + 1), `anchors` (B, A, 4) cxcywh.

    Background is the last class. Finest level first, row by row, all anchors of a cell together.
    """

    strides = (8, 16, 32)
    Settings = AnchorsSettings
    defaults: ClassVar[Mapping[str, Any]] = {
        "size": (320, 320),
        "batch_size": 32,
        "lr": 2e-3,
        "ema": 0.998,
        "clip": 5.0,
    }

    def __init__(self, features: FeatureSpec, num_classes: int, settings: AnchorsSettings) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = num_classes
        width, levels = settings.width, len(features.strides)
        shapes = settings.shapes()
        if len(shapes) % levels:
            raise SettingsError(
                f"there are {len(shapes)} anchors for {levels} levels: give a multiple of {levels}"
            )
        self.per_cell = len(shapes) // levels
        self._sizes: Tensor
        self.register_buffer(
            "_sizes", torch.tensor(shapes).view(levels, self.per_cell, 2), persistent=False
        )

        def predictions(count: int) -> nn.ModuleList:
            layers = nn.ModuleList(
                nn.Conv2d(width, self.per_cell * count, 1) for _ in range(levels)
            )
            start_at(layers, torch.tensor(0.0))
            return layers

        self.neck = TopDown(
            features.channels,
            [width] * levels,
            [1] * levels,
            settings.kernel,
            settings.dropout,
        )
        self.branches = nn.ModuleList(
            separable(width, settings.kernel, settings.depth) for _ in range(levels)
        )
        self.offsets = predictions(4)
        self.class_logits = predictions(num_classes + 1)
        prior = _PRIORS[settings.class_loss]
        for layer in self.class_logits:
            bias = layer.bias.data.view(self.per_cell, -1)  # type: ignore[union-attr, operator]
            bias[:, -1] = math.log(num_classes * (1 - prior) / prior)

    @classmethod
    def fitted_settings(
        cls, settings: Mapping[str, Any], targets: Iterable[Targets]
    ) -> Mapping[str, Any]:
        """With `anchors` by k-means on the sizes of the boxes, if there are enough of them."""
        chosen = AnchorsSettings(**settings)
        if chosen.anchors or not chosen.kmeans:
            return settings
        sizes = torch.cat([torch.zeros(0, 2), *(t["boxes"][:, 2:] for t in targets)]).numpy()
        levels = len(cls.strides)
        found = suggest_anchors(sizes, range(levels, levels * chosen.kmeans + 1, levels))
        return {**settings, "anchors": found[-1]["sizes"]} if found else settings

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """Offsets and logits of every anchor, for maps of any size."""
        maps = self.neck(features)
        offsets: list[Tensor] = []
        logits: list[Tensor] = []
        for k, m in enumerate(maps):
            seen = self.branches[k](m)
            for layers, found in ((self.offsets, offsets), (self.class_logits, logits)):
                cells = layers[k](seen).permute(0, 2, 3, 1)
                found.append(cells.reshape(cells.shape[0], -1, cells.shape[-1] // self.per_cell))
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        return {
            "offsets": torch.cat(offsets, 1),
            "logits": torch.cat(logits, 1),
            "anchors": self._anchors(shapes).expand(maps[0].shape[0], -1, -1),
        }

    def _anchors(self, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """(A, 4) (cx, cy, w, h) in shares of the image, for maps of (rows, columns)."""
        anchors = []
        for (rows, columns), sizes in zip(shapes, self._sizes, strict=True):
            y = (torch.arange(rows, device=sizes.device) + 0.5) / rows
            x = (torch.arange(columns, device=sizes.device) + 0.5) / columns
            centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
            shape = (rows, columns, self.per_cell, 2)
            whole = torch.cat((centres[:, :, None].expand(shape), sizes.expand(shape)), -1)
            anchors.append(whole.flatten(0, 2))
        return torch.cat(anchors)

    def encode(self, targets: Sequence[Targets]) -> Encoded:
        """Boxes (N, M, 4) normalised cxcywh and labels (N, M), padded with label -1."""
        return padded(targets)

    def _matched(self, raw: Raw, encoded: Encoded) -> tuple[Matches, Tensor, Tensor]:
        """The matches, and box (P, 4) cxcywh and label (P,) of the object of each pair."""
        image, slot = (encoded["labels"] >= 0).nonzero(as_tuple=True)
        truth = encoded["boxes"][image, slot]
        found = match_anchors(
            raw["anchors"][0],
            image,
            truth,
            len(raw["anchors"]),
            match_iou=self.settings.match_iou,
            background_iou=self.settings.background_iou,
        )
        return found, truth[found.truth], encoded["labels"][image, slot][found.truth]

    def loss(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """Box loss of the matched anchors, class loss of those that learn; a matched anchor's."""
        found, truth, labels = self._matched(raw, encoded)
        s, pairs = self.settings, (found.image, found.anchor)
        anchors, offsets = raw["anchors"][pairs], raw["offsets"][pairs]
        if s.box_loss in ("smooth_l1", "l1"):
            box = box_loss(s.box_loss, offsets, encode_offsets(truth, anchors))
        else:
            box = box_loss(s.box_loss, decode_offsets(offsets, anchors), truth)
        classes = labels.new_full(raw["logits"].shape[:2], self.num_classes)
        classes[pairs] = labels
        logits, classes = raw["logits"].flatten(0, 1), classes.flatten()
        if s.class_loss == "ce":
            learns = _mined(logits, classes, found.unsure.flatten())
            term = class_loss("ce", logits[learns], classes[learns])
        else:
            every = class_loss(s.class_loss, logits, classes, gamma=s.focal_gamma)
            term = every[~found.unsure.flatten()]
        count = normaliser(labels.new_tensor(len(labels)))
        return {"box_loss": s.box_weight * box.sum() / count, "class_loss": term.sum() / count}

    def decode(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """One dense box an anchor; softmax scores without the background's."""
        boxes = box_convert(decode_offsets(raw["offsets"], raw["anchors"]), "cxcywh", "xyxy")
        return boxes.clamp(0, 1), raw["logits"].softmax(-1)[..., :-1]

    def metrics(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """`mean_iou` and `accuracy` of each object's own anchor."""
        found, truth, labels = self._matched(raw, encoded)
        pairs = (found.image[: found.own], found.anchor[: found.own])
        boxes = decode_offsets(raw["offsets"][pairs], raw["anchors"][pairs])
        best = raw["logits"][pairs][:, :-1].argmax(-1)
        return {
            "mean_iou": pair_iou(boxes, truth[: found.own]),
            "accuracy": (best == labels[: found.own]).float(),
        }


@torch.no_grad()
def _mined(logits: Tensor, classes: Tensor, unsure: Tensor) -> Tensor:
    """Indices of the anchors that learn: the matched, and three times as many of background.

    Those are the worst of the batch, of all its parts. One without objects learns as much
    background as with one.

    Args:
        logits: (N, K + 1), background last; classes: (N,), K for background; unsure: (N,) bool.
    """
    matched = classes < logits.shape[-1] - 1
    loss = -logits.log_softmax(-1)[:, -1]  # faster than logsumexp
    loss = loss.masked_fill_(matched | unsure, -1.0)  # a loss is at least 0
    matches = matched.nonzero().squeeze(1)
    own = (len(matches), int((loss >= 0).sum()))
    count = _NEGATIVES * max(sum(number for number, _ in of_parts(own)), 1)
    worst = loss.topk(min(count, own[1]))
    kept = kept_of_highest(worst.values, count) if sharing() else len(worst.values)
    return torch.cat((matches, worst.indices[:kept]))
