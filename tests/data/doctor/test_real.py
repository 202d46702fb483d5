"""The real VOC2007 and VOC2012: no false alarm, and what is truly there is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostbox.data.doctor import examine

MISSING = {"005042", "007284", "009623"}


def test_annotations_of_voc2007(voc2007: Path) -> None:
    report = examine(voc2007, photos=False)
    assert not report.of("breaks")
    spoiling = {(f.kind, f.file.stem) for f in report.of("spoils")}
    # One person, one train and one person, each drawn twice; seen in the photos.
    twice = {("box-near-duplicate", image_id) for image_id in ("003261", "004437", "009726")}
    assert spoiling == twice | {("photo-missing", image_id) for image_id in MISSING}
    whole = {f.file.stem for f in report.findings if f.kind == "box-covers-image"}
    assert len(whole) == 11
    crowded = [f.count for f in report.findings if f.kind == "grid-crowded"]
    assert crowded[:4] == sorted(crowded[:4], reverse=True)


@pytest.mark.slow
def test_photos_of_voc2007(voc2007: Path) -> None:
    report = examine(voc2007)
    assert report.photos == 5008
    assert not report.of("breaks")
    (alike,) = [f for f in report.findings if f.kind.startswith("photo-") and f.file.stem not in
                MISSING]  # fmt: skip
    # The same locomotive, cropped a little differently, in train and in val; seen in the photos.
    assert (alike.kind, alike.file.stem) == ("photo-alike-in-two-splits", "003848")
    assert "001172.jpg in train" in alike.found
