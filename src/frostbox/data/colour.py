"""Brightness, contrast, saturation and hue of a picture, changed in one pass.

torchvision's four functions take 6 ms for 320 x 320 pixels on one core, 5 of them for the hue; this
takes less than a tenth, where a small backbone takes 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_STEPS = 4096
"""Coefficients are multiples of 1 / 4096: with 8-bit values every float32 sum of them is exact, so
that the result depends on no machine's order of additions and no number of threads."""

# RGB to YIQ, the NTSC standard's luminance and two colour axes, and back.
_YIQ = torch.tensor(
    [_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)],
    dtype=torch.float64,
)


@dataclass(frozen=True, slots=True)
class Colour:
    """Changes of a picture's colours, in this order.

    Attributes:
        brightness, contrast, saturation: factors, as torchvision's `adjust_brightness`,
            `adjust_contrast` and `adjust_saturation` take them; 1 changes nothing.
        hue: rotation about the grey axis in turns; 0 changes nothing. It is a rotation in YIQ, and
            not in HSV as `adjust_hue`'s: a matrix like the rest, and luminance stays.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def matrix(self) -> Tensor:
        """float64 (3, 3): what red, green and blue are multiplied by."""
        # Minus: hue goes from red to green, the angle from I (orange) to Q (purple).
        angle = -2 * math.pi * self.hue
        cos, sin = math.cos(angle), math.sin(angle)
        s = self.saturation
        turned = torch.tensor(
            [[1, 0, 0], [0, s * cos, -s * sin], [0, s * sin, s * cos]], dtype=torch.float64
        )
        rows: Tensor = self.brightness * self.contrast * torch.linalg.inv(_YIQ) @ turned @ _YIQ
        return rows


def apply_colour(
    image: Tensor, colour: Colour, part: tuple[int, int, int, int] | None = None
) -> Tensor:
    """Change the colours of a picture.

    Args:
        image: uint8 (3, H, W), red, green and blue.
        colour: what to change.
        part: left, top, right, bottom of the pixels that change, as `Geometry.shown` gives them; a
            canvas around them keeps its colour. None for all.

    Returns:
        uint8 (3, H, W), contiguous, values rounded and cut to 0 to 255.
    """
    result = image.clone(memory_format=torch.contiguous_format)  # faster than channels last
    left, top, right, bottom = part or (0, 0, image.shape[2], image.shape[1])
    planes = result[:, top:bottom, left:right]
    mean = planes.sum((1, 2), dtype=torch.int64).double() / (planes.shape[1] * planes.shape[2])
    # Contrast moves values away from the mean luminance of the picture, brightness applied.
    grey = colour.brightness * float(mean @ _YIQ[0])
    shift = float(_exact(torch.tensor((1 - colour.contrast) * grey)))
    red, green, blue = planes.float()
    for target, (r, g, b) in zip(planes, _exact(colour.matrix()).tolist(), strict=True):
        value = (red * r).add_(green, alpha=g).add_(blue, alpha=b)
        # uint8 cuts decimals off: half a step more rounds.
        target.copy_(value.add_(shift + 0.5).clamp_(0, 255))
    return result


def _exact(values: Tensor) -> Tensor:
    return (values * _STEPS).round() / _STEPS
