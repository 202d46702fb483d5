"""What `convert` does from end to end: a data set of any format, written as VOC, COCO or YOLO.

Nothing is lost that the format can hold; what it cannot is listed. Photos are hard links where the
file system allows it.

    VOC     Annotations/ID.xml, ImageSets/Main/SPLIT.txt, JPEGImages/, classes.txt
    COCO    annotations/instances_SPLIT.json, images/
    YOLO    data.yaml, images/SPLIT/, labels/SPLIT/
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation, in_words
from frostbox.data.coco_write import category_ids, image_numbers, object_numbers, write_coco
from frostbox.data.formats import Source, make_splits, read, recognise
from frostbox.data.labels import choose
from frostbox.data.photo_names import report_missing
from frostbox.data.photos import check_photo_sizes, photo_suffix, place_photo, upright
from frostbox.data.remote_sets import ahead
from frostbox.data.voc import CLASSES, write_voc_xml
from frostbox.data.yolo import write_data_yaml, write_labels
from frostbox.errors import SettingsError
from frostbox.files import whole_folder
from frostbox.inputs import check_new_folder
from frostbox.progress import Progress

logger = logging.getLogger("frostbox")

FORMATS = ("voc", "coco", "yolo")
_YOLO_SPLITS = ("train", "val", "test")
# Of file names, and of lists that have one id a line.
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029:*?\"<>|]+")
_ENDS = re.compile(r"^[\s.]+|[\s.]+$")
_NO_PHOTO = "annotations without photo (YOLO has no sizes)"
_LOST_FLAGS = {
    "difficult": "difficult flag", "truncated": "truncated flag", "occluded": "occluded flag",
    "crowd": "crowd flag", "pose": "pose", "area": "area",
}  # fmt: skip


@dataclass
class Converted:
    """What was written, and what could not be.

    Attributes:
        out: the folder. images, objects: how many of each split were written.
        lost: what the new format does not hold, in words.
    """

    out: Path
    images: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {
            "out": str(self.out), "images": self.images, "objects": self.objects, "lost": self.lost
        }  # fmt: skip


def convert(
    data: Any,
    out: str | Path,
    to: str,
    *,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    copy: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write a data set in another format.

    Args:
        data: as of `data.formats.recognise`. out: a new or empty folder, which holds everything or
            nothing.
        to: "voc", "coco" or "yolo".
        splits: which to write; None or "all" for those that the data set has (without a trainval
            that only joins train and val). YOLO's tools need a val: then it is made, as `train`
            makes it.
        classes, rename: as of `data.formats.load`.
        copy: whether to copy photos instead of linking them.

    Raises:
        SettingsError: an unknown format, a folder that is not empty or lies in the data set.
        NotFoundError, DataError: as `data.formats.load`.
    """
    out = Path(out)
    if to not in FORMATS:
        raise SettingsError(f"--to is '{to}': choose one of {', '.join(FORMATS)}")
    source = recognise(data)
    # Beside a file that was given there may be a folder of results; in a data folder there may not.
    given = isinstance(data, (str, Path)) and Path(data).is_file()
    check_new_folder(out, Path(data) if given else source.root, "as the second argument")
    made = to == "yolo" and not _chosen(splits) and source.base is not None
    names = _wanted(source, splits, to, made)
    sets = {name: read(source, name, classes, rename) for name in names}
    if made:
        sets = _with_val(source, read(source, str(source.base), classes, rename)) | sets
    # Classes are those of all splits: a split need not have all that are kept or renamed.
    labels = tuple(dict.fromkeys(name for one in sets.values() for name in one.classes))
    sets = {n: choose(_with_classes(one, labels), classes, rename) for n, one in sets.items()}
    for one in sets.values():
        report_missing(one, require=False)
    with whole_folder(out) as folder:
        writer = _Writer(to, folder, copy, Converted(out), progress or Progress())
        writer.write(sets)
    return writer.done


