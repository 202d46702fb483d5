"""Detectors that are made in no time: a backbone of four convolutions and an untrained head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from frostbox.backbones.contract import Backbone
from frostbox.detector import Detector
from frostbox.heads import FeatureSpec, create_head, head_class
from frostbox.selection import Selection, Settings

CLASSES = ("a", "b", "c")
THRESHOLDS = {"pyramid": 0.004, "anchors": 0.02, "grid": 0.02, "single": 0.05}
"""Low enough for an untrained head to find something."""


class _Body(nn.Module):
    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.steps = nn.ModuleList(nn.Conv2d(8, 8, 3, stride=2, padding=1) for _ in range(3))

    def forward(self, images: Tensor) -> list[Tensor]:
        found, seen = [], self.stem(images).relu()
        for k, step in enumerate(self.steps):
            seen = step(seen).relu()
            if 8 * 2**k in self.strides:
                found.append(seen)
        return found


def tiny(
    head: str,
    resize: str = "shrink",
    size: tuple[int, int] = (96, 64),
    selection: Selection | None = None,
    seed: int = 0,
    **settings: Any,
) -> Detector:
    """A detector for three classes whose scores are spread."""
    torch.manual_seed(seed)
    strides = head_class(head).strides_for(settings)
    backbone = Backbone(
        _Body(strides), name="tiny", strides=strides, channels=[8] * len(strides),
        mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), weights="random:0",
    )  # fmt: skip
    spec = FeatureSpec(strides, backbone.channels, backbone.map_sizes(size))
    made = create_head(head, spec, len(CLASSES), settings)
    for layer in [*made.modules(), *backbone.modules()]:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=(4 / layer.weight[0].numel()) ** 0.5)
    chosen = selection or Selection(threshold=THRESHOLDS[head])
    return Detector(backbone, made, head, Settings(CLASSES, size, resize, chosen))
