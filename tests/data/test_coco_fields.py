"""COCO files as scripts, spreadsheets and other tools write them: odd ids, shares, gaps."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from frostbox.data.annotations import DetectionSet
from frostbox.data.coco import read_coco
from frostbox.data.formats import recognise
from frostbox.errors import DataError
from tests.data.sets import CATEGORIES, coco_image, coco_object, write_coco_file

BOX = [1, 2, 3, 4]


def _read(
    folder: Path, images: list[dict], objects: list[dict], categories: list[dict] = CATEGORIES
) -> DetectionSet:
    return read_coco(write_coco_file(folder / "train.json", images, objects, categories))


# Ids


def test_whole_numbers_may_be_written_as_decimals(tmp_path: Path) -> None:
    image = {**coco_image(7, "a.jpg"), "id": 7.0}
    categories = [{"id": 1.0, "name": "cat"}, {"id": 3, "name": "dog"}]
    objects = [coco_object(7, 1, BOX), {"image_id": 7.0, "category_id": 3.0, "bbox": BOX}]
    dataset = _read(tmp_path, [image], objects, categories)
    assert [obj.name for obj in dataset.images[0].objects] == ["cat", "dog"]
    assert str(dataset.images[0].number) == "7"  # not 7.0
    assert [str(number) for number in dataset.categories] == ["1", "3"]


@pytest.mark.parametrize("number", [7.5, True, None, [7], float("inf")])
def test_what_is_no_id_is_named(tmp_path: Path, number: object) -> None:
    images = [coco_image(1, "a.jpg"), {**coco_image(2, "b.jpg"), "id": number}]
    with pytest.raises(DataError, match=r"images\[1\] has the id .*; give each entry a whole numb"):
        _read(tmp_path, images, [])
    with pytest.raises(DataError, match=r"annotations\[0\] \(id 1\): category_id .* is of no cat"):
        _read(tmp_path, images[:1], [{"image_id": 1, "category_id": number, "bbox": BOX}])


def test_text_for_a_number_is_told_apart(tmp_path: Path) -> None:
    text = {**coco_image(7, "a.jpg"), "id": "7"}
    with pytest.raises(DataError, match=r"image_id 7 is of no image \(the id '7' is text\)"):
        _read(tmp_path, [text], [coco_object(7, 1, BOX)])
    with pytest.raises(DataError, match=r"category_id '3' is of no category \(the id 3 is a numb"):
        _read(tmp_path, [text], [{"image_id": "7", "category_id": "3", "bbox": BOX}])
    dataset = _read(tmp_path, [text], [{"image_id": "7", "category_id": 3, "bbox": BOX}])
    assert (dataset.images[0].number, len(dataset.images[0].objects)) == ("7", 1)


# Boxes in [0, 1]


def test_shares_of_the_sides_are_read_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [coco_image(1, "a.jpg", (60, 40)), coco_image(2, "b.jpg", (200, 100))]
    objects = [
        coco_object(1, 1, [0.1, 0.2, 0.3, 0.4], area=0.06),
        coco_object(2, 1, [0, 0.5, 1, 0.5]),
    ]
    with caplog.at_level(logging.WARNING, "frostbox"):
        dataset = _read(tmp_path, images, objects)
    (one,), (two,) = (image.objects for image in dataset.images)
    assert one.box == (6, 8, 24, 24)
    assert one.size == pytest.approx(0.06 * 60 * 40)
    assert (two.box, two.size) == ((0, 50, 200, 100), 200 * 50)
    words = "boxes in [0, 1], taken as shares of width and height"
    assert words in caplog.text
    assert recognise(tmp_path).seen(dataset).endswith(f"3 classes; {words}")


def test_one_box_in_pixels_makes_all_pixels(tmp_path: Path) -> None:
    objects = [coco_object(1, 1, [0.1, 0.2, 0.3, 0.4]), coco_object(1, 1, [0, 0, 1, 1.5])]
    dataset = _read(tmp_path, [coco_image(1, "a.jpg")], objects)
    assert [obj.box for obj in dataset.images[0].objects] == [(0.1, 0.2, 0.4, 0.6), (0, 0, 1, 1.5)]
    assert dataset.boxes == ""


def test_boxes_without_area_are_no_shares(tmp_path: Path) -> None:
    dataset = _read(tmp_path, [coco_image(1, "a.jpg")], [coco_object(1, 1, [0, 0, 0, 0])])
    assert dataset.boxes == ""


# Lists


def test_a_list_without_annotations_is_one_without_objects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {"images": [coco_image(1, "a.jpg")], "categories": CATEGORIES}
    (tmp_path / "test.json").write_text(json.dumps(content))
    dataset = read_coco(tmp_path / "test.json")
    assert (len(dataset), dataset.images[0].objects) == (1, ())
    assert "has no list 'annotations': its images have no objects" in caplog.text


def test_the_keypoints_of_a_category_are_no_object(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "person", "keypoints": ["nose", "eye"], "skeleton": [[1, 2]]}]
    found = coco_object(1, 1, BOX, keypoints=[1, 2, 2, 3, 4, 2])
    dataset = _read(tmp_path, [coco_image(1, "a.jpg")], [found], categories)
    assert dataset.unread[0] == "keypoints of 1 objects"
