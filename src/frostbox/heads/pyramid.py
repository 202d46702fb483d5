"""The pyramid head: several scales, no anchors. Every point of its maps may name an object.

A light feature pyramid (Lin et al., "Feature Pyramid Networks", CVPR 2017) on the frozen maps,
distances to the four sides of the box as in FCOS (Tian et al., ICCV 2019), task-aligned assignment
(assignment.py) and quality focal loss (Li et al., NeurIPS 2020): the score of a class says how well
the box fits too, so no objectness is needed.

Where the work goes: a block at stride 8 costs four of stride 16 and sixteen of stride 32. So the
coarse levels have deep branches of their own, which see far, and hand what they saw down to the
finest, which is half as wide and has one block a branch; the average of the coarsest map goes to
all.
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
from frostbox.heads.assignment import padded, task_aligned
from frostbox.heads.neck import TopDown, separable, start_at
from frostbox.losses import (
    BOX_LOSSES,
    DENSE_LOSSES,
    box_loss,
    dense_class_loss,
    distribution_focal_loss,
    pair_iou,
)
from frostbox.ranks import normaliser

_PRIOR = 0.01  # score that every point starts with (RetinaNet, Lin et al. 2017, section 4.1)
_START = 2.0  # distance to each side that every point starts with, in strides
_COARSEST = 32  # stride of a backbone's last map
_BINS_WEIGHT = 0.25  # of the distribution focal loss (GFL's published setting)


@dataclass(frozen=True)
class PyramidSettings:
    """Settings of the pyramid head.

    Attributes:
        width: channels of neck and branches.
        fine_width: the same at the finest of several levels, which has most of the points; 0 for
            half of `width`.
        depth: blocks of a branch at the coarse levels, one more than in the neck there.
        kernel: side of the depthwise convolutions.
        dropout: of the frozen features, whole channels at a time (training only).
        topk: points that an object may take.
        class_loss: quality, varifocal, focal, or ce (binary cross-entropy with the quality).
        focal_gamma: of all class losses but ce.
        box_loss: giou, diou, ciou, l1 or smooth_l1.
        box_weight: of the box loss against the class loss.
        strides: of the maps that predict, finest first. The head makes those above 32 itself, out
            of the next finer one.
        bins: 0 to predict a distance as one number; n for a distribution over 0 ... n - 1 cells
            with a distribution focal loss (Li et al., NeurIPS 2020, section 3.2).
    """

    width: int = 96
    fine_width: int = 0
    depth: int = 3
    kernel: int = 3
    dropout: float = 0.0
    topk: int = 9
    class_loss: str = "quality"
    focal_gamma: float = 2.0
    box_loss: str = "giou"
    box_weight: float = 2.0
    strides: tuple[int, ...] = (8, 16, 32)
    bins: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_share(self, "dropout")
        object.__setattr__(self, "strides", _checked_strides(self.strides))
        if self.bins < 0 or self.bins == 1:
            raise SettingsError(f"bins is {self.bins}: it must be 0, or 2 and more")
        check_choice(self, "class_loss", DENSE_LOSSES)
        check_choice(self, "box_loss", BOX_LOSSES)
        check_gamma(self)
        least = min(self.width, self.fine_width + 1, self.depth, self.kernel, self.topk)
        if least < 1 or self.kernel % 2 == 0:
            raise SettingsError(
                f"width is {self.width}, fine_width {self.fine_width}, topk {self.topk}, depth "
                f"{self.depth}, kernel {self.kernel}: fine_width must be at least 0, the others at "
                "least 1, kernel odd"
            )


def _checked_strides(strides: Any) -> tuple[int, ...]:
    known = [2**k for k in range(2, 8)]
    if (
        not isinstance(strides, (list, tuple))
        or not strides
        or list(strides) != [s for s in known if strides[0] <= s <= strides[-1]]
        or strides[0] > _COARSEST
    ):
        raise SettingsError(
            f"strides is {strides!r}: give neighbours such as [8, 16, 32], finest first, from 4 to "
            f"128, of which the first is at most {_COARSEST}"
        )
    return tuple(strides)


class PyramidHead(Head):
    """Raw outputs: `boxes` (B, A, 4) normalised xyxy, `logits` (B, A, K), `points` (B, A, 2).

    Finest level first; `points` are the centres of the cells, the same for every image. With `bins`
    also `bins` (B, A, 4, n), logits of the distances to left, top, right and bottom, and `cells`
    (B, A, 2), width and height of a point's cell.
    """

    strides = (8, 16, 32)
    Settings = PyramidSettings
    _reach: Tensor
    defaults: ClassVar[Mapping[str, Any]] = {
        "size": (320, 320),
        "batch_size": 32,
        "lr": 4e-3,
        "ema": 0.998,
        "clip": 5.0,
        "validate_every": 0,
    }

    @classmethod
    def strides_for(cls, settings: Mapping[str, Any]) -> tuple[int, ...]:
        """Those up to 32: coarser maps the head makes itself."""
        wanted = cls.Settings(**settings).strides
        return tuple(stride for stride in wanted if stride <= _COARSEST)

    def __init__(self, features: FeatureSpec, num_classes: int, settings: PyramidSettings) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = num_classes
        width, given = settings.width, len(features.strides)
        levels = given + sum(s > features.strides[-1] for s in settings.strides)
        fine = settings.fine_width or max(1, width // 2)
        widths = [fine if levels > 1 else width] + [width] * (levels - 1)
        # Levels of one width share what predicts.
        distinct = list(dict.fromkeys(widths))
        self.kinds = [distinct.index(w) for w in widths]
        self.context = nn.ModuleList(nn.Linear(width, w) for w in distinct)

        def counts(coarse: int, number: int) -> list[int]:
            # Only the finest of several levels is too dear for more than one block.
            return [1] * (number > 1) + [max(1, coarse)] * (number - (number > 1))

        def branches() -> nn.ModuleList:
            return nn.ModuleList(
                separable(w, settings.kernel, count)
                for w, count in zip(widths, counts(settings.depth, levels), strict=True)
            )

        self.neck = TopDown(
            features.channels,
            widths[:given],
            counts(settings.depth - 1, given),
            settings.kernel,
            settings.dropout,
        )
        self.coarser = nn.ModuleList(
            separable(width, settings.kernel, 1) for _ in range(levels - given)
        )
        self.class_branches, self.box_branches = branches(), branches()
        self.class_logits = nn.ModuleList(nn.Conv2d(w, num_classes, 1) for w in distinct)
        sides = 4 * max(1, settings.bins)
        self.distances = nn.ModuleList(nn.Linear(w, sides) for w in distinct)
        prior = _PRIOR
        if settings.class_loss == "ce":
            # Nothing weighs the easy background down here: at 0.01 its sum is a hundred times that
            # of the objects, and most of a training goes into lowering every score. So the scores
            # of an image start with the sum that one object's points have.
            points = sum(rows * columns for rows, columns in features.sizes)
            prior = min(prior, settings.topk / (points * num_classes))
        start = torch.full((4,), math.log(_START))
        if settings.bins:
            # A distribution with about the mean _START, falling from bin to bin.
            start = (-torch.arange(settings.bins) / _START).repeat(4)
        start_at(self.class_logits, torch.tensor(-math.log((1 - prior) / prior)))
        start_at(self.distances, start)
        # The levels see objects of the same size in cells; what differs they may scale.
        self.scale = nn.Parameter(torch.ones(levels))
        finest = features.sizes[0]
        self.register_buffer("_reach", torch.tensor([0.5 / finest[1], 0.5 / finest[0]]))

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """Boxes and logits of every point, for maps of any size."""
        maps = self.neck(features)
        average = maps[-1].mean((2, 3))
        context = [make(average)[:, :, None, None] for make in self.context]
        for make in self.coarser:
            maps.append(make(F.max_pool2d(maps[-1], 2, ceil_mode=True)))
        sides, logits = [], []
        for k, m in enumerate(maps):
            kind = self.kinds[k]
            seen = m + context[kind].to(m.dtype)
            where = self.box_branches[k](seen).permute(0, 2, 3, 1)
            with _exact(m):
                distances = self.distances[kind](where.to(self.scale.dtype)) * self.scale[k]
            sides.append(distances.flatten(1, 2))
            scores = self.class_logits[kind](self.class_branches[k](seen))
            logits.append(scores.flatten(2).transpose(1, 2))
        distances = torch.unflatten(torch.cat(sides, 1), -1, (4, -1))
        points, cells = _points(maps)
        with _exact(distances):
            boxes = _decode(distances, points, cells)
        raw = {
            "boxes": boxes,
            "logits": torch.cat(logits, 1),
            "points": points.expand(distances.shape[0], -1, -1),
        }
        if self.settings.bins:
            raw |= {"bins": distances, "cells": cells.expand(distances.shape[0], -1, -1)}
        return raw

    def encode(self, targets: Sequence[Targets]) -> Encoded:
        """Boxes (N, M, 4) normalised cxcywh and labels (N, M), padded with label -1."""
        return padded(targets)

    def _assign(self, raw: Raw, encoded: Encoded) -> tuple[Tensor, ...]:
        """Image, point, quality (P,), predicted and true boxes (P, 4) cxcywh, labels (P,)."""
        image, slot = (encoded["labels"] >= 0).nonzero(as_tuple=True)
        truth, labels = encoded["boxes"][image, slot], encoded["labels"][image, slot]
        found = task_aligned(
            raw["boxes"].detach(),
            raw["logits"].detach().sigmoid(),
            raw["points"][0],
            self._reach,
            image,
            box_convert(truth, "cxcywh", "xyxy"),
            labels,
            topk=self.settings.topk,
        )
        predicted = box_convert(raw["boxes"][found.image, found.point], "xyxy", "cxcywh")
        return (
            found.image, found.point, found.quality, predicted, truth[found.truth],
            labels[found.truth],
        )  # fmt: skip

    def loss(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """Class loss over all points and box loss over the assigned ones, by their quality."""
        image, point, quality, predicted, truth, labels = self._assign(raw, encoded)
        logits, s = raw["logits"], self.settings
        total = normaliser(quality.sum())
        target = torch.zeros_like(logits)
        target[image, point, labels] = quality.to(logits.dtype)
        classes = dense_class_loss(s.class_loss, logits, target, gamma=s.focal_gamma)
        box = (box_loss(s.box_loss, predicted, truth) * quality).sum() / total
        losses = {"class_loss": classes.sum() / total, "box_loss": s.box_weight * box}
        if s.bins:
            low, high = box_convert(truth, "cxcywh", "xyxy").chunk(2, -1)
            centre, cell = raw["points"][image, point], raw["cells"][image, point]
            sides = torch.cat(((centre - low) / cell, (high - centre) / cell), -1)
            fit = distribution_focal_loss(raw["bins"][image, point].flatten(0, 1), sides.flatten())
            fit = (fit.view(-1, 4).mean(-1) * quality).sum() / total
            losses["distribution_loss"] = _BINS_WEIGHT * fit
        return losses

    def decode(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """One dense box a point; sigmoid scores."""
        return raw["boxes"].clamp(0, 1), raw["logits"].sigmoid()

    def metrics(self, raw: Raw, encoded: Encoded) -> dict[str, Tensor]:
        """`mean_iou` and `accuracy` of the point that serves each object best."""
        image, point, quality, predicted, truth, labels = self._assign(raw, encoded)
        # The best point has the highest quality of those that learn the same box in one image.
        keys = torch.cat((image[:, None].float(), truth), 1)
        owner = torch.unique(keys, dim=0, return_inverse=True)[1]
        top = quality.new_zeros(len(quality)).scatter_reduce_(0, owner, quality, "amax")
        best = quality == top[owner]
        correct = raw["logits"][image, point].argmax(-1) == labels
        return {
            "mean_iou": pair_iou(predicted, truth)[best],
            "accuracy": correct[best].float(),
        }


def _exact(like: Tensor) -> torch.autocast:
    """In bfloat16 a coordinate would be known to a pixel or two only."""
    return torch.autocast(like.device.type, enabled=False)


def _points(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Centres (x, y) of the cells of all maps and their sides, (A, 2) each, in image sizes."""
    points, cells = [], []
    for m in maps:
        rows, columns = m.shape[-2:]
        y = (torch.arange(rows, device=m.device, dtype=torch.float32) + 0.5) / rows
        x = (torch.arange(columns, device=m.device, dtype=torch.float32) + 0.5) / columns
        points.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).flatten(0, 1))
        cells.append(points[-1].new_tensor([1 / columns, 1 / rows]).expand_as(points[-1]))
    return torch.cat(points), torch.cat(cells)


def _decode(distances: Tensor, points: Tensor, cells: Tensor) -> Tensor:
    """Distances to left, top, right, bottom, in cells, as boxes (B, A, 4) normalised xyxy.

    Args:
        distances: their logarithms (B, A, 4, 1), or distributions (B, A, 4, bins).
        points, cells: (A, 2) each, see `_points`.
    """
    bins = distances.shape[-1]
    if bins > 1:
        numbers = torch.arange(bins, device=distances.device, dtype=distances.dtype)
        sides = distances.softmax(-1) @ numbers
    else:
        # exp(7) cells is more than any image has; it keeps a wild start finite.
        sides = distances.squeeze(-1).clamp(max=7.0).exp()
    return torch.cat((points - sides[..., :2] * cells, points + sides[..., 2:] * cells), -1)
