"""What DATA means: recognises the format of a data set, and reads its splits into the typed form.

DATA is a folder or file in one of the known formats, a name such as `coco2017`
(`named.py`), or an object: a `datasets.Dataset` or `DatasetDict`, torchvision's
`CocoDetection`, a `DetectionSet`, or a mapping from split to any of these.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from frostbox.data import named, splitting, tables, voc
from frostbox.data.annotations import DetectionSet
from frostbox.data.box_check import some
from frostbox.data.coco import read_coco
from frostbox.data.coco_layout import find_files, is_coco, siblings
from frostbox.data.labels import aligned, choose
from frostbox.data.photo_names import report_missing
from frostbox.data.split_names import by_split
from frostbox.data.voc_flat import FlatVoc, find_flat, read_flat
from frostbox.data.voc_layout import find_voc, is_voc
from frostbox.data.yolo import read_yolo
from frostbox.data.yolo_layout import find_yolo
from frostbox.errors import DataError, NotFoundError, SettingsError

__all__ = ["Source", "load", "load_training", "recognise"]

logger = logging.getLogger("frostbox")

KNOWN = (
    "VOC (Annotations, ImageSets, JPEGImages), VOC XML beside photos, COCO JSON, YOLO (data.yaml, "
    "obj.data, or images with labels), a saved Hugging Face data set, parquet"
)
_NAMED_LISTS = ("train", "val", "trainval", "test")

Also = Sequence[str] | None
Read = Callable[[str, Also], DetectionSet]


@dataclass(frozen=True)
class Source:
    """A data set that was recognised.

    Attributes:
        format: its name, for people.
        root: its folder.
        lists: the splits that the data set itself has, each with where it stands.
        read: reads one of them; its second argument are class names that may occur besides those
            that the data set declares, None for any.
        voc: VOC folders, or folders above them, which the doctor reads itself; else empty.
        flat: folders of VOC XML without lists, which it reads too.
    """

    format: str
    root: Path
    lists: Mapping[str, str]
    read: Read
    voc: tuple[Path, ...] = ()
    flat: FlatVoc | None = None

    @property
    def base(self) -> str | None:
        """The list that train and val are made from, where the data set has no val."""
        if "val" in self.lists:
            return None
        usual = next((name for name in ("train", "trainval") if name in self.lists), None)
        if usual is None and len(self.lists) == 1 and not set(self.lists) & set(_NAMED_LISTS):
            return next(iter(self.lists))
        return usual

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits that `load` gives: the data set's own, and those that are made."""
        made = splitting.MADE if self.base is not None else ()
        return tuple(dict.fromkeys([*self.lists, *made]))

    def seen(self, dataset: DetectionSet) -> str:
        """What was seen, in one line."""
        objects = sum(len(image.objects) for image in dataset.images)
        place = self.lists.get(dataset.split)
        if place is None:
            place = f"{self.lists[str(self.base)]}, {dataset.split} of a made split"
        return (
            f"{self.format}, {place}: {len(dataset):,} images, {objects:,} objects, "
            f"{len(dataset.classes)} classes"
        )


