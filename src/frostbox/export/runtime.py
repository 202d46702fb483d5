"""An exported file, opened in the runtime that it is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frostbox.detections import Detections
from frostbox.errors import NotFoundError, SettingsError
from frostbox.export.plan import INPUT, KEY, OUTPUTS
from frostbox.openvino_core import openvino_core

Images = NDArray[np.uint8]
Arrays = list[NDArray[Any]]
Run = Callable[[Images], Arrays]


class Exported:
    """A file that `frostbox export` wrote: images in, detections out.

    Attributes:
        metadata: what the file says of itself, see plan.metadata.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a .onnx, .xml or .pt2, which are programs: no file of a stranger.

        Raises:
            NotFoundError: no such file. SettingsError: no exported file.
        """
        path = Path(path)
        if not path.exists():
            raise NotFoundError(f"{path} does not exist: give a file that frostbox export wrote")
        if path.suffix not in _OPEN:
            raise SettingsError(f"{path} is no exported file: those end in {', '.join(_OPEN)}")
        self._run, text = _OPEN[path.suffix](path)
        self.metadata: dict[str, Any] = json.loads(text)
        self.classes = tuple(self.metadata["classes"])

    def run(self, images: Images) -> Arrays:
        """Boxes, scores, labels and counts, as the file gives them, of uint8 (B, H, W, 3)."""
        return self._run(images)

    def predict(self, images: Images) -> list[Detections]:
        """Detections of uint8 (B, H, W, 3)."""
        boxes, scores, labels, counts = self.run(images)
        height, width = images.shape[1:3]
        return [
            Detections.create(b[:n], s[:n], k[:n], self.classes, (width, height))
            for b, s, k, n in zip(boxes, scores, labels, counts.tolist(), strict=True)
        ]


def _onnx(path: Path) -> tuple[Run, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    known: str = session.get_modelmeta().custom_metadata_map[KEY]
    return lambda images: list(session.run(list(OUTPUTS), {INPUT: images})), known


def _openvino(path: Path) -> tuple[Run, str]:
    core = openvino_core()
    model = core.read_model(path)
    known: str = model.get_rt_info([KEY]).astype(str)
    # Otherwise bfloat16 on CPUs that have it, which is no mistake and no proof.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Images) -> Arrays:
        found = compiled({INPUT: images})
        return [np.array(found[name]) for name in OUTPUTS]

    return run, known


def _torch(path: Path) -> tuple[Run, str]:
    import torchvision  # noqa: F401 (registers the NMS that the program calls)

    extra = {KEY: ""}
    program: Any = torch.export.load(path, extra_files=extra).module()

    def run(images: Images) -> Arrays:
        with torch.inference_mode():
            return [value.numpy() for value in program(torch.from_numpy(images))]

    return run, extra[KEY]


_OPEN: dict[str, Callable[[Path], tuple[Run, str]]] = {
    ".onnx": _onnx,
    ".xml": _openvino,
    ".pt2": _torch,
}
