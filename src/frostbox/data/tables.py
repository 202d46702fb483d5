"""Annotated photos that come as objects: Hugging Face `datasets`, torchvision's `CocoDetection`.

A table has the columns of the Hub's object-detection sets: `image`, and `objects` with `bbox` and
`category` for each object (and `area`, `iscrowd`, where they are there). Tables are also read from
a folder of `save_to_disk` and from parquet files. Photos inside a table are written out once, byte
for byte, into frostbox's folder of data: everything else reads files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from frostbox.data.annotations import Box, DetectionSet, ImageAnnotation, ObjectAnnotation
from frostbox.data.box_check import BoxCheck, refuse, some
from frostbox.data.coco import parse
from frostbox.data.faults import gathered, is_gathering
from frostbox.data.home import data_home
from frostbox.data.photo_names import PhotoFinder, image_ids
from frostbox.data.photos import image_size
from frostbox.data.split_names import by_split, word_in
from frostbox.data.voc_layout import check_names
from frostbox.errors import DataError, NotFoundError, SettingsError

logger = logging.getLogger("frostbox")

_OBJECTS = ("objects", "annotations", "object")
_BOXES = ("bbox", "bboxes", "box", "boxes")
_CATEGORIES = ("category", "categories", "label", "labels", "category_id", "class", "classes")
_CROWDS = ("iscrowd", "is_crowd")


def is_table(data: Any) -> bool:
    """Whether an object is a `datasets.Dataset`."""
    return type(data).__module__.split(".")[0] == "datasets" and hasattr(data, "features")


def is_coco_detection(data: Any) -> bool:
    """Whether an object is torchvision's `CocoDetection` (or one that has the same parts)."""
    return hasattr(data, "root") and isinstance(
        getattr(getattr(data, "coco", None), "dataset", None), dict
    )


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def open_saved(folder: Path) -> dict[str, Any]:
    """The tables of such a folder by split."""
    found = _datasets().load_from_disk(str(folder))
    return by_split(found) if isinstance(found, Mapping) else {split_of(found): found}


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files of a folder, or of its `data`, as the Hub lays them out."""
    return sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))


def open_parquet(paths: Sequence[Path]) -> dict[str, Any]:
    """The tables of parquet files, which are named after their splits (train-00000-of-00001)."""
    datasets = _datasets()
    by_split: dict[str, list[str]] = {}
    for path in paths:
        by_split.setdefault(word_in(path.stem) or "all", []).append(str(path))
    try:
        return {
            split: datasets.Dataset.from_parquet(files, cache_dir=str(data_home() / "tables"))
            for split, files in by_split.items()
        }
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        raise DataError(
            f"{paths[0]} cannot be read as parquet ({' '.join(str(error).split())}); download or "
            "write it again."
        ) from error


def split_of(table: Any) -> str:
    """The split that a table says it is, "all" without one."""
    name = str(table.split) if table.split is not None else "all"
    return word_in(name) or name


def photo_folder(table: Any) -> Path:
    """Where the photos of a table are written: of one content, one folder."""
    name = table.info.dataset_name or "table"
    digest = hashlib.blake2b(str(table._fingerprint).encode(), digest_size=6).hexdigest()
    return data_home() / "photos" / f"{Path(name).name}-{digest}"


def read_coco_detection(data: Any, split: str) -> DetectionSet:
    """The annotations of torchvision's `CocoDetection`, photos in its `root`."""
    root = Path(data.root)
    return parse(data.coco.dataset, root / "(CocoDetection)", split, PhotoFinder([root]), root)


