"""Estimates: disk by views to the byte, and time measured on the views that are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostbox import backbones, planning
from frostbox.data.views import View
from frostbox.features.engine import create_engine
from frostbox.features.extract import extract
from tests.features.conftest import write_photos

SIZE = (96, 64)


def test_an_extraction_is_estimated_by_its_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones.create("lite0", (16, 32))
    photos = write_photos(tmp_path / "photos", 5)
    engine = create_engine("torch", backbone, SIZE)
    loaded: list[tuple[str, ...]] = []
    load_views = planning.load_views

    def noted(image, mode, size, views: tuple[View, ...], photos):
        loaded.append(tuple(view.name for view in views))
        return load_views(image, mode, size, views, photos)

    monkeypatch.setattr(planning, "load_views", noted)
    both = [(photos, 4), (photos, 1)]
    estimate = planning.estimate_extraction(both, backbone, engine, SIZE, "shrink")
    drawn = ("original", "flip", "mosaic 2", "zoom-in 3")
    assert loaded == [drawn] * 5 + [("original",)] * 5
    assert estimate.what == "extracting 25 views of 10 photos"
    written = sum(
        extract(photos, backbone, tmp_path / str(n), size=SIZE, views=n, engine=engine).nbytes
        for n in (4, 1)
    )
    assert 0 <= written - estimate.disk_bytes < 1000
    assert estimate.seconds > 0
    assert "MB of disk" in str(estimate)
