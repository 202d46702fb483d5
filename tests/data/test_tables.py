"""Hugging Face data sets: objects, saved folders and parquet; photos written out once."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CocoDetection

from frostbox.data.annotations import ObjectAnnotation
from frostbox.data.formats import load, load_training, recognise
from frostbox.errors import DataError, NotFoundError, SettingsError
from tests.data.sets import coco_image, coco_object, photo, write_coco_file

NAMES = ["cat", "dog"]


def _bytes(size: tuple[int, int] = (60, 40), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _table(rows: list[dict], **objects: datasets.features.features.FeatureType) -> datasets.Dataset:
    parts = {
        "bbox": datasets.List(datasets.Value("float32")),
        "category": datasets.ClassLabel(names=NAMES),
        **objects,
    }
    features = {"image": datasets.Image(), "objects": datasets.List(parts)}
    if "image_id" in rows[0]:
        features["image_id"] = datasets.Value("int64")
    return datasets.Dataset.from_list(rows, features=datasets.Features(features))


def _row(*objects: tuple[list[float], int], content: bytes | None = None, **more: int) -> dict:
    found = [{"bbox": box, "category": category} for box, category in objects]
    return {"image": {"bytes": content or _bytes(), "path": None}, "objects": found, **more}


def test_a_table_and_its_photos(data_home: Path) -> None:
    table = _table([
        _row(([4, 5, 26, 30], 1), image_id=42),
        _row(image_id=7, content=_bytes((30, 50), "JPEG")),
    ])  # fmt: skip
    dataset = load(table, "all")
    first, second = dataset.images
    assert dataset.classes == ("cat", "dog")
    assert first.objects == (ObjectAnnotation("dog", (4, 5, 30, 35)),)
    assert (first.number, first.image_id, first.width, first.height) == (42, "42", 60, 40)
    assert (second.width, second.height, second.objects) == (30, 50, ())
    assert [image.photo.suffix for image in dataset.images] == [".png", ".jpg"]
    assert all(image.photo.is_relative_to(data_home / "photos") for image in dataset.images)
    assert first.photo.read_bytes() == _bytes()
    written = first.photo.stat().st_mtime_ns
    assert load(table, "all").images[0].photo.stat().st_mtime_ns == written  # once


def test_crowds_and_areas() -> None:
    row = _row(([4, 5, 26, 30], 1))
    row["objects"][0] |= {"iscrowd": True, "area": 12.5}
    table = _table([row], iscrowd=datasets.Value("bool"), area=datasets.Value("float32"))
    (obj,) = load(table, "all").images[0].objects
    assert (obj.crowd, obj.area) == (True, 12.5)


def test_boxes_as_corners_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    corners = [([20, 15, 50, 35], 0), ([30, 20, 58, 39], 1), ([1, 1, 20, 20], 1)]
    with caplog.at_level(logging.WARNING, "frostbox"):
        dataset = load(_table([_row(*corners)]), "all")
    assert [obj.box for obj in dataset.images[0].objects] == [tuple(box) for box, _ in corners]
    assert "boxes are read as (xmin, ymin, xmax, ymax)" in caplog.text


def test_objects_as_columns_of_lists_and_names_as_text() -> None:
    table = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": _bytes(), "path": None}],
            "objects": [{"bbox": [[1, 2, 3, 4]], "label": ["zebra"]}],
        }
    ).cast_column("image", datasets.Image())
    dataset = load(table, "all")
    assert dataset.classes == ("zebra",)
    assert dataset.images[0].objects[0].box == (1, 2, 4, 6)


def test_photos_that_lie_in_files_stay_there(tmp_path: Path) -> None:
    row = _row()
    row["image"] = {"bytes": None, "path": str(photo(tmp_path / "a.jpg"))}
    assert load(_table([row]), "all").images[0].photo == tmp_path / "a.jpg"
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(NotFoundError, match="row 0 has neither the bytes of a picture nor a file"):
        load(_table([row]), "all")


def test_saved_folders_parquet_and_dictionaries(tmp_path: Path) -> None:
    one, two = _table([_row(([4, 5, 26, 30], 1))] * 3), _table([_row()])
    both = datasets.DatasetDict({"train": one, "validation": two})
    both.save_to_disk(tmp_path / "saved")
    one.save_to_disk(tmp_path / "single")
    (tmp_path / "hub/data").mkdir(parents=True)
    one.to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    two.to_parquet(tmp_path / "hub/data/validation-00000-of-00001.parquet")
    for data in (tmp_path / "saved", tmp_path / "hub", both):
        train, val = load_training(data, "train", "val")
        assert val is not None
        assert (len(train), len(val)) == (3, 1)
        assert train.images[0].objects == (ObjectAnnotation("dog", (4, 5, 30, 35)),)
    assert recognise(tmp_path / "hub").format == "Hugging Face data set"
    assert load(tmp_path / "hub", "train").name == "hub"
    single = load(tmp_path / "single", "all")
    assert (
        len(single) == len(load(tmp_path / "hub/data/train-00000-of-00001.parquet", "train")) == 3
    )
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"bad\.parquet cannot be read as parquet"):
        load(tmp_path / "bad.parquet", "all")


def test_rows_without_picture_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    table = _table([_row(content=b"no picture"), _row(([4, 5, 26, 30], 1))])
    (image,) = load(table, "all").images
    assert image.photo.name == "000001.png"
    assert "1 rows are left out" in caplog.text


def test_faults() -> None:
    with pytest.raises(SettingsError, match="has the columns a; object detection needs image"):
        load(datasets.Dataset.from_dict({"a": [1]}), "all")
    with pytest.raises(DataError, match="row 0, object 1: .* has no box and category"):
        load(_table([_row(([1, 2, 3], 0))]), "all")
    numbers = {"image": [{"bytes": _bytes(), "path": None}],
               "objects": [[{"bbox": [1, 2, 3, 4], "category": 3}]]}  # fmt: skip
    with pytest.raises(SettingsError, match="numbers without names; give it the feature ClassLab"):
        load(datasets.Dataset.from_dict(numbers).cast_column("image", datasets.Image()), "all")


def test_a_table_that_streams_is_refused() -> None:
    table = _table([_row(([4, 5, 26, 30], 1))]).to_iterable_dataset()
    for data in (table, datasets.IterableDatasetDict({"train": table}), {"train": table}):
        with pytest.raises(SettingsError, match="without streaming=True"):
            recognise(data)


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dataset_dict.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SettingsError, match=r"frostbox\[datasets\]"):
        load(tmp_path, "train")


def test_columns_that_are_not_read_are_listed() -> None:
    row = _row(([4, 5, 26, 30], 1), image_id=3)
    row["objects"][0] |= {"id": 17, "area": 780.0, "colour": "red"}
    kinds = {"id": "int64", "area": "float32", "colour": "string"}
    table = _table([row], **{name: datasets.Value(kind) for name, kind in kinds.items()})
    table = table.add_column("caption", ["a dog"]).add_column("note", [""])
    dataset = load(table, "all")
    assert dataset.unread == ("column 'caption' of 1 rows", "objects.colour of 1 objects")
    (obj,) = dataset.images[0].objects
    assert (obj.number, obj.area) == (17, None)  # no more than the box says


def test_masks_of_coco_detection_are_counted(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    objects = [coco_object(1, 1, [1, 2, 30, 20], segmentation=[[1, 2, 3, 4, 5, 6]])]
    path = write_coco_file(tmp_path / "t.json", [coco_image(1, "a.jpg")], objects)
    data = CocoDetection(str(tmp_path), str(path))
    assert load(data, "all").unread[0] == "masks of 1 objects"
    assert data.coco.dataset["annotations"][0]["segmentation"] == [[1, 2, 3, 4, 5, 6]]
