"""VOC XML without lists: what is taken, what is left out and said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from frostbox.data.formats import load, load_training
from frostbox.errors import DataError
from tests.conftest import RawObject, xml_annotation
from tests.data.sets import photo

BOX = (5, 6, 30, 35)


def _folder(root: Path, *more: RawObject, count: int = 9) -> Path:
    """Photos with XML beside them, one good box each; the first has more."""
    for k in range(count):
        photo(root / f"{k}.jpg", seed=k)
        found: list[RawObject] = [("dog", BOX), *(more if k == 0 else ())]
        (root / f"{k}.xml").write_text(xml_annotation(str(k), found))
    return root


def test_boxes_that_do_not_fit_are_cut_or_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _folder(
        tmp_path / "flat",
        ("dog", (31, 1, 70, 40)), ("dog", (30, 30, 20, 35)), ("cat", (7, 7, 7, 7)),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "frostbox"):
        dataset = load(root, "all")
    assert [obj.box for obj in dataset.images[0].objects] == [(4, 5, 30, 35), (30, 0, 60, 40)]
    assert dataset.unread == (
        "2 boxes that have no area and are left out",
        "1 boxes that reach outside their images and are cut off at the border",
    )
    where = f"{root}/0.xml: object 2 (dog): bndbox, counted from 0, is (30, 0, 70, 40)"
    assert where in caplog.text
    train, val = load_training(root, "train", "val")
    assert val is not None
    assert len(train) + len(val) == 9


def test_boxes_of_another_meaning_are_refused(tmp_path: Path) -> None:
    root = _folder(tmp_path / "flat", *[("dog", (50, 30, 90, 90))] * 5)
    with pytest.raises(DataError, match=r"5 of 14 boxes reach outside .* are they corners"):
        load(root, "all")


def test_only_boxes_of_the_split_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _folder(tmp_path / "train", ("dog", (0, 1, 9, 9)), ("dog", (30, 30, 20, 35)))
    _folder(tmp_path / "valid")
    with caplog.at_level(logging.WARNING, "frostbox"):
        assert load(tmp_path, "val").unread == ()
    assert caplog.text == ""
    assert load(tmp_path, "train").unread == ("1 boxes that have no area and are left out",)
    assert "1 boxes have xmin or ymin 0" in caplog.text


def test_photos_without_xml_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _folder(tmp_path / "flat", count=2)
    # `filename` gives the photo of an XML of another name.
    (root / "1.jpg").rename(root / "other.jpg")
    (root / "1.xml").write_text(xml_annotation("other", [("dog", BOX)]))
    for name in ("y", "x"):
        photo(root / f"{name}.jpg")
    with caplog.at_level(logging.WARNING, "frostbox"):
        dataset = load(root, "all")
    assert len(dataset.photos) == 2
    assert dataset.unread == ("2 photos without XML",)
    assert "2 photos have no XML and are not used" in caplog.text
    assert "background): x.jpg; y.jpg" in caplog.text
