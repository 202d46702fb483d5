"""COCO JSON to the typed form; `coco_write.py` writes it back.

A file holds one split: `images`, `annotations` and `categories`. Its boxes are `[x, y, width,
height]` in pixels, 0-based and continuous, as ours are. Category ids may have gaps; a label is the
rank of the id. What exports of Label Studio, CVAT and Roboflow do differently (where photos lie,
backslashes, paths of another machine, categories without objects) is read as it is meant.

Python's own JSON reader is used, not hotcoco's: that one is faster, but stops at the first bbox of
three numbers with a line and column, and refuses ids that are text. Its converters round boxes
(VOC to whole pixels, YOLO to six decimals) and leave out flags; tests hold ours against them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.box_check import BoxCheck, refuse, some
from frostbox.data.coco_fields import (
    as_id,
    as_object,
    far,
    file_name,
    in_pixels,
    in_shares,
    is_box,
    is_side,
    other_kind,
)
from frostbox.data.coco_layout import bare_name, split_of
from frostbox.data.coco_unread import LONG, beyond
from frostbox.data.faults import gathered
from frostbox.data.photo_names import PhotoFinder, escapes, image_ids, repeated
from frostbox.data.split_names import SPLIT_WORDS
from frostbox.data.voc_layout import check_names
from frostbox.errors import DataError, NotFoundError
from frostbox.untrusted import Repeated, once, parse_json, shown

logger = logging.getLogger("frostbox")


def read_coco(path: str | Path, split: str | None = None, name: str | None = None) -> DetectionSet:
    """Read a COCO file; `parse` says what is kept and what is refused.

    Photos are looked for beside the file, in the data folder (the parent of `annotations`), and
    there in `images`, `data`, and in folders named after the split.

    Args:
        path: the JSON file.
        split: name of the split; None takes it from the file's name.
        name: of the data set; None takes the data folder's.

    Raises:
        NotFoundError: no such file.
        DataError: it is no COCO file, or as `parse`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; give a COCO JSON file.")
    dataset = _read(path, split or split_of(path))
    return dataset if name is None else replace(dataset, name=name)


def _read(path: Path, split: str) -> DetectionSet:
    def light(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entry = once(pairs)
        # Masks are most of the file: while it is parsed, they become a mark that they were there.
        for key in LONG:
            if key in entry:
                entry[key] = bool(entry[key])
        return entry

    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"), light)
    except Repeated as error:
        raise DataError(f"{path}: {error}; remove one of the two.") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); export it again.") from error
    root = path.parent.parent if path.parent.name.lower() == "annotations" else path.parent
    words = [split, bare_name(path), *(w for w, meant in SPLIT_WORDS.items() if meant == split)]
    folders = [base / part for base in (path.parent, root) for part in ("images", "data", "")]
    folders += [root / part / word for part in ("", "images", "data") for word in words]
    return parse(content, path, split, PhotoFinder([*folders, root / "JPEGImages"]), root)


