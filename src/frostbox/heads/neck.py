"""Layers that the heads of several scales share."""

from __future__ import annotations

from torch import nn


def lateral(channels: int, width: int, dropout: float) -> nn.Sequential:
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


def separable(width: int, kernel: int) -> nn.Sequential:
    """Depthwise convolution, then pointwise."""
    return nn.Sequential(
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
