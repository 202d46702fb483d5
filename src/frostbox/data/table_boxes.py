"""What the four numbers of a table's boxes mean: the Hub has several ways, and names none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from frostbox.data.annotations import Box
from frostbox.data.coco_fields import SMALLEST

_ROUNDING = 1.0  # pixels that a box may reach outside by


@dataclass(frozen=True, slots=True)
class Reading:
    """How boxes are read. `str` says it in words.

    Attributes:
        corners: (xmin, ymin, xmax, ymax) instead of COCO's (x, y, width, height).
        shares: of the picture's sides instead of pixels.
    """

    corners: bool = False
    shares: bool = False

    def __str__(self) -> str:
        order = "(xmin, ymin, xmax, ymax)" if self.corners else "(x, y, width, height)"
        return f"{order} in " + ("shares of the sides" if self.shares else "pixels")

    def box(self, values: Sequence[float], size: tuple[int, int]) -> Box:
        """The box in pixels, xyxy, of a picture of this (width, height)."""
        across, down = size if self.shares else (1, 1)
        x, y, a, b = values[0] * across, values[1] * down, values[2] * across, values[3] * down
        return (x, y, a, b) if self.corners else (x, y, x + a, y + b)

    def area(
        self, area: float | None, values: Sequence[float], size: tuple[int, int]
    ) -> float | None:
        """The object's own area in square pixels; None where it is that of the box."""
        if area is None or (area == values[2] * values[3] and not self.corners):
            return None
        return area * size[0] * size[1] if self.shares and area <= 1 else area


def meant(samples: Sequence[tuple[Sequence[float], tuple[int, int]]]) -> Reading:
    """The reading that fits boxes best, given with the (width, height) of their pictures.

    Boxes that all lie in [0, 1] are shares. Sizes would lead out of the picture, or corners be
    inverted: the reading with fewer such boxes is right. Where both fit, the boxes are COCO's, as
    the Hub's documentation has them.
    """
    inside = all(min(values) >= 0 and max(values) <= 1 for values, _ in samples)
    large = all(min(size) > SMALLEST for _, size in samples)
    shares = inside and large and any(values[2] > 0 and values[3] > 0 for values, _ in samples)
    wrong = [
        sum(_misfits(reading.box(values, size), size) for values, size in samples)
        for reading in (Reading(False, shares), Reading(True, shares))
    ]
    return Reading(wrong[0] > wrong[1], shares)


def _misfits(box: Box, size: tuple[int, int]) -> bool:
    xmin, ymin, xmax, ymax = box
    beyond = xmax > size[0] + _ROUNDING or ymax > size[1] + _ROUNDING
    return beyond or xmax < xmin or ymax < ymin
