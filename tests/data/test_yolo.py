"""YOLO labels: every kind of line, and back."""

from __future__ import annotations

import logging
from pathlib import Path

import hotcoco
import pytest
from hypothesis import given
from PIL import Image

from frostbox.data.annotations import DetectionSet, ObjectAnnotation
from frostbox.data.yolo import read_yolo, write_data_yaml, write_labels
from frostbox.data.yolo_find import find_yolo
from frostbox.errors import DataError
from tests.data.sets import photo, sets

YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def write_set(root: Path, lines: str, yaml: str = YAML, size: tuple[int, int] = (60, 40)) -> Path:
    """One photo with these label lines in train, one without in val."""
    photo(root / "images/train/a.jpg", size)
    photo(root / "images/val/b.jpg", size)
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text(lines)
    (root / "data.yaml").write_text(yaml)
    return root


def read(root: Path, split: str = "train") -> DetectionSet:
    folder = find_yolo(root)
    assert folder is not None
    return read_yolo(folder, split)


# Lines


def test_boxes_are_shares_of_the_sides(tmp_path: Path) -> None:
    dataset = read(write_set(tmp_path, "1 0.5 0.5 0.5 0.25\n\n0 0.1 0.1 0.2 0.2\n"))
    (image,) = dataset.images
    assert (image.image_id, image.width, image.height) == ("a", 60, 40)
    assert image.photo == tmp_path / "images/train/a.jpg"
    assert image.source == tmp_path / "labels/train/a.txt"
    assert image.objects == (
        ObjectAnnotation("dog", (15, 15, 45, 25)), ObjectAnnotation("cat", (0, 0, 12, 8)),
    )  # fmt: skip
    assert dataset.classes == ("cat", "dog")


def test_the_sides_are_those_of_the_upright_photo(tmp_path: Path) -> None:
    root = write_set(tmp_path, "1 0.5 0.5 0.5 0.25\n")
    photo(root / "images/train/a.jpg", (60, 40), exif=6)
    (image,) = read(root).images
    assert (image.width, image.height) == (40, 60)
    assert image.objects[0].box == (10, 22.5, 30, 37.5)


def test_polygons_and_confidences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = "0 0.1 0.2 0.5 0.1 0.3 0.6\n1 0.5 0.5 0.5 0.5 0.87\n"
    with caplog.at_level(logging.WARNING, "frostbox"):
        (image,) = read(write_set(tmp_path, lines)).images
    assert [obj.box for obj in image.objects] == [(6, 4, 30, 24), (15, 10, 45, 30)]
    assert "confidences of 1 objects are not read" in caplog.text
    assert "polygons (their boxes are kept) of 1 objects are not read" in caplog.text


def test_keypoints_behind_a_box(tmp_path: Path) -> None:
    yaml = YAML + "kpt_shape: [1, 2]\n"
    (image,) = read(write_set(tmp_path, "0 0.5 0.5 0.5 0.5 0.1 0.2\n", yaml)).images
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
        read(write_set(tmp_path, line + "\n"))


def test_all_faults_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4 faults: .*; and 1 more; mend or remove the lines"):
        read(write_set(tmp_path, "9 0 0 1 1\n" * 4))


def test_no_label_file_is_an_empty_image_but_none_at_all_is_an_error(tmp_path: Path) -> None:
    root = write_set(tmp_path, "")
    photo(root / "images/train/c.jpg")
    assert [image.objects for image in read(root).images] == [(), ()]
    with pytest.raises(DataError, match=r"none of the 1 photos has a label file; .*labels/val/b"):
        read(root, "val")


def test_a_broken_photo_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_set(tmp_path, "")
    (root / "images/train/z.jpg").write_bytes(b"nothing")
    assert [image.image_id for image in read(root).images] == ["a"]
    assert "1 of 2 photos cannot be read and are left out" in caplog.text
    assert "z.jpg is not an image" in caplog.text


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
    back = read(root)
    assert back.classes == dataset.classes
    assert [(i.width, i.height, i.objects) for i in back.images] == [
        (i.width, i.height, i.objects) for i in dataset.images
    ]


def test_hotcoco_reads_what_is_written(tmp_path: Path) -> None:
    root = write_set(tmp_path, "1 0.5 0.5 0.5 0.25\n0 0.1 0.1 0.2 0.2\n")
    dataset = read(root)
    out = tmp_path / "out"
    out.mkdir()
    write_labels(out / "a.txt", dataset.images[0], dataset)
    write_data_yaml(out / "data.yaml", dataset.classes, ["train"])
    theirs = hotcoco.COCO.from_yolo(str(out), images_dir=str(root / "images/train"))
    assert [e["bbox"] for e in theirs.dataset["annotations"]] == [
        pytest.approx([15, 15, 30, 10]), pytest.approx([0, 0, 12, 8]),
    ]  # fmt: skip