def read_table(table: Any, split: str, root: Path) -> DetectionSet:
    """Read a table; boxes are taken as COCO's (x, y, width, height) unless they show to be corners.

    Args:
        table: a `datasets.Dataset`. split: name of the split. root: where it came from.

    Raises:
        SettingsError: no column of images or of objects; categories that are numbers without names.
        DataError: an object without box or category, or a photo that is no picture.
    """
    reader = _Table(table, split, root)
    rows = reader.rows()
    corners = _are_corners(rows, reader.where)
    check = BoxCheck(reader.where, "are the boxes in pixels, as (x, y, width, height)?")
    ids = _ids(rows)
    images = []
    for image_id, row in zip(ids, rows, strict=True):
        kept = []
        for k, raw in enumerate(row.objects, start=1):
            x, y, a, b = raw.values
            box: Box = (x, y, a, b) if corners else (x, y, x + a, y + b)
            fitted = check.fit(box, row.size, partial("row {}, object {}".format, row.index, k))
            if fitted is not None:
                kept.append(
                    ObjectAnnotation(
                        raw.name, fitted, crowd=raw.crowd, area=raw.area, place=raw.place
                    )
                )
        images.append(
            ImageAnnotation(image_id, row.photo, *row.size, tuple(kept), root, number=row.number)
        )
    check.close()
    return DetectionSet(
        name=reader.name,
        root=root,
        split=split,
        classes=reader.names,
        classes_from=reader.names_from,
        images=tuple(images),
        categories={k: k for k in range(len(reader.names))},
    )


@dataclass(frozen=True, slots=True)
class _Object:
    """An object as its row has it: four numbers of a box, whatever they mean."""

    values: list[float]
    name: str
    crowd: bool
    area: float | None
    place: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    photo: Path
    size: tuple[int, int]
    objects: list[_Object]
    number: int | str | None


def _ids(rows: Sequence[_Row]) -> list[str]:
    """File names as ids; numbers of rows where names are not unique."""
    ids = image_ids(row.photo.name for row in rows)
    return ids if len(set(ids)) == len(ids) else [f"{row.index:06d}" for row in rows]


class _Table:
    """The columns of a table, found by what they are called and hold."""

    def __init__(self, table: Any, split: str, root: Path) -> None:
        self.folder = photo_folder(table)
        own = root == self.folder  # nothing but the table itself says what it is called
        self.name = Path(table.info.dataset_name or "table").name if own else root.resolve().name
        self.where = f"table {split!r} of {root}"
        features = table.features
        datasets = _datasets()
        pictures = [k for k, f in features.items() if isinstance(f, datasets.Image)]
        self.image = next(iter(pictures), "image")
        self.objects = next((name for name in _OBJECTS if name in features), "")
        if self.image not in features or not self.objects:
            raise SettingsError(
                f"{self.where} has the columns {', '.join(features)}; object detection needs image "
                "(pictures) and objects (bbox and category of each): rename them"
            )
        if pictures:
            table = table.cast_column(self.image, datasets.Image(decode=False))
        self.table = table
        parts = _inner(features[self.objects])
        self.box = _first(_BOXES, parts, f"{self.where}: column {self.objects}")
        self.category = _first(_CATEGORIES, parts, f"{self.where}: column {self.objects}")
        self.crowd = next((name for name in _CROWDS if name in parts), "")
        self.area = "area" if "area" in parts else ""
        declared = getattr(_inner(parts[self.category]), "names", None)
        self.declared = tuple(declared) if declared else None
        self.names: tuple[str, ...] = ()
        self.names_from = f"column {self.objects}.{self.category}"

    def rows(self) -> list[_Row]:
        """The rows whose picture can be opened; the others are named and left out."""
        found, faults, broken = [], [], []
        self.folder.mkdir(parents=True, exist_ok=True)
        for index, entry in enumerate(self.table):
            objects = []
            for k, obj in enumerate(_listed(entry[self.objects]), start=1):
                read = self._object(obj)
                if read is None:
                    faults.append(f"row {index}, object {k}: {obj!r} has no box and category")
                else:
                    objects.append(replace(read, place=f"row {index}, object {k}"))
            try:
                photo = self._photo(entry[self.image], index)
                width, height, orientation = image_size(photo)
            except (DataError, NotFoundError) as error:
                broken.append(str(error).rstrip("."))
                told = f"row {index}: cannot be read ({broken[-1]}), and training leaves it out"
                gathered([told], self.where, "replace the picture", "photo-unreadable")
                continue
            size = (height, width) if orientation >= 5 else (width, height)
            number = entry.get("image_id")
            number = number if type(number) in (int, str) else None
            found.append(_Row(index, photo, size, objects, number))
        refuse(faults, self.where, "mend or remove the rows", go_on=True)
        if broken and not found:
            raise NotFoundError(f"no row can be read: {some(broken)}")
        if broken and not is_gathering():
            logger.warning("%s rows are left out: %s", len(broken), some(broken))
        used = sorted({obj.name for row in found for obj in row.objects})
        self.names = check_names(self.declared or used, self.where)
        return found

    def _photo(self, value: Any, row: int) -> Path:
        content = value.get("bytes") if isinstance(value, Mapping) else None
        path = value.get("path") if isinstance(value, Mapping) else value
        if not content:
            if isinstance(path, str) and Path(path).is_file():
                return Path(path)
            raise NotFoundError(
                f"{self.where}: row {row} has neither the bytes of a picture nor a file at "
                f"{path!r}; load the data set with its pictures."
            )
        try:
            with Image.open(io.BytesIO(content)) as picture:
                kind = str(picture.format)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{self.where}: row {row} holds no picture ({error})") from error
        suffix = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}.get(kind, f".{kind.lower()}")
        target = self.folder / f"{row:06d}{suffix}"
        if not target.is_file() or target.stat().st_size != len(content):
            target.write_bytes(content)
        return target

    def _object(self, obj: Mapping[str, Any]) -> _Object | None:
        box, category = obj.get(self.box), obj.get(self.category)
        if not isinstance(box, Sequence) or len(box) != 4:
            return None
        values = [float(v) for v in box if isinstance(v, (int, float))]
        if len(values) != 4 or not all(map(math.isfinite, values)):
            return None
        if isinstance(category, int) and self.declared is None:
            raise SettingsError(
                f"{self.where}: {self.names_from} holds numbers without names; give it the feature "
                "ClassLabel(names=[...]), or names as text"
            )
        if isinstance(category, int) and 0 <= category < len(self.declared or ()):
            category = (self.declared or ())[category]
        if not isinstance(category, str):
            return None
        area = obj.get(self.area) if self.area else None
        crowd = bool(obj.get(self.crowd)) if self.crowd else False
        return _Object(values, category, crowd, None if area is None else float(area))


