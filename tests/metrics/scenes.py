"""Random scenes for the tests of the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frostbox.metrics.voc import Boxes


def random_scene(
    seed: int,
    *,
    images: int = 12,
    classes: int = 3,
    objects: float = 3.0,
    difficult: float = 0.2,
    extra: int = 25,
    levels: int = 20,
) -> tuple[Boxes, Boxes]:
    """(detections, ground truth) with integer corners, equal scores, duplicates, empty images.

    Detections lie on objects (moved by a few pixels, some of the wrong class) or anywhere; scores
    take `levels` values, so that many are equal.
    """
    rng = np.random.default_rng(seed)

    def anywhere(n: int) -> np.ndarray:
        corner = rng.integers(0, 60, (n, 2))
        return np.concatenate([corner, corner + rng.integers(8, 120, (n, 2))], axis=1)

    count = int(rng.poisson(objects * images))
    image = np.sort(rng.integers(0, images - 1, count))  # the last image stays without objects
    box, label = anywhere(count), rng.integers(0, classes, count)
    source = np.repeat(np.arange(count), rng.integers(0, 4, count))
    moved = box[source] + rng.integers(-6, 7, (len(source), 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    wrong = rng.random(len(source)) < 0.2
    found_label = np.where(wrong, rng.integers(0, classes, len(source)), label[source])
    detections = Boxes(
        image=np.concatenate([image[source], rng.integers(0, images, extra)]),
        box=np.concatenate([moved, anywhere(extra)]).astype(float),
        label=np.concatenate([found_label, rng.integers(0, classes, extra)]),
        score=rng.integers(1, levels + 1, len(source) + extra) / levels,
        difficult=np.zeros(len(source) + extra, bool),
    )
    truth = Boxes(image, box.astype(float), label, np.ones(count), rng.random(count) < difficult)
    return detections, truth


def boxes(
    rows: Sequence[tuple[int, Sequence[float], int, float]], difficult: Sequence[bool] | None = None
) -> Boxes:
    """Rows `(image, box, label, score)` as Boxes."""
    return Boxes(
        image=np.array([r[0] for r in rows], int),
        box=np.array([r[1] for r in rows], float).reshape(-1, 4),
        label=np.array([r[2] for r in rows], int),
        score=np.array([r[3] for r in rows], float),
        difficult=np.zeros(len(rows), bool) if difficult is None else np.array(difficult),
    )
