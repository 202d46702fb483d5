"""Frames out of real files and into them."""

from __future__ import annotations

import os
import signal
from fractions import Fraction

import av
import numpy as np
import pytest

from frostbox import video
from frostbox.errors import DataError, NotFoundError
from frostbox.video import Frames, VideoWriter, stopped_by_interrupt
from tests.films import grey, noise, read_film, write_film


def copied(frames: Frames, target) -> list[float]:
    with VideoWriter(target, frames) as film:
        for frame in frames:
            film.write(frame.picture, frame.seconds)
    frames.close()
    return read_film(target)


@pytest.mark.parametrize("rate", [10, Fraction(30000, 1001)])
def test_a_copy_has_the_same_frames_at_the_same_rate(tmp_path, rate):
    source = write_film(tmp_path / "a.mp4", grey(20), rate=rate)
    frames = Frames(source, "a.mp4")
    assert (frames.size, frames.rate, frames.total, frames.fault) == ((64, 48), rate, 20, None)
    pictures, times, found = copied(frames, tmp_path / "b.mp4")
    assert found == rate
    assert times == pytest.approx([k / float(rate) for k in range(20)], abs=1e-3)
    assert [int(p.mean()) for p in pictures] == pytest.approx(
        [int(p.mean()) for p in grey(20)], abs=3
    )
    assert frames.fault is None


def test_frames_keep_times_that_vary(tmp_path):
    times = [0, 100, 150, 700, 740, 1300]
    source = write_film(tmp_path / "a.mp4", grey(6), times=times)
    *_, found, _ = copied(Frames(source, "a"), tmp_path / "b.mp4")
    assert [round(1000 * t) for t in found] == times


def test_odd_sides_are_padded_and_not_stretched(tmp_path):
    frames = Frames(write_film(tmp_path / "a.mp4", grey(2)), "a")
    frames.size = (63, 47)
    with VideoWriter(tmp_path / "b.mp4", frames) as film:
        film.write(np.full((47, 63, 3), 200, dtype=np.uint8), Fraction(0))
    [picture], *_ = read_film(tmp_path / "b.mp4")
    assert picture.shape == (48, 64, 3)
    assert picture[47, 63].tolist() == pytest.approx([200] * 3, abs=4)


def test_without_h264_the_video_is_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_CODECS", ("none-such", "mpeg4"))
    frames = Frames(write_film(tmp_path / "a.mp4", grey(20)), "a")
    pictures, times, rate = copied(frames, tmp_path / "b.mp4")
    assert (len(pictures), rate) == (20, 10)
    assert times[-1] == pytest.approx(1.9)


def test_frames_of_a_phone_are_turned_upright(tmp_path):
    source = write_film(tmp_path / "a.mp4", grey(2))
    content = bytearray(source.read_bytes())
    # The matrix of the track's header, by which players turn a picture a quarter clockwise.
    straight = b"".join(n.to_bytes(4, "big") for n in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
    turned = b"".join(
        n.to_bytes(4, "big", signed=True) for n in (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    )
    place = content.index(straight, content.index(b"tkhd"))
    content[place : place + len(turned)] = turned
    source.write_bytes(content)
    frames = Frames(source, "a")
    assert frames.size == (48, 64)
    assert [frame.picture.shape for frame in frames] == [(64, 48, 3)] * 2


def test_a_video_that_is_cut_off_ends_and_says_so(tmp_path):
    source = write_film(tmp_path / "a.mp4", noise(40))
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    frames = Frames(source, "a")
    seen = [frame.number for frame in frames]
    assert seen == list(range(len(seen)))
    assert 10 < len(seen) < 30
    assert frames.fault


def test_a_limit_is_no_fault(tmp_path):
    frames = Frames(write_film(tmp_path / "a.mp4", grey(20)), "a", limit=5)
    assert (frames.total, len(list(frames)), frames.fault) == (5, 5, None)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    with pytest.raises(DataError, match=r"text.mp4 cannot be opened as a video"):
        Frames(tmp_path / "text.mp4", "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", 8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        for packet in (*stream.encode(sound), *stream.encode(None)):
            file.mux(packet)
    with pytest.raises(DataError, match="holds no video"):
        Frames(tmp_path / "sound.mp4", "sound.mp4")


def test_where_there_is_no_camera_it_is_said():
    with pytest.raises(NotFoundError, match="camera 97 cannot be opened .* 0 is the first"):
        Frames(97, "camera 97")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_ends_the_frames_and_a_second_one_everything(tmp_path):
    frames = Frames(write_film(tmp_path / "a.mp4", grey(20)), "a")
    seen = []
    before = signal.getsignal(signal.SIGINT)
    with stopped_by_interrupt(frames):
        for frame in frames:
            seen.append(frame.number)
            if frame.number == 4:
                interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    assert seen == [0, 1, 2, 3, 4]
    assert signal.getsignal(signal.SIGINT) is before
    assert frames.fault is None
