"""What a network of a given size and stride, or a grid of so many cells, cannot express."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from frostbox.data.doctor.findings import Finding
from frostbox.data.doctor.survey import RawBox, Survey


def check_tiny(found: Survey, size: tuple[int, int], stride: int) -> Iterator[Finding]:
    """Objects that, at the network's input size, are smaller than one cell both ways.

    Args:
        found: the data set.
        size: (width, height) of the input in pixels, to which the photo is squeezed.
        stride: pixels between the cells of the finest feature map.
    """
    for split in found.parts:
        sides = np.array(
            [
                ((box[2] - box[0] + 1) * size[0] / width, (box[3] - box[1] + 1) * size[1] / height)
                for width, height, box in _boxes(found, split)
            ]
        ).reshape(-1, 2)
        tiny = int((sides.max(axis=1, initial=0) < stride).sum())
        if tiny:
            yield Finding(
                "object-tiny", "notice", found.list_file(split), "",
                f"has {tiny} of {len(sides)} objects ({tiny / len(sides):.1%}) below {stride} x "
                f"{stride} pixels when photos have {size[0]} x {size[1]}",
                "train at a larger size or a finer stride", count=tiny,
            )  # fmt: skip


def check_grid(found: Survey, cells: Sequence[int]) -> Iterator[Finding]:
    """Objects whose centre lies in a cell that hosts another centre too.

    A grid head writes one object into a cell; of several it keeps the largest.
    """
    for split in found.parts:
        total = sum(1 for _ in _boxes(found, split))
        for number in cells:
            lost = sum(
                _crowded([box for _, box in image.boxed], image.size, number)
                for image in found.of(split)
                if image.size is not None
            )
            if lost:
                yield Finding(
                    "grid-crowded", "notice", found.list_file(split), "",
                    f"loses {lost} of {total} objects ({lost / total:.1%}) on {number} x {number} "
                    "cells",
                    "train with more cells, or with a head that has anchors", count=lost,
                )  # fmt: skip


def _crowded(boxes: list[RawBox], size: tuple[int, int], cells: int) -> int:
    """How many of an image's boxes a grid of `cells` x `cells` cannot hold."""
    corners = np.array(boxes, dtype=float).reshape(-1, 4)
    # The centre of VOC's inclusive pixels (xmin - 1, xmax) is (xmin - 1 + xmax) / 2.
    centres = (corners[:, :2] - 1 + corners[:, 2:]) / 2 / np.array(size)
    # As in boxes.cell_of: a centre at the far edge belongs to the last cell.
    hosts = np.clip(np.floor(centres * cells), 0, cells - 1)
    return len(hosts) - len(np.unique(hosts, axis=0))


def _boxes(found: Survey, split: str) -> Iterator[tuple[int, int, RawBox]]:
    for image in found.of(split):
        if image.size is not None:
            for _, box in image.boxed:
                yield *image.size, box