def recognise(data: Any) -> Source:
    """What DATA is.

    Raises:
        NotFoundError: nothing lies there, or nothing that is known.
        DataError: what lies there is meant as a data set and cannot be used.
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, (str, Path)):
        return _of_object(data)
    path = Path(data).expanduser()
    if not path.exists() and named.is_name(str(data)):
        return _joined(str(data), [recognise(part) for part in named.locate(str(data))])
    if not path.exists():
        raise NotFoundError(
            f"{path} does not exist; give the folder or file of a data set, or one of the names "
            f"{', '.join(named.NAMES)}."
        )
    source = _of_file(path) if path.is_file() else _of_folder(path)
    if source is None:
        what = "is" if path.is_file() else "holds"
        raise NotFoundError(f"{path} {what} no data set in a format that is known: {KNOWN}.")
    return source


def load(
    data: Any,
    split: str,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    *,
    absent: Collection[str] = (),
    require_photos: bool = False,
) -> DetectionSet:
    """Read a split of any data set; photos that are missing are reported once.

    Where the data set has no val, train and val are made from its one list (`splitting.py`). A
    list of its own is always given whole.

    Args:
        data: see the top of this file. split: such as "train".
        classes: names to keep, in label order; None for all. rename: new names by old ones.
        absent: those of these names that the data set may lack (see `labels.choose`).
        require_photos: whether a split without any photo is an error.

    Raises:
        NotFoundError: no such data set or split.
        SettingsError: a name to keep or rename that the data set does not have.
        DataError: annotations that cannot be used, or no photo where photos are required.
    """
    source = recognise(data)
    also = _also(classes, rename)
    if split in source.lists:
        found = source.read(split, also)
    elif split in source.splits:
        found = _made(source, also)[split]
    else:
        raise NotFoundError(
            f"{source.root} ({source.format}) has no split {split!r}; it has "
            f"{', '.join(source.splits)}."
        )
    found = choose(found, classes, rename, absent=absent)
    report_missing(found, require_photos)
    return found


def load_training(
    data: Any,
    train: str,
    val: str | None,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    *,
    absent: Collection[str] = (),
) -> tuple[DetectionSet, DetectionSet | None]:
    """The images to learn from, and those that choose the best weights, with the same labels.

    Where val has to be made, the images to learn from are those that it leaves. Arguments and
    errors are those of `load`; moreover:

    Raises:
        DataError: an object of val whose class train does not name, and no `classes` are given.
    """
    source = recognise(data)
    also = _also(classes, rename)
    if val == "val" and val not in source.lists and train not in splitting.MADE[1:]:
        if source.base == train:
            # Only where a val is wanted: `--val-split none` learns from the whole list.
            made = _made(source, also)
            sets = [choose(made[name], classes, rename, absent=absent) for name in splitting.MADE]
            for part in sets:
                report_missing(part, require=True)
            return sets[0], sets[1]
        if train in source.lists and source.base is not None:
            raise SettingsError(
                f"{source.root} has no val, and one that is made from {source.base!r} would share "
                f"images with {train!r}: train on {source.base!r}, or give another list with "
                "--val-split (none for none)"
            )
    if val is None and train not in source.lists and train == splitting.MADE[0]:
        train = source.base or train  # nothing is to be held back
    learn = load(source, train, classes, rename, absent=absent, require_photos=True)
    if val is None:
        if source.base == train:
            logger.warning(
                "all of %r is learned from: figures on a val that is made of it would be too good",
                train,
            )  # fmt: skip
        return learn, None
    # The names were found in train; val need not have them all.
    known = {*absent, *(classes or ()), *(rename or ())}
    held = load(source, val, classes, rename, absent=known, require_photos=True)
    if not source.voc:  # the doctor says it of VOC
        _report_overlap(learn, held)
    return learn, aligned(held, learn)


def _report_overlap(learn: DetectionSet, held: DetectionSet) -> None:
    seen = {image.photo for image in learn.photos}
    both = [str(image.photo) for image in held.photos if image.photo in seen]
    if both:
        logger.warning(
            "%s photos stand in both %s and %s, whose figures are then too good: %s",
            len(both), learn.split, held.split, some(both),
        )  # fmt: skip


def _also(classes: Sequence[str] | None, rename: Mapping[str, str] | None) -> Also:
    """Names that may occur: any, where it is said what to keep; else those that are changed."""
    return tuple(rename or ()) if classes is None else None


def _made(source: Source, also: Also) -> dict[str, DetectionSet]:
    base = str(source.base)
    made = splitting.made_splits(source.read(base, also))
    counts = ", ".join(f"{len(part):,} {name}" for name, part in made.items())
    logger.warning(
        "%s has no val: %r is split by class (%s; seed %s), which is written down in %s",
        source.root, base, counts, splitting.SEED, made["val"].made,
    )  # fmt: skip
    return made


def _of_file(path: Path) -> Source | None:
    if is_coco(path):
        return _coco(path.parent, siblings(path))
    if path.suffix.lower() == ".json":
        raise DataError(
            f"{path} is no COCO data set (an object with images, annotations and categories); give "
            "the file of the annotations, not that of results."
        )
    if path.suffix.lower() == ".parquet":
        return _table(path, tables.open_parquet([path]))
    return _yolo(path)


def _of_folder(path: Path) -> Source | None:
    if is_voc(path):
        return _voc(path, path)
    if tables.is_saved(path):
        return _table(path, tables.open_saved(path))
    files = find_files(path)
    if files:
        return _coco(path, files)
    source = _yolo(path) or _flat(find_flat(path))
    if source is not None:
        return source
    parquet = tables.parquet_files(path)
    if parquet:
        return _table(path, tables.open_parquet(parquet))
    try:
        return _voc(path, find_voc(path))
    except NotFoundError:
        return None


def _voc(data: Path, root: Path) -> Source:
    names = voc.splits(root)
    if not names:
        folder = {"all": root / "Annotations"}
        flat = _flat(FlatVoc(root, folder, {"all": root / "JPEGImages"}))
        assert flat is not None
        return flat
    lists = {name: f"{root.name}/ImageSets/Main/{name}.txt" for name in names}
    return Source(
        "VOC", root, lists, lambda split, also: voc.read_voc(data, split, None, also), (data,)
    )


def _flat(flat: FlatVoc | None) -> Source | None:
    if flat is None:
        return None
    lists = {name: f"{folder.name}/*.xml" for name, folder in flat.xml.items()}
    return Source("VOC XML without lists", flat.root, lists, partial(read_flat, flat), flat=flat)


def _coco(root: Path, files: Mapping[str, Path]) -> Source:
    lists = {split: path.name for split, path in files.items()}
    return Source(
        "COCO JSON", root, lists, lambda split, also: read_coco(files[split], split, _name(root))
    )


def _yolo(path: Path) -> Source | None:
    folder = find_yolo(path)
    if folder is None:
        return None
    lists = {
        split: ", ".join(dict.fromkeys(p.name for p in places)) + f" as {folder.named_in.name} says"
        for split, places in folder.splits.items()
    }
    return Source("YOLO", folder.root, lists, lambda split, also: read_yolo(folder, split))


def _name(root: Path) -> str:
    """The data folder's name, for a folder of annotation files that of its parent."""
    folder = root.resolve()
    return folder.parent.name if folder.name.lower() == "annotations" else folder.name


