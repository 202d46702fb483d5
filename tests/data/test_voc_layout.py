"""Where a data set in VOC layout lies, its lists and its photos."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from frostbox.data.voc import find_voc, load, read_voc, splits
from frostbox.errors import DataError, NotFoundError
from tests.conftest import TINY, TinyVoc, xml_annotation

# The folder and its lists


@pytest.mark.parametrize("below", [".", "..", "../.."])
def test_data_is_the_year_folder_its_devkit_or_the_parent(tiny_voc: TinyVoc, below: str) -> None:
    root = tiny_voc(name="VOCdevkit/VOC2012")
    assert find_voc(root / below).resolve() == root


def test_the_newest_year_is_taken_and_said(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc(name="VOCdevkit/VOC2007")
    shutil.copytree(root, root.parent / "VOC2010")
    with caplog.at_level(logging.WARNING, "frostbox"):
        assert find_voc(root.parent).name == "VOC2010"
    assert "VOC2007, VOC2010; taking VOC2010" in caplog.text


def test_a_folder_of_any_name_is_found_and_several_are_refused(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(name="mine/birds")
    assert find_voc(root.parent) == root
    shutil.copytree(root, root.parent / "fish")
    with pytest.raises(DataError, match="several data sets \\(birds, fish\\)"):
        find_voc(root.parent)


def test_missing_folder_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere does not exist"):
        find_voc(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(NotFoundError, match=r"a\.txt is a file"):
        find_voc(tmp_path / "a.txt")
    with pytest.raises(NotFoundError, match=r"no data set in VOC layout"):
        find_voc(tmp_path)


def test_lists_tolerate_flags_blank_lines_crlf_and_a_bom(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    text = b"\xef\xbb\xbfa  1\r\n\r\nc -1\r\nb\t0\r\n"
    (root / "ImageSets" / "Main" / "odd.txt").write_bytes(text)
    assert [image.image_id for image in read_voc(root, "odd").images] == ["a", "c", "b"]


def test_ids_with_spaces_are_not_mistaken_for_flags(tiny_voc: TinyVoc) -> None:
    root = tiny_voc({"photo 1": TINY["a"], "photo": TINY["b"]}, splits={"train": ["photo 1"]})
    assert [image.image_id for image in read_voc(root, "train").images] == ["photo 1"]


def test_per_class_lists_are_no_splits(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    main = root / "ImageSets" / "Main"
    (main / "dog_train.txt").write_text("a  1\nb -1\n")
    (main / "small_train.txt").write_text("a\n")
    assert splits(root) == ["small_train", "train", "val"]
    with pytest.raises(NotFoundError, match=r"dog_train\.txt is the list of one class"):
        read_voc(root, "dog_train")


def test_missing_list_names_the_lists_there_are(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    with pytest.raises(NotFoundError, match=r"test\.txt does not exist; the lists .* train, val"):
        read_voc(root, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nzebra\n", r"list\.txt, line 2: 'zebra' has no VOC2012/Annotations/zebra\.xml"),
        ("a\n\na\n", r"list\.txt, line 3: 'a' stands in line 1 already"),
        ("\n", r"list\.txt names no image"),
    ],
)
def test_faulty_lists(tiny_voc: TinyVoc, text: str, message: str) -> None:
    root = tiny_voc()
    (root / "ImageSets" / "Main" / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_voc(root, "list")


def test_names_with_control_characters_are_refused(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    (root / "classes.txt").write_text("cat\nd\x0bog\nperson\n")
    with pytest.raises(DataError, match=r"classes.txt holds the class name 'd\\x0bog', which has"):
        read_voc(root, "train")
    (root / "classes.txt").unlink()
    xml = root / "Annotations" / "b.xml"
    xml.write_text(xml.read_text().replace("person", "per&#x9b;31mson"))
    with pytest.raises(DataError, match=r"object 1 \('per\\x9b31mson'\): name is .* control char"):
        read_voc(root, "train")


# The photos


def test_photos_are_found_by_id_then_by_filename(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    folder = root / "JPEGImages"
    (folder / "a.jpg").rename(folder / "a.JPEG")
    (folder / "b.jpg").rename(folder / "other.png")
    (root / "Annotations" / "b.xml").write_text(
        xml_annotation("b", TINY["b"]).replace("b.jpg", "other.png")
    )
    photos = [image.photo for image in read_voc(root, "train").images]
    assert photos == [folder / "a.JPEG", folder / "other.png"]


def test_a_filename_cannot_leave_the_folder(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(photos=False)
    (root.parent / "secret.jpg").write_bytes(b"x")
    (root / "Annotations" / "b.xml").write_text(
        xml_annotation("b", []).replace("b.jpg", "../../secret.jpg")
    )
    assert read_voc(root, "train").images[1].photo is None


def test_missing_photos_are_reported_once(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc()
    (root / "JPEGImages" / "b.jpg").unlink()
    with caplog.at_level(logging.WARNING, "frostbox"):
        dataset = load(root, "train", require_photos=True)
    assert dataset.missing_photos == ("b",)
    assert [record.getMessage() for record in caplog.records] == [
        "1 of the 2 photos of VOC2012 train are missing and skipped: b"
    ]


def test_no_photo_at_all(tiny_voc: TinyVoc) -> None:
    root = tiny_voc(photos=False)
    assert len(load(root, "train").photos) == 0
    with pytest.raises(DataError, match=r"JPEGImages holds none of the 2 photos .* 'train'"):
        load(root, "train", require_photos=True)
