"""Where the caches that training makes are kept, how they are named, listed and removed."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostbox.errors import CacheError, NotFoundError
from frostbox.features.index import FLOAT16, INDEX_FILE, CacheIndex, CacheRequest
from frostbox.features.remote_cache import remote_of, shown, stand_in

if TYPE_CHECKING:
    from frostbox.data.annotations import DetectionSet


def cache_root(cache: str | Path | None = None) -> Path:
    """The given folder, what stands for a remote one here, or that of this user (platformdirs)."""
    if cache is not None:
        return stand_in(cache)
    from platformdirs import user_cache_path

    return user_cache_path("frostbox", appauthor=False) / "features"


def cache_path(root: Path, dataset: DetectionSet, request: CacheRequest) -> Path:
    """A folder under the data set's name that changes with all that the features depend on."""
    # Its repr is without these two, which came later.
    text = repr(request) + ("" if request.dtype == FLOAT16 else request.dtype)
    text += "" if request.precision == "auto" else request.precision
    key = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    return root / dataset.name / f"{dataset.split}-{key}"


def list_caches(root: Path, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The caches under `root`, each as a JSON-ready dictionary.

    Raises:
        NotFoundError: one of `names` is not there.
    """
    found = []
    for folder, nbytes in _folders(root).items():
        info = CacheIndex.read(folder)
        found.append(
            {
                "name": folder.relative_to(root).as_posix(),
                "path": shown(folder),
                "bytes": nbytes,
                "backbone": info.request.backbone,
                "size": info.request.size,
                "strides": info.request.strides,
                "views": len(info.request.views),
                "dtype": info.request.dtype,
                "images": info.images,
                "complete": info.complete,
            }
        )
    if names is None:
        return found
    known = {entry["name"] for entry in found}
    for name in names:
        if name not in known:
            raise NotFoundError(f"there is no cache '{name}' in {root}: see `frostbox cache list`")
    return [entry for entry in found if entry["name"] in names]


def cached_bytes(root: Path, name: str) -> dict[tuple[str, tuple[int, int], str], int]:
    """Bytes of a data set's caches by backbone, size and dtype, whole or begun.

    What has no index that can be read is extracted again, and does not count.
    """
    found: Counter[tuple[str, tuple[int, int], str]] = Counter()
    for folder, nbytes in _folders(root).items():
        if folder.parent.name == name:
            with suppress(CacheError):
                request = CacheIndex.read(folder).request
                found[(request.backbone, request.size, request.dtype)] += nbytes
    return dict(found)


def _folders(root: Path) -> dict[Path, int]:
    """The folders below it that have an index, and the bytes in each."""
    remote = remote_of(root)
    if remote is None:
        found = sorted(index.parent for index in root.glob(f"*/*/{INDEX_FILE}"))
        return {folder: sum(f.stat().st_size for f in folder.iterdir()) for folder in found}
    totals: Counter[str] = Counter()
    files = remote.files()
    for name, file in files.items():
        totals[name.rpartition("/")[0]] += file.nbytes
    deep = (folder for folder in sorted(totals) if folder.count("/") == 1)
    return {root / f: totals[f] for f in deep if f"{f}/{INDEX_FILE}" in files}


def prune_caches(root: Path, caches: Sequence[dict[str, Any]]) -> None:
    """Remove these caches, as `list_caches` returned them, and folders that become empty."""
    for entry in caches:
        folder = root / entry["name"]
        remote = remote_of(folder)
        if remote is not None:
            for name in sorted(remote.files()):
                remote.remove(name)
        shutil.rmtree(folder, ignore_errors=remote is not None)  # it may never have been here
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
