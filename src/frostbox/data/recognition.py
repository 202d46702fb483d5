"""Which format a data set has, where its splits stand, and who reads them.

`formats.py` is the way in; see there for what DATA may be.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from frostbox.data import named, splitting, tables, voc
from frostbox.data.annotations import DetectionSet
from frostbox.data.box_check import some
from frostbox.data.coco import read_coco
from frostbox.data.coco_layout import find_files, is_coco, siblings
from frostbox.data.remote_sets import mirrored
from frostbox.data.split_names import by_split, word_in
from frostbox.data.voc_flat import FlatVoc, find_flat, read_flat
from frostbox.data.voc_layout import find_voc, is_voc
from frostbox.data.yolo import read_yolo
from frostbox.data.yolo_find import description, find_yolo
from frostbox.errors import DataError, NotFoundError
from frostbox.remote import is_remote

logger = logging.getLogger("frostbox")

KNOWN = (
    "VOC (Annotations, ImageSets, JPEGImages), VOC XML beside photos or in annotations beside "
    "images, COCO JSON, YOLO (data.yaml, obj.data, or images with labels), a saved Hugging Face "
    "data set, parquet"
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
            place = f"of a made split of {self.lists[str(self.base)]}"
        return (
            f"{self.format}, {dataset.split} ({place}): "
            f"{len(dataset):,} images, {objects:,} objects, {len(dataset.classes)} classes"
            + (f"; {dataset.boxes}" if dataset.boxes else "")
        )


def recognise(data: Any) -> Source:
    """What DATA is.

    Raises:
        NotFoundError: nothing lies there, or nothing that is known.
        DataError: what lies there is meant as a data set and cannot be used.
        RemoteError, SettingsError: a remote path that cannot be reached, see `remote_sets`.
    """
    if isinstance(data, Source):
        return data
    if not isinstance(data, (str, Path)):
        return _of_object(data)
    if is_remote(data):
        data = mirrored(str(data))
    path = Path(data).expanduser()
    if not path.exists() and named.is_name(str(data)):
        return _joined(str(data), [recognise(part) for part in named.locate(str(data))])
    if not path.exists():
        raise NotFoundError(
            f"{path} does not exist; give the folder or file of a data set, or one of the names "
            f"{', '.join(named.NAMES)}."
        )
    source = _of_file(path) if path.is_file() else _of_folder(path) or _below(path)
    if source is None:
        what = "is" if path.is_file() else "holds"
        raise NotFoundError(f"{path} {what} no data set in a format that is known: {KNOWN}.")
    return source


def _of_file(path: Path) -> Source | None:
    if is_coco(path):
        return _coco(path.parent, siblings(path))
    if path.suffix.lower() == ".json":
        raise DataError(
            f"{path} is no COCO data set (an object with images, annotations and categories); give "
            "the file of the annotations, not that of results."
        )
    if path.suffix.lower() == ".parquet":
        return _table(tables.open_parquet([path]), path)
    return _yolo(path)


def _of_folder(path: Path) -> Source | None:
    if is_voc(path):
        return _voc(path, path)
    if tables.is_saved(path):
        return _table(tables.open_saved(path), path)
    files = find_files(path)
    coco = _coco(path, files) if files else None
    other = _yolo_or_xml(path, coco)
    if coco is not None and other is not None:
        return _chosen(path, coco, next(iter(files.values())), other)
    if coco is not None or other is not None:
        return coco or other
    parquet = tables.parquet_files(path)
    if parquet:
        return _table(tables.open_parquet(parquet), path)
    try:
        return _voc(path, find_voc(path))
    except NotFoundError:
        return None


def _yolo_or_xml(path: Path, coco: Source | None) -> Source | None:
    """What else than COCO JSON a folder holds.

    Raises:
        DataError, NotFoundError: it cannot be used, and the COCO JSON is not clearly what is meant.
    """
    try:
        return _yolo(path) or _flat(find_flat(path))
    except (DataError, NotFoundError) as error:
        if coco is None or (not _is_whole(coco) and description(path) is not None):
            raise
        logger.warning("%s is read as %s, because else: %s", path, coco.format, error)
        return None


def _chosen(path: Path, coco: Source, json: Path, other: Source) -> Source:
    """The whole one of two data sets in a folder; of two halves the one that a data.yaml describes.

    Raises:
        DataError: both could be meant.
    """
    yaml = description(path) if other.format == "YOLO" else None
    both = f"{path} holds {other.format} and {coco.format} ({json.relative_to(path)})"
    way_out = f"give {json}" if yaml is None else f"give {json} or {yaml}"
    if _is_whole(coco) == _is_whole(other) and (_is_whole(coco) or yaml is None):
        raise DataError(f"{both}, and either could be meant: {way_out}, or move one of the two.")
    chosen = coco if _is_whole(coco) else other
    logger.warning("%s; read is %s: else %s", both, chosen.format, way_out)
    return chosen


def _is_whole(source: Source) -> bool:
    return {"train", "val"} <= set(source.lists)


def _below(path: Path) -> Source | None:
    """The one data set in the folders of a folder that is none itself, as archives unpack.

    Raises:
        DataError: there are several.
    """
    shown = (child for child in sorted(path.iterdir()) if not child.name.startswith((".", "__")))
    children = [c for c in shown if c.is_dir() and os.access(c, os.R_OK | os.X_OK)]
    sources = {child: _of_folder(child) for child in children}
    found = {child: source for child, source in sources.items() if source is not None}
    if len(found) > 1:
        names = some([child.name for child in found])
        raise DataError(f"{path} holds several data sets ({names}); give the folder of one.")
    for child in found:
        logger.warning("%s: the data set in it is %s", path, child.name)
    return next(iter(found.values()), None)


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
    lists = {split: _place(path) for split, path in files.items()}
    return Source(
        "COCO JSON", root, lists, lambda split, also: read_coco(files[split], split, _name(root))
    )


def _yolo(path: Path) -> Source | None:
    folder = find_yolo(path)
    if folder is None:
        return None
    said = f" as {folder.named_in.name} says" if folder.named_in.suffix in (".yaml", ".yml") else ""
    lists = {
        split: ", ".join(dict.fromkeys(_place(p) for p in places)) + said
        for split, places in folder.splits.items()
    }
    return Source("YOLO", folder.root, lists, lambda split, also: read_yolo(folder, split))


def _place(path: Path) -> str:
    """The name of a file or folder; with its folder where that alone says the split."""
    return path.name if word_in(path.name) else "/".join(path.parts[-2:])


def _name(root: Path) -> str:
    """The data folder's name, for a folder of annotation files that of its parent."""
    folder = root.resolve()
    return folder.parent.name if folder.name.lower() == "annotations" else folder.name


def _table(table: Mapping[str, Any], root: Path | None = None) -> Source:
    found = tables.Tables(table, root)
    lists = {split: f"table {split!r}" for split in table}
    return Source("Hugging Face data set", found.root, lists, lambda split, also: found.read(split))


def _of_object(data: Any) -> Source:
    if isinstance(data, DetectionSet):
        return Source(
            "annotations in memory", data.root, {data.split: data.name}, lambda split, also: data
        )
    if tables.is_table(data):
        return _table({tables.split_of(data): data})
    if tables.is_coco_detection(data):
        return Source(
            "torchvision CocoDetection", Path(data.root), {"all": "object"},
            lambda split, also: tables.read_coco_detection(data, split),
        )  # fmt: skip
    if isinstance(data, Mapping) and data and all(map(tables.is_table, data.values())):
        return _table(by_split({str(k): table for k, table in data.items()}))
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
