"""COCO JSON: what is read, from every place that tools put it; what is refused; and back."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import hotcoco
import pytest
from hypothesis import given
from pycocotools.coco import COCO

from frostbox.data.annotations import DetectionSet, ObjectAnnotation
from frostbox.data.coco import read_coco
from frostbox.data.coco_layout import find_files, is_coco, siblings, split_of
from frostbox.data.coco_write import write_coco, xywh
from frostbox.data.voc import load
from frostbox.errors import DataError, NotFoundError
from tests.data.sets import CATEGORIES, coco_image, coco_object, photo, sets, write_coco_file

ONE = [coco_image(7, "a.jpg")]


def _read_one(tmp_path: Path, *objects: dict, images=ONE, categories=CATEGORIES) -> DetectionSet:
    return read_coco(write_coco_file(tmp_path / "train.json", images, objects, categories))


# What is read


def test_boxes_ids_and_labels(tmp_path: Path) -> None:
    dataset = _read_one(
        tmp_path,
        coco_object(7, 90, [4, 5, 26, 30], iscrowd=0, area=123.5),
        coco_object(7, 1, [0.5, 1.25, 10, 20], iscrowd=1),
        images=[coco_image(9, "sub/b.png"), *ONE],
    )
    empty, image = dataset.images
    assert dataset.classes == ("person", "cat", "dog")  # in the order of their ids
    assert dataset.categories == {1: 0, 3: 1, 90: 2}
    assert (empty.image_id, empty.number, empty.objects) == ("sub/b", 9, ())
    assert (image.image_id, image.number, image.width, image.height) == ("a", 7, 60, 40)
    assert image.objects == (
        ObjectAnnotation("dog", (4, 5, 30, 35), area=123.5),
        ObjectAnnotation("person", (0.5, 1.25, 10.5, 21.25), crowd=True),
    )
    assert dataset.unread == ("supercategories (animal)",)


def test_flags_of_cvat_and_ignore(tmp_path: Path) -> None:
    box = [1, 2, 3, 4]
    flags = {"occluded": True, "truncated": 1, "pose": "Left"}
    dataset = _read_one(
        tmp_path, coco_object(7, 1, box, attributes=flags), coco_object(7, 1, box, ignore=1)
    )
    first, second = dataset.images[0].objects
    assert (first.occluded, first.truncated, first.difficult, first.pose) == (
        True, True, False, "Left",
    )  # fmt: skip
    assert second.difficult


def test_masks_are_counted_as_unread(tmp_path: Path) -> None:
    rle = {"counts": [1, 2], "size": [40, 60]}
    dataset = _read_one(
        tmp_path,
        coco_object(7, 1, [1, 2, 3, 4], segmentation=[[1, 1, 2, 2, 3, 3]]),
        coco_object(7, 1, [1, 2, 3, 4], segmentation=rle),
        coco_object(7, 1, [1, 2, 3, 4], segmentation=[]),
    )
    assert dataset.unread[0] == "masks of 2 objects"


def test_a_size_that_is_missing_is_the_upright_photos(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", (60, 40), exif=6)
    image = {"id": 7, "file_name": "a.jpg"}
    found = _read_one(tmp_path, images=[image]).images[0]
    assert (found.width, found.height) == (40, 60)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"images\[0\] \(id 7\) \(a.jpg\) has no width and height"):
        read_coco(write_coco_file(tmp_path / "val.json", [image]))


def test_roboflows_roof_category_is_no_class(tmp_path: Path) -> None:
    roof = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "dog", "supercategory": "pets"},
    ]
    dataset = _read_one(tmp_path, coco_object(7, 1, [1, 2, 3, 4]), categories=roof)
    assert dataset.classes == ("dog",)
    used = _read_one(tmp_path, coco_object(7, 0, [1, 2, 3, 4]), categories=roof)
    assert used.classes == ("pets", "dog")


def test_one_name_with_two_ids_is_one_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    twice = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}]
    dataset = _read_one(tmp_path, coco_object(7, 5, [1, 2, 3, 4]), categories=twice)
    assert dataset.classes == ("dog", "cat")
    assert dataset.categories == {1: 0, 2: 1, 5: 0}
    assert "several categories are called dog" in caplog.text


# Boxes that do not fit


def test_boxes_are_clipped_or_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [coco_object(7, 1, [10, 10, 20, 20])] * 30
    odd = [
        coco_object(7, 1, [-0.5, 0, 20, 40.6]),  # by rounding
        coco_object(7, 1, [50, 10, 13, 20]),  # three pixels over the right side
        coco_object(7, 1, [55, 10, 30, 20]),  # mostly outside
        coco_object(7, 1, [10, 10, 0, 5]),  # no width
    ]
    with caplog.at_level(logging.WARNING, "frostbox"):
        dataset = _read_one(tmp_path, *good, *odd)
    boxes = [obj.box for obj in dataset.images[0].objects[30:]]
    assert boxes == [(0, 0, 19.5, 40), (50, 10, 60, 30)]
    messages = [record.getMessage() for record in caplog.records]
    assert [m.split(" boxes ")[1].split(":")[0] for m in messages] == [
        "have no area and are left out",
        "lie mostly outside their images and are left out",
        "reach outside their images and are cut off at the border",
        "reach outside by at most 1 pixel and are clipped",
    ]
    assert "annotations[33] (id 34): bbox is (10, 10, 10, 15)" in messages[0]
    assert all("1 of 34" in message for message in messages)


def test_a_file_whose_boxes_are_corners_is_refused(tmp_path: Path) -> None:
    corners = [coco_object(7, 1, [20, 15, 50, 35]), coco_object(7, 1, [5, 5, 30, 20])]
    with pytest.raises(DataError, match=r"1 of 2 boxes reach outside .* is bbox \[x, y, width"):
        _read_one(tmp_path, *corners)


def test_objects_without_box_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = _read_one(
        tmp_path, {"image_id": 7, "category_id": 1}, coco_object(7, 1, []),
        coco_object(7, 1, [1, 2, 3, 4]),
    )  # fmt: skip
    assert len(dataset.images[0].objects) == 1
    assert "2 objects have no bbox and are left out: annotations[0] (id 1)" in caplog.text


# What is refused

FAULTS = {
    "image": ([coco_object(8, 1, [1, 2, 3, 4])], r"annotations\[0\] \(id 1\): image_id 8 is of no"),
    "category": ([coco_object(7, 2, [1, 2, 3, 4])], r"category_id 2 is of no category"),
    "short box": ([coco_object(7, 1, [1, 2, 3])], r"bbox is \[1, 2, 3\], not \[x, y, width"),
    "text box": ([coco_object(7, 1, ["1", 2, 3, 4])], r"bbox is \['1', 2, 3, 4\], not"),
    "several": ([coco_object(8, 1, [1, 2, 3, 4])] * 5, r"5 faults: .*; and 2 more; mend or remove"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_annotations_are_named(tmp_path: Path, fault: str) -> None:
    objects, message = FAULTS[fault]
    with pytest.raises(DataError, match=message) as caught:
        _read_one(tmp_path, *objects)
    assert str(tmp_path / "train.json") in str(caught.value)


def test_infinite_numbers_are_refused(tmp_path: Path) -> None:
    path = write_coco_file(tmp_path / "train.json", ONE, [coco_object(7, 1, [1, 2, 3, 4])])
    path.write_text(path.read_text().replace("[1, 2, 3, 4]", "[1, 2, NaN, 4]"))
    with pytest.raises(DataError, match="bbox is"):
        read_coco(path)


def test_numbers_beyond_a_float_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bbox is"):
        _read_one(tmp_path, coco_object(7, 1, [1, 2, 10**400, 4]))


def test_two_names_that_lead_to_one_photo_are_refused(tmp_path: Path) -> None:
    photo(tmp_path / "1.jpg")
    images = [coco_image(k, f"/data/cam{k}/1.jpg") for k in (1, 2)]
    with pytest.raises(DataError, match=r"images\[1\] is the photo of images\[0\]"):
        read_coco(write_coco_file(tmp_path / "train.json", images))


def test_category_ids_of_both_kinds_are_written(tmp_path: Path) -> None:
    categories = [{"id": "a", "name": "cat"}, {"id": 0, "name": "dog"}]
    objects = [coco_object(7, "a", [1, 2, 3, 4]), coco_object(7, 0, [5, 6, 7, 8])]
    dataset = read_coco(write_coco_file(tmp_path / "train.json", ONE, objects, categories))
    write_coco(tmp_path / "again.json", dataset, ["a.jpg"])
    again = read_coco(tmp_path / "again.json")
    assert [obj.name for obj in again.images[0].objects] == ["cat", "dog"]


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "annotations"):
        write_coco_file(folder / "train.json", ONE)
    with pytest.raises(DataError, match="both say that they are 'train'; give one"):
        find_files(tmp_path)


@pytest.mark.parametrize(
    ("images", "categories", "message"),
    [
        ([*ONE, coco_image(7, "b.jpg")], CATEGORIES, "id 7 stands 2 times in images"),
        (ONE, [*CATEGORIES, {"id": 3, "name": "x"}], "id 3 stands 2 times in categories"),
        (ONE, [{"id": 1, "name": ""}], "category 1 has the name ''"),
        (ONE, [], "categories holds no class name"),
        ([*ONE, {**ONE[0], "id": 8}], CATEGORIES, r"images\[1\] is the photo of images\[0\]"),
        ([{"id": 7, "width": 60, "height": 40}], CATEGORIES, "has no file_name"),
        ([{"file_name": "a.jpg"}], CATEGORIES, r"images\[0\] has no id"),
    ],
)
def test_faulty_lists(tmp_path: Path, images: list, categories: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read_one(tmp_path, images=images, categories=categories)


def test_what_is_no_coco_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        read_coco(tmp_path / "none.json")
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_coco(path)
    path.write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match="has no list 'categories'"):
        read_coco(path)


# Where photos lie


@pytest.mark.parametrize(
    ("json_name", "place", "file_name"),
    [
        ("annotations/instances_train2017.json", "train2017/a.jpg", "a.jpg"),
        ("annotations/instances_train2017.json", "images/train2017/a.jpg", "a.jpg"),
        ("annotations/instances_default.json", "images/default/a.jpg", "a.jpg"),
        ("annotations/instances_default.json", "images/a.jpg", "a.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg", "a.jpg"),
        ("result.json", "images/a.jpg", "images/a.jpg"),
        ("result.json", "images/1/a.jpg", "images\\1\\a.jpg"),
        ("result.json", "images/a.jpg", "/data/upload/1/a.jpg"),
        ("result.json", "images/a.jpg", "..\\..\\media\\upload\\1\\a.jpg"),
        ("result.json", "images/a.jpg", "C:\\photos\\a.jpg"),
        ("labels.json", "data/a.jpg", "a.jpg"),
        ("train.json", "sub/deep/a.jpg", "sub/deep/a.jpg"),
        ("valid.json", "valid/a.jpg", "a.jpg"),
    ],
)
def test_photos_are_found_where_tools_put_them(
    tmp_path: Path, json_name: str, place: str, file_name: str
) -> None:
    photo(tmp_path / place)
    path = write_coco_file(tmp_path / json_name, [coco_image(1, file_name)])
    assert read_coco(path).images[0].photo == tmp_path / place


def test_a_name_cannot_lead_out_of_the_data_folder(tmp_path: Path) -> None:
    photo(tmp_path / "secret.jpg")
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "..\\secret.jpg"):
        path = write_coco_file(tmp_path / "set" / "train.json", [coco_image(1, name)])
        with pytest.raises(DataError, match=r"images\[0\] \(id 1\): file_name is .* leads out of"):
            read_coco(path)


def test_photos_that_are_missing_and_on_the_web(tmp_path: Path) -> None:
    images = [coco_image(1, "gone.jpg"), {**coco_image(2, ""), "coco_url": "http://x.org/t/b.jpg"}]
    photo(tmp_path / "b.jpg")
    first, second = _read_one(tmp_path, images=images).images
    assert first.photo is None
    assert second.photo == tmp_path / "b.jpg"


def test_equal_stems_keep_their_suffix(tmp_path: Path) -> None:
    images = [coco_image(1, "a.jpg"), coco_image(2, "a.png"), coco_image(3, "b.jpg")]
    assert [i.image_id for i in _read_one(tmp_path, images=images).images] == [
        "a.jpg", "a.png", "b",
    ]  # fmt: skip


# Splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("annotations/instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("my_validation_set.json", "val"),
        ("annotations/instances_default.json", "default"),
        ("result.json", "result"),
        ("train_test_split.json", "train_test_split"),
    ],
)
def test_the_split_of_a_file(name: str, split: str) -> None:
    assert split_of(Path(name)) == split


def test_the_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("instances_train2017", "instances_val2017", "captions_val2017"):
        write_coco_file(tmp_path / "annotations" / f"{name}.json", ONE)
    (tmp_path / "annotations" / "results.json").write_text('[{"image_id": 1}]')
    assert {k: p.name for k, p in find_files(tmp_path).items()} == {
        "train": "instances_train2017.json", "val": "instances_val2017.json",
    }  # fmt: skip
    assert set(siblings(tmp_path / "annotations" / "instances_val2017.json")) == {"train", "val"}
    write_coco_file(tmp_path / "annotations" / "instances_train2014.json", ONE)
    assert set(find_files(tmp_path)) == {"train2017", "train2014", "val"}


def test_roboflows_folders(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_coco_file(tmp_path / split / "_annotations.coco.json", ONE)
    assert set(find_files(tmp_path)) == {"train", "val", "test"}
    assert set(siblings(tmp_path / "train" / "_annotations.coco.json")) == {"train", "val", "test"}


def test_label_studios_notes_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"categories": [{"id": 0, "name": "x"}]}')
    assert not is_coco(tmp_path / "notes.json")
    assert is_coco(write_coco_file(tmp_path / "a.json", ONE))
    assert not is_coco(tmp_path / "none.json")


# Writing


@given(dataset=sets())
def test_what_is_written_reads_back(
    dataset: DetectionSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("coco") / "train.json"
    write_coco(path, dataset, [f"{image.image_id}.jpg" for image in dataset.images])
    back = read_coco(path)
    assert back.classes == dataset.classes
    assert [(i.image_id, i.width, i.height, i.objects) for i in back.images] == [
        (i.image_id, i.width, i.height, i.objects) for i in dataset.images
    ]


@given(dataset=sets(digits=9))
def test_corners_survive_to_nine_decimals(dataset: DetectionSet) -> None:
    for image in dataset.images:
        for obj in image.objects:
            x, y, width, height = xywh(obj.box)
            assert (x, y, round(x + width, 9), round(y + height, 9)) == obj.box


def test_a_file_of_ours_and_a_file_read_and_written_are_the_same(tmp_path: Path) -> None:
    objects = [
        coco_object(5, 90, [1.25, 2.13, 38.15, 30.7], area=700.5, iscrowd=0),
        coco_object(7, 1, [473.07, 395.93, 38.65, 28.67], area=1108.0955, iscrowd=1),
    ]
    images = [coco_image(7, "a.jpg", (640, 480)), coco_image(5, "b.jpg", (640, 480))]
    first = write_coco_file(tmp_path / "train.json", images, objects)
    dataset = read_coco(first)
    write_coco(tmp_path / "again.json", dataset, ["a.jpg", "b.jpg"])
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["images"] == images
    key = ("image_id", "category_id", "bbox", "area", "iscrowd")
    assert sorted([entry[k] for k in key] for entry in again["annotations"]) == sorted(
        [entry[k] for k in key] for entry in objects
    )
    assert {c["id"]: c["name"] for c in again["categories"]} == {
        c["id"]: c["name"] for c in CATEGORIES
    }


def test_others_read_what_is_written(tmp_path: Path) -> None:
    dataset = _read_one(
        tmp_path, coco_object(7, 90, [1.5, 2, 30, 20]), coco_object(7, 1, [0, 0, 5, 6], iscrowd=1)
    )
    write_coco(tmp_path / "out.json", dataset, ["a.jpg"])
    ours, theirs = hotcoco.COCO(str(tmp_path / "out.json")), COCO(str(tmp_path / "out.json"))
    for tool in (ours, theirs):
        entries = tool.loadAnns(tool.getAnnIds(imgIds=[7]))
        found = [(e["category_id"], e["bbox"], int(e["iscrowd"])) for e in entries]
        assert found == [(90, [1.5, 2, 30, 20], 0), (1, [0, 0, 5, 6], 1)]


def test_new_numbers_where_there_are_none_for_all(tmp_path: Path) -> None:
    dataset = _read_one(tmp_path, images=[*ONE, coco_image(8, "b.jpg")])
    mixed = dataset.subset([dataset.images[0], replace(dataset.images[1], number=None)])
    write_coco(tmp_path / "out.json", mixed, ["a.jpg", "b.jpg"])
    assert [i.number for i in read_coco(tmp_path / "out.json").images] == [1, 2]


def test_all_of_voc2007_val_there_and_back(voc2007: Path, tmp_path: Path) -> None:
    dataset = load(voc2007, "val")
    write_coco(tmp_path / "val.json", dataset, [f"{i.image_id}.jpg" for i in dataset.images])
    back = read_coco(tmp_path / "val.json")
    assert back.classes == dataset.classes
    assert {i.image_id: i.objects for i in back.images} == {
        i.image_id: i.objects for i in dataset.images
    }
    counted = hotcoco.COCO(str(tmp_path / "val.json")).healthcheck()
    assert counted["errors"] == []
