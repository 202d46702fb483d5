"""Predict a split, from photos or from cached features, and score the predictions.

Whatever the display threshold, AP uses all of a model's detections down to 0.001, at most 300 an
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frostbox.backbones.stages import Stages
from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.targets import targets
from frostbox.detections import Detections
from frostbox.detector import Detector
from frostbox.errors import DataError
from frostbox.features.cache import FeatureCache
from frostbox.heads import Raw
from frostbox.metrics import voc
from frostbox.metrics.calibration import fit_temperature, outcomes
from frostbox.progress import Progress
from frostbox.selection import Selection

AP_THRESHOLD = 0.001
AP_MAX_DETECTIONS = 300
CALIBRATION_FLOOR = 0.05
_BATCH = 64


@dataclass(frozen=True)
class Predictions:
    """What a detector found in the images of a split, and the head's own figures on them.

    Attributes:
        images: the images that were read; found: their detections, in the same order.
        figures: mean of each of the head's metrics, such as `accuracy`.
        limited: found with AP's threshold and limit; False for a file, of which all count.
    """

    images: tuple[ImageAnnotation, ...]
    found: list[Detections]
    figures: dict[str, float]
    limited: bool = True


def ap_selection(detector: Detector) -> Selection:
    """The detector's own NMS with the threshold and the limit of AP."""
    return detector.settings.selection.changed(
        threshold=AP_THRESHOLD, max_detections=AP_MAX_DETECTIONS, calibrated=False
    )


@torch.inference_mode()
def predict_cache(
    detector: Detector,
    cache: FeatureCache,
    dataset: DetectionSet,
    stages: Stages | None = None,
    limit: int | None = None,
) -> Predictions:
    """Predict from the first view of each cached image.

    Args:
        limit: only the first so many images.
        stages: those of the detector's backbone that were thawed, of whose maps the cache is stale;
            the photo may not be below them.
    """
    by_id = {image.image_id: image for image in dataset.images}
    images = tuple(by_id[image_id] for image_id in cache.ids[:limit])
    selection = ap_selection(detector).changed(flip=False)  # photos are not at hand
    found: list[Detections] = []
    figures = _Figures(detector, dataset)
    strides = None if stages is None else stages.reads
    for start in range(0, len(images), _BATCH):
        part = range(start, min(start + _BATCH, len(images)))
        maps = [m.float() for m in cache.read([(i, 0) for i in part], strides)]
        if stages is not None:
            maps = stages([m.contiguous(memory_format=torch.channels_last) for m in maps])
        geometries = [cache.geometry(i, 0) for i in part]
        raw = detector.raw(maps)
        found += detector.select(raw, geometries, selection)
        figures.add(raw, [images[i] for i in part], geometries)
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
        if not dataset.images:
            raise DataError(
                f"{dataset.root}: {dataset.split!r} names no image: there is nothing to predict "
                "on; give another split"
            )
        first = dataset.images[0]
        raise DataError(
            f"{dataset.root} has no photo for any of the {len(dataset)} images of "
            f"{dataset.split!r}, of which the first is {first.image_id!r} (named in "
            f"{first.source}): put the photos where the annotations name them"
        )
    if progress is not None:
        progress.start("predicting", len(images), "images")
    selection = ap_selection(detector)
    figures = _Figures(detector, dataset)
    found: list[Detections] = []
    read: list[ImageAnnotation] = []
    stream = detector.raw_stream(images, skip=not strict, flip=selection.flip)
    for rows, raw, geometries in stream:
        part = [images[row] for row in rows]
        read += part
        found += detector.select(raw, geometries, selection)
        figures.add({k: v[: len(part)] for k, v in raw.items()}, part, geometries)
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
        raw: Raw,
        images: Sequence[ImageAnnotation],
        geometries: Sequence[Any],
    ) -> None:
        head = self.detector.head
        encoded = head.encode(
            [targets(i, self.dataset, g) for i, g in zip(images, geometries, strict=True)]
        )
        device = next(iter(raw.values())).device
        encoded = {k: t.to(device) for k, t in encoded.items()}
        for name, values in head.metrics(raw, encoded).items():
            self.values.setdefault(name, []).append(values.cpu())

    def means(self) -> dict[str, float]:
        joined = {name: torch.cat(parts) for name, parts in self.values.items()}
        return {name: float(v.mean()) for name, v in joined.items() if len(v)}


