"""Likeness of photos: copies are found however they were saved, unrelated pictures are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage import data as pictures

from frostbox.data.doctor.leaks import alike
from frostbox.data.doctor.photos import THUMBNAIL

NAMES = ("astronaut", "cat", "chelsea", "coffee", "rocket", "camera", "coins", "page", "text")
CHANGES = {
    "recompressed": lambda i: Image.open(_jpeg(i, 20)),
    "halved": lambda i: i.resize((i.width // 2, i.height // 2)),
    "squeezed": lambda i: i.resize((416, 416)),
    "brightened": lambda i: ImageEnhance.Brightness(i).enhance(1.15),
    "grey": lambda i: i.convert("L"),
}


def _jpeg(image: Image.Image, quality: int) -> io.BytesIO:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer


def _thumbnails(images: list[Image.Image]) -> np.ndarray:
    box = Image.Resampling.BOX
    return np.stack([np.asarray(i.convert("L").resize((THUMBNAIL,) * 2, box)) for i in images])


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    # chelsea is the cat under its other name.
    names = [n for n in NAMES if n != "chelsea"]
    return [Image.fromarray(getattr(pictures, name)()).convert("RGB") for name in names]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_nothing_else(change: str, photos: list[Image.Image]) -> None:
    changed = [CHANGES[change](photo) for photo in photos]
    found = alike(_thumbnails(photos), _thumbnails(changed))
    assert [(a, b) for a, b, _, _ in found] == [(k, k) for k in range(len(photos))]


def test_flat_pictures_are_not_alike() -> None:
    flat = _thumbnails([Image.new("L", (60, 40), value) for value in (0, 90, 255)])
    assert alike(flat, flat) == []


def test_mirrored_and_other_photos_are_not_alike(photos: list[Image.Image]) -> None:
    mirrored = [photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for photo in photos]
    assert alike(_thumbnails(photos), _thumbnails(mirrored)) == []


def test_distance_and_correlation_by_hand() -> None:
    ramp = np.arange(THUMBNAIL**2, dtype=np.uint8).reshape(1, THUMBNAIL, THUMBNAIL)
    ((_, _, distance, correlation),) = alike(ramp, ramp // 2)
    assert distance == 0  # half as bright, every comparison is the same
    assert correlation == pytest.approx(1, abs=1e-4)


def test_blocks_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (50, THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    second = first[::-1].copy()
    whole = alike(first, second)
    monkeypatch.setattr("frostbox.data.doctor.leaks._PAIRS", 350)
    assert alike(first, second) == whole
    assert [(a, b) for a, b, _, _ in whole] == [(k, 49 - k) for k in range(50)]