def write_sets(
    sets: Mapping[str, DetectionSet],
    out: Path,
    to: str,
    *,
    copy: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write splits, by name, as one data set in a format; `out`, `to`, `copy` as of `convert`."""
    writer = _Writer(to, out, copy, Converted(out), progress or Progress())
    writer.write(sets)
    return writer.done


def _chosen(splits: Sequence[str] | None) -> bool:
    return bool(splits) and list(splits or ()) != ["all"]


def _wanted(source: Source, splits: Sequence[str] | None, to: str, made: bool) -> list[str]:
    """The splits to write; where train and val are made, those besides."""
    if _chosen(splits):
        names = list(dict.fromkeys(splits or ()))
    else:
        names = list(source.lists)
        if {"train", "val"} <= set(names):
            names = [name for name in names if name != "trainval"]
        names = [name for name in names if not made or name != source.base]
    if to == "yolo" and not set(names) <= set(_YOLO_SPLITS):
        others = [name for name in names if name not in _YOLO_SPLITS]
        raise SettingsError(
            f"YOLO knows the splits train, val and test, not {', '.join(others)}: choose with "
            "--split, repeated for more"
        )
    return names


def _with_val(source: Source, whole: DetectionSet) -> dict[str, DetectionSet]:
    """Train and val, made of the list that has no val beside it; of one image there is no val."""
    if len(whole) > 1:
        return make_splits(source, whole)
    return {"train": replace(whole, split="train")}


def _with_classes(dataset: DetectionSet, labels: tuple[str, ...]) -> DetectionSet:
    """The same with the classes of all splits."""
    numbers = {
        number: None if old is None else labels.index(dataset.classes[old])
        for number, old in dataset.categories.items()
    }
    return replace(dataset, classes=labels, categories=numbers)


@dataclass
class _Writer:
    """Writes splits one after the other; names of photos and losses hold for all of them."""

    to: str
    out: Path
    copy: bool
    done: Converted
    progress: Progress
    stems: dict[tuple[Path, str, tuple[ObjectAnnotation, ...]], str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    placed: set[Path] = field(default_factory=set)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def write(self, sets: Mapping[str, DetectionSet]) -> None:
        """Write all splits, which have the same classes, and note what was lost."""
        self.progress.start("converting", sum(map(len, sets.values())), "images")
        for split, dataset in sets.items():
            writable = self._expressible(dataset)
            getattr(self, f"_{self.to}")(split, writable)
            self.done.images[split] = len(writable)
            self.done.objects[split] = sum(len(image.objects) for image in writable.images)
        labels = next(iter(sets.values())).classes
        if self.to == "voc" and labels != CLASSES:
            (self.out / "classes.txt").write_text("".join(f"{n}\n" for n in labels), "utf-8")
        if self.to == "yolo":
            self._describe(labels, list(sets))
        self.progress.stop()
        # What a list says is said once, also when two splits were made of it.
        unread = {
            f"{'train and val' if one.made else split}: {text}": None
            for split, one in sets.items()
            for text in one.unread
        }
        self.done.lost = [
            *unread, *in_words(self.counts), *self._lost_names(), *self._lost_ids(sets.values())
        ]  # fmt: skip

    def _describe(self, labels: Sequence[str], splits: Sequence[str]) -> None:
        path = self.out / "data.yaml"
        write_data_yaml(path, labels, splits)
        if "train" in splits and "val" not in splits:
            logger.warning(
                "%s names the photos of train as val, because Ultralytics demands a val and there "
                "is none: figures on it are too good",
                self.done.out / path.name,
            )  # fmt: skip

    def _lost_names(self) -> list[str]:
        changed = {old: new for (_, old, _), new in self.stems.items() if old != new}
        if not changed:
            return []
        old, new = next(iter(changed.items()))
        return [f"names of {len(changed):,} images, such as {old!r}, now {new!r}"]

    def _lost_ids(self, sets: Collection[DetectionSet]) -> list[str]:
        images = [(image_numbers(one), [image.number for image in one.images]) for one in sets]
        objects = [
            (object_numbers(one), [obj.number for image in one.images for obj in image.objects])
            for one in sets
        ]
        if self.to != "coco":
            have = {
                "images": any(_some_known(own) for _, own in images),
                "categories": any(one.categories for one in sets),
                "annotations": any(_some_known(own) for _, own in objects),
            }
            kinds = [kind for kind, there in have.items() if there]
            return [f"ids of {', '.join(kinds)}"] if kinds else []
        anew = {
            "images": any(_some_known(own) and own != now for now, own in images),
            "categories": any(
                category_ids(one)[label] != number
                for one in sets
                for label, number in one.label_numbers().items()
            ),
            "annotations": any(_some_known(own) and own != now for now, own in objects),
        }
        return [f"ids of {kind}: they are counted anew" for kind, lost in anew.items() if lost]

    def _expressible(self, dataset: DetectionSet) -> DetectionSet:
        """What the format can hold of a split; the rest is counted."""
        images = []
        if self.to == "yolo":
            dataset = check_photo_sizes(dataset)  # says which photos EXIF turns
        for image in dataset.images:
            if self.to == "yolo" and image.photo is None:
                self.counts[_NO_PHOTO, "images"] += 1
                self.counts[_NO_PHOTO, "objects"] += len(image.objects)
                continue
            if self.to == "yolo" and str(image.photo).lower().endswith(".gif"):
                self.counts["photos as GIF, which Ultralytics does not read,", "images"] += 1
            objects = [self._object(obj) for obj in image.objects]
            kept = replace(image, objects=tuple(obj for obj in objects if obj is not None))
            images.append(upright(kept) if self.to == "yolo" else kept)
        return dataset.subset(images)

    def _object(self, obj: ObjectAnnotation) -> ObjectAnnotation | None:
        xmin, ymin, xmax, ymax = obj.box
        if self.to == "coco":
            return obj
        if self.to == "voc":
            if xmax - xmin <= 1 or ymax - ymin <= 1:
                self.counts["boxes (one pixel wide or high, which VOC cannot say)", "objects"] += 1
                return None
            self.counts["area", "objects"] += obj.area is not None
            if obj.crowd:
                self.counts["crowd flag (now difficult)", "objects"] += 1
                obj = replace(obj, difficult=True)
            return replace(obj, crowd=False, area=None)
        if obj.crowd:
            self.counts["boxes of crowds (YOLO would learn them as objects)", "objects"] += 1
            return None
        plain = ObjectAnnotation(obj.name, obj.box)
        for name, words in _LOST_FLAGS.items():
            self.counts[words, "objects"] += getattr(obj, name) != getattr(plain, name)
        return plain

    def _stem(self, image: ImageAnnotation) -> str:
        """A file name for the image, its own where that is possible; the same in every split.

        Two splits that say different things of one image get two files.
        """
        key = (image.photo or image.source, image.image_id, image.objects)
        if key not in self.stems:
            wanted = _UNSAFE.sub("_", _ENDS.sub("", image.image_id)) or "image"
            stem, number = wanted, 2
            while stem.lower() in self.taken:  # some file systems take a.jpg and A.jpg for one
                stem, number = f"{wanted}-{number}", number + 1
            self.taken.add(stem.lower())
            self.stems[key] = stem
        return self.stems[key]

    def _place(self, image: ImageAnnotation, folder: Path) -> str:
        """Put the photo into a folder; its name there."""
        suffix = photo_suffix(image.photo) if image.photo is not None else ".jpg"
        name = self._stem(image) + suffix
        target = folder / name
        if image.photo is not None and target not in self.placed:
            place_photo(image.photo, target, copy=self.copy)
            self.placed.add(target)
        self.progress.advance()
        return name

    def _folder(self, name: str) -> Path:
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _voc(self, split: str, dataset: DetectionSet) -> None:
        photos, xml = self._folder("JPEGImages"), self._folder("Annotations")
        ids = []
        for image in _fetched(dataset):
            stem = self._stem(image)
            name = self._place(image, photos)
            photo = photos / name if image.photo is not None else None
            write_voc_xml(xml / f"{stem}.xml", replace(image, image_id=stem, photo=photo))
            ids.append(stem)
        lists = self._folder("ImageSets/Main")
        (lists / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")

    def _coco(self, split: str, dataset: DetectionSet) -> None:
        photos = self._folder("images")
        names = [self._place(image, photos) for image in _fetched(dataset)]
        path = self._folder("annotations") / f"instances_{split}.json"
        write_coco(path, dataset, names)

    def _yolo(self, split: str, dataset: DetectionSet) -> None:
        photos, labels = self._folder(f"images/{split}"), self._folder(f"labels/{split}")
        for image in _fetched(dataset):
            self._place(image, photos)
            write_labels(labels / f"{self._stem(image)}.txt", image, dataset)


def _fetched(dataset: DetectionSet) -> Iterator[ImageAnnotation]:
    """The images, while remote photos of those that follow are fetched."""
    return ahead(dataset.images, lambda image: image.photo)


def _some_known(numbers: Sequence[int | str | None]) -> bool:
    return any(number is not None for number in numbers)
