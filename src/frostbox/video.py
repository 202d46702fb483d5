"""Frames out of a video file or a camera, and annotated frames into an mp4; a few at a time.

PyAV does the work, which supervision brings along for the same purpose. supervision's own reader
is not used because it takes a video that breaks off for one that ends, and its writer because it
gives every frame the same time and its MPEG-4 is not shown by browsers.
"""

from __future__ import annotations

import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from frostbox.errors import DataError, NotFoundError

_CODECS = ("libx264", "mpeg4")  # the first that is there: H.264 plays everywhere
_OPTIONS = {"libx264": {"preset": "veryfast", "crf": "23"}, "mpeg4": {"qscale": "3"}}
_SHORT = 0.5  # seconds that a video may end early; without a length of its own, four times that
# FFmpeg's names of what films come in.
_CONTAINERS = (
    "mov", "matroska", "avi", "mpeg", "mpegts", "mpegvideo", "m4v", "h264", "hevc", "ivf", "flv",
    "asf", "ogg", "gif", "mjpeg", "mxf", "nut", "dv",
)  # fmt: skip
_CAMERAS = {"Linux": "v4l2", "Darwin": "avfoundation", "Windows": "dshow"}


@dataclass(frozen=True)
class Frame:
    """A picture of a video: its number from 0, its time in seconds, uint8 (H, W, 3) RGB."""

    number: int
    seconds: Fraction
    picture: NDArray[np.uint8]


class Frames:
    """The frames of a video file or a camera, upright, decoded as they are asked for.

    Attributes:
        name: for people. live: whether it is a camera.
        size: (width, height) of the upright frames. rate: frames a second.
        time_base: unit of its times in seconds.
        total: how many frames it says to have, roughly; None where that is not known.
        fault: why it broke off, in words, once it did.
        stopped: set it and no further frame comes.
    """

    def __init__(self, source: Path | int, name: str, limit: int | None = None) -> None:
        """Open it.

        Args:
            source: a file, or the number of a camera. limit: frames at most.

        Raises:
            DataError: no video. NotFoundError: no such camera.
        """
        import av

        self.name, self.live = name, isinstance(source, int)
        self.fault: str | None = None
        self.stopped = False
        self._limit = limit
        try:
            self._file = _camera(source) if isinstance(source, int) else _file(source)
        except (av.FFmpegError, OSError) as error:
            raise _not_opened(name, self.live, error) from error
        if not self._file.streams.video:
            self._file.close()
            raise DataError(f"{name} holds no video: give one with pictures in it")
        self._stream = self._file.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            self._file.close()
            raise DataError(f"{name} holds no frame that can be decoded ({self.fault or 'empty'})")
        height, width = self._first.picture.shape[:2]
        self.size = (width, height)
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.time_base = Fraction(self._stream.time_base or 1 / self.rate)
        self.total = self._total()

    def __iter__(self) -> Iterator[Frame]:
        """Frame by frame; a video that breaks off ends, and `fault` says so."""
        frame, last = self._first, self._first
        while frame is not None and not self.stopped:
            last = frame
            yield frame
            if self._limit is not None and frame.number + 1 >= self._limit:
                return
            frame = next(self._decoded, None)
        if last is not None and not self.stopped and self.fault is None:
            self.fault = self._missing(last.seconds + 1 / self.rate)

    def close(self) -> None:
        """Let the file or the camera go."""
        self._file.close()

    def _decode(self) -> Iterator[Frame]:
        import av

        start, seconds = None, Fraction(-1)
        try:
            for number, frame in enumerate(self._file.decode(video=0)):
                if frame.pts is None or frame.time_base is None:
                    seconds += 1 / self.rate if number else 1
                else:
                    now = frame.pts * Fraction(frame.time_base)
                    start = now if start is None else start
                    seconds = now - start
                # Phones store portrait as landscape and a turn, counted counterclockwise.
                picture = frame.to_ndarray(format="rgb24")
                turns = round(frame.rotation / 90) % 4
                picture = np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
                yield Frame(number, seconds, picture)
        except av.FFmpegError as error:
            self.fault = error.strerror or str(error)

    def _length(self) -> tuple[Fraction, float] | None:
        """Seconds that it says to last, and how many fewer are no fault."""
        if self._stream.duration and self._stream.time_base:
            return self._stream.duration * Fraction(self._stream.time_base), _SHORT
        if self._file.duration:  # of the longest stream, which may be the sound
            return Fraction(self._file.duration, 1_000_000), 4 * _SHORT
        return None

    def _total(self) -> int | None:
        length = self._length()
        count = self._stream.frames or (round(length[0] * self.rate) if length else 0)
        count = min(count, self._limit or count) if count else self._limit or 0
        return count or None

    def _missing(self, end: Fraction) -> str | None:
        length = None if self.live else self._length()
        if length is None or length[0] - end <= length[1]:
            return None
        return f"the file says to last {float(length[0]):.1f} s"


