"""What `extract` and `train` do from end to end; inference.py has `evaluate` and `predict`.

Called by the command line and from Python alike; it prints what a person should know through one
console.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from frostbox import backbones, evaluation, planning
from frostbox._version import __version__
from frostbox.data.annotations import DetectionSet
from frostbox.data.photos import check_photo_sizes
from frostbox.data.targets import targets
from frostbox.data.transforms import geometry
from frostbox.data.voc import load
from frostbox.detector import Detector, Settings
from frostbox.diagnosis import check_before_training
from frostbox.errors import SettingsError
from frostbox.features.cache import FeatureCache
from frostbox.features.engine import Engine, create_engine
from frostbox.features.extract import extract
from frostbox.features.index import CacheRequest
from frostbox.features.store import cache_path, cache_root
from frostbox.heads import FeatureSpec, create_head, head_class, settings_of
from frostbox.progress import Progress
from frostbox.settings import TrainSettings
from frostbox.training import CachedViews, fit, resolve_device

SUMMARY_VERSION = 1
"""Of summary.json, which is written for people and other programs and never read back."""


@dataclass(frozen=True)
class Trained:
    """What `train_run` leaves. `summary` is what summary.json holds."""

    detector: Detector
    run: Path
    summary: dict[str, Any]


def train(data: str | Path, **options: Any) -> Detector:
    """Train a detector: extract features (or reuse them), fit the head, keep the best weights.

    Args:
        data: a VOC year folder, its VOCdevkit, or the parent.
        options: `out` (folder of the run), `cache` (folder of caches), `resume`, `overwrite`,
            `config` (a settings.json to replay), and any field of TrainSettings, FitSettings or
            of the head's settings by its name, such as `head="single", epochs=30, pooled=True`.

    Returns:
        The detector, which is also saved as best.safetensors in the run's folder.
    """
    return train_run(data, **options).detector


def train_run(
    data: str | Path,
    *,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: str | Path | None = None,
    console: Console | None = None,
    **options: Any,
) -> Trained:
    """`train`, with all that it leaves; see there."""
    console = console or Console(stderr=True, markup=False, emoji=False)
    progress = Progress(console)
    seconds: dict[str, float] = {}
    given = {**(TrainSettings.read(Path(config)) if config else {}), **options}
    if resume:
        given = resumed_settings(out, given)
    settings = TrainSettings.create(given)
    device = resolve_device(settings.fit.device)

    started = time.perf_counter()
    examined = [split for split in (settings.train_split, settings.val_split) if split != "none"]
    check_before_training(data, examined, settings.classes, console)
    train_set = load(data, settings.train_split, settings.classes, require_photos=True)
    train_set = check_photo_sizes(train_set)
    settings = replace(settings, classes=train_set.classes)
    val_set = None
    if settings.val_split != "none":
        val_set = load(data, settings.val_split, train_set.classes, require_photos=True)
        val_set = check_photo_sizes(val_set)
    console.print(
        f"{len(train_set.classes)} classes from {train_set.classes_from}: "
        f"{', '.join(train_set.classes)}"
    )
    run = prepare_run(out, train_set.name, settings.head, resume=resume, overwrite=overwrite)
    if not resume:
        (run / "settings.json").write_text(settings.to_json())

    torch.manual_seed(settings.fit.seed)
    head_type = head_class(settings.head)
    backbone = backbones.create(settings.backbone, head_type.strides, settings.weights)
    spec = FeatureSpec(backbone.strides, backbone.channels, backbone.map_sizes(settings.size))
    boxes = (
        targets(
            image,
            train_set,
            geometry(settings.resize, (image.width, image.height), settings.size),
            difficult=settings.fit.difficult,
        )
        for image in train_set.photos
    )
    head_settings = head_type.fitted_settings(settings.head_settings, boxes)
    head = create_head(settings.head, spec, len(train_set.classes), head_settings)
    seconds["read"] = time.perf_counter() - started

    started = time.perf_counter()
    wanted = [(train_set, settings.views)] + ([(val_set, 1)] if val_set else [])
    caches = ensure_caches(wanted, backbone, settings, cache, console, progress, device)
    seconds["extract"] = time.perf_counter() - started

    started = time.perf_counter()
    estimate = planning.estimate_training(head, spec, len(caches[0].ids), settings.fit)
    console.print(str(estimate))
    planning.check_space(run, estimate)
    fitted = fit(
        head,
        CachedViews(caches[0], train_set, head, difficult=settings.fit.difficult),
        CachedViews(caches[1], val_set, head) if val_set else None,
        settings.fit,
        run,
        resume=resume,
        progress=progress,
    )
    seconds["train"] = time.perf_counter() - started

    started = time.perf_counter()
    detector = Detector(
        backbone,
        head,
        settings.head,
        Settings(train_set.classes, settings.size, settings.resize),
    )
    measured = calibration = None
    if val_set:
        predictions = evaluation.predict_cache(detector, caches[1], val_set)
        measured = evaluation.score(predictions, val_set)
        selection, calibration = evaluation.fitted_selection(
            detector.settings.selection, predictions, val_set
        )
        detector.settings = replace(detector.settings, selection=selection)
    seconds["evaluate"] = time.perf_counter() - started

    summary = {
        "version": SUMMARY_VERSION,
        "command": " ".join(sys.argv),
        "frostbox_version": __version__,
        "data": {
            "name": train_set.name,
            "root": str(train_set.root),
            "train_images": len(caches[0].ids),
            "train_objects": sum(len(i.objects) for i in train_set.photos),
            "missing_photos": len(train_set.missing_photos),
            "skipped_photos": len(caches[0].skipped),
            "val_images": len(caches[1].ids) if val_set else 0,
        },
        "model": {
            "head": settings.head,
            "head_settings": settings_of(head),
            "head_weights": sum(p.numel() for p in head.parameters()),
            "backbone": backbone.name,
            "weights": backbone.weights,
            "strides": backbone.strides,
            "size": settings.size,
        },
        "fit": {
            **asdict(settings.fit),
            "epochs_run": fitted.epochs,
            "best_epoch": fitted.best_epoch,
        },
        "metrics": fitted.metrics,
        "evaluation": measured,
        "calibration": calibration,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "environment": environment(fitted.device),
    }
    parts = ("frostbox_version", "data", "fit", "metrics", "evaluation", "calibration")
    shown = {k: summary[k] for k in parts}
    detector.settings = replace(detector.settings, training=shown)
    detector.save(run / "best.safetensors")
    (run / "summary.json").write_text(json.dumps(summary, indent=2))
    return Trained(detector, run, summary)


def resumed_settings(out: str | Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that is resumed; what is given may not contradict them.

    Raises:
        SettingsError: no folder named, or a setting that differs from the run's.
    """
    if out is None:
        raise SettingsError("--resume needs the folder of the run: name it with --out")
    stored = TrainSettings.read(Path(out) / "settings.json")
    known = {**stored, **stored["head_settings"]}
    for name, value in given.items():
        if known.get(name) != value:
            raise SettingsError(
                f"{name} is {value!r} and the run in {out} was started with {known.get(name)!r}: "
                "leave it out to resume, or start another run"
            )
    return stored


