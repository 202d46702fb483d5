"""YOLO labels: every layout that tools write, every kind of line, and back."""

from __future__ import annotations

import logging
from pathlib import Path

import hotcoco
import pytest
from hypothesis import given
from PIL import Image

from frostbox.data.annotations import DetectionSet, ObjectAnnotation
from frostbox.data.yolo import read_yolo, write_data_yaml, write_labels
from frostbox.data.yolo_layout import find_yolo, label_file, photos_of
from frostbox.errors import DataError, NotFoundError
from tests.data.sets import photo, sets

YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def _set(root: Path, lines: str, yaml: str = YAML, size: tuple[int, int] = (60, 40)) -> Path:
    """One photo with these label lines in train, one without in val."""
    photo(root / "images/train/a.jpg", size)
    photo(root / "images/val/b.jpg", size)
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text(lines)
    (root / "data.yaml").write_text(yaml)
    return root


def _read(root: Path, split: str = "train") -> DetectionSet:
    folder = find_yolo(root)
    assert folder is not None
    return read_yolo(folder, split)


# Lines


def test_boxes_are_shares_of_the_sides(tmp_path: Path) -> None:
    dataset = _read(_set(tmp_path, "1 0.5 0.5 0.5 0.25\n\n0 0.1 0.1 0.2 0.2\n"))
    (image,) = dataset.images
    assert (image.image_id, image.width, image.height) == ("a", 60, 40)
    assert image.photo == tmp_path / "images/train/a.jpg"
    assert image.source == tmp_path / "labels/train/a.txt"
    assert image.objects == (
        ObjectAnnotation("dog", (15, 15, 45, 25)), ObjectAnnotation("cat", (0, 0, 12, 8)),
    )  # fmt: skip
    assert dataset.classes == ("cat", "dog")


def test_the_sides_are_those_of_the_upright_photo(tmp_path: Path) -> None:
    root = _set(tmp_path, "1 0.5 0.5 0.5 0.25\n")
    photo(root / "images/train/a.jpg", (60, 40), exif=6)
    (image,) = _read(root).images
    assert (image.width, image.height) == (40, 60)
    assert image.objects[0].box == (10, 22.5, 30, 37.5)


def test_polygons_and_confidences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = "0 0.1 0.2 0.5 0.1 0.3 0.6\n1 0.5 0.5 0.5 0.5 0.87\n"
    with caplog.at_level(logging.WARNING, "frostbox"):
        (image,) = _read(_set(tmp_path, lines)).images
    assert [obj.box for obj in image.objects] == [(6, 4, 30, 24), (15, 10, 45, 30)]
    assert "confidences of 1 objects are not read" in caplog.text
    assert "polygons (their boxes are kept) of 1 objects are not read" in caplog.text


def test_keypoints_behind_a_box(tmp_path: Path) -> None:
    yaml = YAML + "kpt_shape: [1, 2]\n"
    (image,) = _read(_set(tmp_path, "0 0.5 0.5 0.5 0.5 0.1 0.2\n", yaml)).images
    assert image.objects[0].box == (15, 10, 45, 30)


