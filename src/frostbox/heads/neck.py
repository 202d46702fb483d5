"""Layers that the heads of several scales share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TopDown(nn.Module):
    """Frozen maps, finest first, to maps of given widths that know what the coarser ones saw.

    The top-down path of feature pyramid networks (Lin et al., CVPR 2017): each map takes the next
    coarser one, enlarged, and goes through its blocks.
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        blocks: Sequence[int],
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        pairs = zip(channels, widths, strict=True)
        self.lateral = nn.ModuleList(_lateral(c, width, dropout) for c, width in pairs)
        self.merge = nn.ModuleList(
            separable(width, kernel, count) for width, count in zip(widths, blocks, strict=True)
        )
        # Narrowed before it is enlarged, where there is a quarter as much of it.
        self.handed = nn.ModuleList(
            nn.Identity() if fine == coarse else nn.Conv2d(coarse, fine, 1)
            for fine, coarse in pairwise(widths)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, width of the level, rows, columns) of the same sizes as `features`."""
        levels = [adapt(m) for adapt, m in zip(self.lateral, features, strict=True)]
        maps: list[Tensor] = []
        for k in reversed(range(len(levels))):
            level = levels[k]
            if maps:
                coarser = self.handed[k](maps[0])
                level = level + F.interpolate(coarser, size=level.shape[-2:], mode="nearest")
            maps.insert(0, self.merge[k](level))
        return maps


def _lateral(channels: int, width: int, dropout: float) -> nn.Sequential:
    """A frozen map brought to the neck's width.

    Frozen features come in any scale: the first norm has no learned parameters. The dropout takes
    whole channels.
    """
    return nn.Sequential(
        nn.BatchNorm2d(channels, affine=False),
        nn.Dropout2d(dropout),
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def separable(width: int, kernel: int, count: int) -> nn.Sequential:
    """`count` times a depthwise convolution, then a pointwise one.

    One norm for both (as in EfficientDet, Tan et al., CVPR 2020): a second one between them took an
    eighth of the time of a step and gave nothing that could be measured.
    """

    def block() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    return nn.Sequential(*[block() for _ in range(count)])


def start_at(layers: nn.ModuleList, bias: Tensor) -> None:
    """Make layers predict this bias, a number or one an output, nearly everywhere at first."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)  # type: ignore[arg-type]
        with torch.no_grad():
            layer.bias.copy_(bias)  # type: ignore[union-attr, operator]
