"""All figures of an evaluation: AP by both VOC rules and COCO's, intervals, errors, calibration.

`measure` takes predictions, whoever made them, and gives one JSON-ready dictionary; what the HTML
report needs beyond it stays as arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from frostbox.data.annotations import DetectionSet
from frostbox.evaluation import (
    CALIBRATION_FLOOR,
    Predictions,
    calibration_outcomes,
    detection_arrays,
    score,
    truth_arrays,
)
from frostbox.metrics import calibration, errors, intervals, voc
from frostbox.metrics.coco import Evaluation

CONFIDENCE = 0.95
# COCO's limits of small, medium and large, in square pixels of the original image.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
_COUNTS = {"1 object": (1, 1), "2 to 3": (2, 3), "4 to 7": (4, 7), "8 or more": (8, 10**9)}
_SUSPECTS = 50
_RULES: tuple[intervals.Rule, ...] = ("ap50", "ap50_11point", "coco_ap")


@dataclass(frozen=True)
class Measured:
    """An evaluation, whole.

    Attributes:
        figures: what `--json` writes, described in `measure`.
        detections, truth: as flat arrays; `image` indexes `predictions.images`.
        result: the VOC rule at IoU 0.5. coco: COCO's protocol, computed as asked.
        threshold: the score at which F1 over all classes together is highest.
    """

    dataset: DetectionSet
    predictions: Predictions
    figures: dict[str, Any]
    detections: voc.Boxes
    truth: voc.Boxes
    result: voc.Result
    coco: Evaluation
    threshold: float


def measure(
    predictions: Predictions,
    dataset: DetectionSet,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    brief: bool = False,
) -> Measured:
    """Every figure of these predictions on their images.

    The figures are those of `evaluation.score`, and: `coco_ap`, `coco_ap50`, `coco_ap75` and the
    rest of COCO's twelve under `coco`; `intervals` (of the means under the rule's name, of classes
    under `RULE_per_class`; each [low, high]); `operating_point`, the score of the highest F1 over
    all classes together; `errors` ({kind: {count, ap_cost}}, TIDE's kinds: counted at the operating
    point, the cost in AP over all detections); `ece` and `calibration`; `best_f1_per_class`;
    `ap50_by_size`, `ap50_by_objects`; `suspected_labels`, annotations that confident detections
    contradict.

    Args:
        bootstrap: resamples of the images for the intervals; 0 for none.
        seed: of the resampling.
        brief: without `errors` and `suspected_labels`, which take the longest; both are empty.
    """
    classes = len(dataset.classes)
    images = predictions.images
    detections, truth = detection_arrays(predictions), truth_arrays(images, dataset)
    result = voc.evaluate(detections, truth, classes)
    coco = Evaluation(detections, truth, [(i.width, i.height) for i in images], dataset.classes)
    summary = asdict(coco.summary)
    threshold = operating_point(result)
    figures = {
        **score(predictions, dataset, result),
        **{f"coco_{name}": summary[name] for name in ("ap", "ap50", "ap75")},
        "coco": {k: v for k, v in summary.items() if k != "images"},
        "operating_point": threshold,
        "errors": {} if brief else _errors(detections, truth, classes, threshold),
        **_calibration(detections, truth, classes),
        "best_f1_per_class": {
            name: None if c.best_f1 is None else asdict(c.best_f1)
            for name, c in zip(dataset.classes, result.classes, strict=True)
        },
        "ap50_by_size": ap50_by_size(detections, truth, classes),
        "ap50_by_objects": _by_objects(detections, truth, classes, len(images)),
        "suspected_labels": [] if brief else _suspected_labels(coco, predictions, dataset),
        "intervals": None,
    }
    if bootstrap:
        figures["intervals"] = _intervals(
            detections, truth, dataset.classes, len(images), bootstrap, seed
        )
    return Measured(dataset, predictions, figures, detections, truth, result, coco, threshold)


def compare(
    a: Predictions, b: Predictions, dataset: DetectionSet, *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Paired bootstrap of two models' predictions of the same images. JSON-ready.

    Keys: `images`, `resamples`, `confidence`, and by rule (`ap50`, `ap50_11point`, `coco_ap`)
    `mean` and `per_class`, each with `a`, `b`, `difference`, `low`, `high`, `probability` (that A
    is better).
    """
    images = a.images
    found = intervals.compare(
        detection_arrays(a),
        detection_arrays(b),
        truth_arrays(images, dataset),
        len(dataset.classes),
        len(images),
        rules=_RULES,
        resamples=bootstrap,
        confidence=CONFIDENCE,
        seed=seed,
    )
    return {
        "split": dataset.split,
        "images": len(images),
        "resamples": bootstrap,
        "confidence": CONFIDENCE,
        **{
            rule: {
                "mean": _difference(found[rule].mean),
                "per_class": {
                    name: _difference(d)
                    for name, d in zip(dataset.classes, found[rule].classes, strict=True)
                },
            }
            for rule in _RULES
        },
    }


