"""COCO JSON to the typed form and back.

A file holds one split: `images`, `annotations` and `categories`. Its boxes are `[x, y, width,
height]` in pixels, 0-based and continuous, as ours are. Category ids may have gaps; a label is the
rank of the id. What exports of Label Studio, CVAT and Roboflow do differently (where photos lie,
backslashes, paths of another machine, categories without objects) is read as it is meant.

Python's own JSON reader is used, not hotcoco's: that one is faster, but stops at the first bbox of
three numbers with a line and column, and refuses ids that are text. Its converters round boxes
(VOC to whole pixels, YOLO to six decimals) and leave out flags; tests hold ours against them.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from frostbox.data.annotations import (
    Box,
    DetectionSet,
    ImageAnnotation,
    ObjectAnnotation,
    in_id_order,
)
from frostbox.data.box_check import BoxCheck, refuse, some
from frostbox.data.coco_layout import bare_name, split_of
from frostbox.data.faults import gathered
from frostbox.data.photo_names import PhotoFinder, escapes, image_ids, repeated
from frostbox.data.split_names import SPLIT_WORDS
from frostbox.data.voc_layout import check_names
from frostbox.errors import DataError, NotFoundError

logger = logging.getLogger("frostbox")

_DIGITS = 9  # decimals of a pixel that the sum of corner and size keeps


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
    unread: Counter[str] = Counter()

    def light(entry: dict[str, Any]) -> dict[str, Any]:
        # Masks are most of the file: they are dropped while it is parsed, not after.
        for key in ("segmentation", "keypoints"):
            if entry.pop(key, None):
                unread[key] += 1
        return entry

    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=light)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error}); export it again.") from error
    root = path.parent.parent if path.parent.name.lower() == "annotations" else path.parent
    words = [split, bare_name(path), *(w for w, meant in SPLIT_WORDS.items() if meant == split)]
    folders = [base / part for base in (path.parent, root) for part in ("images", "data", "")]
    folders += [root / part / word for part in ("", "images", "data") for word in words]
    dataset = parse(content, path, split, PhotoFinder([*folders, root / "JPEGImages"]), root)
    kinds = {"segmentation": "masks", "keypoints": "keypoints"}
    counted = tuple(f"{kinds[key]} of {count:,} objects" for key, count in unread.items())
    return replace(dataset, unread=counted + dataset.unread)


def parse(
    content: Any, file: Path, split: str, photos: PhotoFinder, root: Path, name: str = ""
) -> DetectionSet:
    """The data set in a COCO file's content.

    Crowds keep their flag, `area` is kept, `attributes` (as CVAT and `write_coco` write them) and
    `ignore` give the flags of VOC. Boxes are fitted as in `box_check`; objects without box are left
    out and counted.

    Args:
        content: the JSON, parsed. file: where it came from, for messages.
        split: name of the split. photos: finds them. root: of the data set. name: None: root's.

    Raises:
        DataError: a list is missing; an id stands twice; an image has no name or size; a box that
            is no box; an annotation of an image or category that does not exist; boxes that lie
            outside by and large; two photos with one name.
    """
    reader = _Reader(file, photos)
    entries = [reader.entries(content, key) for key in ("images", "categories", "annotations")]
    images, categories, annotations = entries
    classes, categories_of = reader.categories(categories, annotations)
    names = list(dict.fromkeys(classes.values()))
    objects = reader.objects(annotations, reader.images(images), classes)
    ids = image_ids(_file_name(entry) for entry in images)
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
        unread=categories_of,
    )


def _file_name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("file_name") or entry.get("coco_url") or "")


@dataclass
class _Reader:
    """Reads the lists of one file and collects their faults."""

    file: Path
    photos: PhotoFinder
    sizes: dict[Any, tuple[int, int]] = field(default_factory=dict)
    photo_of: dict[Any, Path | None] = field(default_factory=dict)

    def entries(self, content: Any, key: str) -> list[dict[str, Any]]:
        found = content.get(key) if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise DataError(
                f"{self.file} has no list {key!r}; a COCO data set has images, annotations and "
                "categories."
            )
        if key != "annotations":
            self._check_ids(found, key)
        return found

    def _check_ids(self, entries: Sequence[Mapping[str, Any]], key: str) -> None:
        faults = [f"{key}[{k}] has no id" for k, e in enumerate(entries) if not _is_id(e.get("id"))]
        refuse(faults, str(self.file), "give each entry a number")
        count = Counter(entry["id"] for entry in entries)
        twice = [f"id {number!r} stands {n} times in {key}" for number, n in count.items() if n > 1]
        refuse(twice, str(self.file), "give each entry an id of its own")

    def categories(
        self, entries: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[int, str], tuple[str, ...]]:
        """Name of each category id, by id; and what else the categories say."""
        names = {}
        for entry in sorted(entries, key=lambda entry: (str(type(entry["id"])), entry["id"])):
            name = entry.get("name")
            if not isinstance(name, str) or not name.strip():
                raise DataError(
                    f"{self.file}: category {entry['id']} has the name {name!r}; give it a name."
                )
            names[entry["id"]] = name.strip()
        used = {entry.get("category_id") for entry in annotations}
        parents = {entry.get("supercategory") for entry in entries} - {None, "", "none"}
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
        return names, (f"supercategories ({', '.join(sorted(map(str, lost)))})",) if lost else ()

    def images(self, entries: Sequence[Mapping[str, Any]]) -> dict[Any, list[ObjectAnnotation]]:
        """Find photo and size of every image; an empty list of objects for each id."""
        faults, leading_out = [], []
        for k, entry in enumerate(entries):
            where = f"images[{k}] (id {entry['id']})"
            name = _file_name(entry)
            self.photo_of[entry["id"]], self.sizes[entry["id"]] = None, (0, 0)  # if faulty
            if not name:
                faults.append(f"{where} has no file_name")
                continue
            photo = self.photo_of[entry["id"]] = self.photos.find(name)
            if photo is None and escapes(name) and "://" not in name:
                leading_out.append(f"{where}: file_name is {name!r}")
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
        if _is_side(width) and _is_side(height):
            return int(width), int(height)
        if photo is None:
            return None
        from frostbox.data.photos import image_size

        width, height, orientation = image_size(photo)
        return (height, width) if orientation >= 5 else (width, height)

    def objects(
        self,
        annotations: Sequence[Mapping[str, Any]],
        found: dict[Any, list[ObjectAnnotation]],
        names: Mapping[int, str],
    ) -> dict[Any, list[ObjectAnnotation]]:
        """`found`, filled with the objects of each image."""
        hint = "is bbox [x, y, width, height] in pixels, and are the images' sizes right?"
        check = BoxCheck(str(self.file), hint)
        faults, boxless = [], []
        for k, entry in enumerate(annotations):
            where = f"annotations[{k}] (id {entry.get('id')})"
            image, category = entry.get("image_id"), entry.get("category_id")
            bbox = entry.get("bbox")
            if not _known(image, found):
                faults.append(f"{where}: image_id {image!r} is of no image")
            elif not _known(category, names):
                faults.append(f"{where}: category_id {category!r} is of no category")
            elif bbox is None or bbox == []:
                boxless.append(where)
            elif not _is_box(bbox):
                faults.append(f"{where}: bbox is {bbox!r}, not [x, y, width, height]")
            else:
                x, y, width, height = bbox
                corners = (float(x), float(y), _far(x, width), _far(y, height))
                box = check.fit(corners, self.sizes[image], partial("{}: bbox".format, where))
                if box is not None:
                    found[image].append(_object(entry, names[category], box))
        refuse(faults, str(self.file), "mend or remove the annotation", go_on=True)
        no_box = [f"{where}: has no bbox, and training leaves it out" for where in boxless]
        if boxless and not gathered(no_box, self.file, "draw its box", "box-missing"):
            text = "%s: %s objects have no bbox and are left out: %s"
            logger.warning(text, self.file, len(boxless), some(boxless))
        check.close()
        return found


def _far(low: float, size: float) -> float:
    """The other corner, without the last binary digits of a sum."""
    return round(float(low + size), _DIGITS)


def _object(entry: Mapping[str, Any], name: str, box: Box) -> ObjectAnnotation:
    attributes = entry.get("attributes")
    flags = {**entry, **(attributes if isinstance(attributes, dict) else {})}
    area, pose = entry.get("area"), flags.get("pose")
    if area == entry["bbox"][2] * entry["bbox"][3]:
        area = None  # it says no more than the box
    return ObjectAnnotation(
        name=name,
        box=box,
        difficult=flags.get("difficult") in (True, 1) or flags.get("ignore") in (True, 1),
        truncated=flags.get("truncated") in (True, 1),
        occluded=flags.get("occluded") in (True, 1),
        pose=pose if isinstance(pose, str) and pose else "Unspecified",
        crowd=entry.get("iscrowd") in (True, 1),
        area=float(area) if _is_number(area) and area >= 0 else None,
        number=entry.get("id") if _is_id(entry.get("id")) else None,
    )


def _is_number(value: Any) -> TypeGuard[float]:
    # An int beyond a float has no business here, and math.isfinite raises on it.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_side(value: Any) -> TypeGuard[float]:
    return _is_number(value) and value > 0 and value == int(value)


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def _known(key: Any, table: Mapping[Any, Any]) -> TypeGuard[int]:
    return type(key) in (int, str) and key in table


def _is_box(bbox: Any) -> bool:
    return isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(v) for v in bbox)


def write_coco(path: Path, dataset: DetectionSet, names: Sequence[str]) -> None:
    """Write a split as COCO JSON; `read_coco` gives the same objects, flags and ids back.

    Ids of images and categories are kept where the data set has them all, else counted from 1.

    Args:
        path: of the file. names: `file_name` of each image, relative to the photos' folder.
    """
    numbers = [image.number for image in dataset.images]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(numbers) + 1))
    ids = category_ids(dataset)
    images = [
        {"id": number, "file_name": name, "width": image.width, "height": image.height}
        for number, name, image in zip(numbers, names, dataset.images, strict=True)
    ]
    content = {
        "info": {"description": f"{dataset.name} {dataset.split}"},
        "images": images,
        "annotations": list(_annotations(dataset, numbers, ids)),
        "categories": [
            {"id": ids[k], "name": name, "supercategory": ""}
            for k, name in enumerate(dataset.classes)
        ],
    }
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def category_ids(dataset: DetectionSet) -> list[int]:
    """The category id of each label: the data set's own, or counted from 1."""
    own = dataset.label_numbers()
    in_order = [own.get(k, -1) for k in range(len(dataset.classes))]
    if len(own) == len(dataset.classes) and sorted(in_order, key=in_id_order) == in_order:
        return in_order
    return list(range(1, len(dataset.classes) + 1))