def parse(
    content: Any, file: Path, split: str, photos: PhotoFinder, root: Path, name: str = ""
) -> DetectionSet:
    """The data set in a COCO file's content.

    Crowds keep their flag, `area` is kept, `attributes` (as CVAT and `write_coco` write them) and
    `ignore` give the flags of VOC. Boxes are fitted as in `box_check`; objects without box are left
    out and counted. Where all boxes lie in [0, 1] they are shares of the sides, which is said.

    Args:
        content: the JSON, parsed. file: where it came from, for messages.
        split: name of the split. photos: finds them. root: of the data set. name: None: root's.

    Raises:
        DataError: no list of images or categories; an id stands twice; an image has no name or
            size; a box that is no box; an annotation of an image or category that does not exist;
            boxes that lie outside by and large; two photos with one name.
    """
    reader = _Reader(file, photos)
    entries = [reader.entries(content, key) for key in ("images", "categories", "annotations")]
    images, categories, annotations = entries
    classes, categories_of = reader.categories(categories, annotations)
    names = list(dict.fromkeys(classes.values()))
    objects = reader.objects(annotations, reader.images(images), classes)
    ids = image_ids(file_name(entry) for entry in images)
    keys = [(i, reader.photo_of[entry["id"]] or i) for i, entry in zip(ids, images, strict=True)]
    doubled = [f"images[{k}] is the photo of images[{j}]: {ids[k]!r}" for j, k in repeated(keys)]
    way_out = "keep one entry, and give its id to the annotations of both"
    refuse(doubled, str(file), way_out, go_on=True)
    records = tuple(
        ImageAnnotation(
            image_id=image_id,
            photo=reader.photo_of[entry["id"]],
            width=reader.sizes[entry["id"]][0],
            height=reader.sizes[entry["id"]][1],
            objects=tuple(objects[entry["id"]]),
            source=file,
            number=entry["id"],
        )
        for entry, image_id in zip(images, ids, strict=True)
    )
    return DetectionSet(
        name=name or root.resolve().name,
        root=root,
        split=split,
        classes=tuple(names),
        classes_from=f"the categories of {file.name}",
        images=records,
        categories={number: names.index(classes[number]) for number in classes},
        unread=(*beyond({**content, "annotations": annotations}), *categories_of, *reader.left_out),
        boxes=reader.boxes,
    )


