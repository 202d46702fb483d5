"""The doctor: reads a whole data set leniently and lists everything that is wrong with it.

`survey.py` is what all checks look at; `xml.py` fills it from VOC XML, `typed.py` from what the
readers of other formats give. `findings.py` is what comes out, `fix.py` writes the repaired copy,
each other file is one group of checks. Nothing here needs torch.
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
from frostbox.data.doctor.photos import (
    Broken,
    Facts,
    check_missing,
    check_photos,
    check_sizes,
    look,
)
from frostbox.data.doctor.survey import Survey
from frostbox.data.doctor.typed import of_sets, survey_typed
from frostbox.data.doctor.xml import survey_flat, survey_voc
from frostbox.data.formats import recognise
from frostbox.errors import SettingsError
from frostbox.progress import Progress

__all__ = [
    "CELLS",
    "Diagnosis",
    "Finding",
    "Report",
    "Severity",
    "diagnose",
    "examine",
    "look_over",
    "of_sets",
]

CELLS = (7, 10, 13, 20)


@dataclass(frozen=True)
class Diagnosis:
    """A report and what it was made from, which the repair needs again."""

    report: Report
    survey: Survey
    names: Names
    facts: Mapping[Path, Facts | Broken]


def examine(data: Any, splits: Sequence[str] | None = None, **options: Any) -> Report:
    """Find every fault of a data set; see `diagnose`."""
    return diagnose(data, splits, **options).report


def diagnose(
    data: Any,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    *,
    also: Sequence[str] | None = (),
    progress: Progress | None = None,
    **options: Any,
) -> Diagnosis:
    """Find every fault of a data set.

    Args:
        data: as of `data.formats.recognise`.
        splits: names of the lists to examine, the training list first; None for all.
        classes: class names in label order; None takes what the data set declares or shows.
        also: names that may occur besides; None for any.
        progress: the bar to show while photos are decoded.
        options: as of `look_over`.

    Raises:
        NotFoundError: no such data set or list.
        DataError: what lies there is meant as a data set and cannot be used.
        SettingsError: several VOC folders.
    """
    started = time.perf_counter()
    done = look_over(survey_of(data, splits, classes, also), progress=progress, **options)
    return replace(done, report=replace(done.report, seconds=time.perf_counter() - started))


def survey_of(
    data: Any,
    splits: Sequence[str] | None,
    classes: Sequence[str] | None,
    also: Sequence[str] | None,
) -> Survey:
    """Read a data set as it stands; arguments and errors are those of `diagnose`."""
    source = recognise(data)
    if len(source.voc) > 1:
        raise SettingsError(
            f"the doctor examines one data set: give {' or '.join(map(str, source.voc))}"
        )
    if source.voc:
        return survey_voc(source.voc[0], splits, classes, also)
    if source.flat is not None:
        return survey_flat(source.flat, splits, classes, also)
    return survey_typed(source, splits, classes, also)


def look_over(
    found: Survey,
    *,
    photos: bool = True,
    size: tuple[int, int] = (224, 224),
    stride: int = 32,
    cells: Sequence[int] = CELLS,
    progress: Progress | None = None,
) -> Diagnosis:
    """Run all checks over a data set that has been read.

    Args:
        found: the data set.
        photos: whether to decode the photos; without, annotations and lists alone are checked.
        size: (width, height) of the network's input in pixels.
        stride: of the finest feature map in pixels.
        cells: rows and columns of the grids whose capacity is checked.
        progress: the bar to show while photos are decoded.
    """
    names = study(found)
    facts: Mapping[Path, Facts | Broken] = {}
    if photos:
        paths = [image.photo for image in found.images.values() if image.photo is not None]
        facts = look(paths, progress)
    sizes = check_sizes(found, facts)
    # Only a size that breaks or spoils is in dispute, not what a notice says of EXIF.
    disputed = {key: f.fixable for key, f in sizes.items() if f.severity != "notice"}
    findings = [*found.findings, *check_boxes(found, disputed)]
    findings += _annotation_checks(found, names, size, stride, cells)
    if photos:
        findings += [*check_photos(facts), *sizes.values()]
        findings += [*check_copies(found, facts), *check_likeness(found, facts)]
    if not found.fixable:
        findings = [replace(f, fixable=False) for f in findings]
    report = Report(
        root=found.root,
        lists={split: len(ids) for split, ids in found.lists.items()},
        objects=sum(len(image.objects) for image in found.images.values()),
        photos=len(facts) if photos else None,
        seconds=0.0,
        # Two lists of one photo say the same of it.
        findings=worst_first(dict.fromkeys(findings)),
    )
    return Diagnosis(report, found, names, facts)


def _annotation_checks(
    found: Survey, names: Names, size: tuple[int, int], stride: int, cells: Sequence[int]
) -> Iterator[Finding]:
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
                "image-empty", "notice", image.file, image.field, "has no object",
                "fine as background; look whether its objects were forgotten",
            )  # fmt: skip
    for path in found.unlisted:
        yield Finding(
            "image-unlisted", "notice", path, "",
            "stands in no list and is not used", "add its id to a list",
        )  # fmt: skip
    for photo in found.loose:
        yield Finding(
            "photo-without-xml", "notice", photo, "", "has no XML and is not used",
            "annotate it or remove it",
        )  # fmt: skip
