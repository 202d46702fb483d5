"""Predictions as files that other tools read: a data set to correct and train on, or a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rich.console import Console

from frostbox.convert import FORMATS as DATA_FORMATS
from frostbox.convert import write_sets
from frostbox.data.annotations import Box, DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.progress import Progress

FORMATS = (*DATA_FORMATS, "csv")
TABLE = "detections.csv"
COLUMNS = (
    "image", "frame", "time", "track", "name", "score", "xmin", "ymin", "xmax", "ymax", "width",
    "height",
)  # fmt: skip
_SPLIT = "train"


class Labelled:
    """Takes what `predict` finds, picture by picture; a context manager that writes at its end.

    voc, coco, yolo: a data set with one split, `train`, and links to the photos; scores are left
    out, because a labelling tool has no place for them. csv: a line a detection, written at once.
    """

    def __init__(
        self, form: str, out: Path, classes: tuple[str, ...], console: Console | None = None
    ) -> None:
        """For a format of FORMATS, into the folder `out`; `classes` in label order."""
        self._form, self._out, self._classes = form, out, classes
        self._console = console or Console(stderr=True)
        self._images: list[ImageAnnotation] = []
        self._file: IO[str] | None = None
        self._lines = 0

    def __enter__(self) -> Self:
        if self._form == "csv":
            self._out.mkdir(parents=True, exist_ok=True)
            self._file = (self._out / TABLE).open("w", encoding="utf-8", newline="")
            csv.writer(self._file).writerow(COLUMNS)
        return self

    def add(self, entry: Mapping[str, Any], photo: Path | None = None) -> None:
        """One picture or frame: an entry of `predicting.predict`, and the file of the picture."""
        if self._file is not None:
            self._lines += len(entry["detections"])
            csv.writer(self._file).writerows(_row(entry, found) for found in entry["detections"])
        elif photo is not None:
            objects = tuple(
                ObjectAnnotation(found["name"], self._box(found["box"]))
                for found in entry["detections"]
            )
            size = entry["width"], entry["height"]
            self._images.append(ImageAnnotation(photo.stem, photo, *size, objects, photo))

    def _box(self, box: list[float]) -> Box:
        # VOC has whole pixels, and some labelling tools refuse others.
        xmin, ymin, xmax, ymax = map(round, box) if self._form == "voc" else box
        return float(xmin), float(ymin), float(xmax), float(ymax)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._say(f"written {self._out / TABLE}: {self._lines:,} detections")
        elif kind is None:
            dataset = DetectionSet(
                self._out.name, self._out, _SPLIT, self._classes, "the detector",
                tuple(self._images),
            )  # fmt: skip
            done = write_sets({_SPLIT: dataset}, self._out, self._form,
                              progress=Progress(self._console))  # fmt: skip
            self._say(
                f"written {self._out}: {done.images[_SPLIT]:,} photos with "
                f"{done.objects[_SPLIT]:,} objects; correct them in a labelling tool, then "
                f"frostbox train {self._out}"
            )
            for lost in done.lost:
                self._say(f"not written: {lost}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)


def _text(text: str) -> str:
    """A text that a spreadsheet takes for one, and not for a formula that it runs."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _row(entry: Mapping[str, Any], found: Mapping[str, Any]) -> list[Any]:
    place = [entry.get("frame", ""), entry.get("time", "")]
    track = found.get("track")
    return [
        _text(str(entry["image"])), *place, "" if track is None else track, _text(found["name"]),
        found["score"],
        *found["box"], entry["width"], entry["height"],
    ]  # fmt: skip
