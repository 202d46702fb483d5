"""VOC XML as it stands on disk, faults included.

`voc.read_voc` refuses the first fault. This reader goes on: what cannot be read becomes a finding
and the rest is kept. Values are VOC's own: pixels counted from 1, the last one included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from frostbox.data import voc_fields as fields
from frostbox.data.doctor.findings import Finding
from frostbox.data.doctor.survey import RawImage, RawObject, Survey
from frostbox.data.photos import upright_size
from frostbox.data.voc import CLASSES
from frostbox.data.voc_fields import FieldFault
from frostbox.data.voc_flat import FlatVoc
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


def survey_voc(
    data: Path,
    chosen: Sequence[str] | None,
    classes: Sequence[str] | None,
    also: Sequence[str] | None,
) -> Survey:
    """Read the lists of a VOC folder and the XML of every listed image.

    Args:
        data: the VOC folder, its VOCdevkit, or the parent of that.
        chosen, classes, also: as of `doctor.diagnose`.

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
    reader = _Reader(root, annotation_paths(root), Photos(root / "JPEGImages"), root / "JPEGImages")
    lists = {split: reader.list(split) for split in dict.fromkeys(chosen or known)}
    for image_id in dict.fromkeys(i for ids in lists.values() for i in ids):
        reader.image(image_id)
    declared, declared_in = _declared(reader, (root, data.expanduser()), classes)
    training = [split for split in ("train", "trainval") if split in known][:1]
    names_from = next(iter([*training, *(chosen or ())]), None)
    named: frozenset[str] = frozenset()
    if declared is None and names_from is not None:
        # A list that was not asked for is read for its names alone: its faults are not sought. It
        # may lack its XML; it then names no class.
        aside = replace(reader, findings=[], images=dict(reader.images))
        ids = aside.list(names_from)
        if names_from in lists or not aside.findings:
            for image_id in ids:
                aside.image(image_id)
            named = _names(aside.images[i] for i in ids if i in aside.images)
    unlisted = set() if chosen else set(reader.paths).difference(*lists.values())
    main = root / "ImageSets" / "Main"
    found = Survey(
        root=root,
        lists=lists,
        places={split: (main / f"{split}.txt", "") for split in lists},
        images=reader.images,
        declared=declared,
        declared_in=declared_in,
        also=None if also is None else frozenset(also),
        unlisted=tuple(Path(reader.paths[i]) for i in sorted(unlisted)),
        loose=reader.loose(),
        findings=tuple(reader.findings),
        strict=True,
        fixable=True,
    )
    return _with_names(found, named, names_from)


def survey_flat(
    flat: FlatVoc,
    chosen: Sequence[str] | None,
    classes: Sequence[str] | None,
    also: Sequence[str] | None,
) -> Survey:
    """Read every XML of folders without lists; arguments as of `doctor.diagnose`.

    Keys have the split in front where there are several.

    Raises:
        NotFoundError: no folder for a chosen split.
    """
    for split in chosen or ():
        if split not in flat.xml:
            raise NotFoundError(
                f"{flat.root} has no folder of XML for {split!r}; it has {', '.join(flat.xml)}."
            )
    findings: list[Finding] = []
    readers, lists = {}, {}
    images: dict[str, RawImage] = {}
    for split, folder in flat.xml.items():
        paths = {path.stem: str(path) for path in sorted(folder.iterdir()) if _is_xml(path)}
        asked = chosen is None or split in chosen
        photos = flat.photos[split]
        reader = _Reader(flat.root, paths, Photos(photos), photos, {}, findings if asked else [])
        readers[split] = reader
        for image_id in paths:
            reader.image(image_id)
        front = f"{split}/" if len(flat.xml) > 1 else ""
        if asked:
            lists[split] = [f"{front}{image_id}" for image_id in paths]
            images |= {f"{front}{i}": image for i, image in reader.images.items()}
    declared, declared_in = _declared(readers[next(iter(lists))], (flat.root,), classes)
    names_from = next((s for s in ("train", "trainval", *(chosen or lists)) if s in readers), None)
    named = _names(readers[names_from].images.values()) if names_from else frozenset()
    main = flat.root / "ImageSets" / "Main"
    if main.parent.is_dir():
        findings.append(
            Finding(
                "list-missing", "notice", main, "",
                "holds no list of images: training splits them by class",
                "write train.txt and val.txt with one id a line to split them yourself",
            )
        )  # fmt: skip
    found = Survey(
        root=flat.root,
        lists=lists,
        places={split: (flat.xml[split], "") for split in lists},
        images=images,
        declared=declared,
        declared_in=declared_in,
        also=None if also is None else frozenset(also),
        loose=tuple(sorted({p for split in lists for p in readers[split].loose()})),
        findings=tuple(findings),
        fixable=True,
    )
    return _with_names(found, named, names_from)


def _is_xml(path: Path) -> bool:
    return path.name.lower().endswith(".xml")


def _names(images: Iterable[RawImage]) -> frozenset[str]:
    return frozenset(obj.name.strip() for image in images for obj in image.objects) - {""}


def _with_names(found: Survey, named: frozenset[str], names_from: str | None) -> Survey:
    """The survey with the names that `voc.read_voc` would give to every split, and from where."""
    if found.also is None:
        return found
    if found.declared is not None:
        accepted, origin = frozenset(found.declared), found.declared_in
    elif not named:
        return found
    elif named <= set(CLASSES):
        accepted, origin = frozenset(CLASSES), f"VOC's 20 classes, which cover {names_from}"
    else:
        accepted, origin = named, f"the names found in {names_from}"
    return replace(found, accepted=found.also | accepted, origin=origin)


def _declared(
    reader: _Reader, folders: Sequence[Path], given: Sequence[str] | None
) -> tuple[tuple[str, ...] | None, str]:
    """The class names that were given or stand in a classes.txt, and where."""
    if given is not None:
        return tuple(given), "--classes"
    for path in (folder / "classes.txt" for folder in folders):
        if path.is_file():
            try:
                return read_names(path), str(path)
            except DataError as error:
                reader.report("class-list", path, "", str(error), "write each name once")
                return None, ""
    return None, ""


@dataclass
class _Reader:
    """Reads each XML once and collects what is wrong with it."""

    root: Path
    paths: Mapping[str, str]
    photos: Photos
    folder: Path
    images: dict[str, RawImage] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

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

    def loose(self) -> tuple[Path, ...]:
        """The photos without XML."""
        photos = self.photos.by_id()
        loose = set(photos.values()) - {photos[i] for i in photos if i in self.paths}
        return tuple(sorted(loose - {image.photo for image in self.images.values()}))

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
        wanted = self.folder / f"{image_id}.jpg"
        image = RawImage(image_id, path, photo, stated, size, objects, wanted=wanted)
        self.images[image_id] = image

    def _photo_size(self, path: Path, photo: Path | None) -> tuple[int, int] | None:
        found = "is missing or 0 x 0 and there is no photo to take it from"
        if photo is not None:
            try:
                return upright_size(photo)
            except DataError as error:
                found = f"is missing or 0 x 0 and cannot be taken from the photo ({error})"
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
        return RawObject(f"object {number}", node.findtext("name") or "", box, bool(difficult))

    def _try(
        self, path: Path, place: str, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        try:
            return read(*args, **kwargs)
        except FieldFault as fault:
            field = f"{place}: {fault.field}"
            self.report("field-unusable", path, field, fault.found, fault.way_out)
            return None