FAULTS = {
    "class": (
        "2 0.5 0.5 0.1 0.1",
        r"labels/train/a.txt, line 1: has class 2, and data.yaml names 0 to",
    ),
    "half": ("0.5 0.5 0.5 0.1 0.1", r"line 1: has class 0.5, and"),
    "word": ("dog 0.5 0.5 0.1 0.1", r"line 1: 'dog 0.5 0.5 0.1 0.1' has a part that is no number"),
    "nan": ("0 nan 0.5 0.1 0.1", r"has a part that is no number"),
    "short": ("0 0.5 0.5 0.1", r"line 1: has 4 numbers; a box has 5, a polygon 7"),
    "pixels": ("0 30 20 10 10", r"1 of 1 boxes reach outside .* shares of the photo's sides"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_lines_are_named(tmp_path: Path, fault: str) -> None:
    line, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        _read(_set(tmp_path, line + "\n"))


def test_all_faults_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4 faults: .*; and 1 more; mend or remove the lines"):
        _read(_set(tmp_path, "9 0 0 1 1\n" * 4))


def test_no_label_file_is_an_empty_image_but_none_at_all_is_an_error(tmp_path: Path) -> None:
    root = _set(tmp_path, "")
    photo(root / "images/train/c.jpg")
    assert [image.objects for image in _read(root).images] == [(), ()]
    with pytest.raises(DataError, match=r"none of the 1 photos has a label file; .*labels/val/b"):
        _read(root, "val")


def test_a_broken_photo_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _set(tmp_path, "")
    (root / "images/train/z.jpg").write_bytes(b"nothing")
    assert [image.image_id for image in _read(root).images] == ["a"]
    assert "1 of 2 photos cannot be read and are left out" in caplog.text
    assert "z.jpg is not an image" in caplog.text


# Layouts


def test_ids_start_where_the_folders_part(tmp_path: Path) -> None:
    root = _set(tmp_path, "")
    photo(root / "images/train/more/a.jpg")
    assert [image.image_id for image in _read(root).images] == ["a", "more/a"]


def test_names_as_mapping_with_gaps_and_words_that_yaml_takes_for_others(tmp_path: Path) -> None:
    yaml = "train: images/train\nnames:\n  7: no\n  3: 007\n  10: 'on'\n"
    dataset = _read(_set(tmp_path, "10 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n", yaml))
    assert dataset.classes == ("007", "no", "on")
    assert [obj.name for obj in dataset.images[0].objects] == ["on", "no"]


def test_only_a_number_of_classes(tmp_path: Path) -> None:
    assert _read(_set(tmp_path, "", "train: images/train\nnc: 2\n")).classes == (
        "class_0", "class_1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images/train\nnc: 3\nnames: [a, b]\n", "nc is 3 and names has 2"),
        ("train: images/train\nnames: {a: b}\n", "names has a key that is no number"),
        ("train: images/train\nnames: [a, a]\n", "holds the class name 'a' twice"),
        ("train: images/train\nnames: text\n", "names is 'text'"),
        ("names: [a]\nnc: 1\ntrain:\n", "has neither train nor val"),
        ("train: images/other\nnames: [a]\n", "train is 'images/other'; there is no such folder"),
        ("train: [\nnames: [a]\n", "is not YAML"),
    ],
)
def test_faulty_yaml(tmp_path: Path, yaml: str, message: str) -> None:
    with pytest.raises((DataError, NotFoundError), match=message):
        _read(_set(tmp_path, "", yaml))


def test_yaml_that_would_run_code_is_text(tmp_path: Path) -> None:
    root = _set(tmp_path, "", "train: images/train\nnames: [!!python/object/apply:os.getcwd []]\n")
    with pytest.raises(DataError, match=r"names has \[\], which is no name"):
        _read(root)


def test_roboflow(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        photo(tmp_path / split / "images/a.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['x']\n"
    )
    for split in ("train", "val", "test"):
        assert len(_read(tmp_path, split).images[0].objects) == 1


def test_a_test_split_that_is_not_there_is_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _set(tmp_path, "0 0.5 0.5 0.5 0.5\n", YAML + "test: ../test/images\n")
    folder = find_yolo(tmp_path)
    assert folder is not None
    assert set(folder.splits) == {"train", "val"}
    assert "test is '../test/images'" in caplog.text
    (tmp_path / "data.yaml").write_text(YAML.replace("images/val", "images/gone"))
    with pytest.raises(NotFoundError, match="val is 'images/gone'"):
        find_yolo(tmp_path)


def test_hidden_folders_hold_no_photos(tmp_path: Path) -> None:
    _set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    photo(tmp_path / "images/train/.ipynb_checkpoints/a-checkpoint.jpg")
    assert [image.image_id for image in _read(tmp_path).images] == ["a"]


def test_the_names_may_lie_beside_the_labels(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "labels/classes.txt").write_text("cat\ndog\n")
    assert [obj.name for obj in _read(tmp_path, "all").images[0].objects] == ["dog"]


def test_path_and_lists(tmp_path: Path) -> None:
    root = _set(tmp_path / "data", "1 0.5 0.5 0.5 0.5\n")
    absolute = (root / "images/val/b.jpg").resolve()
    (root / "train.txt").write_text(f"./images/train/a.jpg\n{absolute}\n\n")
    (root / "data.yaml").unlink()
    yaml = tmp_path / "cfg.yaml"
    yaml.write_text("path: data\ntrain: train.txt\nval: [images/val]\nnames: [cat, dog]\n")
    assert [image.image_id for image in _read(yaml).images] == ["train/a", "val/b"]


def test_lists_cannot_lead_out(tmp_path: Path) -> None:
    root = _set(tmp_path / "data", "", YAML.replace("images/train", "train.txt"))
    photo(tmp_path / "secret.jpg")
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "images/train/gone.jpg"):
        (root / "train.txt").write_text(f"images/train/a.jpg\n{name}\n")
        with pytest.raises(DataError, match=r"train.txt, line 2: .*no such photo in"):
            _read(root)


