"""What is known of a training when it is over: summary.json, the file's header, the model card."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from frostbox import ranks
from frostbox._version import __version__
from frostbox.data.annotations import DetectionSet
from frostbox.errors import told
from frostbox.heads import settings_of
from frostbox.learning import HEAD, THAW, Learner
from frostbox.suite import SIZES
from frostbox.training import FitResult, FitSettings

SUMMARY_VERSION = 1
"""Of summary.json, which is written for people and other programs and never read back."""
_LONG = ("suspected_labels", "errors", "calibration", "best_f1_per_class", "ap50_by_objects")
"""Figures of an evaluation that a detector's file does without."""


def summarise(
    learner: Learner,
    fitted: Mapping[str, FitResult],
    measured: Mapping[str, Any] | None,
    calibration: Mapping[str, Any] | None,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """What summary.json holds. JSON-ready.

    Args:
        fitted: the result of each phase that was kept, by name.
        measured: figures on val, of suite.measure; calibration: of evaluation.fitted_selection.
        seconds: of each part of the training.
    """
    settings, head, backbone = learner.settings, learner.head, learner.backbone
    train_set, val_set, caches = learner.train_set, learner.val_set, learner.caches
    last = list(fitted.values())[-1]
    return {
        "version": SUMMARY_VERSION,
        "command": " ".join(sys.argv),
        "frostbox_version": __version__,
        "data": {
            "name": train_set.name,
            "root": told(str(train_set.root)),
            "train_images": len(caches[0].ids),
            "train_objects": sum(len(i.objects) for i in train_set.photos),
            "missing_photos": len(train_set.missing_photos),
            "skipped_photos": len(caches[0].skipped),
            "val_images": len(caches[1].ids) if val_set else 0,
            "classes": train_set.classes,
            "splits": [split_facts(one) for one in (train_set, val_set) if one is not None],
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
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "environment": environment(last.device),
    }


def for_header(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a summary that goes into the detector's file, and with it to other people.

    The folder of the data is none of their business.
    """
    parts = ("frostbox_version", "data", "fit", "thaw", "metrics", "evaluation", "calibration")
    shown = {k: summary[k] for k in parts}
    shown["data"] = {k: v for k, v in shown["data"].items() if k not in ("root", "splits")}
    if shown["evaluation"] is not None:
        shown["evaluation"] = {k: v for k, v in shown["evaluation"].items() if k not in _LONG}
    return shown


def split_facts(dataset: DetectionSet) -> dict[str, Any]:
    """What a split that was used holds, of the images that have a photo.

    Objects by class and by size (COCO's limits, in pixels of the photo); crowds are no objects.
    """
    objects = [o for image in dataset.photos for o in image.objects if not o.crowd]
    sizes = Counter(
        next(name for name, (low, high) in SIZES.items() if low <= o.size < high) for o in objects
    )
    per_class = Counter(o.name for o in objects)
    return {
        "split": dataset.split,
        "made": dataset.made is not None,
        "images": len(dataset.photos),
        "empty_images": sum(not image.objects for image in dataset.photos),
        "objects": len(objects),
        "difficult": sum(o.difficult for o in objects),
        "crowds": sum(o.crowd for image in dataset.photos for o in image.objects),
        "objects_per_class": {name: per_class[name] for name in dataset.classes},
        "objects_by_size": {name: sizes[name] for name in SIZES},
    }


def _phase_summary(settings: FitSettings, result: FitResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {**asdict(settings), "epochs_run": result.epochs, "best_epoch": result.best_epoch}


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, for the summary of a run."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": device,
        "devices": ranks.count(),
        "torch": torch.__version__,
        **{name: _installed(name) for name in ("torchvision", "timm", "openvino")},
    }


def _installed(name: str) -> str | None:
    """A package's version; engines do without OpenVINO."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
