"""What `evaluate` and `compare` do from end to end, with a finished detector."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from frostbox import evaluation
from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load
from frostbox.data.photos import check_photo_sizes
from frostbox.detector import Detector
from frostbox.errors import NotFoundError, SettingsError
from frostbox.evaluation import Predictions
from frostbox.inputs import check_not_folders
from frostbox.predictions import read_predictions, write_predictions
from frostbox.progress import Progress
from frostbox.suite import compare as paired
from frostbox.suite import measure
from frostbox.training import resolve_device

AUTO, FLOAT32 = "auto", "32"  # what is executed where nothing else is asked for


@dataclass(frozen=True)
class Judged:
    """Predictions of a split with the data set that they are of, and their model if there is one.

    `outside` counts the detections of a file that belong to other images.
    """

    predictions: Predictions
    dataset: DetectionSet
    detector: Detector | None
    outside: int = 0


def judge(
    model: str | Path,
    data: Any,
    split: str = "val",
    *,
    classes: tuple[str, ...] | None = None,
    rename: Mapping[str, str] | None = None,
    nms: Mapping[str, Any] | None = None,
    score: str | None = None,
    engine: str = AUTO,
    precision: str = FLOAT32,
    device: str = "auto",
    strict: bool = False,
    console: Console | None = None,
) -> Judged:
    """Predictions of a detector, or of a file in the format of COCO's results (.json).

    Args:
        classes: names in label order, for a file; a detector brings its own.
        rename: new names of the data set's classes by old ones, before the detector's own.
        nms: "nms" (IoU or None), "suppression" and "flip" in place of the detector's own; {} for
            its own.
        score: "product" or "objectness", for a head that has the choice.
        engine, precision: of a detector, as in `Detector.prepare`; with neither it chooses itself.
        strict: a broken photo is an error, not left out and counted.
    """
    detector = _opened(model, nms, score, device, engine, precision)
    dataset = _truth(data, split, classes, rename, [detector])
    return _judged(model, detector, dataset, strict, console)


def _opened(
    model: str | Path,
    nms: Mapping[str, Any] | None,
    score: str | None,
    device: str,
    engine: str = AUTO,
    precision: str = FLOAT32,
) -> Detector | None:
    """The detector, or None for a file of predictions, which must exist."""
    asked = (engine, precision) != (AUTO, FLOAT32)
    if not _holds_predictions(model):
        detector = Detector.load(model, resolve_device(device)).configured(score, **(nms or {}))
        return detector.prepare(engine, precision=precision, latency=False) if asked else detector
    if nms or score or asked:
        raise SettingsError(
            f"{model} holds finished detections: --nms, --suppression, --score, --engine and "
            "--precision need a model"
        )
    if not Path(model).exists():
        raise NotFoundError(f"{model} does not exist: give a model, or a file of predictions")
    return None


def _truth(
    data: Any,
    split: str,
    classes: tuple[str, ...] | None,
    rename: Mapping[str, str] | None,
    detectors: Sequence[Detector | None],
) -> DetectionSet:
    """The split with the classes and names that the detectors know, or else those given."""
    known = [detector.settings for detector in detectors if detector is not None]
    if known and classes not in (None, known[0].classes):
        names = ", ".join(known[0].classes)
        raise SettingsError(f"the model knows the classes {names}: leave --classes out")
    own = known[0].classes if known else ()
    learned = {old: new for settings in known for old, new in settings.rename.items()}
    typed = {old: learned.get(new, new) for old, new in (rename or {}).items()}
    # Other data may lack what a detector knows; a renaming that was typed must hit something.
    dataset = load(
        data, split, own or classes, {**learned, **typed},
        absent={*own, *learned} - set(typed), require_photos=bool(known),
    )  # fmt: skip
    return check_photo_sizes(dataset)


def _judged(
    model: str | Path,
    detector: Detector | None,
    dataset: DetectionSet,
    strict: bool,
    console: Console | None,
) -> Judged:
    if detector is None:
        predictions, outside = read_predictions(Path(model), dataset)
        return Judged(predictions, dataset, None, outside)
    progress = Progress(console or Console(stderr=True))
    predictions = evaluation.predict_photos(detector, dataset, progress, strict=strict)
    return Judged(predictions, dataset, detector)


def _holds_predictions(model: str | Path) -> bool:
    return Path(model).suffix.lower() == ".json"


def evaluate(
    model: str | Path,
    data: Any,
    split: str = "val",
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    report: str | Path | None = None,
    save_predictions: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score a detector, or a file of predictions, on a split; the keys are those of `measure`.

    Args:
        model: a detector's file, the folder of its run, or a .json of COCO results.
        bootstrap: resamples of the images for the intervals; 0 for none.
        report: write one self-contained HTML page there.
        save_predictions: write the predictions there, as COCO results.
        options: of `judge`.

    Raises:
        SettingsError: a file to be written that cannot be, or that is the model.
    """
    check_not_folders(report, save_predictions)
    if save_predictions is not None:
        if not _holds_predictions(save_predictions):
            raise SettingsError(
                f"{save_predictions} does not end in .json, by which evaluate and compare know "
                "predictions: give such a name"
            )
        if Path(save_predictions).resolve() == Path(model).resolve():
            raise SettingsError(f"{model} would be overwritten: give the predictions another name")
    judged = judge(model, data, split, **options)
    measured = measure(judged.predictions, judged.dataset, bootstrap=bootstrap, seed=seed)
    if save_predictions is not None:
        write_predictions(judged.predictions, Path(save_predictions), judged.dataset)
    if report is not None:
        from frostbox.report import write_evaluation_report
        from frostbox.report.evaluation import evaluation_report

        page = evaluation_report(measured, judged.detector, Path(model))
        write_evaluation_report(page, Path(report))
    return {**measured.figures, "detections_of_other_images": judged.outside}


