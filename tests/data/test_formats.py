"""What DATA means: every format is recognised, named in one line, and read the same way."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import CocoDetection

from frostbox.data import formats
from frostbox.data.annotations import DetectionSet
from frostbox.data.coco_write import write_coco
from frostbox.data.formats import load, load_training, recognise
from frostbox.data.voc import load as load_voc
from frostbox.errors import DataError, NotFoundError, SettingsError
from tests.conftest import TINY, TinyVoc
from tests.data.sets import CATEGORIES, coco_image, coco_object, photo, write_coco_file

Boxes = dict[str, list[tuple[str, tuple[float, ...]]]]
CLASSES_OF_TINY = ("cat", "dog", "person")


def boxes(dataset: DetectionSet) -> Boxes:
    return {Path(i.image_id).name: [(o.name, o.box) for o in i.objects] for i in dataset.images}


def _voc(root: Path) -> Path:
    return root


def _flat(root: Path) -> Path:
    """LabelImg's folder: XML beside the photos."""
    out = root.parent / "flat"
    shutil.copytree(root / "Annotations", out)
    shutil.copytree(root / "JPEGImages", out, dirs_exist_ok=True)
    return out


def _split_flat(root: Path) -> Path:
    """Roboflow's VOC export: such a folder for each split."""
    out = root.parent / "roboflow"
    for split, ids in (("train", "ab"), ("valid", "cd")):
        (out / split).mkdir(parents=True)
        for image_id in ids:
            shutil.copy(root / "Annotations" / f"{image_id}.xml", out / split)
            shutil.copy(root / "JPEGImages" / f"{image_id}.jpg", out / split)
    return out


def _coco(root: Path) -> Path:
    out = root.parent / "coco"
    for split in ("train", "val"):
        dataset = load_voc(root, split, CLASSES_OF_TINY)
        path = out / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_coco(path, dataset, [f"{i.image_id}.jpg" for i in dataset.images])
    shutil.copytree(root / "JPEGImages", out / "images")
    return out


def _yolo(root: Path) -> Path:
    from frostbox.convert import convert

    return convert(root, root.parent / "yolo", "yolo").out


@pytest.mark.parametrize(
    ("make", "file", "name", "seen"),
    [
        (_voc, "", "VOC", "VOC, train (VOC2012/ImageSets/Main/train.txt): 2 images, 3 objects, 20"),
        (_coco, "", "COCO JSON", "COCO JSON, train (instances_train.json): 2 images, 3 objects, 3"),
        (_coco, "annotations", "COCO JSON", "train (instances_train.json): 2 images"),
        (
            _coco,
            "annotations/instances_val.json",
            "COCO JSON",
            "train (instances_train.json): 2 images",
        ),
        (_yolo, "", "YOLO", "YOLO, train (train as data.yaml says): 2 images, 3 objects, 20"),
        (_yolo, "data.yaml", "YOLO", "2 images, 3 objects"),
        (_split_flat, "", "VOC XML without lists", "train (train/*.xml): 2 images, 3 objects"),
    ],
)
def test_formats_with_splits(
    tiny_voc: TinyVoc, make: Callable[[Path], Path], file: str, name: str, seen: str
) -> None:
    root = tiny_voc()
    source = recognise(make(root) / file)
    assert source.format == name
    assert set(source.lists) == {"train", "val"}
    for split in ("train", "val"):
        dataset = load(source, split, require_photos=True)
        assert boxes(dataset) == boxes(load_voc(root, split))
        assert dataset.split == split
        assert dataset.made is None
    assert seen in source.seen(load(source, "train"))


def test_formats_without_splits_get_some(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture, data_home: Path
) -> None:
    root = _flat(tiny_voc())
    source = recognise(root)
    assert source.splits == ("all", "train", "val")
    whole = load(source, "all")
    with caplog.at_level(logging.WARNING, "frostbox"):
        train, val = load_training(source, "train", "val")
    assert val is not None
    assert (
        f"has no val: 'all' is split by class ({len(train)} train, {len(val)} val; seed 0)"
        in caplog.text
    )
    assert str(val.made) in caplog.text
    assert boxes(train) | boxes(val) == boxes(whole)
    assert boxes(load(root, "val")) == boxes(val)  # as another command sees it
    assert "all/*.xml" not in source.seen(val)
    assert f"val (of a made split of flat/*.xml): {len(val)} images" in source.seen(val)


