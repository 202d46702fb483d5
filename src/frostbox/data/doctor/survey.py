"""A whole data set as it stands on disk, faults included: what all checks look at.

`xml.py` fills it from VOC XML, `typed.py` from what the readers of all other formats give. Boxes
are VOC's own: pixels counted from 1, the last one included; those of other formats are moved there,
so that every check means the same by a box.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from frostbox.data.doctor.findings import Finding

RawBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Words:
    """How a format speaks of a box.

    Attributes:
        field: what it is called. origin: the number of the first pixel, by which boxes are shown.
    """

    field: str
    origin: int


VOC = Words("bndbox", 1)
OTHER = Words("box", 0)


@dataclass(frozen=True, slots=True)
class RawObject:
    """One object: its place in the file, its name as it is written, its box.

    `where` is such as "object 2", "line 3" or "annotation 17". `name` is "" and `box` None where
    the file has none that can be read. The box of a `crowd` is that of many objects.
    """

    where: str
    name: str
    box: RawBox | None
    difficult: bool
    crowd: bool = False
    words: Words = VOC

    @property
    def place(self) -> str:
        """How findings name the object."""
        return f"{self.where} ({self.name.strip() or 'without name'})"

    @property
    def box_place(self) -> str:
        """How findings name its box."""
        return f"{self.place}: {self.words.field}"

    @property
    def shown(self) -> str:
        """The box as its format counts, such as '(1, 2, 30, 40)'."""
        assert self.box is not None
        moved = 1 - self.words.origin
        xmin, ymin, xmax, ymax = self.box
        return numbers((xmin - moved, ymin - moved, xmax, ymax))


def numbers(box: RawBox) -> str:
    """'(1, 2, 30, 40)'."""
    return f"({', '.join(f'{value:g}' for value in box)})"


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image: where it is described, its photo if there is one, and its size in pixels.

    `file` is the XML, label file or JSON, `field` the image's place in it, "" for a file of its
    own. `stated` is the size in the file, None when there is none; `size` is the one to use, None
    when neither file nor photo says it. `wanted` is where its photo belongs, None where `file`
    names it.
    """

    image_id: str
    file: Path
    photo: Path | None
    stated: tuple[int, int] | None
    size: tuple[int, int] | None
    objects: tuple[RawObject, ...]
    field: str = ""
    wanted: Path | None = None

    @property
    def boxed(self) -> list[tuple[RawObject, RawBox]]:
        """The single objects whose box can be read."""
        return [(o, o.box) for o in self.objects if o.box is not None and not o.crowd]

    def at(self, field: str) -> tuple[Path, str]:
        """File and field of something that is said of the image."""
        return self.file, f"{self.field}: {field}" if self.field else field


@dataclass(frozen=True)
class Survey:
    """A data set: its lists, its images, and what stood in the way of reading them.

    Attributes:
        root: its folder or file.
        lists: keys of each examined list in its order, each once, those that cannot be read left
            out; the same key in two lists is the same image.
        places: the file of each list, and the place in it where it holds several.
        images: by key; keys whose file cannot be read are missing.
        declared: the class names that were given or that the data set declares; None without.
        declared_in: where they stand, in words.
        judged: whether the declared names may be misspelt too: tools gather them from what people
            typed.
        accepted: the names that training would take; None for any.
        origin: where they come from, in words.
        also: names that may occur besides those that training would take; None for any.
        unlisted: files that no list names; empty unless all lists were examined.
        loose: photos without annotation.
        findings: the faults of reading.
        strict: whether training refuses boxes that do not fit; else it fits them (`box_check.py`).
        fixable: whether the doctor can write a repaired copy.
    """

    root: Path
    lists: Mapping[str, Sequence[str]]
    places: Mapping[str, tuple[Path, str]]
    images: Mapping[str, RawImage]
    declared: tuple[str, ...] | None = None
    declared_in: str = ""
    judged: bool = False
    accepted: frozenset[str] | None = None
    origin: str = ""
    also: frozenset[str] | None = frozenset()
    unlisted: tuple[Path, ...] = ()
    loose: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()
    strict: bool = False
    fixable: bool = False

    def called(self, split: str) -> str:
        """A list's name in the middle of a sentence."""
        file, field = self.places[split]
        return field or file.name

    def of(self, split: str) -> list[RawImage]:
        """The images of a list that can be read."""
        return [self.images[i] for i in self.lists[split] if i in self.images]

    def identity(self, key: str) -> Hashable:
        """What two lists have in common when both hold an image: its photo, else its key."""
        image = self.images.get(key)
        return key if image is None or image.photo is None else image.photo

    @cached_property
    def parts(self) -> list[str]:
        """The lists that do not join others; they should have no image in common."""
        members = {s: {self.identity(i) for i in ids} for s, ids in self.lists.items() if ids}
        joined = {"trainval"} if {"train", "trainval"} <= set(self.lists) else set()
        for split, ids in members.items():
            inside = [other for name, other in members.items() if name != split and other < ids]
            if len(inside) > 1 and set().union(*inside) == ids:
                joined.add(split)
        return [split for split in self.lists if split not in joined]

    @property
    def training(self) -> str | None:
        """The list that is learned from: by its name, or because it is the only one."""
        usual = next((split for split in ("train", "trainval") if split in self.lists), None)
        return next(iter(self.lists)) if usual is None and len(self.lists) == 1 else usual
