"""What `export` does from end to end: a file for another runtime, proven against PyTorch.

plan.py says what the file does besides running the net; onnx_parts.py and onnx_file.py,
openvino_file.py and torch_file.py write it; quantise.py makes int8; runtime.py opens what was
written, and check.py compares.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from frostbox import evaluation
from frostbox.checkpoint import detector_file
from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load, recognise
from frostbox.data.photos import check_photo_sizes, read_image
from frostbox.data.transforms import apply_image, geometry
from frostbox.detections import Detections
from frostbox.detector import Detector
from frostbox.errors import DataError, ExportError, SettingsError
from frostbox.export import quantise
from frostbox.export.check import TOLERANCES, Difference, compare
from frostbox.export.plan import CANDIDATES, Plan, metadata
from frostbox.export.runtime import Exported
from frostbox.hub import address
from frostbox.inputs import check_not_folders, find_images
from frostbox.progress import Progress
from frostbox.selection import Selection
from frostbox.suite import measure
from frostbox.units import counted

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PRECISIONS = ("32", "16", "int8")
SEARCH = 0.02  # scores from which a comparison looks where the thresholds let nothing through
_PICTURES = 8  # scenes that are drawn where no pictures are given
_MOST = 64  # pictures that are compared
_SHAPES = ((480, 360), (360, 480), (640, 427), (333, 251), (1024, 768), (200, 200), (500, 160))
_NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
Picture = NDArray[np.uint8]
Write = Callable[[Selection, Path], None]


@dataclass(frozen=True)
class Result:
    """What was exported.

    Attributes:
        files: those written, the one to open first.
        difference: from PyTorch; threshold: the lowest score that was compared.
        figures: AP on data by name of the row, where there were any.
    """

    files: tuple[Path, ...]
    format: str
    precision: str
    difference: Difference
    threshold: float | None
    figures: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "files": [str(path) for path in self.files],
            "bytes": sum(path.stat().st_size for path in self.files),
            "format": self.format,
            "precision": self.precision,
            "difference": self.difference.to_dict(),
            "compared_from_score": self.threshold,
            "figures": dict(self.figures),
        }


def export(
    model: str | Path | Detector,
    format: str,
    *,
    precision: str = "32",
    out: str | Path | None = None,
    images: Sequence[str | Path] = (),
    data: Any = None,
    split: str = "val",
    threshold: float | None = None,
    nms: Mapping[str, Any] | None = None,
    score: str | None = None,
    calibrated: bool = False,
    console: Console | None = None,
) -> Result:
    """Write a detector for another runtime, and compare what it finds with what PyTorch finds.

    The file takes uint8 images and gives boxes, scores, labels and counts: resizing, thresholds and
    suppression are part of it.

    Args:
        model: a detector, its file, or the folder of its run.
        format: onnx, openvino (.xml and .bin) or torch (.pt2, a torch.export program).
        precision: 32; 16: weights stored as float16; int8: needs `data`.
        out: the file; by default beside the model, named after format and precision.
        images: pictures to compare on; without any, scenes are drawn.
        data: a data set: int8 is calibrated on its training photos, and AP measured on `split`.
        threshold, nms, score, calibrated: of the detections, as in `inference.predict`.

    Raises:
        SettingsError: settings that exclude each other, a package that is missing.
        ExportError: the file does not find what PyTorch finds; it is not left behind.
    """
    console = console or Console(stderr=True, markup=False, emoji=False)
    _check_settings(format, precision, data)
    detector = model if isinstance(model, Detector) else Detector.load(model)
    known = {"threshold": threshold, "calibrated": calibrated, **(nms or {})}
    detector = detector.configured(score, **known)
    target = _target(model, format, precision, out)
    pictures = _read(find_images(images)[:_MOST]) if images else _drawn()
    dataset = None if data is None else _dataset(detector, data, split)
    write = _writer(detector, format, precision, data, dataset, console)
    selection = detector.settings.selection
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        made = Path(folder) / target.name
        console.print(f"writing {target.name}")
        write(selection, made)
        console.print(f"comparing on {counted(len(pictures), 'picture')}")
        difference, lowest = _compared(detector, write, made, pictures, precision)
        figures = {} if dataset is None else _measured(detector, write, made, dataset, console)
        files = [made.replace(target)]
        if format == "openvino":
            files.append(made.with_suffix(".bin").replace(target.with_suffix(".bin")))
    return Result(tuple(files), format, precision, difference, lowest, figures)


def _check_settings(format: str, precision: str, data: Any) -> None:
    if format not in FORMATS:
        raise SettingsError(f"format {format!r} is unknown: choose one of {', '.join(FORMATS)}")
    if precision not in PRECISIONS:
        raise SettingsError(
            f"precision {precision!r} is unknown: choose one of {', '.join(PRECISIONS)}"
        )
    if format == "torch" and precision != "32":
        raise SettingsError(
            f"precision {precision} is there for onnx and openvino: a torch program keeps float32"
        )
    if precision == "int8" and data is None:
        raise SettingsError("int8 is calibrated on photos: give the data set with --data")
    needed = _NEEDS[format] + (("nncf",) if precision == "int8" else ())
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"exporting to {format} with precision {precision} needs the package {missing[0]}: run "
            "pip install 'frostbox[export]'"
        )


def _target(
    model: str | Path | Detector, format: str, precision: str, out: str | Path | None
) -> Path:
    """The file to be written; SettingsError if it cannot be."""
    suffix = FORMATS[format]
    if out is None:
        if isinstance(model, Detector):
            raise SettingsError("a detector in memory has no folder: say where with out=FILE")
        stem = "detector" if precision == "32" else f"detector-{precision}"
        if address(model) is not None:  # what is fetched lies among huggingface_hub's own files
            return Path(stem + suffix)
        return detector_file(Path(model)).with_name(stem + suffix)
    target = Path(out)
    if target.suffix != suffix:
        raise SettingsError(f"{target} does not end in {suffix}, as {format} files do")
    check_not_folders(target)
    return target


# --- pictures and data -------------------------------------------------------------------


def _read(paths: Iterable[Path]) -> list[Picture]:
    return [_array(path) for path in paths]


def _array(photo: Path, exif: bool = True) -> Picture:
    """uint8 (H, W, 3) with all its pixels."""
    pixels: Picture = read_image(photo, exif).permute(1, 2, 0).contiguous().numpy()
    return pixels


def _drawn() -> list[Picture]:
    """Scenes of the built-in data set in several sizes."""
    from frostbox.data.sample import write_sample

    with tempfile.TemporaryDirectory() as folder:
        root = write_sample(Path(folder) / "scenes", train=0, val=_PICTURES, seed=0)
        paths = sorted((root / "JPEGImages").iterdir())
        scenes = [Image.open(path).convert("RGB") for path in paths]
    sizes = [_SHAPES[k % len(_SHAPES)] for k in range(len(scenes))]
    return [np.array(s.resize(size)) for s, size in zip(scenes, sizes, strict=True)]


def _dataset(detector: Detector, data: Any, split: str) -> DetectionSet:
    """A split with the classes that the detector knows."""
    s = detector.settings
    absent = {*s.classes, *s.rename}
    found = load(data, split, s.classes, s.rename, absent=absent, require_photos=True)
    return check_photo_sizes(found)


def _calibration(detector: Detector, data: Any, dataset: DetectionSet) -> list[NDArray[np.float32]]:
    """What the net sees of photos that it may have learnt from, evenly spread over the list."""
    other = "train" if "train" in recognise(data).splits else dataset.split
    photos = _dataset(detector, data, other).photos
    chosen = photos[:: max(1, len(photos) // quantise.PICTURES)][: quantise.PICTURES]
    s, seen = detector.settings, []
    for image in chosen:
        if image.photo is not None:
            pixels = read_image(image.photo, image.exif)
            size = (int(pixels.shape[2]), int(pixels.shape[1]))
            shown = apply_image(pixels, geometry(s.resize, size, s.size))
            seen.append(shown[None].float().numpy())
    return seen


# --- writing -----------------------------------------------------------------------------


def _writer(
    detector: Detector,
    format: str,
    precision: str,
    data: Any,
    dataset: DetectionSet | None,
    console: Console,
) -> Write:
    """What writes the file for a selection; the net is converted once."""
    flip = detector.settings.selection.flip
    first = Plan.create(detector, detector.settings.selection)  # says what cannot be exported

    if format == "torch":
        from frostbox.export import torch_file

        def program(selection: Selection, path: Path) -> None:
            made = torch_file.program(detector, Plan.create(detector, selection), flip=flip)
            torch_file.write(made, path, metadata(detector, selection, precision))

        return program

    from frostbox.export import onnx_file, openvino_file

    net = onnx_file.net(detector, first, flip=flip)
    if format == "openvino":
        net = openvino_file.net(net)
    if precision == "int8":
        assert dataset is not None
        pictures = _calibration(detector, data, dataset)
        console.print(f"calibrating on {len(pictures)} photos")
        net = quantise.quantised(net, pictures)
    elif precision == "16" and format == "onnx":
        net = onnx_file.halved(net)

    def write(selection: Selection, path: Path) -> None:
        plan, known = Plan.create(detector, selection), metadata(detector, selection, precision)
        if format == "onnx":
            onnx_file.write(onnx_file.whole(plan, net, known), path)
        else:
            whole = openvino_file.whole(plan, net, known)
            openvino_file.write(whole, path, halved=precision == "16")

    return write


# --- proof -------------------------------------------------------------------------------


def _compared(
    detector: Detector, write: Write, path: Path, pictures: Sequence[Picture], precision: str
) -> tuple[Difference, float | None]:
    """How far the file is from PyTorch, and the lowest score looked at (None for its thresholds).

    Where the thresholds let nothing through, a file with lower ones is compared.

    Raises:
        ExportError: beyond the tolerance, or there was nothing to compare.
    """
    tolerance = TOLERANCES[precision]
    for lowest in (None, SEARCH):
        selection = detector.settings.selection
        if lowest is not None:
            selection = replace(selection.changed(threshold=lowest), calibrated=False)
            path = path.with_stem("lower")
            write(selection, path)
        reference, candidates = _by_torch(detector, pictures, selection)
        found = _by_file(Exported(path), pictures)
        difference = compare(reference, candidates, found, selection, tolerance)
        wrong = difference.wrong(tolerance)
        if wrong:
            raise ExportError(
                f"the exported file does not find what PyTorch finds in {len(pictures)} pictures: "
                f"{'; '.join(wrong)}; no file was left. Try another format or precision"
            )
        if difference.detections:
            return difference, lowest
    raise ExportError(
        f"PyTorch finds nothing in the {len(pictures)} pictures, down to score {SEARCH}: nothing "
        "was compared, and no file was left. Give pictures that show the classes with --images"
    )


def _by_torch(
    detector: Detector, pictures: Sequence[Picture], selection: Selection
) -> tuple[list[Detections], list[Detections]]:
    """With and without suppression; one by one, which is eager PyTorch.

    The first picture comes again at the end, mirrored, as in `_by_file`.
    """
    every = replace(selection, nms=None, max_detections=CANDIDATES)
    found: tuple[list[Detections], list[Detections]] = ([], [])
    for picture in [*pictures, np.ascontiguousarray(pictures[0][:, ::-1])]:
        for _, raw, geometries in detector.raw_stream([picture], flip=selection.flip):
            for kept, chosen in zip(found, (selection, every), strict=True):
                kept += detector.select(raw, geometries, chosen)
    return found


def _by_file(exported: Exported, pictures: Sequence[Picture]) -> list[Detections]:
    """The first one with its mirror image, as a batch; the others one by one."""
    first = np.stack((pictures[0], pictures[0][:, ::-1]))
    found = [exported.predict(picture[None])[0] for picture in pictures[1:]]
    one, mirrored = exported.predict(first)
    return [one, *found, mirrored]


def _measured(
    detector: Detector, write: Write, path: Path, dataset: DetectionSet, console: Console
) -> dict[str, dict[str, Any]]:
    """AP of the detector and of the file on the photos, by the rule of `evaluate`."""
    progress = Progress(console)
    eager = evaluation.predict_photos(detector, dataset, progress)
    low = path.with_stem("ap")
    write(evaluation.ap_selection(detector), low)
    exported = Exported(low)
    progress.start("predicting", len(eager.images), "images")
    found = []
    for k, image in enumerate(eager.images):
        if image.photo is None:
            raise DataError(f"{image.image_id} has no photo")
        found += exported.predict(_array(image.photo, image.exif)[None])
        progress.update(k + 1)
    progress.stop()
    keys = ("ap50", "ap50_11point", "coco_ap", "images")
    rows = {"PyTorch": eager, "file": replace(eager, found=found, figures={})}
    figures = {name: measure(row, dataset, bootstrap=0).figures for name, row in rows.items()}
    return {name: {key: values[key] for key in keys} for name, values in figures.items()}
