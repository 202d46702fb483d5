"""What the doctor says: one `Finding` for each fault, and the `Report` that sorts them.

Severities, by what `frostbox train` does with the fault:

- "breaks": training refuses the data set.
- "spoils": training runs, and learns or measures something else than the data set seems to say.
- "notice": good to know; nothing has to be done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frostbox.errors import told

Severity = Literal["breaks", "spoils", "notice"]
SEVERITIES: tuple[Severity, ...] = ("breaks", "spoils", "notice")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Attributes:
        kind: short name of the fault, such as "box-outside"; each kind is listed in `KINDS`.
        severity: see this module's first lines.
        file: the file to look at.
        field: the place in it, such as "object 2 (dog): bndbox"; "" for the whole file.
        found: what stands there.
        way_out: what to do.
        fixable: whether `frostbox doctor --fix` repairs it.
        count: how many images or objects it concerns.
    """

    kind: str
    severity: Severity
    file: Path
    field: str
    found: str
    way_out: str
    fixable: bool = False
    count: int = 1

    def sentence(self) -> str:
        """File, field, what was found and what to do, in one line."""
        field = f": {self.field}" if self.field else ""
        return f"{self.file}{field} {self.found}; {self.way_out}."


KINDS = {
    "list-missing": "there is no list of images",
    "list-unreadable": "a list or a whole split that cannot be read",
    "list-empty": "a list that names no image",
    "list-repeats": "an image stands in a list twice",
    "list-without-xml": "a list names an image that has no XML",
    "class-list": "classes.txt cannot be used",
    "xml-unreadable": "XML that cannot be read",
    "field-unusable": "a field is missing or has a value that means nothing",
    "size-differs": "the file states another size than the photo has",
    "size-transposed": "width and height are exchanged in the file",
    "boxes-astray": "so many boxes outside their images that the numbers mean something else",
    "boxes-guessed": "boxes that are not as their format has them",
    "box-inverted": "a box whose maximum is below its minimum",
    "box-empty": "a box without area",
    "box-outside": "a box reaches outside its image",
    "box-missing": "an object without a box",
    "class-unknown": "a class name that is not in the list of classes",
    "class-misspelt": "a class name that looks misspelt",
    "class-spelling": "one class is spelt in two ways: case, blanks or punctuation",
    "photo-missing": "an image that has no photo",
    "label-shared": "a label file that belongs to two photos",
    "link-outside": "a link that leads out of the data set",
    "photo-empty": "a photo of zero bytes",
    "photo-truncated": "a photo whose end is missing",
    "photo-unreadable": "a photo that cannot be decoded",
    "split-overlap": "an image stands in two splits",
    "photo-in-two-splits": "the same photo under two names in two splits",
    "photo-alike-in-two-splits": "nearly the same photo in two splits",
    "class-absent": "a class that a split does not show",
    "box-zero-based": "boxes that count from 0 where VOC counts from 1",
    "box-contradicts": "two boxes in one place with different classes",
    "box-duplicate": "the same box twice",
    "box-near-duplicate": "two boxes of one class in nearly one place",
    "class-imbalance": "classes of very different frequency",
    "box-covers-image": "a box as large as its image",
    "object-tiny": "objects smaller than a cell of the finest feature map",
    "grid-crowded": "objects that a grid cannot express: another one has their cell",
    "exif-turned": "a photo that its EXIF orientation turns",
    "photo-mislabelled": "a photo whose suffix names another format",
    "photo-duplicate": "the same photo under two names in one split",
    "image-empty": "images without objects",
    "photo-without-xml": "photos that have no XML",
    "image-unlisted": "images that no list names",
}
"""Every kind, in words, worst first."""


@dataclass(frozen=True)
class Report:
    """What the doctor found in a data set, worst first.

    Attributes:
        root: the folder of the data set.
        lists: number of images of each list that was examined.
        objects: number of objects in them.
        photos: number of photos that were decoded; None when photos were not looked at.
        seconds: how long it took.
        findings: sorted by severity, then by kind as in `KINDS`, then as they stand in the lists.
    """

    root: Path
    lists: dict[str, int]
    objects: int
    photos: int | None
    seconds: float
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(f for f in self.findings if f.severity == severity)

    def groups(self) -> list[list[Finding]]:
        """The findings by severity and kind, worst first."""
        found: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            found.setdefault((finding.severity, finding.kind), []).append(finding)
        return list(found.values())

    @property
    def healthy(self) -> bool:
        """Whether nothing breaks or spoils training."""
        return all(f.severity == "notice" for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """All findings as plain values; files relative to `root` where they lie in it."""
        counts = Counter(f.severity for f in self.findings)
        return {
            "version": FORMAT,
            "root": told(str(self.root)),
            "lists": self.lists,
            "objects": self.objects,
            "photos_decoded": self.photos,
            "seconds": round(self.seconds, 2),
            "healthy": self.healthy,
            "counts": {severity: counts[severity] for severity in SEVERITIES},
            "findings": [
                {
                    "kind": f.kind,
                    "severity": f.severity,
                    "file": shown(f.file, self.root),
                    "field": f.field,
                    "found": f.found,
                    "way_out": f.way_out,
                    "fixable": f.fixable,
                    "count": f.count,
                }
                for f in self.findings
            ],
        }


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorted by severity, then by kind; stable. Raises KeyError for a kind outside `KINDS`."""
    rank = {kind: k for k, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), rank[f.kind])))


def shown(file: Path, root: Path) -> str:
    """The path as people read it: relative to the data set where it lies in it."""
    if file == root:
        return file.name
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
