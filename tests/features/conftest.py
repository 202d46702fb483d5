"""A small data set of photos, and one thread: two fight for the cores when other work runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frostbox import backbones
from frostbox.data.annotations import DetectionSet, ImageAnnotation


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def backbone() -> backbones.Backbone:
    return backbones.create("lite0", (16, 32))


def write_photos(folder: Path, count: int, *, seed: int = 3) -> DetectionSet:
    """A data set of `count` photos of different sizes, without objects."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    made = photo_set(folder, count)
    for image in made.images:
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((image.width, image.height))
        picture.save(image.photo, quality=95)
    return made


def photo_set(folder: Path, count: int) -> DetectionSet:
    """The data set that `write_photos` has written there."""
    images = []
    for k in range(count):
        path = folder / f"photo{k:02d}.jpg"
        images.append(ImageAnnotation(f"photo{k:02d}", path, 80 + 4 * k, 100 - 2 * k, (), path))
    return DetectionSet("tiny", folder, "train", ("cat",), "the test", tuple(images))


@pytest.fixture
def photos(tmp_path: Path) -> DetectionSet:
    return write_photos(tmp_path / "photos", 10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """See ranks.starting."""
    from tests.features.ranks import starting

    with starting(tmp_path) as begin:
        yield begin
