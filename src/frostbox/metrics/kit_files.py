"""Result files of the Pascal VOC development kit: `comp4_det_test_CLASS.txt`.

One file a class; a line is `image_id score xmin ymin xmax ymax`. Coordinates are the kit's: pixels
counted from 1, the last one included (Everingham and Winn, the kit's documentation, section 4.3).
In the API boxes are 0-based and continuous: `(xmin - 1, ymin - 1, xmax, ymax)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frostbox.errors import DataError, NotFoundError
from frostbox.metrics.voc import Boxes

_KIT_MINUS_OURS = np.array([1.0, 1.0, 0.0, 0.0])


def result_path(
    folder: Path, name: str, *, competition: str = "comp4", split: str = "test"
) -> Path:
    """Where the kit looks for the results of the class `name`."""
    return folder / f"{competition}_det_{split}_{name}.txt"


def write_results(
    folder: Path,
    detections: Boxes,
    image_ids: Sequence[str],
    class_names: Sequence[str],
    *,
    competition: str = "comp4",
    split: str = "test",
) -> list[Path]:
    """Write one file a class, also for classes without detections, and return their paths.

    Numbers are written in full, so that reading gives the same scores and the same AP.

    Args:
        detections: `image` indexes `image_ids`, `label` indexes `class_names`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kit = detections.box + _KIT_MINUS_OURS
    paths = []
    for k, name in enumerate(class_names):
        rows = np.flatnonzero(detections.label == k)
        lines = [
            f"{image_ids[image]} {score!r} {xmin!r} {ymin!r} {xmax!r} {ymax!r}\n"
            for image, score, (xmin, ymin, xmax, ymax) in zip(
                detections.image[rows].tolist(),
                detections.score[rows].tolist(),
                kit[rows].tolist(),
                strict=True,
            )
        ]
        path = result_path(folder, name, competition=competition, split=split)
        path.write_text("".join(lines), encoding="utf-8")
        paths.append(path)
    return paths


def read_results(
    folder: Path,
    image_ids: Sequence[str],
    class_names: Sequence[str],
    *,
    competition: str = "comp4",
    split: str = "test",
) -> Boxes:
    """Read the files of all classes as detections, class by class in the order of the lines.

    Raises:
        NotFoundError: a class has no file. DataError: a line with other than six fields, a
            field that is no finite number, or an image that is not in `image_ids`.
    """
    index = {image_id: i for i, image_id in enumerate(image_ids)}
    images: list[int] = []
    labels: list[int] = []
    numbers: list[list[float]] = []
    for k, name in enumerate(class_names):
        path = result_path(folder, name, competition=competition, split=split)
        if not path.is_file():
            raise NotFoundError(
                f"{path} does not exist: the kit wants a file for every class, an empty one for a "
                "class without detections"
            )
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            image_id, values = _parse(line, f"{path}, line {number}")
            if image_id not in index:
                raise DataError(
                    f"{path}, line {number}: image '{image_id}' is not in the split of "
                    f"{len(image_ids)} images: are these the results of another split?"
                )
            images.append(index[image_id])
            labels.append(k)
            numbers.append(values)
    table = np.array(numbers, np.float64).reshape(-1, 5)
    return Boxes(
        image=np.array(images, np.int64),
        box=table[:, 1:] - _KIT_MINUS_OURS,
        label=np.array(labels, np.int64),
        score=table[:, 0].copy(),
        difficult=np.zeros(len(table), bool),
    )


def _parse(line: str, where: str) -> tuple[str, list[float]]:
    fields = line.split()
    if len(fields) != 6:
        raise DataError(
            f"{where}: {len(fields)} fields instead of six "
            f"(image_id score xmin ymin xmax ymax): '{line.strip()[:80]}'"
        )
    try:
        values = [float(field) for field in fields[1:]]
    except ValueError as error:
        raise DataError(f"{where}: {error}; score and coordinates are numbers") from None
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where}: score and coordinates must be finite: '{line.strip()[:80]}'")
    return fields[0], values
