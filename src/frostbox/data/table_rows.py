"""The rows of a table as they stand: pictures, and objects whose boxes are four numbers."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from frostbox.data.box_check import refuse, some
from frostbox.data.coco_fields import as_id
from frostbox.data.coco_unread import says
from frostbox.data.faults import gathered, is_gathering
from frostbox.data.photo_names import PhotoFinder, escapes
from frostbox.data.photos import (
    exif_orientation,
    failure,
    open_image,
    suffix_of,
    turned_size,
    upright_size,
)
from frostbox.data.remote_sets import local_copy
from frostbox.data.table_ids import READ
from frostbox.errors import DataError, NotFoundError, SettingsError

logger = logging.getLogger("frostbox")

_OBJECTS = ("objects", "annotations", "object")
_BOXES = ("bbox", "bboxes", "box", "boxes")
_CATEGORIES = ("category", "categories", "label", "labels", "category_id", "class", "classes")
_CROWDS = ("iscrowd", "is_crowd")

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RawObject:
    """An object as its row has it: four numbers of a box, whatever they mean; `place` names it."""

    values: list[float]
    name: str
    crowd: bool
    area: float | None
    number: int | str | None
    place: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row whose picture can be opened; `digest` is of its bytes, where it was asked for."""

    index: int
    photo: Path
    size: Size
    objects: list[RawObject]
    digest: str