def _table(root: Path, table: Mapping[str, Any]) -> Source:
    lists = {split: f"table {split!r}" for split in table}
    return Source(
        "Hugging Face data set", root, lists,
        lambda split, also: tables.read_table(table[split], split, root),
    )  # fmt: skip


def _of_object(data: Any) -> Source:
    if isinstance(data, DetectionSet):
        return Source(
            "annotations in memory", data.root, {data.split: data.name}, lambda split, also: data
        )
    if tables.is_table(data):
        split = tables.split_of(data)
        return _table(tables.photo_folder(data), {split: data})
    if tables.is_coco_detection(data):
        return Source(
            "torchvision CocoDetection", Path(data.root), {"all": "object"},
            lambda split, also: tables.read_coco_detection(data, split),
        )  # fmt: skip
    if isinstance(data, Mapping) and data:
        return _by_split(by_split({str(k): recognise(value) for k, value in data.items()}))
    raise NotFoundError(
        f"a {type(data).__name__} is no data set; give a folder, a file, a datasets.Dataset, a "
        "torchvision CocoDetection, a DetectionSet, or a mapping from split to one of these."
    )


def _by_split(parts: Mapping[str, Source]) -> Source:
    """A mapping from split to source, of each of which one list is taken."""
    chosen = {name: _one_list(name, source) for name, source in parts.items()}
    first = next(iter(parts.values()))

    def read(split: str, also: Also) -> DetectionSet:
        return replace(parts[split].read(chosen[split], also), split=split)

    lists = {name: source.lists[chosen[name]] for name, source in parts.items()}
    return Source(f"{first.format} by split", first.root, lists, read)


def _one_list(name: str, source: Source) -> str:
    """The list of the same name, or the only one."""
    if name in source.lists:
        return name
    if len(source.lists) == 1:
        return next(iter(source.lists))
    raise DataError(
        f"what is given for {name!r} ({source.root}) has the lists {', '.join(source.lists)}; give "
        "the file or table of one."
    )


def _joined(name: str, parts: Sequence[Source]) -> Source:
    """Several data sets as one, such as VOC 2007 and 2012."""
    if len(parts) == 1:
        return parts[0]
    lists: dict[str, str] = {}
    for part in parts:
        for split in part.lists:
            where = [p.lists[split] for p in parts if split in p.lists]
            lists[split] = " + ".join(where)

    def read(split: str, also: Also) -> DetectionSet:
        sets = [part.read(split, also) for part in parts if split in part.lists]
        first = sets[0]
        names = tuple(dict.fromkeys(n for part in sets for n in part.classes))
        images = tuple(image for part in sets for image in part.images)
        if len({image.image_id for image in images}) < len(images):
            raise DataError(f"{name}: an image id stands in several parts; give them one by one.")
        return replace(
            first, name=name.upper(), classes=names, images=images, categories={},
            unread=tuple(text for part in sets for text in part.unread),
        )  # fmt: skip

    return Source(
        parts[0].format, parts[0].root.parent, lists, read, tuple(r for p in parts for r in p.voc)
    )
