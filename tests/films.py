"""Small videos, written by the tests that read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.shapes import COLOURS


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


def moving_shapes(count: int, size: int = 160) -> list[np.ndarray]:
    """A red and a green rectangle that pass each other on grey, one to the right, one to the left.

    As the shapes of tests/shapes.py look at the network's size of 160 pixels.
    """
    rng = np.random.default_rng(0)
    ground = np.repeat(np.repeat(rng.integers(100, 150, (64, 64, 3), dtype=np.uint8), 3, 0), 3, 1)
    pictures = []
    for k in range(count):
        picture = ground[:size, :size].copy()
        x = 5 + 2 * k
        picture[10:65, x : x + 55] = COLOURS["red"]
        picture[90:150, size - x - 60 : size - x] = COLOURS["green"]
        pictures.append(picture)
    return pictures


def grey(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Grey pictures (width, height), each a little brighter than the one before."""
    return [np.full((size[1], size[0], 3), 20 + 5 * k, dtype=np.uint8) for k in range(count)]


def read_film(path: Path) -> tuple[list[np.ndarray], list[float], Fraction]:
    """Frames (RGB), their times in seconds, and the average rate."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        rate = Fraction(file.streams.video[0].average_rate)
    return [f.to_ndarray(format="rgb24") for f in frames], [float(f.time) for f in frames], rate
