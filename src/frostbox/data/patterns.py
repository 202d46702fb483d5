"""What lies together and where: co-occurrence of classes, heat maps of centres, anchors.

The larger numbers of a data set, for the page that `frostbox explore --report` writes; the counts
are in `explore.py`.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from frostbox.data.anchors import Anchors, suggest_anchors
from frostbox.data.annotations import DetectionSet

CELLS = 16
ANCHOR_COUNTS = range(1, 10)


class Patterns(TypedDict):
    """What `patterns` returns; plain Python values that JSON can hold.

    `cooccurrence[i][j]` is the number of images that hold class i and class j; on the diagonal,
    the number that hold two or more objects of class i. `centres` maps a class to rows of a grid
    over the image, each cell the number of box centres in it. `anchors` are relative to the image.
    """

    cooccurrence: list[list[int]]
    centres: dict[str, list[list[int]]]
    anchors: list[Anchors]


def patterns(dataset: DetectionSet, cells: int = CELLS, seed: int = 0) -> Patterns:
    """Co-occurrence, heat maps and anchors of a split; difficult objects included.

    Args:
        dataset: the split.
        cells: rows and columns of the heat maps.
        seed: of the k-means behind the anchors.

    Returns:
        Classes in label order everywhere.
    """
    images = dataset.images
    number = len(dataset.classes)
    per_image = np.zeros((len(images), number), dtype=np.int64)
    for k, image in enumerate(images):
        for obj in image.objects:
            per_image[k, dataset.label(obj)] += 1
    present = (per_image > 0).astype(np.int64)
    together = present.T @ present
    np.fill_diagonal(together, (per_image > 1).sum(axis=0))

    pairs = [(image, obj) for image in images for obj in image.objects]
    boxes = np.array([obj.box for _, obj in pairs], dtype=float).reshape(-1, 2, 2)
    sizes = np.array([(image.width, image.height) for image, _ in pairs], dtype=float)
    relative = boxes / sizes.reshape(-1, 1, 2)
    labels = np.array([dataset.label(obj) for _, obj in pairs], dtype=np.int64)
    return Patterns(
        cooccurrence=together.tolist(),
        centres=dict(
            zip(dataset.classes, _heat_maps(relative.mean(axis=1), labels, number, cells),
                strict=True)
        ),
        anchors=suggest_anchors(relative[:, 1] - relative[:, 0], ANCHOR_COUNTS, seed),
    )  # fmt: skip


def _heat_maps(
    centres: NDArray[np.float64], labels: NDArray[np.int64], number: int, cells: int
) -> list[list[list[int]]]:
    """Counts (number, cells, cells) of (N, 2) relative centres; rows run from top to bottom."""
    counts = np.zeros((number, cells, cells), dtype=np.int64)
    # A centre at exactly 1, or in a box that leaves the image, belongs to the border's cell.
    columns, rows = np.clip((centres * cells).astype(np.int64), 0, cells - 1).T
    np.add.at(counts, (labels, rows, columns), 1)
    nested: list[list[list[int]]] = counts.tolist()
    return nested
