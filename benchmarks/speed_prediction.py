"""A photo from its file to boxes, a folder, a video, and how long commands take to start."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import av
import torch
from PIL import Image

from frostbox.detector import Detector
from frostbox.features.cache import FeatureCache
from frostbox.features.engine import create_engine
from frostbox.features.index import views_for
from frostbox.features.shards import load_views
from frostbox.predicting import Wanted, predict
from frostbox.selection import Settings
from frostbox.training import CachedViews, fit
from turns import SIZE, Bench, fit_settings, fresh, in_turns, new_head

_PREDICTIONS = 200
_FRAMES = 400


def prediction(bench: Bench, cache: Path) -> None:
    """One photo from its file to boxes, and many."""
    head = new_head(bench)
    samples = CachedViews(FeatureCache.open(cache), bench.dataset, head)
    fit(head, samples, None, fit_settings(epochs=4), fresh(bench.folder / "fit"))
    detector = Detector(bench.backbone, head, "pyramid", Settings(bench.dataset.classes, SIZE))
    paths = [image.photo for image in bench.dataset.photos if image.photo is not None]
    picture = load_views(bench.dataset.photos[0], "shrink", SIZE, views_for(bench.backbone, 1))[1][
        0
    ]
    part = "prediction"
    kinds = {
        "torch": ("torch", "32"),
        "torch.compile": ("compile", "32"),
        "OpenVINO, float32": ("openvino", "32"),
        "OpenVINO, as the machine computes": ("openvino", "auto"),
    }
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        kinds.pop("torch.compile")
        print("no C++ compiler: torch.compile is left out")
    for name, (kind, precision) in kinds.items():
        engine = create_engine(kind, bench.backbone, SIZE, latency=True, precision=precision)
        detector.prepare(kind, precision=precision)
        detector.predict(paths[0])
        whole: list[float] = []
        bare: list[float] = []
        chosen: list[float] = []
        for k in range(_PREDICTIONS):
            path = paths[k % len(paths)]
            with timed(whole):
                detector.predict(path)
            with timed(bare):
                maps = engine.run(picture[None])
            with torch.inference_mode():
                boxes, scores = (t[0] for t in detector.decode(maps))
            with timed(chosen):
                detector.settings.selection.choose(boxes, scores)
        bench.add(part, f"{name}: a photo to boxes, p50", [1000 * median(whole)], "ms")
        bench.add(part, f"{name}: p99", [1000 * sorted(whole)[-max(1, _PREDICTIONS // 100)]], "ms")
        bench.add(part, f"{name}: the bare backbone", [1000 * median(bare)], "ms")
        bench.add(
            part, f"{name}: selection of boxes", [100 * median(chosen) / median(whole)], "%", "2"
        )
    detector = Detector(bench.backbone, head, "pyramid", Settings(bench.dataset.classes, SIZE))
    detector.predict(paths[:32])
    seconds = in_turns({"many": lambda: detector.predict(paths)}, bench.turns)["many"]
    bench.add(part, "a folder", [len(paths) / s for s in seconds], "photos/s")
    film(bench, detector)


def film(bench: Bench, detector: Detector) -> None:
    """A video to boxes, with and without the annotated copy, beside the bare backbone."""
    paths = [image.photo for image in bench.dataset.photos if image.photo is not None]
    source = write_film(bench.folder / "film.mp4", paths)
    model = detector.save(bench.folder / "film.safetensors")
    engine = create_engine("auto", bench.backbone, SIZE, latency=False)
    batch = torch.zeros(16, 3, SIZE[1], SIZE[0], dtype=torch.uint8)
    rates: dict[str, list[float]] = {"bare": [], "boxes": [], "annotated": []}
    engine.run(batch)
    for _ in range(bench.turns):
        started = time.perf_counter()
        for _ in range(_FRAMES // 16):
            engine.run(batch)
        rates["bare"].append(_FRAMES / (time.perf_counter() - started))
        for name, out in (("boxes", None), ("annotated", bench.folder / "film")):
            # From the first frame on: a long video does not notice what is made ready.
            times = [time.perf_counter() for _ in predict(model, [source], Wanted(out))]
            rates[name].append((len(times) - 16) / (times[-1] - times[15]))
    part = "prediction"
    bench.add(part, "the bare backbone, batches of 16", rates["bare"], "pictures/s")
    bench.add(part, "a video of 640 x 480 to boxes", rates["boxes"], "frames/s")
    bench.add(part, "a video, annotated too", rates["annotated"], "frames/s")
    shares = [100 * a / b for a, b in zip(rates["annotated"], rates["bare"], strict=True)]
    bench.add(part, "a video, annotated, against the bare backbone", shares, "%")


def write_film(path: Path, photos: list[Path]) -> Path:
    """Photos in 640 x 480, over each of which the view moves for a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", 25, width=640, height=480, pix_fmt="yuv420p")
        for k in range(_FRAMES):
            with Image.open(photos[k // 25 % len(photos)]) as photo:
                wide = photo.convert("RGB").resize((736, 552))
            picture = wide.crop(
                (4 * (k % 25), 3 * (k % 25), 640 + 4 * (k % 25), 480 + 3 * (k % 25))
            )
            file.mux(stream.encode(av.VideoFrame.from_image(picture)))
        file.mux(stream.encode(None))
    return path


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


def start_up(bench: Bench) -> None:
    """Commands that need no model, above a bare interpreter."""
    voc = str(bench.dataset.root)
    rivals = {
        "bare": [sys.executable, "-c", "pass"],
        "--help": [sys.executable, "-m", "frostbox", "--help"],
        "explore --json": [sys.executable, "-m", "frostbox", "explore", voc, "--json", "-"],
    }
    calls: dict[str, Callable[[], Any]] = {
        name: lambda command=command: subprocess.run(command, capture_output=True, check=True)
        for name, command in rivals.items()
    }
    seconds = in_turns(calls, max(3, bench.turns))
    for name in list(rivals)[1:]:
        above = [a - b for a, b in zip(seconds[name], seconds["bare"], strict=True)]
        aim = "0.6" if name == "--help" else "2"
        bench.add("start-up", f"frostbox {name} above a bare interpreter", above, "s", aim)
