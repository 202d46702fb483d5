"""An id for each row of tables, which it keeps when rows are added or put in another order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from frostbox.data.coco_fields import as_id
from frostbox.data.photo_names import escapes, image_ids, parts_of

_NUMBERS = ("image_id", "id")
_NAMES = ("file_name", "filename")
READ = (*_NUMBERS, *_NAMES)
"""Columns that ids are taken from."""
_BATCH = 1000


def own_ids(table: Any) -> list[int | str] | None:
    """The rows' ids in the first column of ids that are all there and all different."""
    for name in _NUMBERS:
        if name in table.features:
            values = table.select_columns([name])[:][name]
            found = [value for value in map(as_id, values) if value is not None]
            if len(set(found)) == len(values):
                return found
    return None


def row_ids(tables: Mapping[str, tuple[Any, str]]) -> dict[str, list[str]] | None:
    """Ids by split, no two of them the same: own ids, else names of files.

    Args:
        tables: by split, each with the name of its column of pictures.

    Returns:
        None where neither is there for all, or is unique: then the photos' content has to do.
    """
    sources: list[list[list[Any] | None]] = [
        [own_ids(table) for table, _ in tables.values()],
        [_file_names(table, image) for table, image in tables.values()],
    ]
    for found in sources:
        values = [value for one in found if one is not None for value in one]
        ids = image_ids(map(str, values))
        if None not in found and all(ids) and len(set(ids)) == len(ids):
            rest = iter(ids)
            return {split: list(islice(rest, len(table))) for split, (table, _) in tables.items()}
    return None


def numbered(digests: Iterable[str]) -> list[str]:
    """The same, where one stands again with how often it has stood: "ab", "ab-2"."""
    seen: Counter[str] = Counter()
    ids = []
    for digest in digests:
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def _file_names(table: Any, image: str) -> list[str] | None:
    """Names of the photos' files, from a column of names or from the pictures' paths."""
    for name in _NAMES:
        if name in table.features:
            return _checked(table.select_columns([name])[:][name])
    paths: list[Any] = []
    for part in table.select_columns([image]).with_format("arrow").iter(batch_size=_BATCH):
        flat = part.flatten()  # the bytes stay where they are
        name = f"{image}.path" if f"{image}.path" in flat.column_names else image
        if name not in flat.column_names:
            return None
        paths += flat[name].to_pylist()
    return _checked(paths)


def _checked(paths: list[Any]) -> list[str] | None:
    if not all(isinstance(path, str) and parts_of(path) for path in paths):
        return None
    # Where a path of another machine begins says nothing about the photo.
    return [parts_of(path)[-1] if escapes(path) else path for path in paths]
