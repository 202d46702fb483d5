"""A whole data set as it stands on disk, faults included: what all checks look at.

`voc.read_voc` refuses the first fault. This reader goes on: what cannot be read becomes a finding
and the rest is kept. Values are VOC's own: pixels counted from 1, the last one included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from frostbox.data import voc_fields as fields
from frostbox.data.doctor.findings import Finding
from frostbox.data.photos import image_size
from frostbox.data.voc_fields import FieldFault
from frostbox.data.voc_layout import (
    Photos,
    annotation_paths,
    find_voc,
    listed_ids,
    read_names,
    splits,
)
from frostbox.errors import DataError, NotFoundError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

P = ParamSpec("P")
T = TypeVar("T")
_ALL = "(all XML)"  # stands for the lists of a data set that has none
RawBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RawObject:
    """One object: its number in the XML from 1, its name as it is written, its VOC box.

    `name` is "" and `box` None where the XML has none that can be read.
    """

    number: int
    name: str
    box: RawBox | None
    difficult: bool

    @property
    def place(self) -> str:
        """How findings name the object."""
        return f"object {self.number} ({self.name.strip() or 'without name'})"


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image: its XML, its photo if there is one, and its size in pixels.

    `stated` is the size in the XML, None when there is none; `size` is the one to use, None when
    neither XML nor photo says it.
    """

    image_id: str
    xml: Path
    photo: Path | None
    stated: tuple[int, int] | None
    size: tuple[int, int] | None
    objects: tuple[RawObject, ...]

    @property
    def boxed(self) -> list[tuple[RawObject, RawBox]]:
        """The objects whose box can be read."""
        return [(obj, obj.box) for obj in self.objects if obj.box is not None]


@dataclass(frozen=True)
class Survey:
    """A data set: its lists, its images, and what stood in the way of reading them.

    Attributes:
        root: the VOC folder.
        lists: ids of each examined list in its order, each once, those without XML left out.
        aggregates: names of the lists that only join others, such as "trainval".
        images: what the XML of each listed id says; ids whose XML cannot be read are missing.
        declared: the class names that were given or stand in classes.txt; None without.
        declared_in: where they stand, in words.
        names_from: the list whose objects name the classes where none are declared, as training
            takes them: "train", else "trainval", else the first that was chosen; None without.
        named: the names of the objects of that list.
        unlisted: ids with XML that no list names; empty unless all lists were examined.
        loose_photos: photos without XML.
        also: names that may occur besides those that training would take; None for any.
        findings: the faults of reading.
    """

    root: Path
    lists: Mapping[str, Sequence[str]]
    aggregates: frozenset[str]
    images: Mapping[str, RawImage]
    declared: tuple[str, ...] | None
    declared_in: str
    names_from: str | None
    named: frozenset[str]
    unlisted: tuple[str, ...]
    loose_photos: tuple[Path, ...]
    also: frozenset[str] | None
    findings: tuple[Finding, ...]

    def list_file(self, split: str) -> Path:
        """The file of a list; without any list, the folder of all XML."""
        if split == _ALL:
            return self.root / "Annotations"
        return self.root / "ImageSets" / "Main" / f"{split}.txt"

    def of(self, split: str) -> list[RawImage]:
        """The images of a list that can be read."""
        return [self.images[i] for i in self.lists[split] if i in self.images]

    @property
    def parts(self) -> list[str]:
        """The lists that do not join others; they should have no image in common."""
        return [split for split in self.lists if split not in self.aggregates]


def survey(
    data: str | Path,
    chosen: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    also: Sequence[str] | None = (),
) -> Survey:
    """Read the lists and the XML of every listed image.

    Args:
        data: the VOC folder, its VOCdevkit, or the parent of that.
        chosen: names of the lists to examine, the training list first; None for all.
        classes: class names in label order; None looks for a classes.txt.
        also: names that may occur besides, because training leaves them out or changes them; None
            for any.

    Raises:
        NotFoundError: no such folder, or no list of a chosen name.
        DataError: several folders in VOC layout lie there and none is named after a year.
    """
    root = find_voc(data)
    known = splits(root)
    for split in chosen or ():
        if split not in known:
            raise NotFoundError(
                f"{root / 'ImageSets' / 'Main' / split}.txt does not exist; the lists there are "
                f"{', '.join(known) or '(none)'}."
            )
    training = [split for split in ("train", "trainval") if split in known][:1]
    reader = _Reader(root, annotation_paths(root), Photos(root / "JPEGImages"), {}, [])
    lists = {split: reader.list(split) for split in dict.fromkeys(chosen or known)}
    if not known:
        reader.report(
            "list-missing", root / "ImageSets" / "Main", "", "holds no list of images",
            "write train.txt and val.txt with one id a line",
        )  # fmt: skip
        lists = {_ALL: sorted(reader.paths)}
    declared, declared_in = reader.classes(Path(data).expanduser(), classes)
    names_from = next(iter([*training, *(chosen or ())]), None)
    for image_id in dict.fromkeys(i for ids in lists.values() for i in ids):
        reader.image(image_id)
    named: frozenset[str] = frozenset()
    if declared is None and names_from is not None:
        # A list that was not asked for is read for its names alone: its faults are not sought. It
        # may lack its XML; it then names no class.
        aside = replace(reader, findings=[], images=dict(reader.images))
        ids = aside.list(names_from)
        if names_from in lists or not aside.findings:
            for image_id in ids:
                aside.image(image_id)
            images = [aside.images[i] for i in ids if i in aside.images]
            named = frozenset(o.name.strip() for image in images for o in image.objects) - {""}
    unlisted = set() if chosen or not known else set(reader.paths).difference(*lists.values())
    photos = reader.photos.by_id()
    loose = set(photos.values()) - {photos[i] for i in photos if i in reader.paths}
    loose -= {image.photo for image in reader.images.values() if image.photo is not None}
    return Survey(
        root=root,
        lists=lists,
        aggregates=_aggregates(lists),
        images=reader.images,
        declared=declared,
        declared_in=declared_in,
        names_from=names_from,
        named=named,
        unlisted=tuple(sorted(unlisted)),
        loose_photos=tuple(sorted(loose)),
        also=None if also is None else frozenset(also),
        findings=tuple(reader.findings),
    )


