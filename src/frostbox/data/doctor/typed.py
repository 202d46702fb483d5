"""What the readers of COCO, YOLO and tables give, as a survey; and what they find wrong.

The readers note their faults (`data/faults.py`) and leave boxes as they stand in the file. Sets
that a training has read already, boxes fitted, are surveyed in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.doctor.findings import Finding, Severity
from frostbox.data.doctor.photos import Broken, broken_photo, look
from frostbox.data.doctor.survey import OTHER, RawImage, RawObject, Survey
from frostbox.data.faults import Fault, Noted, gathering
from frostbox.data.formats import Source
from frostbox.errors import FrostboxError, NotFoundError

_SEVERITY: Mapping[str, Severity] = {
    "photo-unreadable": "spoils",
    "photo-missing": "spoils",
    "label-shared": "spoils",
    "link-outside": "spoils",
    "box-missing": "spoils",
    "boxes-guessed": "notice",
}
"""Kinds of faults that a training does without; all others stop it."""


def survey_typed(
    source: Source,
    chosen: Sequence[str] | None,
    classes: Sequence[str] | None,
    also: Sequence[str] | None,
) -> Survey:
    """Read the lists of a data set in any format but VOC; arguments as of `doctor.diagnose`.

    Raises:
        NotFoundError: no list of a chosen name.
    """
    for split in chosen or ():
        if split not in source.lists:
            raise NotFoundError(
                f"{source.root} ({source.format}) has no list {split!r}; it has "
                f"{', '.join(source.lists)}."
            )
    sets: dict[str, DetectionSet] = {}
    findings: list[Finding] = []
    for split in dict.fromkeys(chosen or source.lists):
        with gathering() as faults:
            try:
                sets[split] = source.read(split, None)
            except FrostboxError as error:
                if not isinstance(error, Noted):  # all that one says is among the faults
                    text = f"{split} cannot be read: {str(error).rstrip('.')}"
                    way_out = "mend that first"
                    findings.append(
                        Finding("list-unreadable", "breaks", source.root, "", text, way_out)
                    )
        findings += [_finding(fault, source.root, split) for fault in faults]
    return of_sets(sets, source.root, classes, also, findings)


def of_sets(
    sets: Mapping[str, DetectionSet],
    root: Path,
    classes: Sequence[str] | None = None,
    also: Sequence[str] | None = (),
    findings: Sequence[Finding] = (),
) -> Survey:
    """The survey of splits that have been read; arguments as of `doctor.diagnose`."""
    # An image that a reader could not use, and has noted, comes without size.
    sets = {split: one.subset([i for i in one.images if i.width]) for split, one in sets.items()}
    # Each split has annotations of its own, also of an image that stands in two.
    lists = {split: [f"{split}[{k}]" for k in range(len(one))] for split, one in sets.items()}
    images = {
        key: _image(image, one, split)
        for split, one in sets.items()
        for key, image in zip(lists[split], one.images, strict=True)
    }
    found = Survey(
        root=root,
        lists=lists,
        places={split: _place(one, split) for split, one in sets.items()},
        images=images,
        declared=None if classes is None else tuple(classes),
        declared_in="--classes",
        also=None if also is None else frozenset(also),
        findings=tuple(findings),
    )
    if classes is None and found.training is not None:
        learned = sets[found.training]
        found = replace(
            found, declared=learned.classes, declared_in=learned.classes_from, judged=True
        )
    if found.declared is None or found.also is None:
        return found
    return replace(found, accepted=found.also.union(found.declared), origin=found.declared_in)


def _place(dataset: DetectionSet, split: str) -> tuple[Path, str]:
    """The file of a split; where it has none of its own, the root and the split's name."""
    first = next(iter(dataset.images), None)
    if first is None or first.number is None or first.source == dataset.root:
        return dataset.root, split
    return first.source, ""


def _image(image: ImageAnnotation, dataset: DetectionSet, split: str) -> RawImage:
    front, field = "", ""
    if image.source == dataset.root:  # a table, or several
        front = f"{split}, "
        field = f"{front}image {image.image_id}"
    elif image.number is not None:
        field = f"image {image.number} ({image.image_id})"
    size = (image.width, image.height)
    # Label files and tables state no size: it is the photo's.
    stated = None if front or image.source.suffix == ".txt" else size
    objects = tuple(
        _object(obj, f"{front}{_where(obj, number)}")
        for number, obj in enumerate(image.objects, start=1)
    )
    return RawImage(image.image_id, image.source, image.photo, stated, size, objects, field)


def _where(obj: ObjectAnnotation, number: int) -> str:
    if obj.place:
        return obj.place
    return f"object {number}" if obj.number is None else f"annotation {obj.number}"


def _object(obj: ObjectAnnotation, where: str) -> RawObject:
    xmin, ymin, xmax, ymax = obj.box
    box = (xmin + 1, ymin + 1, xmax, ymax)
    return RawObject(where, obj.name, box, obj.difficult, obj.crowd, OTHER)


def _finding(fault: Fault, root: Path, split: str) -> Finding:
    file, field = fault.file, fault.field
    if fault.kind == "photo-unreadable" and file.is_file():
        seen = look([file])[file]
        if isinstance(seen, Broken):
            return broken_photo(file, seen)
    if not file.exists():  # a table, which has a name and no file
        file, field = root, ", ".join(filter(None, (split, field)))
    return Finding(
        fault.kind, _SEVERITY.get(fault.kind, "breaks"), file, field, fault.found, fault.way_out
    )