def test_a_list_of_its_own_stays_whole_unless_val_has_to_come_from_it(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc(splits={"train": ["a", "b", "c", "d"]})
    assert len(load(root, "train")) == 4
    learn, none = load_training(root, "train", None)
    assert (len(learn), none) == (4, None)
    assert "figures on a val that is made of it would be too good" in caplog.text
    learn, held = load_training(root, "train", "val")
    assert held is not None
    assert len(learn) + len(held) == 4
    assert not set(boxes(learn)) & set(boxes(held))


def test_without_val_all_of_an_unnamed_list_is_learned_from(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(splits={"all": ["a", "b", "c", "d"]})
    learn, none = load_training(root, "train", None)
    assert (len(learn), none) == (4, None)
    learn, held = load_training(root, "train", "val")
    assert held is not None
    assert 0 < len(held) == 4 - len(learn)


def test_val_need_not_have_all_the_classes_that_are_kept(tmp_path: Path) -> None:
    rare = [{"id": 1, "name": "cat"}, {"id": 2, "name": "rare"}]
    for split, categories in (("train", rare), ("val", rare[:1])):
        photo(tmp_path / f"{split}.jpg")
        write_coco_file(
            tmp_path / f"{split}.json", [coco_image(1, f"{split}.jpg")],
            [coco_object(1, categories[-1]["id"], [1, 2, 30, 20])], categories,
        )  # fmt: skip
    learn, held = load_training(tmp_path, "train", "val", ("rare", "cat"))
    assert held is not None
    assert learn.classes == held.classes == ("rare", "cat")
    learn, held = load_training(tmp_path, "train", "val", None, {"rare": "cat"})
    assert held is not None
    assert learn.classes == held.classes == ("cat",)
    with pytest.raises(SettingsError, match="did you mean 'rare'"):
        load_training(tmp_path, "train", "val", ("rarer", "cat"))


def test_a_val_that_would_share_images_is_refused(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(splits={"train": ["a", "b"], "trainval": ["a", "b", "c"]})
    with pytest.raises(SettingsError, match="would share images with 'trainval'"):
        load_training(root, "trainval", "val")
    only_val = tiny_voc(splits={"val": ["a", "b"]}, name="VOC2007")
    with pytest.raises(NotFoundError, match=r"no split 'train'; it has val: choose one \(--split"):
        load_training(only_val, "train", "val")


def test_splits_may_have_their_categories_in_another_order(tmp_path: Path) -> None:
    for k, split in enumerate(("train", "val")):
        photo(tmp_path / f"{split}.jpg")
        categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
        if k:
            categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        write_coco_file(
            tmp_path / f"{split}.json", [coco_image(1, f"{split}.jpg")],
            [coco_object(1, 1, [1, 2, 3, 4])], categories,
        )  # fmt: skip
    train, val = load_training(tmp_path, "train", "val")
    assert val is not None
    assert train.classes == val.classes == ("dog", "cat")
    assert val.label(val.images[0].objects[0]) == 1
    assert val.categories == {1: 1, 2: 0}


def test_a_class_that_training_does_not_name_is_no_silent_loss(tmp_path: Path) -> None:
    for split, name in (("train", "dog"), ("val", "dgo")):
        photo(tmp_path / f"{split}.jpg")
        write_coco_file(
            tmp_path / f"{split}.json", [coco_image(1, f"{split}.jpg")],
            [coco_object(1, 1, [1, 2, 3, 4])], [{"id": 1, "name": name}],
        )  # fmt: skip
    with pytest.raises(DataError, match=r"object named 'dgo'.* did you mean 'dog'\?"):
        load_training(tmp_path, "train", "val")
    _, val = load_training(tmp_path, "train", "val", None, {"dgo": "dog"}, absent={"dgo"})
    assert val is not None
    assert val.images[0].objects[0].name == "dog"


def test_voc_names_that_only_val_has(tiny_voc: TinyVoc) -> None:
    box = (1, 1, 9, 9)
    root = tiny_voc(
        {"a": [("ant", box)], "b": [("newt", box), ("ant", box)]},
        splits={"train": ["a"], "val": ["b"]},
    )
    with pytest.raises(DataError, match="'newt' is not in the list of classes"):
        load(root, "val")
    assert load(root, "val", ["ant", "newt"]).classes == ("ant", "newt")
    assert load(root, "val", None, {"newt": "ant"}).classes == ("ant",)
    assert len(load(root, "val", ["ant"], absent={"ant"}).images[0].objects) == 1


def test_photos_in_two_splits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "a.jpg")
    for split in ("train", "val"):
        write_coco_file(tmp_path / f"{split}.json", [coco_image(1, "a.jpg")])
    load_training(tmp_path, "train", "val")
    assert "1 photos stand in both train and val" in caplog.text


# Objects


def test_objects_from_python(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    coco = _coco(root)
    torch_set = CocoDetection(coco / "images", coco / "annotations/instances_train.json")
    val_file = coco / "annotations/instances_val.json"
    typed = load(root, "train")
    for data in (
        {"train": torch_set, "val": val_file},
        {"train": typed, "val": root},
        {"train": coco, "val": load(val_file, "val")},
    ):
        train, val = load_training(data, "train", "val")
        assert val is not None
        assert boxes(train) == boxes(typed)
        assert boxes(val) == boxes(load(root, "val"))
    assert recognise(torch_set).splits == ("all", "train", "val")
    assert boxes(load(torch_set, "all")) == boxes(typed)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist; .*coco2017"):
        recognise(tmp_path / "none")
    with pytest.raises(NotFoundError, match="holds no data set in a format that is known"):
        recognise(tmp_path)
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(NotFoundError, match=r"a\.doc is no data set in a format"):
        recognise(tmp_path / "a.doc")
    (tmp_path / "results.json").write_text('[{"image_id": 1}]')
    with pytest.raises(DataError, match="no COCO data set .* not that of results"):
        recognise(tmp_path / "results.json")
    with pytest.raises(NotFoundError, match="a int is no data set"):
        recognise(7)
    with pytest.raises(NotFoundError, match="has no split 'dev'"):
        load({"train": write_coco_file(tmp_path / "t.json", [coco_image(1, "a.jpg")])}, "dev")


def test_voc_without_lists_and_with_photos_elsewhere(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    shutil.rmtree(root / "ImageSets" / "Main")
    assert recognise(root).format == "VOC XML without lists"
    assert len(load(root, "all").photos) == 4
    shutil.rmtree(root / "ImageSets")
    assert len(load(root, "all").photos) == 4
    (root / "JPEGImages").rename(root / "images")
    (root / "Annotations").rename(root / "labels")
    assert boxes(load(root, "all"))["b"] == [("person", (9, 9, 50, 30))]


def test_flat_splits_share_the_names_of_training(tiny_voc: TinyVoc) -> None:
    box = (1, 1, 9, 9)
    root = tiny_voc({"a": [("zebra", box), ("ant", box)], "b": [], "c": [("ant", box)], "d": []})
    assert load(_split_flat(root), "val").classes == ("ant", "zebra")
    shutil.rmtree(root.parent / "roboflow")
    assert load(_split_flat(tiny_voc(TINY, name="VOC2007")), "train").classes[0] == "person"


def test_empty_parts_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "a.jpg")
    images = [coco_image(1, "a.jpg"), coco_image(2, "gone.jpg")]
    path = write_coco_file(tmp_path / "train.json", images)
    assert load(path, "train", require_photos=True).missing_photos == ("gone",)
    assert "1 of the 2 photos of" in caplog.text
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match="holds none of the 2 photos"):
        load(path, "train", require_photos=True)
    assert CATEGORIES  # the file has categories and no object: that is no fault


def test_recognising_leaves_torch_alone() -> None:
    code = (
        "import sys, frostbox.data.formats, frostbox.convert, frostbox.data.tables;"
        "assert 'torch' not in sys.modules; assert 'datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert formats.KNOWN
