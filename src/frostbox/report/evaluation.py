"""The evaluation report: from measured figures to the dictionary that fills the page."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from frostbox.errors import CheckpointError, DataError, one_line, told
from frostbox.evaluation import AP_MAX_DETECTIONS, AP_THRESHOLD, calibration_outcomes
from frostbox.metrics import calibration, errors, voc
from frostbox.report.contract import (
    Calibration,
    ClassResult,
    ErrorName,
    EvaluationReport,
    Fact,
    Facts,
    FoundBox,
    Headline,
    ScoreHistogram,
    Training,
    TruthBox,
)
from frostbox.report.gallery import LOWEST_SCORE, Example, gallery
from frostbox.suite import Measured

if TYPE_CHECKING:
    from frostbox.detector import Detector
    from frostbox.selection import Selection

RULE = (
    "AP at IoU 0.5 unless another is named; all-point: area under the precision envelope "
    "(VOC2010), 11-point: VOC2007, COCO: 101 points. Difficult objects are ignored: neither hit "
    f"nor miss. A model's detections down to score {AP_THRESHOLD}, at most {AP_MAX_DETECTIONS} an "
    "image."
)
_HEADLINES: tuple[tuple[str, str, str], ...] = (
    ("AP50 (all-point)", "ap50", "area under the precision envelope at IoU 0.5, VOC2010"),
    ("AP50 (11-point)", "ap50_11point", "mean of the envelope at 11 recalls, VOC2007"),
    ("COCO AP", "coco_ap", "mean over IoU 0.50 to 0.95, 101 points"),
)
_BINS = 20


def evaluation_report(
    measured: Measured, detector: Detector | None, model: Path
) -> EvaluationReport:
    """Everything that the page shows.

    Args:
        detector: None when the predictions came from a file.
        model: what was evaluated; metrics.csv beside it gives the training curves.
    """
    figures, dataset = measured.figures, measured.dataset
    intervals = figures["intervals"]
    confusion = measured.coco.confusion(measured.threshold)
    return EvaluationReport(
        title=f"{model.name or model} on {dataset.name} {dataset.split}",
        rule=RULE,
        intervals=_interval_rule(intervals),
        score=measured.threshold,
        facts=Facts(model=_model_facts(detector, model), data=_data_facts(measured)),
        headline=[_headline(figures, *entry) for entry in _HEADLINES],
        classes=_classes(measured),
        confusion={
            "names": [*dataset.classes, "background"],
            "counts": confusion.tolist(),
            "iou": 0.5,
            "score": measured.threshold,
        },
        errors=[
            {"kind": kind, "count": one["count"], "ap_cost": one["ap_cost"]}
            for kind in get_args(ErrorName)
            for one in [figures["errors"][kind]]
        ],
        calibration=_calibration(measured, detector),
        scores=_histogram(measured),
        by_size=[
            {"name": name, "ap50": s["ap50"], "ground_truth": s["objects"]}
            for name, s in figures["ap50_by_size"].items()
        ],
        by_count=[
            {"name": name, "ap50": s["ap50"], "images": s["images"]}
            for name, s in figures["ap50_by_objects"].items()
        ],
        training=None if detector is None else _training(model, detector),
        gallery=gallery(examples(measured), score=measured.threshold),
    )


def _interval_rule(intervals: Mapping[str, Any] | None) -> str | None:
    if intervals is None:
        return None
    return (
        f"{100 * intervals['confidence']:.0f} % bootstrap over images, "
        f"{intervals['resamples']} resamples"
    )


def _headline(figures: Mapping[str, Any], name: str, key: str, rule: str) -> Headline:
    low, high = figures["intervals"][key] if figures["intervals"] else (None, None)
    return {"name": name, "value": figures[key], "low": low, "high": high, "rule": rule}


def _classes(measured: Measured) -> list[ClassResult]:
    intervals = measured.figures["intervals"]
    rows: list[ClassResult] = []
    for name, result in zip(measured.dataset.classes, measured.result.classes, strict=True):
        best = result.best_f1
        hits, wrong, missed = result.counts(np.inf if best is None else best.threshold)
        low, high = intervals["ap50_per_class"][name] if intervals else (None, None)
        rows.append(
            ClassResult(
                name=name,
                ap50=result.ap,
                ap50_11point=result.ap_11point,
                low=low,
                high=high,
                ground_truth=result.positives,
                difficult=result.difficult,
                hits=hits,
                false_positives=wrong,
                misses=missed,
                best_f1=None if best is None else best.f1,
                threshold=None if best is None else best.threshold,
                curve={
                    "recall": result.recall.tolist() if result.positives else [],
                    "precision": result.precision.tolist() if result.positives else [],
                },
            )
        )
    return rows


def _calibration(measured: Measured, detector: Detector | None) -> Calibration | None:
    figures = measured.figures
    if figures["ece"] is None:
        return None
    temperature = None if detector is None else detector.settings.selection.temperature
    scaled = None
    if temperature is not None:
        classes = len(measured.dataset.classes)
        scores, hit = calibration_outcomes(measured.detections, measured.truth, classes)
        scaled = calibration.reliability(calibration.scale(scores, temperature), hit).ece
    return {
        "ece": figures["ece"],
        "temperature": temperature,
        "ece_scaled": scaled,
        "bins": figures["calibration"]["bins"],
    }


def _histogram(measured: Measured) -> ScoreHistogram:
    scores = np.concatenate([c.scores for c in measured.result.classes])
    hit = np.concatenate([c.hit for c in measured.result.classes])
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    shown = scores >= LOWEST_SCORE
    return {
        "edges": edges.tolist(),
        "hits": np.histogram(scores[shown & hit], edges)[0].tolist(),
        "false_positives": np.histogram(scores[shown & ~hit], edges)[0].tolist(),
    }


def _training(model: Path, detector: Detector) -> Training | None:
    """What was logged, epoch by epoch; thawed ones follow those of the head alone."""
    run = model if model.is_dir() else model.parent
    paths = [run / "metrics.csv"]
    if detector.settings.training.get("thaw"):  # what was undone is not in the detector
        paths.append(run / "thaw" / "metrics.csv")
    logged: list[dict[str, float | None]] = []
    for path in paths:
        if not path.exists():
            continue
        try:
            lines = _logged(path)
        except (ValueError, TypeError, OverflowError, csv.Error) as error:
            raise DataError(
                f"{path} is damaged ({one_line(error)}); without it the page goes without curves."
            ) from error
        if lines is None:  # another program's file
            return None
        before = len(logged)
        logged += [{**line, "epoch": float(before + int(line["epoch"] or 0))} for line in lines]
    if not logged:
        return None
    columns = list(dict.fromkeys(name for line in logged for name in line))
    return {"columns": columns, "rows": [[line.get(c) for c in columns] for line in logged]}


def _logged(path: Path) -> list[dict[str, float | None]] | None:
    """The lines of a metrics.csv; None where its first column is no epoch."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        if list(lines.fieldnames or [])[:1] != ["epoch"]:
            return None
        return [{column: _number(text) for column, text in line.items()} for line in lines]