class TableReader:
    """The columns of a table, found by what they are called and hold."""

    def __init__(self, table: Any, where: str, folder: Path, root: Path | None) -> None:
        """Find the columns.

        Args:
            table: a `datasets.Dataset`. where: names it in messages.
            folder: where its photos are written. root: the file or folder that paths of photos must
                not lead out of; None where they may.

        Raises:
            SettingsError: a column that is not there.
        """
        self.where, self.folder, self.root = where, folder, root
        self.name = Path(table.info.dataset_name or "table").name
        features = table.features
        datasets = hugging_face()
        pictures = [name for name, f in features.items() if isinstance(f, datasets.Image)]
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
        base = Path() if root is None else root.parent if root.is_file() else root
        self.photos = PhotoFinder([base / part for part in ("", "images", "data")])
        parts = _inner(features[self.objects])
        self.box = _first(_BOXES, parts, f"{self.where}: column {self.objects}")
        self.category = _first(_CATEGORIES, parts, f"{self.where}: column {self.objects}")
        self.crowd = next((name for name in _CROWDS if name in parts), "")
        self.area = "area" if "area" in parts else ""
        declared = getattr(_inner(parts[self.category]), "names", None)
        self.declared = tuple(declared) if declared else None
        self.names_from = f"column {self.objects}.{self.category}"
        self.beyond: Counter[tuple[str, str]] = Counter()
        self.left_out: tuple[str, ...] = ()

    def rows(self, *, hashed: bool) -> list[Row]:
        """The rows whose picture can be opened; the others are named and left out.

        Args:
            hashed: whether to digest the pictures.
        """
        found, faults, broken, outside = [], [], [], []
        self.folder.mkdir(parents=True, exist_ok=True)
        for index, entry in enumerate(self.table):
            objects = []
            known = (self.image, self.objects, *READ, "width", "height")
            self.beyond.update((f"column {n!r}", "rows") for n in _said(entry, known))
            for k, obj in enumerate(_listed(entry[self.objects]), start=1):
                place = f"row {index}, object {k}"
                read = self._object(obj, place)
                if read is None:
                    faults.append(f"{place}: {obj!r} has no box and category")
                else:
                    objects.append(read)
            content, path = _picture(entry[self.image])
            if not content and self._leads_out(path):
                outside.append(f"row {index}: its picture is {path!r}")
                continue
            try:
                photo, size = self._photo(content, path, index)
            except (DataError, NotFoundError) as error:
                broken.append(str(error).rstrip("."))
                said = broken[-1].removeprefix(f"{self.where}: row {index} ").split("; ")[0]
                told = f"row {index}: {said}, and training leaves it out"
                gathered([told], self.where, "replace the picture", "photo-unreadable")
                continue
            digest = ""
            if hashed:
                with local_copy(photo) as file:
                    digest = _digest(content or file.read_bytes())
            found.append(Row(index, photo, size, objects, digest))
        refuse(faults, self.where, "mend or remove the rows", go_on=True)
        refuse(
            outside, self.where,
            "that leads out of the table's folder: put the photos there, and write their paths "
            "relative to it; or open the table in Python and give the object: its paths are "
            "followed", go_on=True,
        )  # fmt: skip
        if broken and not found:
            raise NotFoundError(f"no row can be read: {some(broken)}")
        if broken and not is_gathering():
            logger.warning("%s rows are left out: %s", len(broken), some(broken))
            self.left_out = (f"{len(broken):,} rows that cannot be read",)
        return found

    def sample(self, most: int) -> Iterator[tuple[list[float], Size]]:
        """Boxes of so many rows at most, spread over the table, with the size of their picture."""
        for row in range(0, len(self.table), max(1, -(-len(self.table) // most))):
            entry = self.table[row]
            content, path = _picture(entry[self.image])
            try:
                size = (
                    _looked_at(content, "")[1] if content else upright_size(self._found(path, row))
                )
            except (DataError, NotFoundError):
                continue  # `rows` says it
            for obj in _listed(entry[self.objects]):
                values = _values(obj.get(self.box))
                if values is not None:
                    yield values, size

    def _leads_out(self, path: str) -> bool:
        return self.root is not None and escapes(path) and self.photos.find(path) is None

    def _photo(self, content: bytes, path: str, row: int) -> tuple[Path, Size]:
        if not content:
            photo = self._found(path, row)
            return photo, upright_size(photo)
        kind, size = _looked_at(content, f"{self.where}: row {row}")
        target = self.folder / f"{row:06d}{suffix_of(kind)}"
        if not target.is_file() or target.stat().st_size != len(content):
            target.write_bytes(content)
        return target, size

    def _found(self, path: str, row: int) -> Path:
        own = self.root is None and path and Path(path).is_file()
        photo = Path(path) if own else self.photos.find(path)
        if photo is None:
            raise NotFoundError(
                f"{self.where}: row {row} has neither the bytes of a picture nor a file at "
                f"{path!r}; load the data set with its pictures."
            )
        return photo

    def _object(self, obj: Mapping[str, Any], place: str) -> RawObject | None:
        values, category = _values(obj.get(self.box)), obj.get(self.category)
        if values is None:
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
        known = (self.box, self.category, self.crowd, self.area, "id")
        self.beyond.update((f"{self.objects}.{n}", "objects") for n in _said(obj, known))
        area = None if area is None else float(area)
        return RawObject(values, category, crowd, area, as_id(obj.get("id")), place)


def hugging_face() -> Any:
    """The package `datasets`. Raises SettingsError where it is not installed."""
    if importlib.util.find_spec("datasets") is None:
        raise SettingsError(
            "reading Hugging Face data sets needs the package datasets: install "
            "'frostbox[datasets]' with pip"
        )
    import datasets

    return datasets


def _picture(value: Any) -> tuple[bytes, str]:
    """The bytes of a picture and its path; either may be empty."""
    if isinstance(value, bytes):
        return value, ""
    content = value.get("bytes") if isinstance(value, Mapping) else None
    path = value.get("path") if isinstance(value, Mapping) else value
    return content or b"", path if isinstance(path, str) else ""


def _looked_at(content: bytes, where: str) -> tuple[str, Size]:
    """Pillow's name of a picture's format, and its upright size."""
    try:
        with open_image(io.BytesIO(content)) as picture:
            return str(picture.format), turned_size(picture.size, exif_orientation(picture))
    except (
        UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError
    ) as error:  # fmt: skip
        raise DataError(f"{where} holds no picture ({failure(error)})") from error


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _values(box: Any) -> list[float] | None:
    """The four numbers of a box; None where it is none."""
    if not isinstance(box, Sequence) or len(box) != 4:
        return None
    values = [float(v) for v in box if isinstance(v, (int, float))]
    return values if len(values) == 4 and all(map(math.isfinite, values)) else None


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


def _said(entry: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """The other columns of an entry that hold something."""
    return [name for name, value in entry.items() if name not in known and says(value)]