@dataclass
class _Reader:
    """Reads the lists of one file and collects their faults."""

    file: Path
    photos: PhotoFinder
    sizes: dict[Any, tuple[int, int]] = field(default_factory=dict)
    photo_of: dict[Any, Path | None] = field(default_factory=dict)
    boxes: str = ""
    left_out: list[str] = field(default_factory=list)

    def entries(self, content: Any, key: str) -> list[dict[str, Any]]:
        found = content.get(key) if isinstance(content, dict) else None
        if found is None and key == "annotations" and isinstance(content, dict):
            logger.warning("%s has no list 'annotations': its images have no objects", self.file)
            return []
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise DataError(
                f"{self.file} has no list {key!r}; a COCO data set has images, annotations and "
                "categories."
            )
        return found if key == "annotations" else self._with_ids(found, key)

    def _with_ids(self, entries: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        faults = [
            f"{key}[{k}] has " + (f"the id {shown(entry['id'])}" if "id" in entry else "no id")
            for k, entry in enumerate(entries)
            if as_id(entry.get("id")) is None
        ]
        refuse(faults, str(self.file), "give each entry a whole number")
        read = [{**entry, "id": as_id(entry["id"])} for entry in entries]
        count = Counter(entry["id"] for entry in read)
        twice = [
            f"id {shown(number)} stands {n} times in {key}" for number, n in count.items() if n > 1
        ]
        refuse(twice, str(self.file), "give each entry an id of its own")
        return read

    def categories(
        self, entries: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[Any, str], tuple[str, ...]]:
        """Name of each category id, by id; and what else the categories say."""
        names = {}
        for entry in sorted(entries, key=lambda entry: (str(type(entry["id"])), entry["id"])):
            name = entry.get("name")
            if not isinstance(name, str) or not name.strip():
                raise DataError(
                    f"{self.file}: category {entry['id']} has the name {shown(name)}; give it a "
                    "name."
                )
            names[entry["id"]] = name.strip()
        used = {as_id(entry.get("category_id")) for entry in annotations}
        parents = {str(entry.get("supercategory") or "none") for entry in entries} - {"none"}
        # Roboflow writes the project itself as category 0, the parent of all others.
        roof = [
            number for number, name in names.items()
            if number == 0 and number not in used and parents == {name} and len(names) > 1
        ]  # fmt: skip
        for number in roof:
            del names[number]
        check_names(dict.fromkeys(names.values()), f"{self.file}: categories")
        if len(set(names.values())) < len(names):
            same = sorted(n for n, k in Counter(names.values()).items() if k > 1)
            logger.warning("%s: several categories are called %s: one class", self.file, same[0])
        lost = parents - set(names.values())
        return names, (f"supercategories ({', '.join(sorted(lost))})",) if lost else ()

    def images(self, entries: Sequence[Mapping[str, Any]]) -> dict[Any, list[ObjectAnnotation]]:
        """Find photo and size of every image; an empty list of objects for each id."""
        faults, leading_out = [], []
        for k, entry in enumerate(entries):
            where = f"images[{k}] (id {entry['id']})"
            name = file_name(entry)
            self.photo_of[entry["id"]], self.sizes[entry["id"]] = None, (0, 0)  # if faulty
            if not name:
                faults.append(f"{where} has no file_name")
                continue
            photo = self.photo_of[entry["id"]] = self.photos.find(name)
            if photo is None and escapes(name) and "://" not in name:
                leading_out.append(f"{where}: file_name is {shown(name)}")
            size = self._size(entry, photo)
            if size is None:
                faults.append(f"{where} ({name}) has no width and height, and no photo to measure")
            else:
                self.sizes[entry["id"]] = size
        refuse(
            leading_out, str(self.file),
            "it leads out of the data folder, and no photo of that name lies inside: put the "
            "photos into the data folder, and write their names relative to it", go_on=True,
        )  # fmt: skip
        refuse(faults, str(self.file), "write the field", go_on=True)
        return {entry["id"]: [] for entry in entries}

    def _size(self, entry: Mapping[str, Any], photo: Path | None) -> tuple[int, int] | None:
        width, height = entry.get("width"), entry.get("height")
        if is_side(width) and is_side(height):
            return int(width), int(height)
        if photo is None:
            return None
        from frostbox.data.photos import upright_size

        return upright_size(photo)

    def objects(
        self,
        annotations: Sequence[Mapping[str, Any]],
        found: dict[Any, list[ObjectAnnotation]],
        names: Mapping[Any, str],
    ) -> dict[Any, list[ObjectAnnotation]]:
        """`found`, filled with the objects of each image."""
        hint = "is bbox [x, y, width, height] in pixels, and are the images' sizes right?"
        check = BoxCheck(str(self.file), hint)
        shares = in_shares(annotations, self.sizes)
        if shares:
            self.boxes = "boxes in [0, 1], taken as shares of width and height"
            if not gathered([f"has {self.boxes}"], self.file, "write pixels", "boxes-guessed"):
                logger.warning("%s: %s, where COCO has pixels", self.file, self.boxes)
        faults, boxless = [], []
        for k, entry in enumerate(annotations):
            number = entry.get("id")
            where = (
                f"annotations[{k}] (id {number if as_id(number) is not None else shown(number)})"
            )
            image, category = as_id(entry.get("image_id")), as_id(entry.get("category_id"))
            bbox = entry.get("bbox")
            if image is None or image not in found:
                faults.append(_stray(entry, "image", found, where))
            elif category is None or category not in names:
                faults.append(_stray(entry, "category", names, where))
            elif bbox is None or bbox == []:
                boxless.append(where)
            elif not is_box(bbox):
                faults.append(f"{where}: bbox is {shown(bbox)}, not [x, y, width, height]")
            else:
                if shares:
                    entry = in_pixels(entry, self.sizes[image])
                x, y, width, height = entry["bbox"]
                corners = (float(x), float(y), far(x, width), far(y, height))
                box = check.fit(corners, self.sizes[image], partial("{}: bbox".format, where))
                if box is not None:
                    found[image].append(as_object(entry, names[category], box))
        refuse(faults, str(self.file), "mend or remove the annotation", go_on=True)
        no_box = [f"{where}: has no bbox, and training leaves it out" for where in boxless]
        if boxless and not gathered(no_box, self.file, "draw its box", "box-missing"):
            self.left_out.append(f"{len(boxless):,} objects without bbox")
            text = "%s: %s objects have no bbox and are left out: %s"
            logger.warning(text, self.file, len(boxless), some(boxless))
        self.left_out += check.close()
        return found


def _stray(entry: Mapping[str, Any], what: str, known: Mapping[Any, Any], where: str) -> str:
    value = entry.get(f"{what}_id")
    return f"{where}: {what}_id {shown(value)} is of no {what}{other_kind(value, known)}"