def detection_arrays(predictions: Predictions) -> voc.Boxes:
    """All detections as the metrics take them; `image` indexes `predictions.images`."""
    found = predictions.found
    return voc.Boxes.join(
        [d.boxes for d in found], [d.labels for d in found], scores=[d.scores for d in found]
    )


def truth_arrays(images: Sequence[ImageAnnotation], dataset: DetectionSet) -> voc.Boxes:
    """All objects of these images as the metrics take them."""
    every = [i.objects for i in images]
    return voc.Boxes.join(
        [np.array([o.box for o in objects]).reshape(-1, 4) for objects in every],
        [np.array([dataset.label(o) for o in objects], np.int64) for objects in every],
        difficult=[np.array([o.difficult or o.crowd for o in objects], bool) for objects in every],
        crowd=[np.array([o.crowd for o in objects], bool) for objects in every],
        area=[np.array([o.size for o in objects]) for objects in every],
    )


def voc_result(predictions: Predictions, dataset: DetectionSet) -> voc.Result:
    """The VOC rule at IoU 0.5 on these predictions."""
    truth = truth_arrays(predictions.images, dataset)
    return voc.evaluate(detection_arrays(predictions), truth, len(dataset.classes))


def score(
    predictions: Predictions, dataset: DetectionSet, result: voc.Result | None = None
) -> dict[str, Any]:
    """AP50 by both VOC rules, per class and mean, and the head's figures. JSON-ready.

    Keys: `images`, `missing_photos`, `skipped_photos`, `ap50`, `ap50_11point`, `ap50_per_class`,
    `ap50_11point_per_class`, `objects_per_class`, `rule`, and the head's figures. AP lies in
    [0, 1]; null for a class without ground truth. `missing_photos` and `skipped_photos` count the
    images that were left out for want of a photo, or for a broken one.

    Args:
        result: of `voc_result`, when it has been computed already.
    """
    result = result or voc_result(predictions, dataset)
    images = predictions.images
    scored = {image.image_id for image in images}
    named = list(zip(dataset.classes, result.classes, strict=True))
    return {
        "split": dataset.split,
        "images": len(images),
        "missing_photos": sum(i not in scored for i in dataset.missing_photos),
        "skipped_photos": sum(i.image_id not in scored for i in dataset.photos),
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
            "crowd": "ignored, and what lies inside it",
            "score_threshold": AP_THRESHOLD if predictions.limited else None,
            "max_detections": AP_MAX_DETECTIONS if predictions.limited else None,
        },
        **predictions.figures,
    }


def fitted_selection(
    selection: Selection, predictions: Predictions, dataset: DetectionSet
) -> tuple[Selection, dict[str, Any]]:
    """The selection with what these predictions teach, to be called with those on val.

    Each class gets the threshold of its best F1 (a class without any hit keeps the general one),
    and scores get a temperature.

    Returns:
        The selection, and JSON-ready `calibration`: temperature, ECE before and after.
    """
    detections, truth = detection_arrays(predictions), truth_arrays(predictions.images, dataset)
    result = voc.evaluate(detections, truth, len(dataset.classes))
    fitted = fit_temperature(*calibration_outcomes(detections, truth, len(dataset.classes)))
    chosen = replace(
        selection,
        class_thresholds=tuple(float(t) for t in result.thresholds(selection.threshold)),
        temperature=fitted.temperature,
    )
    return chosen, {
        "temperature": fitted.temperature,
        "ece_before": fitted.ece_before,
        "ece_after": fitted.ece_after,
        "score_floor": CALIBRATION_FLOOR,
    }


def calibration_outcomes(
    detections: voc.Boxes, truth: voc.Boxes, num_classes: int
) -> tuple[voc.Floats, NDArray[np.bool_]]:
    """Scores and hits of the detections that calibration is measured on.

    Those below CALIBRATION_FLOOR are left out: there are so many of them, and all wrong, that they
    would hide everything else.
    """
    shown = voc.take(detections, np.flatnonzero(detections.score >= CALIBRATION_FLOOR))
    return outcomes(shown, voc.assign(shown, truth, num_classes))
