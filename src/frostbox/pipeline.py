"""What `train` does from end to end; extraction.py has `extract`, inference.py what comes after.

Called by the command line and from Python alike; it prints what a person should know through one
console.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from frostbox import backbones, evaluation, recipes
from frostbox._version import __version__
from frostbox.backbones.stages import Stages
from frostbox.clock import Clock
from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load_training, recognise
from frostbox.data.photos import check_photo_sizes
from frostbox.data.targets import targets
from frostbox.data.transforms import geometry
from frostbox.detector import Detector
from frostbox.diagnosis import check_before_training, check_loaded
from frostbox.errors import SettingsError
from frostbox.extraction import ensure_caches
from frostbox.heads import Head, create_head, head_class, settings_of
from frostbox.learning import HEAD, THAW, Learner, feature_spec
from frostbox.progress import Progress
from frostbox.settings import TrainSettings
from frostbox.thawing import NONE, stage_count
from frostbox.training import FitResult, FitSettings, resolve_device

SUMMARY_VERSION = 1
"""Of summary.json, which is written for people and other programs and never read back."""


@dataclass(frozen=True)
class Trained:
    """What `train_run` leaves. `summary` is what summary.json holds."""

    detector: Detector
    run: Path
    summary: dict[str, Any]


def train(data: Any, **options: Any) -> Detector:
    """Train a detector: extract features (or reuse them), fit the head, keep the best weights.

    Args:
        data: a folder or file in any known format, a name such as "coco2017", or an object; see
            data/formats.py.
        options: `out` (folder of the run), `cache` (folder of caches), `budget` (seconds for
            everything; None for no limit), `resume`, `overwrite`, `config` (a settings.json to
            replay), and any field of TrainSettings, FitSettings or
            of the head's settings by its name, such as `head="single", epochs=30, pooled=True`.

    Returns:
        The detector, which is also saved as best.safetensors in the run's folder.
    """
    return train_run(data, **options).detector


def train_run(
    data: Any,
    *,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    budget: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: str | Path | None = None,
    console: Console | None = None,
    **options: Any,
) -> Trained:
    """`train`, with all that it leaves; see there."""
    console = console or Console(stderr=True, markup=False, emoji=False)
    clock = Clock(Progress(console))
    replayed = TrainSettings.read(Path(config)) if config else {}
    if budget is not None:
        if resume:
            raise SettingsError("a run that is resumed has been planned: leave --budget out")
        replayed = {k: v for k, v in replayed.items() if k not in recipes.PLANNED}
    given = {**replayed, **options}
    if resume:
        given = resumed_settings(out, given)
    origin = Detector.load(given["start"]) if given.get("start") else None
    if origin is not None:
        given = continued_settings(origin, given)
    settings = TrainSettings.create(given)
    device = resolve_device(settings.fit.device)

    with clock.part("read"):
        # Names that a person typed must be there; those of a replayed run or a detector need not.
        absent = {*(settings.classes or ()), *settings.rename}
        absent -= {*(options.get("classes") or ()), *options.get("rename", {})}
        train_set, val_set = _read(data, settings, absent, console)
        settings = replace(settings, classes=train_set.classes)
        settings = recipes.chosen(settings, given, train_set, val_set, budget, device, console)
        run = prepare_run(out, train_set.name, settings.head, resume=resume, overwrite=overwrite)
        (run / "settings.json").write_text(settings.to_json())
        if val_set is not None and val_set.made is not None:
            shutil.copyfile(val_set.made, run / "splits.json")
        backbone, head = _network(settings, train_set, origin)
        count = stage_count(settings.thaw, len(backbone.strides))
        stages = Stages(backbone, count) if count else None  # says what cannot be cut at once
    with clock.part("extract"):
        # Where all stages learn from photos at once, the cache only knows which can be read.
        photos_only = not settings.head_first and count == len(backbone.strides)
        wanted = [(train_set, 1 if photos_only else settings.views)]
        wanted += [(val_set, 1)] if val_set else []
        caches = ensure_caches(wanted, backbone, settings, cache, console, clock.progress, device)
    learner = Learner(backbone, head, caches, train_set, val_set, settings, run, device, stages)
    if budget is not None:
        with clock.part("plan"):
            learner = recipes.scheduled(learner, budget, clock)
    fitted = learner.learn(clock, console, resume=resume)
    settings, last = learner.settings, list(fitted.values())[-1]

    detector = learner.detector()
    measured = calibration = None
    with clock.part("evaluate"):
        if val_set:
            predictions = learner.predict(detector)
            measured = evaluation.score(predictions, val_set)
            selection, calibration = evaluation.fitted_selection(
                detector.settings.selection, predictions, val_set
            )
            detector.settings = replace(detector.settings, selection=selection)

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
            "thawed": backbone.thawed,
            "strides": backbone.strides,
            "size": settings.size,
            "views": settings.views,
        },
        "fit": _phase_summary(settings.fit, fitted.get(HEAD)),
        "thaw": _phase_summary(settings.thaw_fit(), fitted.get(THAW)),
        "metrics": last.metrics,
        "evaluation": measured,
        "calibration": calibration,
        "seconds": {k: round(v, 2) for k, v in clock.seconds.items()},
        "environment": environment(last.device),
    }
    parts = ("frostbox_version", "data", "fit", "thaw", "metrics", "evaluation", "calibration")
    shown = {k: summary[k] for k in parts}
    detector.settings = replace(detector.settings, training=shown)
    detector.save(run / "best.safetensors")
    (run / "summary.json").write_text(json.dumps(summary, indent=2))
    return Trained(detector, run, summary)


def _read(
    data: Any, settings: TrainSettings, absent: Collection[str], console: Console
) -> tuple[DetectionSet, DetectionSet | None]:
    """The images to learn from, and those that choose the best weights."""
    source = recognise(data)
    val = None if settings.val_split == "none" else settings.val_split
    names = tuple(settings.rename) if settings.classes is None else None
    check_before_training(source, [settings.train_split, *([val] if val else [])], names, console)
    found = load_training(
        source, settings.train_split, val, settings.classes, settings.rename, absent=absent
    )
    sets = [check_photo_sizes(one) for one in found if one is not None]
    check_loaded(data, source, sets, names, console)
    for one in sets:
        console.print(source.seen(one), soft_wrap=True)
    train_set = sets[0]
    console.print(
        f"{len(train_set.classes)} classes from {train_set.classes_from}: "
        f"{', '.join(train_set.classes)}"
    )
    return train_set, sets[1] if len(sets) > 1 else None


def _network(
    settings: TrainSettings, train_set: DetectionSet, origin: Detector | None
) -> tuple[backbones.Backbone, Head]:
    """Backbone and head, with the weights of `origin` where there is one."""
    if origin is not None:
        return origin.backbone, origin.head
    torch.manual_seed(settings.fit.seed)
    head_type = head_class(settings.head)
    strides = head_type.strides_for(settings.head_settings)
    backbone = backbones.create(settings.backbone, strides, settings.weights)
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
    spec = feature_spec(backbone, settings.size)
    return backbone, create_head(settings.head, spec, len(train_set.classes), head_settings)


def _phase_summary(settings: FitSettings, result: FitResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {**asdict(settings), "epochs_run": result.epochs, "best_epoch": result.best_epoch}


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


def continued_settings(origin: Detector, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training that starts from a detector; what is given may not contradict it.

    Raises:
        SettingsError: a setting that the detector's weights decide, given otherwise.
    """
    known = {
        "head": origin.head_name,
        "backbone": origin.backbone.name,
        "size": origin.settings.size,
        "resize": origin.settings.resize,
        "classes": origin.settings.classes,
        "rename": {**origin.settings.rename, **given.get("rename", {})},
    }
    own = settings_of(origin.head)
    for name, value in given.items():
        same = tuple(value) if isinstance(value, list) else value
        same = backbones.full_name(value) if name == "backbone" else same
        if (known | own).get(name, same) != same:
            raise SettingsError(
                f"{name} is {value!r} and the detector to start from has "
                f"{(known | own)[name]!r}: leave it out, or train from the start"
            )
    if given.get("weights", "auto") != "auto":
        raise SettingsError("a detector brings its own weights: leave weights out")
    # The head comes trained: it is trained alone only where epochs are asked for.
    head_first = given.get("thaw", NONE) == NONE or "epochs" in given
    return {"head_first": head_first, **given, **known, "head_settings": own}


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
    marks = [run / mark for mark in ("last.ckpt", "best.safetensors", f"{THAW}/last.ckpt")]
    if any(mark.exists() for mark in marks) and not resume:
        if not overwrite:
            raise SettingsError(
                f"{run} already holds a run: go on with --resume, replace it with --overwrite, or "
                "name another folder with --out"
            )
        for mark in (*marks, run / "best.ckpt", run / "metrics.csv"):
            mark.unlink(missing_ok=True)
        for folder in (run / "events", run / THAW):
            shutil.rmtree(folder, ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)
    return run


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
