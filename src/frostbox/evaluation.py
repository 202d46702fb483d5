"""Predict a split, from photos or from cached features, and score the predictions.

Whatever the display threshold, AP uses all detections down to 0.001, at most 300 an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.targets import targets
from frostbox.detections import Detections
from frostbox.detector import Detector, Selection
from frostbox.errors import DataError
from frostbox.features.cache import FeatureCache
from frostbox.metrics import voc
from frostbox.progress import Progress

AP_THRESHOLD = 0.001
AP_MAX_DETECTIONS = 300
_BATCH = 64


@dataclass(frozen=True)
class Predictions:
    """What a detector found in the images of a split, and the head's own figures on them.

    Attributes:
        images: the images that were read; found: their detections, in the same order.
        figures: mean of each of the head's metrics, such as `accuracy`.
    """

    images: tuple[ImageAnnotation, ...]
    found: list[Detections]
    figures: dict[str, float]


def ap_selection(detector: Detector) -> Selection:
    """The detector's own NMS with the threshold and the limit of AP."""
    return replace(
        detector.settings.selection, threshold=AP_THRESHOLD, max_detections=AP_MAX_DETECTIONS
    )


def predict_cache(detector: Detector, cache: FeatureCache, dataset: DetectionSet) -> Predictions:
    """Predict from the first view of each cached image."""
    by_id = {image.image_id: image for image in dataset.images}
    images = tuple(by_id[image_id] for image_id in cache.ids)
    selection = ap_selection(detector)
    found: list[Detections] = []
    figures = _Figures(detector, dataset)
    for start in range(0, len(images), _BATCH):
        part = range(start, min(start + _BATCH, len(images)))
        maps = [m.float() for m in cache.read([(i, 0) for i in part])]
        geometries = [cache.geometry(i, 0) for i in part]
        found += detector.detections(maps, geometries, selection)
        figures.add(maps, [images[i] for i in part], geometries)
    return Predictions(images, found, figures.means())


def predict_photos(
    detector: Detector,
    dataset: DetectionSet,
    progress: Progress | None = None,
    *,
    strict: bool = False,
) -> Predictions:
    """Predict from the photos, in the order of the list; images without photo are left out.

    A photo that cannot be decoded is named, left out and counted, unless `strict`.

    Raises:
        DataError: no photo at all, or one that cannot be decoded under `strict`.
    """
    images = dataset.photos
    if not images:
        raise DataError(
            f"{dataset.root} has no photo for any of the {len(dataset)} images of "
            f"'{dataset.split}': put them into its JPEGImages folder"
        )
    if progress is not None:
        progress.start("predicting", len(images), "images")
    selection = ap_selection(detector)
    figures = _Figures(detector, dataset)
    found: list[Detections] = []
    read: list[ImageAnnotation] = []
    for rows, maps, geometries in detector.feature_stream(images, skip=not strict):
        part = [images[row] for row in rows]
        read += part
        found += detector.detections(maps, geometries, selection)
        figures.add(maps, part, geometries)
        if progress is not None:
            progress.update(rows[-1] + 1)
    if progress is not None:
        progress.stop()
    return Predictions(tuple(read), found, figures.means())


class _Figures:
    """Running means of the head's metrics."""

    def __init__(self, detector: Detector, dataset: DetectionSet) -> None:
        self.detector, self.dataset = detector, dataset
        self.values: dict[str, list[torch.Tensor]] = {}

    @torch.inference_mode()
    def add(
        self,
        maps: Sequence[torch.Tensor],
        images: Sequence[ImageAnnotation],
        geometries: Sequence[Any],
    ) -> None:
        head = self.detector.head
        encoded = head.encode(
            [targets(i, self.dataset, g) for i, g in zip(images, geometries, strict=True)]
        )
        raw = head([m.float() for m in maps])
        device = next(iter(raw.values())).device
        encoded = {k: t.to(device) for k, t in encoded.items()}
        for name, values in head.metrics(raw, encoded).items():
            self.values.setdefault(name, []).append(values.cpu())

    def means(self) -> dict[str, float]:
        joined = {name: torch.cat(parts) for name, parts in self.values.items()}
        return {name: float(v.mean()) for name, v in joined.items() if len(v)}


def score(predictions: Predictions, dataset: DetectionSet) -> dict[str, Any]:
    """AP50 by both VOC rules, per class and mean, and the head's figures. JSON-ready.

    Keys: `images`, `missing_photos`, `skipped_photos`, `ap50`, `ap50_11point`, `ap50_per_class`,
    `ap50_11point_per_class`, `rule`, and the head's figures. AP lies in [0, 1]; null for a class
    without ground truth.
    """
    found, images = predictions.found, predictions.images
    result = voc.evaluate(
        voc.Boxes.join(
            [d.boxes for d in found],
            [d.labels for d in found],
            scores=[d.scores for d in found],
        ),
        voc.Boxes.join(
            [np.array([o.box for o in i.objects]).reshape(-1, 4) for i in images],
            [np.array([dataset.label(o) for o in i.objects], np.int64) for i in images],
            difficult=[np.array([o.difficult for o in i.objects], bool) for i in images],
        ),
        len(dataset.classes),
    )
    named = list(zip(dataset.classes, result.classes, strict=True))
    return {
        "split": dataset.split,
        "images": len(images),
        "missing_photos": len(dataset.missing_photos),
        "skipped_photos": len(dataset.photos) - len(images),
        "ap50": result.mean_ap,
        "ap50_11point": result.mean_ap_11point,
        "ap50_per_class": {name: c.ap for name, c in named},
        "ap50_11point_per_class": {name: c.ap_11point for name, c in named},
        "objects_per_class": {name: c.positives for name, c in named},
        "rule": {
            "iou_threshold": result.iou_threshold,
            "ap50": "area under the precision envelope at all points (VOC2010)",
            "ap50_11point": "mean of the envelope at 11 recalls (VOC2007)",
            "difficult": "ignored: neither hit nor miss",
            "score_threshold": AP_THRESHOLD,
            "max_detections": AP_MAX_DETECTIONS,
        },
        **predictions.figures,
    }
