"""Readers of data sets, and what brings their photos and boxes to a network.

The names below are loaded when they are first used, so that `frostbox --help` and
`frostbox explore` start without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.formats import load
from frostbox.data.voc import CLASSES

if TYPE_CHECKING:
    from frostbox.data.datasets import make_trainval_dataset
    from frostbox.data.targets import (
        filter_largest,
        target_to_tensor,
        targets_to_grid_cell_tensor,
    )

__all__ = [
    "DetectionSet",
    "ImageAnnotation",
    "ObjectAnnotation",
    "classes",
    "filter_largest",
    "load",
    "make_trainval_dataset",
    "target_to_tensor",
    "targets_to_grid_cell_tensor",
]

classes: list[str] = list(CLASSES)
"""VOC's 20 class names; a label is an index here."""

_LAZY = {
    "make_trainval_dataset": "frostbox.data.datasets",
    "filter_largest": "frostbox.data.targets",
    "target_to_tensor": "frostbox.data.targets",
    "targets_to_grid_cell_tensor": "frostbox.data.targets",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
