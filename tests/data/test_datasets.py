"""The classic data sets: items of every mode, faults in the settings, workers and batches."""

from __future__ import annotations

import logging
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import pil_to_tensor

from frostbox import data
from frostbox.data import named
from frostbox.data.download import Archive
from frostbox.errors import DataError, NotFoundError, SettingsError
from tests.conftest import TINY, TinyVoc

NONE = {"image_mode": "none"}
LARGEST = {"target_mode": "largest_bbox"}


def _sized(mode: str, width: int = 32, height: int = 24) -> dict[str, Any]:
    return {"image_mode": mode, "output_image_size": {"width": width, "height": height}}


def _float(image: Image.Image) -> torch.Tensor:
    return pil_to_tensor(image).float() / 255


def test_images_are_pil_of_the_size_asked_for(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    for mode, size in (("none", (60, 40)), ("shrink", (32, 24)), ("crop", (32, 24))):
        params = NONE if mode == "none" else _sized(mode)
        train, valid = data.make_trainval_dataset(root, params, None, {"target_mode": "orig"})
        assert (len(train), len(valid)) == (2, 2)
        image, _ = train[0]
        assert isinstance(image, Image.Image)
        assert image.mode == "RGB"
        assert image.size == size
    train, _ = data.make_trainval_dataset(root, _sized("letterbox"), _float, LARGEST, False)
    assert train[0][0].shape == (3, 24, 32)


def test_orig_and_preprocessed(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    train, _ = data.make_trainval_dataset(root, NONE, None, {"target_mode": "orig"})
    assert train[0][1]["annotation"]["object"][0]["bndbox"]["xmin"] == "5"
    train, _ = data.make_trainval_dataset(root, NONE, None, {"target_mode": "preprocessed"})
    dog, person = train[0][1]["annotation"]["object"]
    assert dog["bndbox"] == {"xmin": 5, "ymin": 6, "xmax": 30, "ymax": 35}
    assert dog["occluded"] is False
    assert dog["pose"] == "Unspecified"
    assert person["name"] == "person"


def test_largest_box_after_the_image_transform(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    train, _ = data.make_trainval_dataset(root, NONE, None, LARGEST)
    target = train[0][1]
    # The person, 29 x 39, is larger than the dog, 25 x 29.
    assert target["labels"].tolist() == [data.classes.index("person")]
    expected = torch.tensor([45.5 / 60, 20.5 / 40, 29 / 60, 39 / 40])
    torch.testing.assert_close(target["bboxes"], expected)
    params = _sized("crop", 30, 20)
    train, _ = data.make_trainval_dataset(
        root, params, None, {**LARGEST, "image_transform_params": params}
    )
    # The crop keeps x from 15 to 45 and y from 10 to 30, where the dog is the larger, 15 x 20.
    assert train[0][1]["labels"].tolist() == [data.classes.index("dog")]
    torch.testing.assert_close(train[0][1]["bboxes"], torch.tensor([0.25, 0.5, 0.5, 1.0]))


def test_images_without_a_box_are_left_out_or_kept_empty(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc(
        {"a": TINY["a"], "b": [("dog", (1, 1, 9, 9))], "c": [], "d": TINY["d"]},
        splits={"train": "abc", "val": "d"},
    )
    with caplog.at_level(logging.WARNING, "frostbox"):
        train, _ = data.make_trainval_dataset(root, _sized("crop"), _float, LARGEST)
    assert [image.image_id for image in train.images] == ["a"]
    assert "2 of the 3 images of VOC2012 train keep no box" in caplog.text
    grid = {"target_mode": "all_bbox", "num_cells": 7}
    train, _ = data.make_trainval_dataset(root, _sized("crop"), _float, grid)
    assert [int(train[k][1]["has_obj"].sum()) for k in range(3)] == [2, 0, 0]


def test_batches(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    shapes = {}
    for mode in ({"target_mode": "all_bbox", "num_cells": 7}, LARGEST):
        train, _ = data.make_trainval_dataset(root, _sized("shrink"), _float, mode)
        images, batch = next(iter(DataLoader(train, batch_size=2)))
        assert images.shape == (2, 3, 24, 32)
        shapes[mode["target_mode"]] = {name: tuple(t.shape) for name, t in batch.items()}
    assert shapes == {
        "all_bbox": {"bboxes": (2, 4, 7, 7), "has_obj": (2, 7, 7), "labels": (2, 7, 7)},
        "largest_bbox": {"bboxes": (2, 4), "labels": (2, 1)},
    }


def test_batches_from_a_spawned_worker(tiny_voc: TinyVoc) -> None:
    train, _ = data.make_trainval_dataset(tiny_voc(), _sized("shrink"), _float, LARGEST)
    loader = DataLoader(train, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    (images, batch), (same, _) = next(iter(loader)), next(iter(DataLoader(train, batch_size=2)))
    assert torch.equal(images, same)
    assert batch["bboxes"].shape == (2, 4)


def test_a_data_set_can_be_pickled(tiny_voc: TinyVoc) -> None:
    train, _ = data.make_trainval_dataset(tiny_voc(), NONE, None, LARGEST)
    copy = pickle.loads(pickle.dumps(train))
    assert copy.images == train.images
    assert copy[1][0].size == (60, 40)


def test_missing_photos_are_left_out_and_none_is_an_error(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc()
    (root / "JPEGImages" / "a.jpg").unlink()
    with caplog.at_level(logging.WARNING, "frostbox"):
        train, _ = data.make_trainval_dataset(root, NONE, None, LARGEST)
    assert len(train) == 1
    assert "1 of the 2 photos" in caplog.text
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(DataError, match="holds none of the 2 photos"):
        data.make_trainval_dataset(root, NONE, None, LARGEST)


def test_a_photo_of_another_size_is_an_error(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    Image.new("RGB", (40, 60)).save(root / "JPEGImages" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg is 40 x 60 pixels but .*a\.xml says 60 x 40"):
        data.make_trainval_dataset(root, NONE, None, LARGEST)


def test_own_class_names(tiny_voc: TinyVoc) -> None:
    box = (1, 1, 30, 30)
    root = tiny_voc({"a": [("newt", box)], "b": [("ant", box)], "c": [("newt", box)]},
                    splits={"train": "ab", "val": "c"})  # fmt: skip
    train, valid = data.make_trainval_dataset(root, NONE, None, LARGEST)
    assert train.classes == valid.classes == ["ant", "newt"]
    assert valid[0][1]["labels"].tolist() == [1]


def test_voc2012_in_its_devkit_comes_first(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(name="VOCdevkit/VOC2012")
    shutil.copytree(root, root.parent / "VOC2019")
    train, _ = data.make_trainval_dataset(root.parent.parent, NONE, None, LARGEST)
    assert train.images[0].source.parts[-3] == "VOC2012"


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, LARGEST, r"image_transform_params\['image_mode'\] is None; choose one of none, shrink"),
    ({"image_mode": "zoom"}, LARGEST, r"\['image_mode'\] is 'zoom'"),
    ({"image_mode": "crop"}, LARGEST, r"\['output_image_size'\] is None; image_mode 'crop' needs"),
    ({"image_mode": "crop", "output_image_size": 224}, LARGEST, r"needs \{'width': w"),
    (_sized("crop", 0), LARGEST, r"\['output_image_size'\]\['width'\] is 0; give a whole number"),
    ({**NONE, "size": 1}, LARGEST, r"has the unknown key 'size'; the keys are image_mode, output"),
    (NONE, {}, r"target_transform_params\['target_mode'\] is None; choose one of orig"),
    (NONE, {"target_mode": "all_bbox"}, r"\['num_cells'\] is None; give a whole number of cells"),
    (NONE, {"target_mode": "all_bbox", "num_cells": 2.0}, r"\['num_cells'\] is 2\.0"),
    (NONE, {**LARGEST, "cells": 7}, r"target_transform_params has the unknown key 'cells'"),
    (NONE, {**LARGEST, "image_transform_params": _sized("crop")}, r"boxes fit the image only"),
]


@pytest.mark.parametrize(("image", "target", "message"), WRONG)
def test_wrong_settings(
    tmp_path: Path, image: dict[str, Any], target: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        data.make_trainval_dataset(tmp_path, image, None, target)


def test_voc2012_is_downloaded_once_and_a_failure_says_what_to_do(
    tiny_voc: TinyVoc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, home, asked = tiny_voc(name="packed/VOC2012"), tmp_path / "new", []

    def fetch(archive: Archive, folder: Path, report: object = None) -> Path:
        asked.append(archive.name)
        if len(asked) == 1:
            raise NotFoundError(f"fetch the file by hand into {folder}.")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / archive.name, "w") as tar:
            tar.add(packed, "VOCdevkit/VOC2012")
        return folder / archive.name

    monkeypatch.setattr(named, "fetch", fetch)
    with pytest.raises(NotFoundError, match=f"by hand into {home}/downloads"):
        data.make_trainval_dataset(home, NONE, None, LARGEST, True)
    for _ in range(2):
        train, _valid = data.make_trainval_dataset(home, NONE, None, LARGEST, True)
        assert len(train) == 2
    assert asked == 2 * ["VOCtrainval_11-May-2012.tar"]
    assert (home / "VOCdevkit/VOC2012/Annotations").is_dir()


def test_the_first_item_of_voc2012(voc2012: Path, tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "Annotations").symlink_to(voc2012 / "Annotations")
    (root / "ImageSets").symlink_to(voc2012 / "ImageSets")
    Image.new("RGB", (500, 442)).save(root / "JPEGImages" / "2008_000008.jpg")
    train, valid = data.make_trainval_dataset(
        tmp_path, NONE, None, {"target_mode": "preprocessed"}, False
    )
    assert (len(train), len(valid)) == (1, 0)
    image, target = train[0]
    assert np.asarray(image).shape == (442, 500, 3)
    assert target["annotation"]["filename"] == "2008_000008.jpg"
    assert [obj["name"] for obj in target["annotation"]["object"]] == ["horse", "person"]
    train, _ = data.make_trainval_dataset(tmp_path, NONE, None, LARGEST, False)
    torch.testing.assert_close(
        train[0][1]["bboxes"], torch.tensor([0.5240, 0.5735294, 0.8360, 0.7533937])
    )
    assert train[0][1]["labels"].tolist() == [5]


def test_a_batch_of_voc2007(voc2007: Path) -> None:
    grid = {"target_mode": "all_bbox", "num_cells": 7}
    train, valid = data.make_trainval_dataset(voc2007, _sized("shrink", 224, 224), _float, grid)
    assert len(train) + len(valid) == len(list((voc2007 / "JPEGImages").iterdir()))
    images, batch = next(iter(DataLoader(train, batch_size=4)))
    assert images.shape == (4, 3, 224, 224)
    assert batch["has_obj"].sum() >= 4
