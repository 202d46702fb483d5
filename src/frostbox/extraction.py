"""From photos to caches of features, with estimates and progress: what `extract` does end to end,
and the first half of what `train` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from frostbox import backbones, planning, ranks
from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load
from frostbox.data.photos import check_photo_sizes
from frostbox.errors import CacheError, SettingsError
from frostbox.features.cache import FeatureCache
from frostbox.features.engine import create_engine
from frostbox.features.engine_contract import Engine
from frostbox.features.extract import extract
from frostbox.features.index import FLOAT16, CacheRequest
from frostbox.features.store import cache_path, cache_root
from frostbox.progress import Progress
from frostbox.settings import TrainSettings
from frostbox.training import resolve_device


def ensure_caches(
    wanted: list[tuple[DetectionSet, int]],
    backbone: backbones.Backbone,
    settings: TrainSettings,
    cache: str | Path | None,
    console: Console,
    progress: Progress,
    device: str = "cpu",
) -> list[FeatureCache]:
    """Open the caches of these (data set, views), extracting what is not there yet.

    What has to be extracted is estimated and printed first.
    """
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
    missing = [w for w, p in zip(wanted, paths, strict=True) if not FeatureCache.complete(p)]
    engine = None
    if missing and not ranks.first():
        raise CacheError(
            f"the features that process 0 has written into {root} are not seen there: give a "
            "folder on a disk that all nodes share with --cache"
        )
    if missing:
        engine = create_engine(
            "auto", backbone, settings.size, device, precision=settings.fit.precision
        )
        console.print(engine.describe())
        estimate = planning.estimate_extraction(
            missing, backbone, engine, settings.size, settings.resize, settings.features
        )
        console.print(str(estimate))
    caches = []
    for (data, views), path in zip(wanted, paths, strict=True):
        if engine is None or (data, views) not in missing:
            found = FeatureCache.open(path)
            by = "; ".join(sorted({shard.engine for shard in found.index.shards}))
            console.print(f"features of '{data.split}' reused from {path} (made by {by})")
            caches.append(found)
            continue
        options = {
            "size": settings.size, "mode": settings.resize, "views": views,
            "dtype": settings.features, "precision": settings.fit.precision,
            "strict": settings.strict,
        }  # fmt: skip
        caches.append(_extract(data, backbone, path, engine, progress, **options))
        console.print(f"features of '{data.split}' in {path}")
    return caches


def extract_features(
    data: Any,
    out: str | Path,
    *,
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
) -> FeatureCache:
    """Write a cache of a split's features into `out`; goes on where an earlier call was cut off."""
    console = console or Console(stderr=True, markup=False, emoji=False)
    TrainSettings(size=size, resize=resize, views=views)  # says what is wrong before any work
    if Path(out).is_file():
        raise SettingsError(f"{out} is a file: give a folder for the cache with --out")
    place = resolve_device(device)
    dataset = check_photo_sizes(load(data, split, classes, rename, require_photos=True))
    network = backbones.create(backbone, strides, weights)
    options: dict[str, Any] = {
        "size": size, "mode": resize, "views": views, "dtype": features, "precision": precision,
    }  # fmt: skip
    request = CacheRequest.of(dataset, network, **options)
    if FeatureCache.complete(out):
        cache = FeatureCache.open(out)
        cache.check(request)
        return cache
    running = create_engine(engine, network, size, place, precision=precision)
    console.print(running.describe())
    console.print(
        str(
            planning.estimate_extraction(
                [(dataset, views)], network, running, size, resize, features
            )
        )
    )
    return _extract(
        dataset, network, Path(out), running, Progress(console), strict=strict, **options
    )


def _extract(
    dataset: DetectionSet,
    backbone: backbones.Backbone,
    out: Path,
    engine: Engine,
    progress: Progress,
    **options: Any,
) -> FeatureCache:
    """`extract` with a bar."""
    progress.start(f"extracting {dataset.split}", len(dataset.photos), "images")
    try:
        return extract(
            dataset, backbone, out, engine=engine,
            progress=lambda done, total: progress.update(done), **options,
        )  # fmt: skip
    finally:
        progress.stop()
