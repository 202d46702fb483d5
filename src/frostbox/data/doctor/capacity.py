"""What a network of a given size and stride, or a grid of so many cells, cannot express."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostbox.data.doctor.findings import Finding
from frostbox.data.doctor.survey import RawImage, Survey


@dataclass(frozen=True)
class _Boxes:
    """The boxes of a split as arrays, one row a box: image, its size, and VOC's corners."""

    image: NDArray[np.int64]
    size: NDArray[np.float64]
    corners: NDArray[np.float64]

    @classmethod
    def of(cls, images: Iterable[RawImage]) -> _Boxes:
        rows = [
            (number, *image.size, *box)
            for number, image in enumerate(images)
            if image.size is not None
            for _, box in image.boxed
        ]
        table = np.array(rows, dtype=np.float64).reshape(-1, 7)
        return cls(table[:, 0].astype(np.int64), table[:, 1:3], table[:, 3:])


def check_tiny(found: Survey, size: tuple[int, int], stride: int) -> Iterator[Finding]:
    """Objects that, at the network's input size, are smaller than one cell both ways.

    Args:
        found: the data set.
        size: (width, height) of the input in pixels, to which the photo is squeezed.
        stride: pixels between the cells of the finest feature map.
    """
    for split in found.parts:
        boxes = _Boxes.of(found.of(split))
        sides = (boxes.corners[:, 2:] - boxes.corners[:, :2] + 1) * np.array(size) / boxes.size
        tiny = int((sides < stride).all(axis=1).sum())
        if tiny:
            yield Finding(
                "object-tiny", "notice", *found.places[split],
                f"has {tiny} of {len(sides)} objects ({tiny / len(sides):.1%}) below {stride} x "
                f"{stride} pixels when photos have {size[0]} x {size[1]}",
                "train at a larger size or a finer stride", count=tiny,
            )  # fmt: skip


def check_grid(found: Survey, cells: Sequence[int]) -> Iterator[Finding]:
    """Objects whose centre lies in a cell that hosts another centre too.

    A grid head writes one object into a cell; of several it keeps the largest.
    """
    for split in found.parts:
        boxes = _Boxes.of(found.of(split))
        # The centre of VOC's inclusive pixels is the mean of xmin - 1 and xmax.
        centres = (boxes.corners[:, :2] - 1 + boxes.corners[:, 2:]) / 2 / boxes.size
        total = len(centres)
        for number in cells:
            # As in boxes.cell_of: a centre at the far edge belongs to the last cell.
            column, row = np.clip(np.floor(centres * number), 0, number - 1).T.astype(np.int64)
            lost = total - len(np.unique((boxes.image * number + row) * number + column))
            if lost:
                yield Finding(
                    "grid-crowded", "notice", *found.places[split],
                    f"loses {lost} of {total} objects ({lost / total:.1%}) on {number} x {number} "
                    "cells",
                    "train with more cells, or with a head that has anchors", count=lost,
                )  # fmt: skip