def _difference(d: intervals.Difference) -> dict[str, float | None]:
    return {
        "a": d.a,
        "b": d.b,
        "difference": d.difference.value,
        "low": d.difference.low,
        "high": d.difference.high,
        "probability": d.probability,
    }


def operating_point(result: voc.Result) -> float:
    """The score at which F1 over all classes together is highest; 0.5 without any hit."""
    scores = np.concatenate([c.scores for c in result.classes])
    hits = np.concatenate([c.hit for c in result.classes])
    order = np.argsort(-scores, kind="stable")
    pooled = voc.curve(
        hits[order], scores[order], sum(c.positives for c in result.classes), difficult=0
    )
    return pooled.best_f1.threshold if pooled.best_f1 else 0.5


def ap50_by_size(
    detections: voc.Boxes, truth: voc.Boxes, num_classes: int
) -> dict[str, dict[str, Any]]:
    """AP50 (all-point) of objects of one size.

    Objects of other sizes are ignored like difficult ones, and so are detections of another size
    that hit nothing, as in COCO's protocol.

    Returns:
        By name of the size: `ap50`, None without objects, and `objects` that count.
    """
    area, found_area = _area(truth.box), _area(detections.box)
    hit = voc.assign(detections, truth, num_classes).hit
    slices = {}
    for name, (low, high) in SIZES.items():
        other = (area < low) | (area >= high)
        kept = hit | ((found_area >= low) & (found_area < high))
        result = voc.evaluate(
            voc.take(detections, np.flatnonzero(kept)),
            replace(truth, difficult=truth.difficult | other),
            num_classes,
        )
        objects = sum(c.positives for c in result.classes)
        slices[name] = {"ap50": result.mean_ap, "objects": objects}
    return slices


def _area(box: voc.Floats) -> voc.Floats:
    area: voc.Floats = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return area


def _by_objects(
    detections: voc.Boxes, truth: voc.Boxes, num_classes: int, num_images: int
) -> dict[str, dict[str, Any]]:
    """AP50 (all-point) on the images with so many objects; empty ranges are left out."""
    per_image = np.bincount(truth.image, minlength=num_images)
    slices = {}
    for name, (low, high) in _COUNTS.items():
        wanted = (per_image >= low) & (per_image <= high)
        if wanted.any():
            result = voc.evaluate(
                voc.take(detections, np.flatnonzero(wanted[detections.image])),
                voc.take(truth, np.flatnonzero(wanted[truth.image])),
                num_classes,
            )
            slices[name] = {"ap50": result.mean_ap, "images": int(wanted.sum())}
    return slices


def _errors(
    detections: voc.Boxes, truth: voc.Boxes, num_classes: int, threshold: float
) -> dict[str, dict[str, float | int | None]]:
    cost = errors.costs(detections, truth, num_classes).cost
    counts = errors.account(detections, truth, num_classes, threshold).counts()
    return {kind: {"count": n, "ap_cost": cost.get(kind)} for kind, n in counts.items()}


def _calibration(detections: voc.Boxes, truth: voc.Boxes, num_classes: int) -> dict[str, Any]:
    scores, hit = calibration_outcomes(detections, truth, num_classes)
    found = calibration.reliability(scores, hit)
    filled = [
        {"score": float(s), "precision": float(p), "count": int(n)}
        for s, p, n in zip(found.score, found.accuracy, found.count, strict=True)
        if n
    ]
    return {
        "ece": found.ece,
        "calibration": {"score_floor": CALIBRATION_FLOOR, "bins": filled},
    }


def _intervals(
    detections: voc.Boxes,
    truth: voc.Boxes,
    names: Sequence[str],
    num_images: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    found = intervals.bootstrap(
        detections,
        truth,
        len(names),
        num_images,
        rules=_RULES,
        resamples=resamples,
        confidence=CONFIDENCE,
        seed=seed,
    )
    values: dict[str, Any] = {"confidence": CONFIDENCE, "resamples": resamples, "over": "images"}
    for rule, one in found.items():
        values[rule] = [one.mean.low, one.mean.high]
        values[f"{rule}_per_class"] = {
            name: [i.low, i.high] for name, i in zip(names, one.classes, strict=True)
        }
    return values


def _suspected_labels(
    coco: Evaluation, predictions: Predictions, dataset: DetectionSet
) -> list[dict[str, Any]]:
    return [
        {
            "kind": e.kind,
            "image": predictions.images[e.image].image_id,
            "box": [round(float(v), 1) for v in coco.detections.box[e.detection]],
            "detected": dataset.classes[e.label],
            "score": round(e.score, 4),
            "annotated": None if e.truth_label is None else dataset.classes[e.truth_label],
        }
        for e in coco.label_errors()[:_SUSPECTS]
    ]
