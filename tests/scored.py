"""Data sets and predictions in memory, for the tests of what evaluates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.detections import Detections
from frostbox.evaluation import Predictions

Truth = tuple[str, tuple[float, float, float, float]]
Found = tuple[str, tuple[float, float, float, float], float]


def dataset(
    images: Mapping[str, Sequence[Truth | ObjectAnnotation]],
    classes: Sequence[str] = ("a", "b"),
    size: tuple[int, int] = (200, 200),
    photo: Path | None = Path("nowhere.jpg"),
) -> DetectionSet:
    """Image ids with their objects; all images have the same size and photo."""
    return DetectionSet(
        name="made",
        root=Path("made"),
        split="val",
        classes=tuple(classes),
        classes_from="the test",
        images=tuple(
            ImageAnnotation(
                image_id,
                photo,
                *size,
                tuple(o if isinstance(o, ObjectAnnotation) else ObjectAnnotation(*o) for o in objs),
                Path(f"{image_id}.xml"),
            )
            for image_id, objs in images.items()
        ),
    )


def predictions(data: DetectionSet, found: Mapping[str, Sequence[Found]]) -> Predictions:
    """Detections `(name, box, score)` by image id; other images have none."""
    return Predictions(
        data.images,
        [
            Detections.create(
                [box for _, box, _ in found.get(i.image_id, ())],
                [score for _, _, score in found.get(i.image_id, ())],
                [data.classes.index(name) for name, _, _ in found.get(i.image_id, ())],
                data.classes,
                (i.width, i.height),
            )
            for i in data.images
        ],
        {},
    )


def random_pair(
    seed: int = 0, images: int = 60, photo: Path | None = Path("nowhere.jpg")
) -> tuple[DetectionSet, Predictions, Predictions]:
    """A data set, a decent detector's predictions of it, and the same with shuffled scores."""
    rng = np.random.default_rng(seed)
    truth: dict[str, list[Truth]] = {}
    found: dict[str, list[Found]] = {}
    for k in range(images):
        image_id = f"{k:06d}"
        truth[image_id], found[image_id] = [], []
        for _ in range(int(rng.integers(0, 4))):
            name = str(rng.choice(["a", "b"]))
            x, y = rng.uniform(0, 120, 2)
            box = np.array([x, y, x + rng.uniform(15, 70), y + rng.uniform(15, 70)])
            truth[image_id].append((name, tuple(box.tolist())))
            if rng.random() < 0.85:
                near = tuple((box + rng.normal(0, 2, 4)).tolist())
                found[image_id].append((name, near, float(rng.uniform(0.4, 1))))
        for _ in range(int(rng.integers(0, 5))):
            x, y = rng.uniform(0, 150, 2)
            box = (float(x), float(y), float(x) + 30, float(y) + 30)
            found[image_id].append((str(rng.choice(["a", "b"])), box, float(rng.uniform(0, 0.6))))
    data = dataset(truth, photo=photo)
    scores = iter(rng.permutation([s for row in found.values() for _, _, s in row]).tolist())
    spoiled = {i: [(n, b, next(scores)) for n, b, _ in row] for i, row in found.items()}
    return data, predictions(data, found), predictions(data, spoiled)
