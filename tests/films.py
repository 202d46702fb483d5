"""Small videos, written by the tests that read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_film(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    rate: Fraction | int = 10,
    times: Sequence[int] | None = None,
) -> Path:
    """An H.264 video of uint8 (H, W, 3) RGB pictures, the index in front as for streaming.

    `times`: of each frame in units of 1/1000 s, for a rate that varies.
    """
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate, options={"preset": "ultrafast", "crf": "10"})
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, picture in enumerate(pictures):
            if not k:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def grey(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Grey pictures (width, height), each a little brighter than the one before."""
    return [np.full((size[1], size[0], 3), 20 + 5 * k, dtype=np.uint8) for k in range(count)]


def noise(count: int) -> list[np.ndarray]:
    """Pictures of 64 x 48 of which each takes as many bytes as the others."""
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (count, 48, 64, 3), dtype=np.uint8))


def read_film(path: Path) -> tuple[list[np.ndarray], list[float], Fraction]:
    """Frames (RGB), their times in seconds, and the average rate."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        rate = Fraction(file.streams.video[0].average_rate)
    return [f.to_ndarray(format="rgb24") for f in frames], [float(f.time) for f in frames], rate
