"""Reading and writing Pascal VOC XML: boxes, flags, class names, and every fault."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import VOCDetection

from frostbox import data as frostbox_data
from frostbox.data.annotations import ImageAnnotation, ObjectAnnotation
from frostbox.data.voc import (
    CLASSES,
    load,
    read_annotation,
    read_voc,
    splits,
    write_voc_xml,
)
from frostbox.errors import DataError, NotFoundError
from tests.conftest import TINY, TinyVoc, xml_object


def _write(root: Path, image_id: str, text: str) -> Path:
    path = root / "Annotations" / f"{image_id}.xml"
    path.write_text(text)
    return path


def _with_object(obj: str, size: str = "<size><width>60</width><height>40</height></size>") -> str:
    return f"<annotation>{size}{obj}</annotation>"


# The XML


def test_the_shift_to_continuous_boxes(tiny_voc: TinyVoc) -> None:
    image = read_voc(tiny_voc(), "train").images[0]
    assert (image.width, image.height) == (60, 40)
    assert image.objects[0].box == (4, 5, 30, 35)
    assert image.objects[1].box == (30, 0, 60, 40)


def test_absent_fields_decimals_and_parts(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    part = xml_object("head", (1, 1, 5, 5)).replace("object>", "part>")
    _write(root, "a", _with_object(xml_object("dog", (5.5, "6", " 30.25 ", 35), part)))
    (obj,) = read_voc(root, "train").images[0].objects
    assert obj == ObjectAnnotation("dog", (4.5, 5, 30.25, 35))
    assert (obj.difficult, obj.truncated, obj.occluded, obj.pose) == (
        False, False, False, "Unspecified",
    )  # fmt: skip


def test_flags_and_pose(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    extra = "<pose>Left</pose><truncated>1</truncated><difficult>True</difficult><occluded/>"
    _write(root, "a", _with_object(xml_object("dog", (1, 1, 5, 5), extra)))
    (obj,) = read_voc(root, "train").images[0].objects
    assert (obj.difficult, obj.truncated, obj.occluded, obj.pose) == (True, True, False, "Left")


def test_what_is_not_read_is_listed_for_the_split_alone(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    attributes = "".join(
        f"<attribute><name>{name}</name><value>{value}</value></attribute>"
        for name, value in (("colour", "red"), ("rotation", "0.0"), ("track_id", "4"))
    )
    extra = (
        f"<attributes>{attributes}</attributes><polygon><x1>5</x1></polygon><deleted>0</deleted>"
    )
    part = "<part><name>head</name></part><actions><jumping>1</jumping></actions>"
    text = _with_object(
        xml_object("dog", (1, 1, 5, 5), extra) + xml_object("dog", (1, 1, 9, 9), part)
    )
    source = "<source><database>Mine</database></source><owner><name>Unknown</name></owner>"
    text = text.replace(
        "<annotation>", f'<annotation verified="yes">{source}<segmented>0</segmented>'
    )
    _write(root, "a", text)
    assert sorted(read_voc(root, "train").unread) == [
        "attribute 'colour' of 1 objects",
        "attribute 'track_id' of 1 objects",
        "parts and actions of 1 objects",
        "polygon of 1 objects",
        "source of 1 images",
        "verified of 1 images",
    ]
    assert read_voc(root, "val").unread == ()


def test_images_without_objects_are_fine(tiny_voc: TinyVoc) -> None:
    assert (
        read_voc(tiny_voc({"a": [], "b": TINY["b"]}, splits={"train": ["a", "b"]}), "train")
        .images[0]
        .objects
        == ()
    )


def test_a_minimum_of_zero_is_taken_as_one_and_said(
    tiny_voc: TinyVoc, caplog: pytest.LogCaptureFixture
) -> None:
    root = tiny_voc({"a": [("dog", (0, 0, 20, 20))], "b": []})
    with caplog.at_level(logging.WARNING, "frostbox"):
        assert read_voc(root, "train").images[0].objects[0].box == (0, 0, 20, 20)
    assert "1 boxes have xmin or ymin 0" in caplog.text


DOG = xml_object("dog", (1, 1, 5, 5))
FAULTS = {
    "not xml": ("<annotation><object>", r"is not well-formed XML"),
    "empty": ("", r"is not well-formed XML"),
    "entities": (
        '<!DOCTYPE x [<!ENTITY e "dog">]>' + _with_object(DOG.replace("dog", "&e;")),
        r"declares entities",
    ),
    "root": ("<html></html>", r"outermost tag is <html>"),
    "no box": (_with_object("<object><name>dog</name></object>"), r"object 1 \(dog\): bndbox is"),
    "two boxes": (
        _with_object(DOG.replace("</object>", "<bndbox/></object>")), r"bndbox stands there more",
    ),
    "no field": (
        _with_object(DOG.replace("<ymax>5</ymax>", "")), r"object 1 \(dog\): bndbox/ymax is miss",
    ),
    "no number": (_with_object(xml_object("dog", (1, 1, "x", 5))), r"bndbox/xmax is 'x', not a n"),
    "nan": (_with_object(xml_object("dog", (1, 1, "nan", 5))), r"bndbox/xmax is 'nan', not a num"),
    "no name": (_with_object(DOG.replace("dog", "")), r"object 1 \(without name\): name is missi"),
    "flag": (
        _with_object(xml_object("dog", (1, 1, 5, 5), "<difficult>2</difficult>")),
        r"object 1 \(dog\): difficult is '2'; write 0 or 1",
    ),
    "max below min": (_with_object(xml_object("dog", (9, 1, 5, 5))), r"xmax 5 is not above xmin"),
    "max at min": (_with_object(xml_object("dog", (1, 5, 9, 5))), r"ymax 5 is not above ymin 5"),
    "way out": (
        _with_object(xml_object("dog", (1, 1, 61, 5))),
        r"mend the box, or .* \(`frostbox doctor DATA` says which --fix mends\)\.$",
    ),
    "right": (_with_object(xml_object("dog", (1, 1, 61, 5))), r"\(1, 1, 61, 5\) reaches outside"),
    "below": (_with_object(xml_object("dog", (1, 1, 5, 41))), r"outside the image of 60 x 40"),
    "left": (_with_object(xml_object("dog", (-1, 1, 5, 5))), r"reaches outside"),
    "size": (
        _with_object(DOG, "<size><width>60</width></size>"), r"size/height is missing",
    ),
    "half size": (
        _with_object(DOG, "<size><width>60</width><height>0</height></size>"), r"size is 60 x 0",
    ),
    "name": (
        _with_object(DOG.replace("dog", "dogg")),
        r"name 'dogg' is not in the list .* did you mean 'dog'\? .*--classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_file_and_field(tiny_voc: TinyVoc, fault: str) -> None:
    root = tiny_voc()
    text, message = FAULTS[fault]
    path = _write(root, "c", text)
    with pytest.raises(DataError, match=message) as caught:
        read_voc(root, "val")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_missing_size_is_the_photos(tiny_voc: TinyVoc, size: str) -> None:
    root = tiny_voc()
    _write(root, "a", _with_object(DOG, size))
    image = read_voc(root, "train").images[0]
    assert (image.width, image.height) == (60, 40)
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"size is .* no photo to take it from"):
        read_voc(root, "train")


# The class names


def test_class_names_in_the_order_of_the_rule(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    dataset = read_voc(root, "val")
    assert dataset.classes == CLASSES
    assert dataset.classes_from == "VOC's 20 classes, which cover VOC2012 train"
    assert dataset.label(dataset.images[0].objects[0]) == CLASSES.index("cat")

    (root / "classes.txt").write_text("cat\n dog \r\n\nperson\n")
    dataset = read_voc(root, "val")
    assert dataset.classes == ("cat", "dog", "person")
    assert dataset.classes_from == str(root / "classes.txt")

    dataset = read_voc(root, "val", ["person", "dog", "cat"])
    assert dataset.classes == ("person", "dog", "cat")
    assert dataset.classes_from == "the names that were given"


def test_own_names_are_those_of_the_training_split_for_every_split(tiny_voc: TinyVoc) -> None:
    box = (1, 1, 9, 9)
    root = tiny_voc(
        {"a": [("zebra", box), ("ant", box)], "b": [("zebra", box)], "c": [("newt", box)]},
        splits={"train": ["a"], "val": ["b"], "test": ["c"]},
    )
    for split in ("train", "val"):
        dataset = read_voc(root, split)
        assert dataset.classes == ("ant", "zebra")
        assert dataset.classes_from == "the names found in VOC2012 train"
    with pytest.raises(DataError, match="'newt' is not in the list of classes"):
        read_voc(root, "test")


def test_a_part_does_not_name_a_class(tiny_voc: TinyVoc) -> None:
    part = xml_object("head", (1, 1, 5, 5)).replace("object>", "part>")
    root = tiny_voc({"a": [], "b": TINY["b"]})
    _write(root, "a", _with_object(xml_object("dog", (1, 1, 9, 9), part)))
    assert read_voc(root, "train").classes == CLASSES


def test_a_test_split_whose_training_xml_is_elsewhere(tiny_voc: TinyVoc) -> None:
    box = (1, 1, 9, 9)
    root = tiny_voc({"b": [("ant", box)]}, splits={"train": ["gone"], "test": ["b"]})
    assert read_voc(root, "test").classes == ("ant",)


@pytest.mark.parametrize(
    ("names", "message"),
    [([], "--classes holds no class name"), (["dog", "dog"], "'dog' twice")],
)
def test_faulty_class_lists(tiny_voc: TinyVoc, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_voc(tiny_voc(), "train", names)


def test_no_object_at_all(tiny_voc: TinyVoc) -> None:
    with pytest.raises(DataError, match="has an object, so there are no class names"):
        read_voc(tiny_voc({"a": [], "b": []}), "train")


def test_the_class_order() -> None:
    assert frostbox_data.classes == list(CLASSES)
    assert CLASSES[0] == "person"
    assert CLASSES[6] == "sheep"
    assert CLASSES[19] == "tvmonitor"
    assert len(set(CLASSES)) == 20


# Writing


@st.composite
def _images(draw: st.DrawFn) -> ImageAnnotation:
    width, height = draw(st.integers(4, 3000)), draw(st.integers(4, 3000))
    objects = []
    for _ in range(draw(st.integers(0, 4))):
        # Quarter pixels are exact in binary, so that the shift there and back is too.
        corners = []
        for side in (width, height):
            low = draw(st.integers(0, 4 * (side - 2)))
            high = draw(st.integers(low + 5, 4 * side))
            corners.append((low / 4, high / 4))
        (xmin, xmax), (ymin, ymax) = corners
        objects.append(
            ObjectAnnotation(
                draw(st.sampled_from(["dog", "a & b", "<x>", "stra\u00dfe"])),
                (xmin, ymin, xmax, ymax),
                draw(st.booleans()),
                draw(st.booleans()),
                draw(st.booleans()),
                draw(st.sampled_from(["Unspecified", "Left", "R&D"])),
            )
        )
    return ImageAnnotation("i", None, width, height, tuple(objects), Path("i.xml"))


@given(image=_images())
def test_what_is_written_reads_back(
    image: ImageAnnotation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("voc")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("i\n")
    write_voc_xml(root / "Annotations" / "i.xml", image)
    names = ["dog", "a & b", "<x>", "stra\u00dfe"]
    (back,) = read_voc(root, "train", names).images
    assert (back.width, back.height, back.objects) == (image.width, image.height, image.objects)


def test_whole_coordinates_are_written_as_voc_writes_them(tmp_path: Path) -> None:
    obj = ObjectAnnotation("dog", (4.0, 5.0, 30.0, 35.0))
    write_voc_xml(tmp_path / "i.xml", ImageAnnotation("i", None, 60, 40, (obj,), Path("i")))
    tree = read_annotation(tmp_path / "i.xml")["annotation"]
    assert tree["object"][0]["bndbox"] == {"xmin": "5", "ymin": "6", "xmax": "30", "ymax": "35"}


@pytest.mark.parametrize("box", [(4, 5, 5, 9), (-1, 5, 30, 35), (4, 5, 61, 35)])
def test_boxes_that_voc_cannot_say_are_not_written(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    image = ImageAnnotation("i", None, 60, 40, (ObjectAnnotation("dog", box),), Path("i"))
    with pytest.raises(DataError, match=r"i\.xml: object 1 \(dog\): bndbox"):
        write_voc_xml(tmp_path / "i.xml", image)
    assert not (tmp_path / "i.xml").exists()


# The package


def test_importing_the_readers_leaves_torch_alone() -> None:
    code = (
        "import sys, frostbox.data, frostbox.data.voc, frostbox.data.explore, frostbox.draw;"
        "import frostbox.report.explore;"
        "assert 'torch' not in sys.modules; assert 'load' in dir(frostbox.data);"
        "frostbox.data.filter_largest; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = frostbox_data.nonsense


# The real thing


def test_all_of_voc2007_loads(voc2007: Path) -> None:
    counts = {split: len(load(voc2007, split)) for split in ("train", "val", "trainval")}
    assert counts == {"train": 2501, "val": 2510, "trainval": 5011}
    dataset = load(voc2007, "trainval")
    assert not any(obj.occluded for image in dataset.images for obj in image.objects)
    assert sum(len(image.objects) for image in dataset.images) == 15662
    assert len(dataset.photos) + len(dataset.missing_photos) == 5011
    assert splits(voc2007) == ["train", "trainval", "val"]


def test_all_of_voc2012_loads_in_time(voc2012: Path) -> None:
    start = time.process_time()
    dataset = read_voc(voc2012, "trainval")
    assert time.process_time() - start < 10
    objects = [obj for image in dataset.images for obj in image.objects]
    assert (len(dataset), len(objects)) == (11540, 31561)
    assert sum(not obj.difficult for obj in objects) == 27450
    assert dataset.classes == CLASSES


def test_orig_is_what_torchvision_gives(voc2007: Path) -> None:
    import xml.etree.ElementTree as ET

    for path in sorted((voc2007 / "Annotations").glob("*.xml"))[:200]:
        expected = VOCDetection.parse_voc_xml(ET.parse(path).getroot())
        assert read_annotation(path) == expected


def test_every_message_is_one_line(tiny_voc: TinyVoc) -> None:
    root = tiny_voc()
    with pytest.raises(NotFoundError) as caught:
        read_voc(root, "test")
    assert re.fullmatch(r"[^\n]+\.", str(caught.value))