def _annotations(
    dataset: DetectionSet, numbers: Sequence[Any], ids: Sequence[int]
) -> Iterator[dict[str, Any]]:
    count = 0
    for number, image in zip(numbers, dataset.images, strict=True):
        for obj in image.objects:
            count += 1
            bbox = xywh(obj.box)
            entry = {
                "id": count,
                "image_id": number,
                "category_id": ids[dataset.label(obj)],
                "bbox": bbox,
                "area": bbox[2] * bbox[3] if obj.area is None else obj.area,
                "iscrowd": int(obj.crowd),
            }
            flags: dict[str, Any] = {
                flag: True for flag in ("difficult", "truncated", "occluded") if getattr(obj, flag)
            }
            if obj.pose != "Unspecified":
                flags["pose"] = obj.pose
            yield {**entry, "attributes": flags} if flags else entry


def xywh(box: Box) -> list[float]:
    """The box as COCO's, with the shortest sizes that give the same corners back."""
    xmin, ymin, xmax, ymax = box
    return [_short(xmin), _short(ymin), _size(xmin, xmax), _size(ymin, ymax)]


def _size(low: float, high: float) -> float:
    exact = high - low
    for digits in range(_DIGITS + 1):
        size = round(exact, digits)
        if round(low + size, _DIGITS) == high:
            return _short(size)
    return exact


def _short(value: float) -> float:
    return int(value) if value == int(value) else value
