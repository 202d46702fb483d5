"""Bytes from anywhere: what is decoded, and that nothing else happens than a refusal."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frostbox import Detector
from frostbox.serve.limits import Limits, Refused
from frostbox.serve.pictures import decode
from tests.damage import PNG_FAULTS, damaged_png
from tests.serve.conftest import picture

LIMITS = Limits(max_pixels=1_000_000)


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model)


@pytest.mark.parametrize("fault", PNG_FAULTS)
def test_a_damaged_png_is_refused(detector: Detector, tmp_path: Path, fault: str) -> None:
    with pytest.raises(Refused, match="cannot be decoded") as refusal:
        decode(damaged_png(fault), detector, LIMITS, tmp_path)
    assert refusal.value.status == 400


def test_the_pixels_are_those_of_a_file(detector: Detector, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    for form, options in (("PNG", {"exif": exif}), ("JPEG", {"exif": exif}), ("WEBP", {})):
        body = picture((240, 160), form, **options)
        (tmp_path / "file").write_bytes(body)
        expected, there = detector.to_input(tmp_path / "file")
        got, here = decode(body, detector, LIMITS, tmp_path)
        assert torch.equal(got, expected), form
        assert here == there
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    (tmp_path / "file").write_bytes(file.getvalue())
    assert torch.equal(
        decode(file.getvalue(), detector, LIMITS, tmp_path)[0],
        detector.to_input(tmp_path / "file")[0],
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_damage_is_refused_or_overlooked(detector: Detector, tmp_path: Path, form: str) -> None:
    whole, rng, statuses = picture((80, 60), form), random.Random(form), set()
    said: list[str] = []
    folder = tmp_path / "private"
    folder.mkdir()
    for _ in range(20):
        body = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20))):
            body[rng.randrange(min(len(body), rng.choice((64, 400, 10**6))))] = rng.randrange(256)
        try:
            decode(
                bytes(body[: rng.choice((None, rng.randrange(len(body))))]),
                detector,
                LIMITS,
                folder,
            )
        except Refused as refusal:
            statuses.add(refusal.status)
            said.append(str(refusal))
    assert statuses <= {400, 413, 415}
    assert statuses
    assert "private" not in "".join(said)
    assert list(folder.iterdir()) == []
