"""From photos to a feature cache, resumable: what there is to do, and whether it may be done.

A shard appears under its name only when it is whole, and the index names only such shards, so a
killed run goes on where it stopped and, with the same engine, ends with the same bytes, whether by
one process or by several. The work itself, photo by photo, is shards.py's; reading the cache is
cache.py's.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from frostbox._version import __version__
from frostbox.backbones import Backbone
from frostbox.data.annotations import DetectionSet
from frostbox.distributed import ALONE, Ranks
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
    Shard,
)
from frostbox.features.records import read_records, remove_records, write_record
from frostbox.features.remote_cache import (
    RemoteShards,
    hand_over,
    names,
    remote_of,
    shown,
    stand_in,
)
from frostbox.features.shards import ShardWriter

_LOG = logging.getLogger("frostbox")
_LOCK = ".lock"  # rank 0's; those of other ranks have their number behind it
_SHARD = re.compile(r"shard-\d+\.safetensors(\.json)?(\.tmp)?")
Progress = Callable[[int, int], None]
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
    ranks: Ranks = ALONE,
    request: CacheRequest | None = None,
) -> FeatureCache:
    """Write the features of every photo of a data set, or complete what an earlier run began.

    With several ranks each calls this with the same arguments and a folder that all of them see.
    Missing shards go round: neighbours in a list are often alike (large photos, broken ones), and
    so every rank gets of all kinds; a shard itself is photos in a row, as one process reads them.

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
        progress: called in rank 0 with (images done by all ranks, images in all), also for those
            of an earlier run.
        ranks: the processes that share the work, see distributed.open_ranks.
        request: of these arguments, where it is known: it takes a look into every photo.

    Raises:
        CacheError: the folder holds something else, another cache, or one that is being written;
            the disk is or would be full; a feature is beyond float16; a rank sees other photos.
        RankError: another rank has failed, or is lost.
        DataError: no photo at all, none that can be read, or under `strict` one that cannot.
    """
    if not dataset.photos:
        raise DataError(
            f"{dataset.root} has no photo for split {dataset.split!r}; features need photos"
        )
    folder = stand_in(out)
    if request is None:
        request = CacheRequest.of(
            dataset, backbone, size=size, mode=mode, views=views, dtype=dtype, precision=precision
        )
    plan = _plan(dataset, backbone, request, shard_images)
    needed = 0
    try:
        with _locked(folder, plan, ranks) as index:
            missing = index.missing_shards()
            if missing:
                needed = index.image_nbytes * sum(len(index.images_of(k)) for k in missing)
                if ranks.main:
                    _check_space(folder, needed)
                if isinstance(engine, str):
                    engine = common_engine(
                        engine, backbone, size, device, ranks, precision=precision,
                        batch_size=batch_size,
                    )  # fmt: skip
                _LOG.info("features by %s", engine.describe())
                begun = {shard.engine for shard in index.shards} - {engine.name}
                if begun and ranks.main:
                    _LOG.warning(
                        "%s was begun by %s and goes on by %s: its features differ in their last "
                        "bits", folder, min(begun), engine.name,
                    )  # fmt: skip
                done = index.images - sum(len(index.images_of(k)) for k in missing)

                def show(total: int) -> None:
                    if progress and ranks.main:
                        progress(done + total, index.images)

                kept = _Kept(folder, index, ranks)
                writer = ShardWriter(
                    folder, index, engine, dataset.photos, strict,
                    told=lambda mine: show(ranks.tell(mine)), keep=kept.add,
                )  # fmt: skip
                ranks.tell(0)
                ranks.barrier()  # behind it no rank counts what it has done before
                cores = (os.cpu_count() or 1) // ranks.local_size
                writer.run(ranks.share(missing), workers or min(16, cores + 1))
                kept.finish(show)
    except Timeout as error:
        raise CacheError(
            f"another frostbox is writing the feature cache {folder}; wait for it or choose "
            "another folder"
        ) from error
    except FrostboxError:
        raise
    except OSError as error:
        raise _disk_error(folder, needed, error) from error
    ranks.barrier()  # behind it the index is there, and no lock is held
    return readable(FeatureCache.open(folder), strict)


def readable(cache: FeatureCache, strict: bool) -> FeatureCache:
    """The cache; DataError where no photo could be read, or under `strict` not every one."""
    if cache.skipped and (strict or not len(cache)):
        raise DataError(
            f"{len(cache.skipped)} of {cache.index.images} photos cannot be read, the first: "
            f"{next(iter(cache.skipped.values()))}"
        )
    return cache


def common_engine(
    kind: str,
    backbone: Backbone,
    size: tuple[int, int],
    device: str,
    ranks: Ranks,
    *,
    precision: str,
    batch_size: int | None = None,
) -> Engine:
    """`create_engine` in every rank, of the kind and precision that rank 0 finds best.

    Else "auto" might choose differently on each machine, and features differ from shard to shard.
    """
    if ranks.main:
        engine = create_engine(
            kind, backbone, size, device, precision=precision, batch_size=batch_size
        )
        ranks.broadcast((engine.kind, engine.precision))
        return engine
    kind, precision = ranks.broadcast((kind, precision))
    return create_engine(kind, backbone, size, device, precision=precision, batch_size=batch_size)


class _Kept:
    """What is known of the shards that are whole: in records, until rank 0 has heard of all.

    The index of many images is long: writing it for each shard would take longer than features do.
    """

    def __init__(self, folder: Path, index: CacheIndex, ranks: Ranks) -> None:
        self._folder, self._index, self._ranks = folder, index, ranks
        self._made: list[Shard] = []

    def add(self, shard: Shard) -> None:
        """Keep a shard's entry."""
        hand_over(self._folder, shard.file)
        self._made.append(shard)
        write_record(self._folder, shard)

    def finish(self, show: Callable[[int], None]) -> None:
        """Wait for all ranks, then let rank 0 write the index."""
        self._ranks.barrier(show)
        # Not from the records: on a file system of many machines they may show up later.
        made = [shard for part in self._ranks.gather(self._made) for shard in part]
        if self._ranks.main:
            self._index.with_shards([*self._index.shards, *made]).write(self._folder)
            remove_records(self._folder)


