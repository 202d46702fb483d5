"""The doctor: reads a whole data set leniently and lists everything that is wrong with it.

`survey.py` reads, each other file is one group of checks, `findings.py` is what comes out and
`fix.py` writes the repaired copy. Nothing here needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frostbox.data.doctor.boxes import check_boxes
from frostbox.data.doctor.capacity import check_grid, check_tiny
from frostbox.data.doctor.findings import Finding, Report, Severity, worst_first
from frostbox.data.doctor.leaks import check_copies, check_likeness, check_overlap
from frostbox.data.doctor.names import Names, check_balance, check_names, study
from frostbox.data.doctor.photos import Broken, Facts, check_missing, check_photos, look
from frostbox.data.doctor.survey import Survey, survey
from frostbox.progress import Progress

__all__ = ["CELLS", "Diagnosis", "Finding", "Report", "Severity", "diagnose", "examine"]

CELLS = (7, 10, 13, 20)


@dataclass(frozen=True)
class Diagnosis:
    """A report and what it was made from, which the repair needs again."""

    report: Report
    survey: Survey
    names: Names
    facts: Mapping[Path, Facts | Broken]


def examine(data: str | Path, splits: Sequence[str] | None = None, **options: Any) -> Report:
    """Find every fault of a data set; see `diagnose`."""
    return diagnose(data, splits, **options).report


def diagnose(
    data: str | Path,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    *,
    also: Sequence[str] | None = (),
    photos: bool = True,
    size: tuple[int, int] = (224, 224),
    stride: int = 32,
    cells: Sequence[int] = CELLS,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find every fault of a data set in VOC layout.

    Args:
        data: the VOC folder, its VOCdevkit, or the parent of that.
        splits: names of the lists to examine, the training list first; None for all.
        classes: class names in label order; None takes classes.txt, else what the set shows.
        also: names that may occur besides; None for any.
        photos: whether to decode the photos; without, annotations and lists alone are checked.
        size: (width, height) of the network's input in pixels.
        stride: of the finest feature map in pixels.
        cells: rows and columns of the grids whose capacity is checked.
        progress: the bar to show while photos are decoded.

    Raises:
        NotFoundError: no such folder or list.
        DataError: several folders in VOC layout lie there and none is named after a year.
    """
    started = time.perf_counter()
    found = survey(data, splits, classes, also)
    names = study(found)
    findings = [*found.findings, *_annotation_checks(found, names, size, stride, cells)]
    facts: Mapping[Path, Facts | Broken] = {}
    if photos:
        paths = [image.photo for image in found.images.values() if image.photo is not None]
        facts = look(paths, progress)
        sizes = list(check_photos(found, facts))
        disputed = {
            f.file: f.fixable for f in sizes if f.field == "size" and f.severity != "notice"
        }
        findings = [
            _settled(f, disputed[f.file]) if f.file in disputed and f.kind == "box-outside" else f
            for f in findings
        ]
        findings += [*sizes, *check_copies(found, facts), *check_likeness(found, facts)]
    report = Report(
        root=found.root,
        lists={split: len(ids) for split, ids in found.lists.items()},
        objects=sum(len(image.objects) for image in found.images.values()),
        photos=len(facts) if photos else None,
        seconds=time.perf_counter() - started,
        findings=worst_first(findings),
    )
    return Diagnosis(report, found, names, facts)


def _settled(finding: Finding, proven: bool) -> Finding:
    """A box outside an image whose size is disputed: it is the size that has to be mended."""
    way_out = "mend the size: the box fits the photo" if proven else "settle the size first"
    return replace(finding, way_out=way_out, fixable=proven)


def _annotation_checks(
    found: Survey, names: Names, size: tuple[int, int], stride: int, cells: Sequence[int]
) -> Iterator[Finding]:
    yield from check_boxes(found.images.values())
    yield from check_names(found, names)
    yield from check_balance(found, names)
    yield from check_missing(found)
    yield from check_overlap(found)
    yield from check_tiny(found, size, stride)
    yield from check_grid(found, cells)
    yield from _strays(found)


def _strays(found: Survey) -> Iterator[Finding]:
    """Images without objects, images that no list names, and photos without XML."""
    for image in found.images.values():
        if not image.objects:
            yield Finding(
                "image-empty", "notice", image.xml, "", "has no object",
                "fine as background; look whether its objects were forgotten",
            )  # fmt: skip
    for image_id in found.unlisted:
        yield Finding(
            "image-unlisted", "notice", found.root / "Annotations" / f"{image_id}.xml", "",
            "stands in no list and is not used", "add its id to a list",
        )  # fmt: skip
    for photo in found.loose_photos:
        yield Finding(
            "photo-without-xml", "notice", photo, "", "has no XML and is not used",
            "annotate it or remove it",
        )  # fmt: skip