def _aggregates(lists: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Lists that join others: "trainval" by its name, any other one by what is in it."""
    members = {split: set(ids) for split, ids in lists.items() if ids}
    joined = {"trainval"} if {"train", "trainval"} <= set(lists) else set()
    for split, ids in members.items():
        inside = [other for name, other in members.items() if name != split and other < ids]
        if len(inside) > 1 and set().union(*inside) == ids:
            joined.add(split)
    return frozenset(joined)


@dataclass
class _Reader:
    """Reads each XML once and collects what is wrong with it."""

    root: Path
    paths: dict[str, str]
    photos: Photos
    images: dict[str, RawImage]
    findings: list[Finding]

    def report(
        self, kind: str, file: Path, field: str, found: str, way_out: str, fixable: bool = False
    ) -> None:
        self.findings.append(Finding(kind, "breaks", file, field, found, way_out, fixable))

    def list(self, split: str) -> list[str]:
        """Ids of a list that have XML, each once."""
        path = self.root / "ImageSets" / "Main" / f"{split}.txt"
        try:
            lines = listed_ids(path, self.paths)
        except DataError as error:
            self.report("list-unreadable", path, "", str(error), "save it as UTF-8 text")
            return []
        first: dict[str, int] = {}
        for number, image_id in lines:
            if image_id in first:
                self.report(
                    "list-repeats", path, f"line {number}",
                    f"names {image_id!r}, as line {first[image_id]} does", "remove one of the two",
                    fixable=True,
                )  # fmt: skip
            elif image_id not in self.paths:
                self.report(
                    "list-without-xml", path, f"line {number}",
                    f"names {image_id!r}, and there is no Annotations/{image_id}.xml",
                    "add the file or remove the line", fixable=True,
                )  # fmt: skip
            else:
                first[image_id] = number
        if not lines:
            self.report("list-empty", path, "", "names no image", "write one id a line")
        return list(first)

    def classes(
        self, data: Path, given: Sequence[str] | None
    ) -> tuple[tuple[str, ...] | None, str]:
        if given is not None:
            return tuple(given), "--classes"
        for path in (self.root / "classes.txt", data / "classes.txt"):
            if path.is_file():
                try:
                    return read_names(path), str(path)
                except DataError as error:
                    self.report("class-list", path, "", str(error), "write each name once")
                    return None, ""
        return None, ""

    def image(self, image_id: str) -> None:
        """Read the XML of an id into `images`, unless it is there already."""
        if image_id in self.images:
            return
        path = Path(self.paths[image_id])
        try:
            tree = fields.parse(str(path))
        except FieldFault as fault:
            found = f"{fault.field} {fault.found}".strip()
            self.report("xml-unreadable", path, "", found, fault.way_out)
            return
        photo = self.photos.find(image_id, fields.text(tree, "filename"))
        stated = size = None
        try:
            stated = fields.stated_size(tree, "")
            size = stated or self._photo_size(path, photo)
        except FieldFault as fault:
            self.report("field-unusable", path, fault.field, fault.found, fault.way_out)
        objects = tuple(
            self._object(path, number, node)
            for number, node in enumerate(tree.iterfind("object"), start=1)
        )
        self.images[image_id] = RawImage(image_id, path, photo, stated, size, objects)

    def _photo_size(self, path: Path, photo: Path | None) -> tuple[int, int] | None:
        found = "is missing or 0 x 0 and there is no photo to take it from"
        if photo is not None:
            try:
                width, height, orientation = image_size(photo)
            except DataError as error:
                found = f"is missing or 0 x 0 and cannot be taken from the photo ({error})"
            else:
                return (height, width) if orientation >= 5 else (width, height)
        self.report("field-unusable", path, "size", found, "write width and height")
        return None

    def _object(self, path: Path, number: int, node: Element) -> RawObject:
        place = fields.place("", number, node).removeprefix(": ")
        self._try(path, place, fields.object_name, node, "")
        for tag in ("truncated", "occluded"):
            self._try(path, place, fields.flag, node, tag, "")
        difficult = self._try(path, place, fields.flag, node, "difficult", "")
        bndbox = self._try(path, place, fields.object_box, node, "")
        corners = []
        if bndbox is not None:
            for tag in fields.CORNERS:
                value = self._try(path, place, fields.number, bndbox, tag, "")
                corners += [] if value is None else [value]
        box = (corners[0], corners[1], corners[2], corners[3]) if len(corners) == 4 else None
        return RawObject(number, node.findtext("name") or "", box, bool(difficult))

    def _try(
        self, path: Path, place: str, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        try:
            return read(*args, **kwargs)
        except FieldFault as fault:
            field = f"{place}: {fault.field}"
            self.report("field-unusable", path, field, fault.found, fault.way_out)
            return None