@contextmanager
def _locked(folder: Path, plan: CacheIndex, ranks: Ranks) -> Iterator[CacheIndex]:
    """Keep others from writing into the folder; gives the index of what is there already.

    Each rank has a lock of its own: where rank 0 was lost, the others may still be at work.
    """
    with ExitStack() as held:
        index = plan
        if ranks.main:
            _prepare_folder(folder)
            held.enter_context(FileLock(folder / _LOCK, timeout=0))
            for other in folder.glob(f"{_LOCK}.*"):  # Timeout where that rank is still at work
                lock = FileLock(other, timeout=0)
                lock.acquire()
                lock.release()
            index = _resume(folder, plan)
        index = ranks.broadcast(index)
        if not ranks.main:
            reason = plan.request.mismatch(index.request)
            if reason:
                raise CacheError(
                    f"rank {ranks.rank} was started for something else than rank 0: there the "
                    f"{reason}; give all machines the same data, command and frostbox"
                )
            folder.mkdir(parents=True, exist_ok=True)  # makes it known to this machine
            held.enter_context(FileLock(folder / f"{_LOCK}.{ranks.rank}", timeout=0))
        yield index


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
        found = names(folder)
    except OSError as error:
        raise CacheError(
            f"{folder} cannot be made a feature cache ({error.strerror}); choose another folder"
        ) from error
    ours = {INDEX_FILE, f"{INDEX_FILE}.tmp"}  # the latter alone: killed in the first moment
    foreign = {n for n in found - ours if not n.startswith(_LOCK) and not _SHARD.fullmatch(n)}
    if foreign and not (INDEX_FILE in found and _whole_index(folder)):
        raise CacheError(
            f"{folder} is not empty and no feature cache (it holds {min(foreign)}); choose another "
            "folder"
        )


def _whole_index(folder: Path) -> bool:
    """Whether the index is no damaged one, which in a folder with other files may not be ours."""
    try:
        CacheIndex.read(folder)
    except DamagedIndexError:
        return False
    return True


def _resume(folder: Path, plan: CacheIndex) -> CacheIndex:
    """The index of an earlier run with its shards that are still whole, or the plan, written."""
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
    # A record does not say of what its shard is: without an index nobody knows.
    records = read_records(folder) if index is not plan else []
    recorded = {shard.file: shard for shard in (*records, *index.shards)}
    remote = remote_of(folder)
    elsewhere = RemoteShards(remote) if remote is not None else None
    for shard in recorded.values():
        try:
            if elsewhere is None:
                verify_shard(folder, shard)
            else:  # under its name it is whole
                elsewhere.check(shard)
            whole.append(shard)
        except CacheError as error:
            _LOG.warning("%s (extracted again)", error)
    index = index.with_shards(whole)
    index.write(folder)
    remove_records(folder)
    leftovers = "*.tmp" if elsewhere is None else "shard-*"  # here what was not handed over
    for leftover in folder.glob(leftovers):
        leftover.unlink()
    return index


def _found(folder: Path) -> CacheIndex | None:
    """The index that lies in the folder; None, with a warning, where it is gone or damaged."""
    lost = f"{INDEX_FILE} of {shown(folder)} is gone"
    there = names(folder)
    if INDEX_FILE in there:
        try:
            return CacheIndex.read(folder)
        except DamagedIndexError as error:
            lost = str(error).partition(";")[0]
    elif not any(map(_SHARD.fullmatch, there)):
        return None
    _LOG.warning("%s: nothing says what its shards hold, and they are extracted again", lost)
    return None


def _check_space(folder: Path, needed: int) -> None:
    if remote_of(folder) is not None:
        return  # no more than the kept part lies here
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
