"""What `predict` does from end to end: photos, videos, cameras -> boxes, annotated, as data.

Everything streams: of a folder or a video, only what is worked on is in memory.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from frostbox.data.photos import read_image
from frostbox.detections import Detections
from frostbox.detector import Detector
from frostbox.errors import DataError, NotFoundError, SettingsError
from frostbox.fetch import Remote
from frostbox.inputs import Inputs, check_empty, check_targets, find_inputs, unique_names
from frostbox.labelling import FORMATS, Labelled
from frostbox.progress import Progress
from frostbox.sources import one_ahead
from frostbox.tiles import predict_tiled
from frostbox.tracking import Tracker
from frostbox.training import resolve_device
from frostbox.units import seconds_text
from frostbox.video import Frame, Frames, VideoWriter, stopped_by_interrupt

AUTO, FLOAT32 = "auto", "32"  # what is executed where nothing else is asked for
_LOG = logging.getLogger("frostbox")
_BATCH = 16
_BATCH_BYTES = 100_000_000  # of frames that wait together: fewer of large ones

Entry = dict[str, Any]
Found = tuple[Frame, Detections]


@dataclass(frozen=True)
class Wanted:
    """What `predict` is asked to do beside finding boxes.

    Attributes:
        out: folder of annotated pictures and videos, or, with `save_as`, of data.
        save_as: voc, coco or yolo: photos and boxes as a data set; csv: boxes as a table.
        tiles: predict in tiles too, see tiles.py. track: give objects of videos numbers.
        max_frames: of each video or camera.
        strict: a broken photo or video is an error, not left out.
    """

    out: Path | None = None
    save_as: str | None = None
    tiles: bool = False
    track: bool = False
    max_frames: int | None = None
    strict: bool = False

    def check(self, inputs: Inputs) -> None:
        """Raise SettingsError for what does not go together, or cannot be written."""
        if self.track and not (inputs.videos or inputs.cameras):
            raise SettingsError("--track numbers the objects of videos: give one, or a camera")
        if self.max_frames is not None and self.max_frames < 1:
            raise SettingsError(f"max_frames is {self.max_frames}: it must be at least 1")
        if self.save_as is None:
            return
        if self.save_as not in FORMATS:
            raise SettingsError(
                f"--save-as is '{self.save_as}': choose one of {', '.join(FORMATS)}"
            )
        if self.out is None:
            raise SettingsError("--save-as needs a folder: give one with --out")
        if self.save_as != "csv":
            if inputs.videos or inputs.cameras:
                raise SettingsError(
                    f"--save-as {self.save_as} writes photos with their boxes: leave videos and "
                    "cameras out, or take csv"
                )
            check_empty(self.out, "with --out")


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    wanted: Wanted | None = None,
    *,
    threshold: float | None = None,
    nms: Mapping[str, Any] | None = None,
    score: str | None = None,
    calibrated: bool = False,
    engine: str = AUTO,
    precision: str = FLOAT32,
    device: str = "auto",
    console: Console | None = None,
) -> Generator[Entry, None, None]:
    """Detect in files, folders, patterns, URLs, stdin, videos and cameras; as of `find_inputs`.

    A photo that cannot be decoded or fetched is named and left out, unless `strict`, or it is the
    only input. Of a video that breaks off, what came before is kept.

    Args:
        threshold: lowest score; None for the detector's own, a class's of the best F1 on val.
        calibrated: divide the scores' logits by the temperature that was fitted on val.
        engine, precision: as in `Detector.prepare`; with neither the detector chooses itself.

    Yields:
        One `{image, width, height, detections}` a picture, and with `frame` (from 0) and `time`
        (in seconds) one a frame; each as soon as it is known.

    Raises:
        SettingsError: what does not go together; output that would overwrite one of the inputs.
        NotFoundError, DataError: as of `find_inputs`, and a video that breaks off.
    """
    wanted = wanted or Wanted()
    detector = Detector.load(model, resolve_device(device))
    detector.configured(score, threshold=threshold, calibrated=calibrated, **(nms or {}))
    with tempfile.TemporaryDirectory(prefix="frostbox-") as scratch:
        found = find_inputs(inputs, Path(scratch))
        wanted.check(found)
        console = console or Console(stderr=True)
        work = _Work(detector, found, wanted, (engine, precision), console)
        with closing(work.run()) as entries:
            yield from entries


@dataclass
class _Work:
    """The state of one call of `predict`."""

    detector: Detector
    inputs: Inputs
    wanted: Wanted
    execution: tuple[str, str]
    console: Console
    progress: Progress = field(init=False)
    labelled: Labelled | None = None
    interrupted: bool = False
    latency: bool | None = None  # what an engine was made for

    def __post_init__(self) -> None:
        self.progress = Progress(self.console)

    @property
    def skip(self) -> bool:
        return not self.wanted.strict and len(self.inputs) > 1

    @property
    def side(self) -> int | None:
        """By what boxes are drawn: in tiles objects are small, and so are their names."""
        return 2 * min(self.detector.settings.size) if self.wanted.tiles else None

    def run(self) -> Generator[Entry, None, None]:
        """Pictures, then videos, then cameras."""
        pictures, videos = self.inputs.pictures, self.inputs.videos
        names = unique_names([_path(p).stem for p in pictures], ".jpg")
        clips = unique_names(
            [*(_path(v).stem for v in videos), *(f"camera-{n}" for n in self.inputs.cameras)],
            ".mp4",
        )
        out, save_as = self.wanted.out, self.wanted.save_as
        targets: list[Path] | list[None] = [None] * (len(names) + len(clips))
        if out is not None and save_as is None:
            targets = [out / name for name in (*names, *clips)]
            check_targets([_path(source) for source in (*pictures, *videos)], targets)
        with ExitStack() as stack:
            stack.callback(self.progress.stop)
            if out is not None and save_as is not None:
                classes = self.detector.settings.classes
                self.labelled = stack.enter_context(Labelled(save_as, out, classes, self.console))
            if pictures:
                yield from self._pictures(targets[: len(names)])
            yield from self._all_frames(targets[len(names) :])

    # --- pictures --------------------------------------------------------------------------

    def _pictures(self, targets: Sequence[Path | None]) -> Iterator[Entry]:
        sources = self.inputs.pictures
        self._prepare(latency=len(sources) == 1, needed=self.wanted.tiles)
        self.progress.start("predicting", len(sources), "images")
        stream = (
            predict_tiled(self.detector, sources, skip=self.skip)
            if self.wanted.tiles
            else self.detector.predict_stream(sources, skip=self.skip)
        )
        try:
            for row, detections in stream:
                source, target = sources[row], targets[row]
                path = _path(source)
                if target is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    picture = Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
                    detections.draw(picture, side=self.side).save(target, quality=92)
                entry = _entry(_name(source), detections)
                if self.labelled is not None:
                    self.labelled.add(entry, path)
                elif not isinstance(source, Path):
                    source.remove()
                self.progress.update(row + 1)
                yield entry
        except (DataError, NotFoundError) as error:
            # All photos are broken; that is no reason to leave the videos out.
            if not (self.skip and (self.inputs.videos or self.inputs.cameras)):
                raise
            _LOG.warning("no photo is left: %s", error)
        self.progress.stop()

    def _prepare(self, *, latency: bool, needed: bool) -> None:
        """Compile what is asked for; else where it is `needed` on a CPU."""
        engine, precision = self.execution
        asked = self.execution != (AUTO, FLOAT32)
        cpu = next(self.detector.parameters()).device.type == "cpu"
        wanted = asked or (needed and cpu and self.detector.settings.resize != "none")
        if wanted and self.latency != latency:
            self.detector.prepare(engine, precision=precision, latency=latency)
            self.latency = latency

    # --- videos ----------------------------------------------------------------------------

    def _all_frames(self, targets: Sequence[Path | None]) -> Iterator[Entry]:
        sources = [*self.inputs.videos, *self.inputs.cameras]
        for source, target in zip(sources, targets, strict=True):
            if self.interrupted:
                return
            try:
                if isinstance(source, int):
                    yield from self._video(source, f"camera {source}", target)
                elif isinstance(source, Path):
                    yield from self._video(source, str(source), target)
                else:
                    self._say(f"fetching {source.name}")
                    with source.file() as path:
                        yield from self._video(path, source.name, target)
                    source.remove()
            except (DataError, NotFoundError) as error:
                if not self.skip:
                    raise
                _LOG.warning("%s", error)

    def _video(self, source: Path | int, name: str, target: Path | None) -> Iterator[Entry]:
        frames = Frames(source, name, self.wanted.max_frames)
        with ExitStack() as stack:
            stack.callback(frames.close)
            tracker = self._tracker(frames)
            self._prepare(latency=frames.live, needed=True)
            stack.enter_context(stopped_by_interrupt(frames))
            film = stack.enter_context(VideoWriter(target, frames)) if target else None
            self.progress.start(name, frames.total, "frames")
            done, end, seen, started = 0, Fraction(0), Counter[str](), time.perf_counter()
            # Closed first: no thread may decode when the file is closed.
            found = stack.enter_context(closing(self._found(frames, tracker)))
            for frame, detections in found:
                if film is not None:
                    picture = detections.draw(
                        Image.fromarray(frame.picture), smooth=False, side=self.side
                    )
                    film.write(np.asarray(picture), frame.seconds)
                entry = _entry(name, detections, frame)
                if self.labelled is not None:
                    self.labelled.add(entry)
                done, end = frame.number + 1, frame.seconds + 1 / frames.rate
                seen.update(set(detections.names))
                self.progress.update(done)
                yield entry
            self.progress.stop()
        self.interrupted = frames.stopped
        self._report(name, done, time.perf_counter() - started, seen, target, frames.stopped)
        if frames.fault is not None:
            raise DataError(
                f"{name} breaks off after {done} frames, at {float(end):.1f} s ({frames.fault}); "
                "what was found until there is kept"
            )

    def _tracker(self, frames: Frames) -> Tracker | None:
        if not self.wanted.track:
            return None
        settings = self.detector.settings
        return Tracker(settings.selection, len(settings.classes), float(frames.rate))

    def _found(self, frames: Frames, tracker: Tracker | None) -> Generator[Found, None, None]:
        """Frame by frame, while a thread decodes and predicts the frames that follow."""
        selection = tracker.lowest if tracker is not None else {}
        with closing(one_ahead(self._predicted(frames, selection))) as batches:
            for frame, detections in chain.from_iterable(batches):
                yield frame, tracker.update(detections) if tracker is not None else detections

    def _predicted(self, frames: Frames, selection: Mapping[str, Any]) -> Iterator[list[Found]]:
        width, height = frames.size
        size = max(1, min(_BATCH, _BATCH_BYTES // (3 * width * height)))
        for batch in _batches(frames, 1 if frames.live else size):
            pictures = [frame.picture for frame in batch]
            if self.wanted.tiles:
                found = [d for _, d in predict_tiled(self.detector, pictures, **selection)]
            else:
                found = self.detector.predict(pictures, **selection)
            yield list(zip(batch, found, strict=True))

    def _report(
        self, name: str, done: int, seconds: float, seen: Counter[str], target: Path | None,
        stopped: bool,
    ) -> None:  # fmt: skip
        what = ", ".join(f"{cls} in {count}" for cls, count in seen.most_common()) or "nothing"
        self._say(
            f"{name}: {done} frames in {seconds_text(seconds)}, {done / seconds:.1f} frames/s"
            f"{' (stopped)' if stopped else ''}; found {what}"
            + (f"; written {target}" if target is not None else "")
        )

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)


def _entry(name: str, found: Detections, frame: Frame | None = None) -> Entry:
    width, height = found.image_size
    place = {} if frame is None else {"frame": frame.number, "time": round(float(frame.seconds), 4)}
    size = {"width": width, "height": height}
    return {"image": name, **place, **size, "detections": found.to_dicts()}


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    frames = iter(frames)
    while batch := list(islice(frames, size)):
        yield batch


def _path(source: Path | Remote) -> Path:
    return source.path if isinstance(source, Remote) else source


def _name(source: Path | Remote) -> str:
    return source.name if isinstance(source, Remote) else str(source)