def test_a_folder_outside_is_taken_only_from_a_yaml_that_was_given(tmp_path: Path) -> None:
    _set(tmp_path / "elsewhere", "0 0.5 0.5 0.5 0.5\n")
    given = tmp_path / "cfg" / "data.yaml"
    given.parent.mkdir()
    given.write_text(f"path: {tmp_path / 'elsewhere'}\n{YAML}")
    assert len(_read(given)) == 1
    with pytest.raises(DataError, match="path is .* which leads out of"):
        _read(given.parent)
    given.write_text("train: ../elsewhere/images/train\nnames: [a]\n")
    with pytest.raises(NotFoundError, match="which leads out of"):
        _read(given)


def test_cvats_darknet_export(tmp_path: Path) -> None:
    photo(tmp_path / "obj_train_data/sub/a.jpg")
    (tmp_path / "obj_train_data/sub/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/sub/a.jpg\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    for data in (tmp_path, tmp_path / "obj.data"):
        (image,) = _read(data).images
        assert (image.image_id, image.objects[0].name) == ("a", "dog")


def test_label_studio_and_labelimg(tmp_path: Path) -> None:
    studio, labelimg = tmp_path / "studio", tmp_path / "labelimg"
    photo(studio / "images/a.jpg")
    photo(labelimg / "a.jpg")
    (studio / "labels").mkdir()
    for root, place in ((studio, "labels/a.txt"), (labelimg, "a.txt")):
        (root / place).write_text("1 0.5 0.5 0.5 0.5\n")
        with pytest.raises(DataError, match="nothing that names the classes; write classes.txt"):
            find_yolo(root)
        (root / "classes.txt").write_text("cat\ndog\n")
        (image,) = _read(root, "all").images
        assert (image.image_id, image.objects[0].name) == ("a", "dog")


def test_folders_of_splits_without_yaml(tmp_path: Path) -> None:
    _set(tmp_path, "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\n")
    folder = find_yolo(tmp_path)
    assert folder is not None
    assert set(folder.splits) == {"train", "val"}
    assert photos_of(folder, "train") == [tmp_path / "images/train/a.jpg"]


def test_what_is_no_yolo_set(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "settings.yaml").write_text("a: 1\n")
    assert find_yolo(tmp_path) is None
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("train: .\nnames: [a]\n")
    with pytest.raises(DataError, match=r"several descriptions .*one.yaml, two.yaml"):
        find_yolo(tmp_path)


def test_the_last_images_in_a_path_is_replaced() -> None:
    assert label_file(Path("/images/x/images/a.b.jpg")) == Path("/images/x/labels/a.b.txt")
    assert label_file(Path("/data/a.jpg")) == Path("/data/a.txt")


# Writing


@given(dataset=sets(digits=3, flags=False))
def test_what_is_written_reads_back(
    dataset: DetectionSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("yolo")
    (root / "labels/train").mkdir(parents=True)
    for number, image in enumerate(dataset.images):
        path = root / f"images/train/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (image.width, image.height)).save(path)
        write_labels(root / f"labels/train/{number}.txt", image, dataset)
    write_data_yaml(root / "data.yaml", dataset.classes, ["train"])
    back = _read(root)
    assert back.classes == dataset.classes
    assert [(i.width, i.height, i.objects) for i in back.images] == [
        (i.width, i.height, i.objects) for i in dataset.images
    ]


def test_hotcoco_reads_what_is_written(tmp_path: Path) -> None:
    root = _set(tmp_path, "1 0.5 0.5 0.5 0.25\n0 0.1 0.1 0.2 0.2\n")
    dataset = _read(root)
    out = tmp_path / "out"
    out.mkdir()
    write_labels(out / "a.txt", dataset.images[0], dataset)
    write_data_yaml(out / "data.yaml", dataset.classes, ["train"])
    theirs = hotcoco.COCO.from_yolo(str(out), images_dir=str(root / "images/train"))
    assert [e["bbox"] for e in theirs.dataset["annotations"]] == [
        pytest.approx([15, 15, 30, 10]), pytest.approx([0, 0, 12, 8]),
    ]  # fmt: skip