def prepare_run(
    out: str | Path | None, name: str, head: str, *, resume: bool, overwrite: bool
) -> Path:
    """The folder of the run, empty or with the run that is resumed.

    Raises:
        SettingsError: it holds a run, and neither resume nor overwrite is asked for.
    """
    run = Path(out) if out is not None else Path("runs") / f"{name}-{head}"
    if run.exists() and not run.is_dir():
        raise SettingsError(f"{run} is a file: give a folder for the run with --out")
    marks = [run / mark for mark in ("last.ckpt", "best.safetensors")]
    if any(mark.exists() for mark in marks) and not resume:
        if not overwrite:
            raise SettingsError(
                f"{run} already holds a run: go on with --resume, replace it with --overwrite, or "
                "name another folder with --out"
            )
        for mark in (*marks, run / "best.ckpt", run / "metrics.csv"):
            mark.unlink(missing_ok=True)
        shutil.rmtree(run / "events", ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)
    return run


def ensure_caches(
    wanted: list[tuple[DetectionSet, int]],
    backbone: backbones.Backbone,
    settings: TrainSettings,
    cache: str | Path | None,
    console: Console,
    progress: Progress,
    device: str = "cpu",
) -> list[FeatureCache]:
    """Open the caches of these (data set, views), extracting what is not there yet.

    What has to be extracted is estimated and printed first.
    """
    root = cache_root(cache)
    requests = [
        CacheRequest.of(data, backbone, size=settings.size, mode=settings.resize, views=views)
        for data, views in wanted
    ]
    paths = [cache_path(root, w[0], r) for w, r in zip(wanted, requests, strict=True)]
    missing = [w for w, p in zip(wanted, paths, strict=True) if not FeatureCache.complete(p)]
    engine = None
    if missing:
        engine = create_engine("auto", backbone, settings.size, device)
        console.print(engine.describe())
        estimate = planning.estimate_extraction(
            missing, backbone, engine, settings.size, settings.resize
        )
        console.print(str(estimate))
    caches = []
    for (data, views), path in zip(wanted, paths, strict=True):
        if engine is None or (data, views) not in missing:
            console.print(f"features of '{data.split}' reused from {path}")
            caches.append(FeatureCache.open(path))
            continue
        caches.append(
            _extract(
                data,
                backbone,
                path,
                engine,
                settings.size,
                settings.resize,
                views,
                settings.strict,
                progress,
            )
        )
        console.print(f"features of '{data.split}' in {path}")
    return caches


