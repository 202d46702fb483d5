"""What `evaluate` and `predict` do from end to end, with a finished detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from frostbox import evaluation
from frostbox.data.photos import check_photo_sizes, read_image
from frostbox.data.voc import load
from frostbox.detector import Detector
from frostbox.inputs import check_targets, find_images, unique_names
from frostbox.progress import Progress
from frostbox.training import resolve_device


def evaluate(
    model: str | Path,
    data: str | Path,
    split: str = "val",
    *,
    nms: Mapping[str, float | None] | None = None,
    score: str | None = None,
    device: str = "auto",
    strict: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Score a detector on the photos of a split; the keys are those of `evaluation.score`.

    Args:
        nms: {"nms": IoU or None} in place of the detector's own; {} for its own.
        score: "product" or "objectness", for a head that has the choice.
        strict: a broken photo is an error, not left out and counted.
    """
    detector = Detector.load(model, resolve_device(device))
    detector = detector.configured(score=score, **(nms or {}))
    dataset = load(data, split, detector.settings.classes, require_photos=True)
    dataset = check_photo_sizes(dataset)
    progress = Progress(console or Console(stderr=True))
    predictions = evaluation.predict_photos(detector, dataset, progress, strict=strict)
    return evaluation.score(predictions, dataset)


def predict(
    model: str | Path,
    images: Sequence[str | Path],
    *,
    threshold: float | None = None,
    nms: Mapping[str, float | None] | None = None,
    score: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    strict: bool = False,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Detect in files, folders and glob patterns; annotated pictures go to `out`.

    A photo that cannot be decoded is named and left out, unless `strict`, or it is the only one.

    Returns:
        One `{image, width, height, detections}` a picture.

    Raises:
        SettingsError: an annotated picture would overwrite one of the inputs.
    """
    changed = {} if threshold is None else {"threshold": threshold}
    detector = Detector.load(model, resolve_device(device))
    detector = detector.configured(score=score, **changed, **(nms or {}))
    paths = find_images(images)
    names = dict(zip(paths, unique_names(paths), strict=True))
    if out is not None:
        check_targets(paths, [Path(out) / name for name in names.values()])
    progress = Progress(console or Console(stderr=True))
    progress.start("predicting", len(paths), "images")
    found = []
    skip = not strict and len(paths) > 1
    for row, detections in detector.predict_stream(paths, skip=skip):
        path = paths[row]
        if out is not None:
            target = Path(out) / names[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
            detections.draw(picture).save(target, quality=92)
        width, height = detections.image_size
        found.append(
            {
                "image": str(path),
                "width": width,
                "height": height,
                "detections": detections.to_dicts(),
            }
        )
        progress.update(row + 1)
    progress.stop()
    return found
