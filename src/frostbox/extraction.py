"""From photos to caches of features, with estimates and progress: what `extract` does end to end,
and the first half of what `train` does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from frostbox import backbones, planning
from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load
from frostbox.data.photos import check_photo_sizes
from frostbox.distributed import ALONE, Ranks, open_ranks
from frostbox.errors import CacheError, SettingsError
from frostbox.features.cache import VERIFIED_AT_ONCE, FeatureCache
from frostbox.features.engine_contract import Engine
from frostbox.features.extract import common_engine, extract, readable
from frostbox.features.index import FLOAT16, CacheIndex, CacheRequest
from frostbox.features.records import read_records
from frostbox.features.remote_cache import remote_of, shown, stand_in
from frostbox.features.store import cache_path, cache_root
from frostbox.progress import Progress
from frostbox.settings import TrainSettings
from frostbox.training import resolve_device
from frostbox.units import counted, size_text

_KINDS = {"OpenVINO": "openvino", "PyTorch": "torch"}  # by the first word of an engine's name


def ensure_caches(
    wanted: list[tuple[DetectionSet, int]],
    backbone: backbones.Backbone,
    settings: TrainSettings,
    cache: str | Path | None,
    console: Console,
    progress: Progress,
    device: str = "cpu",
    ranks: Ranks = ALONE,
) -> list[FeatureCache]:
    """Open the caches of these (data set, views), extracting what is not there yet.

    What has to be extracted is estimated and printed first. With several ranks, each calls this
    with the same arguments.
    """
    console = _speaking(console, ranks)
    root = cache_root(cache)
    requests = [
        CacheRequest.of(
            data,
            backbone,
            size=settings.size,
            mode=settings.resize,
            views=views,
            dtype=settings.features,
            precision=settings.fit.precision,
        )
        for data, views in wanted
    ]
    paths = [cache_path(root, w[0], r) for w, r in zip(wanted, requests, strict=True)]
    # Looked at by rank 0 alone: what another machine has not seen yet, it would take for missing.
    there = ranks.broadcast(
        [ranks.main and FeatureCache.whole(path, VERIFIED_AT_ONCE) for path in paths]
    )
    missing = [w for w, complete in zip(wanted, there, strict=True) if not complete]
    engine = None
    if missing:
        engine = common_engine(
            _kind_before(paths, device), backbone, settings.size, device, ranks,
            precision=settings.fit.precision,
        )  # fmt: skip
        _say_estimate(
            missing, backbone, engine, (settings.size, settings.resize, settings.features),
            console, ranks, device, root,
            [path for path, complete in zip(paths, there, strict=True) if not complete],
        )  # fmt: skip
    caches = []
    for (data, views), path, request in zip(wanted, paths, requests, strict=True):
        if engine is None or (data, views) not in missing:
            found = readable(FeatureCache.open(path), settings.strict)
            by = "; ".join(sorted({shard.engine for shard in found.index.shards}))
            console.print(f"features of '{data.split}' reused from {shown(path)} (made by {by})")
            caches.append(found)
            continue
        options = {
            "size": settings.size, "mode": settings.resize, "views": views,
            "dtype": settings.features, "precision": settings.fit.precision,
            "strict": settings.strict, "ranks": ranks, "request": request,
        }  # fmt: skip
        caches.append(_extract(data, backbone, path, engine, progress, **options))
        console.print(f"features of '{data.split}' in {shown(path)}")
    return caches


def extract_features(
    data: Any,
    out: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    split: str = "train",
    backbone: str = "efficientnet_lite0",
    weights: str = "auto",
    size: tuple[int, int] = (224, 224),
    strides: tuple[int, ...] = (32,),
    resize: str = "shrink",
    views: int = 1,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    features: str = FLOAT16,
    classes: tuple[str, ...] | None = None,
    rename: Mapping[str, str] | None = None,
    strict: bool = False,
    console: Console | None = None,
    devices: int | None = None,
    nodes: int | None = None,
) -> FeatureCache:
    """Write a cache of a split's features; goes on where an earlier call was cut off.

    Args:
        out: the folder of this one cache; or
        cache: a folder of caches, in which it gets the name by which `train` finds it.
        devices, nodes: processes a machine and machines that share the work, see
            distributed.open_ranks: where torchrun, SLURM or Kubernetes has started them, None for
            those; else the other processes of this machine are started here, by the same command.
    """
    console = console or Console(stderr=True, markup=False, emoji=False)
    TrainSettings(size=size, resize=resize, views=views)  # says what is wrong before any work
    if (out is None) == (cache is None):
        raise SettingsError(
            "give --out for the folder of this cache, or --cache for a folder of caches, in which "
            "`train` finds it"
        )
    where = stand_in(out) if out is not None else cache_root(cache)
    if where.is_file():
        raise SettingsError(f"{where} is a file: give a folder")
    place = resolve_device(device)
    with open_ranks(devices, nodes, place) as ranks:
        console = _speaking(console, ranks)
        with ranks.main_first(), _warnings_of(ranks):  # it may have to download the data
            dataset = load(data, split, classes, rename, require_photos=True)
        with _warnings_of(ranks):
            dataset = check_photo_sizes(dataset)
        network = backbones.create(backbone, strides, weights)
        options: dict[str, Any] = {
            "size": size, "mode": resize, "views": views, "dtype": features,
            "precision": precision,
        }  # fmt: skip
        request = CacheRequest.of(dataset, network, **options)
        if out is None:
            where = cache_path(where, dataset, request)
        if ranks.broadcast(ranks.main and FeatureCache.complete(where)):
            found = FeatureCache.open(where)
            found.check(request)
            if ranks.broadcast(ranks.main and FeatureCache.whole(where)):
                _say_done(readable(found, strict), console)
                return found
        if engine == "auto":
            engine = _kind_before([where], place)
        running = common_engine(engine, network, size, place, ranks, precision=precision)
        _say_estimate(
            [(dataset, views)], network, running, (size, resize, features), console, ranks, place,
            where, [where],
        )  # fmt: skip
        made = _extract(
            dataset, network, where, running, Progress(console), strict=strict, ranks=ranks,
            request=request, **options,
        )  # fmt: skip
        _say_done(made, console)
        return made


def _say_done(cache: FeatureCache, console: Console) -> None:
    skipped = f"; {len(cache.skipped)} broken photos skipped" if cache.skipped else ""
    console.print(
        f"{len(cache)} images x {len(cache.views)} views in {shown(cache.path)}{skipped}",
        soft_wrap=True,
    )


@contextmanager
def _warnings_of(ranks: Ranks) -> Iterator[None]:
    """Let rank 0 alone warn of what every rank finds; elsewhere each names the photos it skips."""
    log = logging.getLogger("frostbox")
    before, log.disabled = log.disabled, log.disabled or not ranks.main
    try:
        yield
    finally:
        log.disabled = before


def _speaking(console: Console, ranks: Ranks) -> Console:
    """The console in rank 0; one that keeps still in the others."""
    return console if ranks.main else Console(quiet=True)


def _say_estimate(
    wanted: Sequence[tuple[DetectionSet, int]],
    backbone: backbones.Backbone,
    engine: Engine,
    request: tuple[tuple[int, int], str, str],
    console: Console,
    ranks: Ranks,
    device: str,
    root: Path,
    paths: Sequence[Path],
) -> None:
    """What rank 0 measures, while the others wait: they may share its cores.

    Raises:
        CacheError: the disk of `root` has no room for all of it, beside what `paths` have already.
    """
    if ranks.main:
        console.print(engine.describe())
        estimate = planning.estimate_extraction(wanted, backbone, engine, *request)
        if ranks.size > 1:
            # Processes of one machine share its cores, but not GPUs.
            shared = ranks.nodes if device == "cpu" else ranks.size
            machines = counted(ranks.nodes, "machine")
            estimate = replace(
                estimate, seconds=estimate.seconds / shared,
                what=f"{estimate.what} by {ranks.size} processes on {machines}",
                note=f"{estimate.note}; memory of each process; a process writes whole shards",
            )  # fmt: skip
        console.print(str(estimate))
        _check_room(root, paths, estimate)
    ranks.barrier()


def _check_room(root: Path, paths: Sequence[Path], estimate: planning.Estimate) -> None:
    if remote_of(root) is not None:
        return
    begun = sum(f.stat().st_size for p in paths if p.is_dir() for f in p.iterdir())
    free = planning.free_bytes(root)
    if estimate.disk_bytes > free + begun:
        raise CacheError(
            f"{size_text(estimate.disk_bytes - begun)} are needed for {estimate.what}, and "
            f"{size_text(free)} are free for {root}: make room (`frostbox cache list`, `cache "
            "prune`), or give another folder, fewer views, a smaller size or int8 features"
        )


def _kind_before(paths: Sequence[Path], device: str) -> str:
    """The kind of the engine that made what there is of these caches; "auto" where none did.

    Which of two is faster is measured, and may come out otherwise in the run that goes on: then
    the features of a cache would differ in their last bits.
    """
    names = set()
    for path in paths:
        try:
            shards = (*CacheIndex.read(path).shards, *read_records(path))
            names |= {shard.engine for shard in shards}
        except CacheError:
            continue  # no cache there yet, or a damaged one, which extract speaks of
    kinds = {_KINDS.get(name.split()[0], "auto") for name in names if name.endswith(f" {device}")}
    if any(", compiled" in name for name in names) or len(kinds) != 1:
        return "auto"
    kind = kinds.pop()
    return kind if kind != "openvino" or find_spec("openvino") else "auto"


def _extract(
    dataset: DetectionSet,
    backbone: backbones.Backbone,
    out: Path,
    engine: Engine,
    progress: Progress,
    **options: Any,
) -> FeatureCache:
    """`extract` with a bar in rank 0, which counts the images of all ranks."""
    ranks: Ranks = options["ranks"]
    if not ranks.main:
        return extract(dataset, backbone, out, engine=engine, **options)
    progress.start(f"extracting {dataset.split}", len(dataset.photos), "images")
    try:
        return extract(
            dataset, backbone, out, engine=engine,
            progress=lambda done, total: progress.update(done), **options,
        )  # fmt: skip
    finally:
        progress.stop()