def _are_corners(rows: Iterable[_Row], where: str) -> bool:
    """Whether boxes are (xmin, ymin, xmax, ymax): the Hub has both, and does not say which.

    Sizes would lead out of the picture, or corners be inverted: the reading with fewer such boxes
    is right. Where both fit, the boxes are COCO's, as the Hub's documentation has them.
    """
    wrong_sizes = wrong_corners = 0
    for row in rows:
        width, height = row.size
        for x, y, a, b in (obj.values for obj in row.objects):
            wrong_sizes += x + a > width + 1 or y + b > height + 1
            wrong_corners += a < x or b < y or a > width + 1 or b > height + 1
    if wrong_sizes > wrong_corners:
        logger.warning("%s: boxes are read as (xmin, ymin, xmax, ymax)", where)
        return True
    return False


def _inner(feature: Any) -> Any:
    """What a list feature holds."""
    return getattr(feature, "feature", feature)


def _first(names: Sequence[str], parts: Any, where: str) -> str:
    found = next((name for name in names if name in parts), None)
    if found is None:
        raise SettingsError(f"{where} has {', '.join(parts)}; it needs one called {names[0]}")
    return found


def _listed(objects: Any) -> list[Mapping[str, Any]]:
    """The objects of a row, which come as a list of dictionaries or as a dictionary of lists."""
    if not isinstance(objects, Mapping):
        return list(objects or ())
    columns = {name: list(column) for name, column in objects.items()}
    count = max(map(len, columns.values()), default=0)
    return [{n: c[i] for n, c in columns.items() if i < len(c)} for i in range(count)]


def _datasets() -> Any:
    if importlib.util.find_spec("datasets") is None:
        raise SettingsError(
            "reading Hugging Face data sets needs the package datasets: install "
            "'frostbox[datasets]' with pip"
        )
    import datasets

    return datasets