def extract_features(
    data: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    backbone: str = "efficientnet_lite0",
    weights: str = "auto",
    size: tuple[int, int] = (224, 224),
    strides: tuple[int, ...] = (32,),
    resize: str = "shrink",
    views: int = 1,
    engine: str = "auto",
    device: str = "auto",
    classes: tuple[str, ...] | None = None,
    strict: bool = False,
    console: Console | None = None,
) -> FeatureCache:
    """Write a cache of a split's features into `out`; goes on where an earlier call was cut off."""
    console = console or Console(stderr=True, markup=False, emoji=False)
    TrainSettings(size=size, resize=resize, views=views)  # says what is wrong before any work
    if Path(out).is_file():
        raise SettingsError(f"{out} is a file: give a folder for the cache with --out")
    place = resolve_device(device)
    dataset = check_photo_sizes(load(data, split, classes, require_photos=True))
    network = backbones.create(backbone, strides, weights)
    request = CacheRequest.of(dataset, network, size=size, mode=resize, views=views)
    if FeatureCache.complete(out):
        cache = FeatureCache.open(out)
        cache.check(request)
        return cache
    running = create_engine(engine, network, size, place)
    console.print(running.describe())
    console.print(
        str(planning.estimate_extraction([(dataset, views)], network, running, size, resize))
    )
    return _extract(
        dataset, network, Path(out), running, size, resize, views, strict, Progress(console)
    )


def _extract(
    dataset: DetectionSet,
    backbone: backbones.Backbone,
    out: Path,
    engine: Engine,
    size: tuple[int, int],
    resize: str,
    views: int,
    strict: bool,
    progress: Progress,
) -> FeatureCache:
    progress.start(f"extracting {dataset.split}", len(dataset.photos), "images")
    try:
        return extract(
            dataset,
            backbone,
            out,
            size=size,
            mode=resize,
            views=views,
            engine=engine,
            strict=strict,
            progress=lambda done, total: progress.update(done),
        )
    finally:
        progress.stop()


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, for the summary of a run."""
    import openvino
    import timm
    import torchvision

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "openvino": openvino.__version__,
    }
