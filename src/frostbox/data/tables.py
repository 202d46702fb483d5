"""Annotated photos that come as objects: Hugging Face `datasets`, torchvision's `CocoDetection`.

A table has the columns of the Hub's object-detection sets: `image`, and `objects` with `bbox` and
`category` for each object (and `area`, `iscrowd`, where they are there). Tables are also read from
a folder of `save_to_disk` and from parquet files. Photos inside a table are written out once, byte
for byte, into frostbox's folder of data: everything else reads files.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation, in_words
from frostbox.data.box_check import BoxCheck
from frostbox.data.coco import parse
from frostbox.data.faults import gathered
from frostbox.data.home import data_home
from frostbox.data.photo_names import PhotoFinder
from frostbox.data.split_names import by_split, word_in
from frostbox.data.table_boxes import Reading, meant
from frostbox.data.table_ids import numbered, own_ids, row_ids
from frostbox.data.table_rows import Row, TableReader, hugging_face
from frostbox.data.voc_layout import check_names
from frostbox.errors import DataError, SettingsError

logger = logging.getLogger("frostbox")

_SAMPLE = 500  # rows of each split from which it is found out what boxes mean


def is_table(data: Any) -> bool:
    """Whether an object is a `datasets.Dataset`.

    Raises:
        SettingsError: it is one that streams: a training reads photos again and again.
    """
    if type(data).__module__.split(".")[0] != "datasets":
        return False
    if type(data).__name__ in ("IterableDataset", "IterableDatasetDict"):
        raise SettingsError(
            f"a {type(data).__name__} streams its rows, and frostbox reads them again and again: "
            "load the data set without streaming=True"
        )
    return hasattr(data, "features")


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
    found = hugging_face().load_from_disk(str(folder))
    return by_split(found) if isinstance(found, Mapping) else {split_of(found): found}


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files of a folder, or of its `data`, as the Hub lays them out."""
    return sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))


def open_parquet(paths: Sequence[Path]) -> dict[str, Any]:
    """The tables of parquet files, which are named after their splits (train-00000-of-00001)."""
    datasets = hugging_face()
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


class Tables:
    """The splits of one data set as tables; what ids and boxes are is found out once for all.

    Attributes:
        root: where they came from; of objects, where the photos of the first are written.
    """

    def __init__(self, tables: Mapping[str, Any], root: Path | None = None) -> None:
        """Args: tables: `datasets.Dataset` by split. root: file or folder; None for objects."""
        self.tables = {split: table.with_format(None) for split, table in tables.items()}
        self.root = photo_folder(next(iter(self.tables.values()))) if root is None else root
        self._place = root

    def read(self, split: str) -> DetectionSet:
        """Read a split.

        Raises:
            SettingsError: no column of images or of objects; categories that are numbers without
                names.
            DataError: an object without box or category, a photo that is no picture or lies outside
                of the folder that the table was read from, boxes that do not fit.
        """
        reader = self._reader(split)
        rows = reader.rows(hashed=self._ids is None)
        check = BoxCheck(reader.where, f"they are read as {self._reading}: is that what they mean?")
        ids = numbered(row.digest for row in rows)
        if self._ids is not None:
            ids = [self._ids[split][row.index] for row in rows]
        own = own_ids(reader.table)
        images = [
            ImageAnnotation(
                image_id, row.photo, *row.size, self._objects(row, check), self.root,
                number=None if own is None else own[row.index],
            )
            for image_id, row in zip(ids, rows, strict=True)
        ]  # fmt: skip
        fitted = check.close()
        names = reader.declared or sorted({obj.name for row in rows for obj in row.objects})
        return DetectionSet(
            name=reader.name if self._place is None else self.root.resolve().name,
            root=self.root,
            split=split,
            classes=check_names(names, reader.where),
            classes_from=reader.names_from,
            images=tuple(images),
            categories={k: k for k in range(len(reader.declared or ()))},
            unread=(*in_words(reader.beyond), *reader.left_out, *fitted),
            boxes=f"boxes as {self._reading}",
        )

    def _objects(self, row: Row, check: BoxCheck) -> tuple[ObjectAnnotation, ...]:
        kept = []
        for raw in row.objects:
            box = self._reading.box(raw.values, row.size)
            fitted = check.fit(box, row.size, partial(str, raw.place))
            if fitted is not None:
                area = self._reading.area(raw.area, raw.values, row.size)
                kept.append(
                    ObjectAnnotation(
                        raw.name,
                        fitted,
                        crowd=raw.crowd,
                        area=area,
                        number=raw.number,
                        place=raw.place,
                    )
                )
        return tuple(kept)

    def _reader(self, split: str) -> TableReader:
        table = self.tables[split]
        where = f"table {split!r} of {self.root}"
        return TableReader(table, where, photo_folder(table), self._place)

    @cached_property
    def _readers(self) -> dict[str, TableReader]:
        found = {}
        for split in self.tables:
            try:
                found[split] = self._reader(split)
            except SettingsError:
                continue  # a test split without objects; `read` says it of the split that is wanted
        return found

    @cached_property
    def _ids(self) -> dict[str, list[str]] | None:
        return row_ids({split: (r.table, r.image) for split, r in self._readers.items()})

    @cached_property
    def _reading(self) -> Reading:
        reading = meant([box for r in self._readers.values() for box in r.sample(_SAMPLE)])
        said = f"has boxes that are read as {reading}"
        way_out = "look whether that is what they mean"
        if reading != Reading() and not gathered([said], self.root, way_out, "boxes-guessed"):
            logger.warning("%s: boxes are read as %s", self.root, reading)
        return reading