def _number(text: str) -> float | None:
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None


def _suppression(selection: Selection) -> str:
    if selection.nms is None:
        return "none"
    way = "" if selection.suppression == "nms" else f"{selection.suppression}, "
    return f"{way}{'sigma' if way.startswith('soft-gaussian') else 'IoU'} {selection.nms:g}"


def _model_facts(detector: Detector | None, model: Path) -> list[Fact]:
    if detector is None:
        return [("predictions", str(model)), ("format", "COCO results")]
    settings, training = detector.settings, detector.settings.training
    width, height = settings.size
    facts: list[Fact] = [
        ("file", str(model)),
        ("head", detector.head_name),
        ("backbone", f"{detector.backbone.name}, {detector.backbone.weights}"),
        ("input", f"{width} x {height} pixels, {settings.resize}"),
        ("weights of the head", f"{sum(p.numel() for p in detector.head.parameters()):,}"),
        ("NMS", _suppression(settings.selection)),
    ]
    if "fit" in training:  # a detector that was put together in Python may know nothing
        try:
            facts += _trained(training)
        except (LookupError, TypeError) as error:
            raise CheckpointError(
                f"{model} is damaged: what it says of its training lacks or garbles "
                f"{one_line(error)}; copy it again or train again"
            ) from error
    return facts


def _trained(training: Mapping[str, Any]) -> list[Fact]:
    data = training["data"]
    facts = [("trained on", f"{data['name']}, {data['train_images']} images")]
    for label, fit in (
        ("epochs", training["fit"]),
        ("epochs with thawed stages", training.get("thaw")),
    ):
        if fit is not None:
            facts.append((label, f"{fit['epochs_run']}, kept {fit['best_epoch'] + 1}"))
    return [*facts, ("frostbox", str(training["frostbox_version"]))]


def _data_facts(measured: Measured) -> list[Fact]:
    dataset, images = measured.dataset, measured.predictions.images
    objects = [obj for image in images for obj in image.objects]
    return [
        ("folder", told(str(dataset.root))),
        ("split", dataset.split),
        ("images", f"{len(images):,}"),
        ("objects", f"{len(objects):,}"),
        ("difficult, ignored", f"{sum(obj.difficult for obj in objects):,}"),
        ("photos missing", str(len(dataset.missing_photos))),
        ("classes", str(len(dataset.classes))),
    ]


def examples(measured: Measured) -> list[Example]:
    """Every image with the state of each object and each detection from LOWEST_SCORE on."""
    detections, truth, dataset = measured.detections, measured.truth, measured.dataset
    names = dataset.classes
    found = errors.account(detections, truth, len(names), LOWEST_SCORE)
    shown = np.flatnonzero(found.state != errors.State.BELOW)
    by_image = _starts(detections.image[shown], len(measured.predictions.images))
    truth_start = _starts(truth.image, len(measured.predictions.images))
    result = []
    for k, image in enumerate(measured.predictions.images):
        boxes: list[FoundBox] = [
            {
                "box": _rounded(detections.box[d]),
                "name": names[detections.label[d]],
                "score": round(float(detections.score[d]), 4),
                "kind": errors.State(found.state[d]).name.lower(),  # type: ignore[typeddict-item]
            }
            for d in shown[by_image[k] : by_image[k + 1]]
        ]
        objects: list[TruthBox] = [
            {
                "box": _rounded(truth.box[g]),
                "name": names[truth.label[g]],
                "difficult": bool(truth.difficult[g]),
                "state": errors.TruthState(found.truth_state[g]).name.lower(),  # type: ignore[typeddict-item]
            }
            for g in range(truth_start[k], truth_start[k + 1])
        ]
        result.append(
            Example(
                image.image_id, image.photo, image.width, image.height, objects, boxes, image.exif
            )
        )
    return result


def _starts(image: voc.Ints, images: int) -> voc.Ints:
    """Where each image's boxes begin in arrays that are ordered by image, and the end."""
    return np.searchsorted(image, np.arange(images + 1))


def _rounded(box: voc.Floats) -> list[float]:
    return [round(float(v), 1) for v in box]
