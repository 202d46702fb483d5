"""Which data set a folder holds: strays and halves beside a whole one, folders around and in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from frostbox.data.formats import load, recognise
from frostbox.errors import DataError, NotFoundError
from tests.conftest import TinyVoc
from tests.data.sets import coco_image, coco_object, photo, write_coco_file
from tests.data.test_formats import boxes


def _cats(root: Path, *splits: str) -> Path:
    """YOLO with these splits, a photo with a cat in each."""
    for split in splits:
        photo(root / f"images/{split}/{split}.jpg")
        (root / f"labels/{split}").mkdir(parents=True)
        (root / f"labels/{split}/{split}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    lines = [f"{split}: images/{split}\n" for split in splits]
    (root / "data.yaml").write_text("".join([*lines, "names: [cat]\n"]))
    return root


def test_a_stray_json_does_not_hide_yolo(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _cats(tmp_path, "train", "val")
    for name in ("export.json", "annotations/instances_val2017.json"):
        stray = write_coco_file(root / name, [coco_image(1, "val.jpg")])
        source = recognise(root)
        assert (source.format, set(source.lists)) == ("YOLO", {"train", "val"})
        assert f"holds YOLO and COCO JSON ({name}); read is YOLO: else give {stray}" in caplog.text
        assert recognise(stray).format == "COCO JSON"
        stray.unlink()
    write_coco_file(root / "train.json", [coco_image(1, "train.jpg")])
    assert recognise(root).format == "YOLO"
    write_coco_file(root / "val.json", [coco_image(1, "val.jpg")])
    with pytest.raises(DataError, match=r"either could be meant: give .*train.json or .*data.yaml"):
        recognise(root)
    assert recognise(root / "data.yaml").format == "YOLO"
    assert recognise(root / "val.json").format == "COCO JSON"


def test_of_half_a_yolo_set_and_a_whole_coco_set_the_whole_one_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _cats(tmp_path, "train")
    stray = write_coco_file(root / "one.json", [coco_image(1, "train.jpg")])
    assert recognise(root).format == "YOLO"
    stray.unlink()
    for split in ("train", "val"):
        write_coco_file(root / f"{split}.json", [coco_image(1, "train.jpg")])
    assert recognise(root).format == "COCO JSON"
    (root / "data.yaml").unlink()
    (root / "val.json").unlink()
    assert recognise(root).format == "COCO JSON"  # YOLO's labels have no names
    assert "because else: " in caplog.text
    assert "nothing that names the classes" in caplog.text
    (root / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"either could be meant: give .*train.json, or move"):
        recognise(root)
    (root / "data.yaml").write_text("train: images/trian\nnames: [cat]\n")
    with pytest.raises(NotFoundError, match="train is 'images/trian'"):
        recognise(root)


def test_a_folder_around_the_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _cats(tmp_path / "outer/export", "train", "val")
    (tmp_path / "outer/__MACOSX").mkdir()
    assert load(tmp_path / "outer", "val").root == tmp_path / "outer/export"
    assert "the data set in it is export" in caplog.text
    _cats(tmp_path / "outer/other", "train")
    with pytest.raises(DataError, match=r"several data sets \(export; other\); give the folder"):
        recognise(tmp_path / "outer")


def test_what_is_seen_of_roboflows_exports(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        photo(tmp_path / f"yolo/{split}/images/a.jpg")
        (tmp_path / f"yolo/{split}/labels").mkdir()
        (tmp_path / f"yolo/{split}/labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        photo(tmp_path / f"coco/{split}/a.jpg")
        write_coco_file(
            tmp_path / f"coco/{split}/_annotations.coco.json", [coco_image(1, "a.jpg")],
            [coco_object(1, 1, [1, 2, 30, 20])],
            [{"id": 0, "name": "pets", "supercategory": "none"},
             {"id": 1, "name": "cat", "supercategory": "pets"}],
        )  # fmt: skip
    (tmp_path / "yolo/data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n"
    )
    seen = {}
    for name in ("yolo", "coco"):
        source = recognise(tmp_path / name)
        seen[name] = [source.seen(load(source, split)) for split in ("train", "val")]
    assert seen["yolo"] == [
        "YOLO, train (train/images as data.yaml says): 1 images, 1 objects, 1 classes",
        "YOLO, val (valid/images as data.yaml says): 1 images, 1 objects, 1 classes",
    ]
    assert seen["coco"] == [
        "COCO JSON, train (train/_annotations.coco.json): 1 images, 1 objects, 1 classes",
        "COCO JSON, val (valid/_annotations.coco.json): 1 images, 1 objects, 1 classes",
    ]


def test_xml_in_a_folder_of_its_own_in_each_split(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    whole = {split: boxes(load(root, split)) for split in ("train", "val")}
    out = root.parent / "own"
    for split, ids in (("train", "ab"), ("val", "cd")):
        for xml, photos in (
            (f"inner/{split}/Annotations", f"inner/{split}/JPEGImages"),
            (f"inside/annotations/{split}", f"inside/images/{split}"),
        ):
            (out / xml).mkdir(parents=True)
            (out / photos).mkdir(parents=True)
            for image_id in ids:
                shutil.copy(root / "Annotations" / f"{image_id}.xml", out / xml)
                shutil.copy(root / "JPEGImages" / f"{image_id}.jpg", out / photos)
    for name in ("inner", "inside"):
        for split in ("train", "val"):
            dataset = load(out / name, split)
            assert boxes(dataset) == whole[split]
            assert len(dataset.photos) == 2


def test_cvats_voc_with_folders_below(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    whole = boxes(load(root, "train"))
    for folder in ("Annotations", "JPEGImages"):
        files = list((root / folder).iterdir())
        (root / folder / "obj_train_data/cam 1").mkdir(parents=True)
        for path in files:
            path.rename(root / folder / "obj_train_data/cam 1" / path.name)
    lines = "obj_train_data/cam 1/a\nobj_train_data/cam 1/b\n"
    (root / "ImageSets/Main/train.txt").write_text(lines)
    dataset = load(root, "train", require_photos=True)
    assert [image.image_id for image in dataset.images] == lines.splitlines()
    assert boxes(dataset) == whole
    assert len(dataset.photos) == 2
