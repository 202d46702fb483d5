"""From photos to a feature cache, resumable: what there is to do, and whether it may be done.

A shard appears under its name only when it is whole, and the index names only such shards, so a
killed run goes on where it stopped and, with the same engine, ends with the same bytes. The work
itself, photo by photo, is shards.py's; reading the cache is cache.py's.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from frostbox._version import __version__
from frostbox.backbones import Backbone
from frostbox.data.annotations import DetectionSet
from frostbox.errors import CacheError, DataError, FrostboxError
from frostbox.features.cache import FeatureCache, verify_shard
from frostbox.features.engine import create_engine
from frostbox.features.engine_contract import Engine
from frostbox.features.index import (
    DTYPES,
    FLOAT16,
    INDEX_FILE,
    CacheIndex,
    CacheRequest,
    DamagedIndexError,
)
from frostbox.features.shards import Progress, ShardWriter

_LOG = logging.getLogger("frostbox")
_LOCK = ".lock"
_SHARD = re.compile(r"shard-\d+\.safetensors(\.tmp)?")
_SHARD_BYTES = 64 << 20  # two shards are in memory at a time: one filling, one being written


def extract(
    dataset: DetectionSet,
    backbone: Backbone,
    out: str | Path,
    *,
    size: tuple[int, int],
    mode: str = "shrink",
    views: int = 1,
    engine: str | Engine = "auto",
    device: str = "cpu",
    precision: str = "32",
    dtype: str = FLOAT16,
    strict: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    shard_images: int | None = None,
    progress: Progress | None = None,
) -> FeatureCache:
    """Write the features of every photo of a data set, or complete what an earlier run began.

    Args:
        dataset: images without a photo are left out.
        backbone: see backbones.create.
        out: folder of the cache: new, empty, or with a cache of the same request.
        size: (width, height) of the pictures that the backbone sees, in pixels.
        mode: resize mode, see data.transforms.geometry.
        views: how many views of each image, see data.views.first_views.
        engine: "auto", "openvino", "torch" or "compile", or an engine of this backbone and size.
        device: where an engine made here runs. precision: of it, see create_engine.
        dtype: "float16", or "int8" with a scale a channel and shard: half of the disk.
        strict: raise on a photo that cannot be read, instead of naming and skipping it.
        batch_size: pictures that an engine made here takes at a time; None for what is fast.
        workers: threads that decode; None for one more than there are cores, at most 16.
        shard_images: images a file; None for files of about 64 MiB.
        progress: called with (images done, images in all), also for those of an earlier run.

    Raises:
        CacheError: the folder holds something else, another cache, or one that is being written;
            the disk is or would be full; a feature is beyond float16.
        DataError: no photo at all, none that can be read, or under `strict` one that cannot.
    """
    if not dataset.photos:
        raise DataError(
            f"{dataset.root} has no photo for split {dataset.split!r}; features need photos"
        )
    folder = Path(out)
    request = CacheRequest.of(
        dataset, backbone, size=size, mode=mode, views=views, dtype=dtype, precision=precision
    )
    plan = _plan(dataset, backbone, request, shard_images)
    _prepare_folder(folder)
    needed = 0
    try:
        with FileLock(folder / _LOCK, timeout=0):
            index = _resume(folder, plan)
            missing = index.missing_shards()
            if missing:
                needed = index.image_nbytes * sum(len(index.images_of(k)) for k in missing)
                _check_space(folder, needed)
                if isinstance(engine, str):
                    engine = create_engine(
                        engine, backbone, size, device, precision=precision, batch_size=batch_size
                    )
                _LOG.info("features by %s", engine.describe())
                begun = {shard.engine for shard in index.shards} - {engine.name}
                if begun:
                    _LOG.warning(
                        "%s was begun by %s and goes on by %s: its features differ in their last "
                        "bits", folder, min(begun), engine.name,
                    )  # fmt: skip
                writer = ShardWriter(folder, index, engine, dataset.photos, strict, progress)
                writer.run(missing, workers or min(16, (os.cpu_count() or 1) + 1))
    except Timeout as error:
        raise CacheError(
            f"another frostbox is writing the feature cache {folder}; wait for it or choose "
            "another folder"
        ) from error
    except FrostboxError:
        raise
    except OSError as error:
        raise _disk_error(folder, needed, error) from error
    cache = FeatureCache.open(folder)
    if cache.skipped and (strict or not len(cache)):
        raise DataError(
            f"{len(cache.skipped)} of {cache.index.images} photos cannot be read, the first: "
            f"{next(iter(cache.skipped.values()))}"
        )
    return cache


def cache_nbytes(
    backbone: Backbone,
    *,
    size: tuple[int, int],
    images: int,
    views: int = 1,
    dtype: str = FLOAT16,
) -> int:
    """Bytes of features that a cache will hold, without headers and index."""
    maps = zip(backbone.channels, backbone.map_sizes(size), strict=True)
    return DTYPES[dtype] * images * views * sum(c * height * width for c, (height, width) in maps)


def images_per_shard(image_nbytes: int) -> int:
    """How many images of so many bytes in all views a file holds: about 64 MiB, 32 to 512."""
    return min(512, max(32, _SHARD_BYTES // image_nbytes))


def _plan(
    dataset: DetectionSet, backbone: Backbone, request: CacheRequest, shard_images: int | None
) -> CacheIndex:
    """The index of the cache before its first shard."""
    if shard_images is None:
        # As float16, which they are in memory until they are written.
        one = cache_nbytes(backbone, size=request.size, images=1, views=len(request.views))
        shard_images = images_per_shard(one)
    return CacheIndex(
        request=request,
        channels=backbone.channels,
        map_sizes=backbone.map_sizes(request.size),
        dataset=dataset.name,
        split=dataset.split,
        classes=dataset.classes,
        images=len(dataset.photos),
        shard_images=shard_images,
        shards=(),
        complete=False,
        boundary=None,
        created_by=f"frostbox {__version__}",
    )


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in folder.iterdir()} - {_LOCK}
    except OSError as error:
        raise CacheError(
            f"{folder} cannot be made a feature cache ({error.strerror}); choose another folder"
        ) from error
    ours = {INDEX_FILE, f"{INDEX_FILE}.tmp"}  # the latter alone: killed in the first moment
    foreign = {name for name in found if not _SHARD.fullmatch(name)}
    if foreign and not ours & found:
        raise CacheError(
            f"{folder} is not empty and no feature cache (it holds {min(foreign)}); choose another "
            "folder"
        )


def _resume(folder: Path, plan: CacheIndex) -> CacheIndex:
    """The index of an earlier run with the shards that are still whole, or the plan, written."""
    index = _found(folder) or plan
    if index is not plan:
        FeatureCache(folder, index).check(plan.request)
        # A whole cache may serve with more views than asked for; one under way must not change.
        if not index.complete and index.request != plan.request:
            raise CacheError(
                f"the feature cache {folder} was begun with {len(index.request.views)} views and "
                f"precision {index.request.precision}; go on with the same or delete it"
            )
    whole = []
    for shard in index.shards:
        try:
            verify_shard(folder, shard)
            whole.append(shard)
        except CacheError as error:
            _LOG.warning("%s (extracted again)", error)
    index = index.with_shards(whole)
    index.write(folder)
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    return index


def _found(folder: Path) -> CacheIndex | None:
    """The index that lies in the folder; None, with a warning, where it is gone or damaged."""
    lost = f"{INDEX_FILE} of {folder} is gone"
    if (folder / INDEX_FILE).exists():
        try:
            return CacheIndex.read(folder)
        except DamagedIndexError as error:
            lost = str(error).partition(";")[0]
    elif not any(_SHARD.fullmatch(path.name) for path in folder.iterdir()):
        return None
    _LOG.warning("%s: nothing says what its shards hold, and they are extracted again", lost)
    return None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(
            f"the feature cache {folder} needs {needed} bytes and the disk has {free} bytes free; "
            "make room, or choose another folder, a smaller size or fewer strides"
        )


def _disk_error(folder: Path, needed: int, error: OSError) -> CacheError:
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(folder).free
        return CacheError(
            f"the disk is full: this run of the feature cache {folder} needs {needed} bytes, and "
            f"{free} are free now; make room and run the same command again, it goes on where it "
            "stopped"
        )
    return CacheError(f"the feature cache {folder} cannot be written ({error}); see to its disk")