class VideoWriter:
    """An mp4 in H.264 that keeps the time of every frame; without sound. A context manager."""

    def __init__(self, path: Path, frames: Frames) -> None:
        """Args: path of the file; the frames that it is made from, for size and rate."""
        import av

        self._name = next(name for name in _CODECS if name in av.codecs_available)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = av.open(str(path), "w")
        # Halved colours need even sides.
        self._pad = [(0, side % 2) for side in frames.size[::-1]]
        rate = frames.rate.limit_denominator(65535)
        stream = self._file.add_stream(self._name, rate, _OPTIONS[self._name])
        self._stream = cast(Any, stream)  # of the streams that a name may mean, a video's
        self._stream.width, self._stream.height = (side + side % 2 for side in frames.size)
        self._stream.pix_fmt = "yuv420p"
        # MPEG-4 has no finer times than 1/65535 s.
        fine = self._name != "mpeg4"
        self._unit = frames.time_base if fine else 1 / rate
        self._stream.codec_context.time_base = self._unit
        self._last = -1

    def write(self, picture: NDArray[np.uint8], seconds: Fraction) -> None:
        """Add a frame: uint8 (H, W, 3) RGB, with its time."""
        import av

        if any(more for _, more in self._pad):
            picture = np.pad(picture, (*self._pad, (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        self._last = max(self._last + 1, round(seconds / self._unit))
        frame.pts, frame.time_base = self._last, self._unit
        self._file.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file, whatever happened: what was written can be played."""
        try:
            self._file.mux(self._stream.encode(None))
        finally:
            self._file.close()


@contextmanager
def stopped_by_interrupt(frames: Frames) -> Iterator[None]:
    """Ctrl-C lets the frames end, so that what was found is kept; a second one interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if frames.stopped:
            raise KeyboardInterrupt
        frames.stopped = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _camera(number: int) -> Any:
    import av

    kind = _CAMERAS.get(platform.system(), "v4l2")
    if kind == "v4l2":
        return av.open(f"/dev/video{number}", format=kind)
    if kind == "avfoundation":
        return av.open(f"{number}:none", format=kind, options={"framerate": "30"})
    named = [d.name for d in av.enumerate_input_devices(kind) if "video" in d.media_types]
    if number >= len(named):
        raise FileNotFoundError(2, "No such device")
    return av.open(f"video={named[number]}", format=kind)


def _file(path: Path) -> Any:
    """A video file, opened as one: a playlist by its name would read other files, and addresses."""
    import av

    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(_CONTAINERS)}
    return av.open(f"file:{path}", container_options=options)


def _not_opened(name: str, live: bool, error: Exception) -> DataError | NotFoundError:
    reason = getattr(error, "strerror", None) or str(error)
    if live:
        return NotFoundError(
            f"{name} cannot be opened ({reason}): connect one, close what uses it, or give "
            "another number; 0 is the first"
        )
    return DataError(
        f"{name} cannot be opened as a video ({reason}): copy it again, or give another"
    )