def compare(
    a: str | Path,
    b: str | Path,
    data: Any,
    split: str = "val",
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    classes: tuple[str, ...] | None = None,
    rename: Mapping[str, str] | None = None,
    nms: Mapping[str, Any] | None = None,
    device: str = "auto",
    strict: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Which of two models, or files of predictions, is better on a split.

    The keys are those of `suite.compare`, `a` and `b`, and `images_left_out`: how many images only
    one of the two has, because their photo is missing or broken.

    Args:
        bootstrap: resamples of the images.
        classes, rename, nms, device, strict: as in `judge`; a model's classes number those of a
            file.

    Raises:
        SettingsError: models with different classes, or without any image in common.
    """
    detectors = [_opened(model, nms, None, device) for model in (a, b)]
    known = [detector.settings.classes for detector in detectors if detector is not None]
    if len(set(known)) > 1:
        raise SettingsError(
            f"{a} knows the classes {', '.join(known[0])} and {b} {', '.join(known[1])}: only "
            "detectors of the same classes in the same order can be compared"
        )
    dataset = _truth(data, split, classes, rename, detectors)
    models = list(zip((a, b), detectors, strict=True))
    judged = [
        _judged(model, detector, dataset, strict, console)
        for model, detector in (models[:1] if str(a) == str(b) else models)
    ]
    left, right = judged[0], judged[-1]
    ids = [{image.image_id for image in j.predictions.images} for j in (left, right)]
    common = ids[0] & ids[1]
    if not common:
        raise SettingsError(f"{a} and {b} have no image in common: predict the same with both")
    figures = paired(
        _restricted(left.predictions, common),
        _restricted(right.predictions, common),
        left.dataset,
        bootstrap=bootstrap,
        seed=seed,
    )
    left_out = len(ids[0] | ids[1]) - len(common)
    return {"a": str(a), "b": str(b), "images_left_out": left_out, **figures}


def _restricted(predictions: Predictions, ids: Container[str]) -> Predictions:
    kept = [k for k, image in enumerate(predictions.images) if image.image_id in ids]
    images = tuple(predictions.images[k] for k in kept)
    return replace(predictions, images=images, found=[predictions.found[k] for k in kept])
