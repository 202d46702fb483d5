"""frostbox: object detectors by transfer learning, in minutes.

    import frostbox
    detector = frostbox.train("VOCdevkit/VOC2007")
    detector = frostbox.Detector.load("runs/VOC2007-pyramid/best.safetensors")
    detections = detector.predict("photo.jpg")

Names are imported when they are first used, so that `import frostbox` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from frostbox._version import __version__

if TYPE_CHECKING:
    from frostbox.detections import Detections
    from frostbox.detector import Detector
    from frostbox.hub import pull, push
    from frostbox.pipeline import train

__all__ = ["Detections", "Detector", "__version__", "pull", "push", "train"]

_HOME = {
    "Detections": "frostbox.detections",
    "Detector": "frostbox.detector",
    "pull": "frostbox.hub",
    "push": "frostbox.hub",
    "train": "frostbox.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'frostbox' has no attribute '{name}'")
