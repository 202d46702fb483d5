"""Faults in COCO, YOLO and XML without lists, each planted alone in a data set without any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import xml_annotation
from tests.data.sets import coco_image, coco_object, photo, write_coco_file

Found = tuple[str, str, str, str, str]  # kind, severity, file, field, what was found
Plant = Callable[[Path], Any]

CAT, DOG = (5.0, 6.0, 25.0, 26.0), (30.0, 10.0, 58.0, 38.0)  # corners in photos of 60 x 40
NAMES = ("cat", "dog")
COUNT = range(1, 7)
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def coco(root: Path) -> Path:
    """Six images a split, each with a cat and a dog: annotations 1 and 2 of image 1, ..."""
    for seed, split in enumerate(("train", "val")):
        images = [coco_image(k, f"{split}{k}.jpg") for k in COUNT]
        objects = []
        for k in COUNT:
            photo(root / f"images/{split}{k}.jpg", seed=10 * seed + k)
            objects += [coco_object(k, 1, [5, 6, 20, 20]), coco_object(k, 2, [30, 10, 28, 28])]
        write_coco_file(root / f"annotations/{split}.json", images, objects, CATEGORIES)
    return root


def label(number: int, box: tuple[float, float, float, float]) -> str:
    xmin, ymin, xmax, ymax = box
    values = ((xmin + xmax) / 120, (ymin + ymax) / 80, (xmax - xmin) / 60, (ymax - ymin) / 40)
    return f"{number} {' '.join(map(repr, values))}\n"


def yolo(root: Path) -> Path:
    for seed, split in enumerate(("train", "val")):
        for k in COUNT:
            photo(root / f"images/{split}/{k}.jpg", seed=10 * seed + k)
            path = root / f"labels/{split}/{k}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(label(0, CAT) + label(1, DOG))
    text = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
    (root / "data.yaml").write_text(text)
    return root


def flat(root: Path) -> Path:
    for seed, split in enumerate(("train", "valid")):
        for k in COUNT:
            photo(root / f"{split}/{k}.jpg", seed=10 * seed + k)
            xml = xml_annotation(str(k), [("cat", (6, 7, 25, 26)), ("dog", (31, 11, 58, 38))])
            (root / f"{split}/{k}.xml").write_text(xml)
    return root


def edit(split: str, change: Callable[[dict[str, Any]], Any]) -> Plant:
    def plant(root: Path) -> None:
        path = root / f"annotations/{split}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return plant


def annotation(number: int, **fields: Any) -> Plant:
    return edit("train", lambda c: c["annotations"][number - 1].update(fields))


def image(number: int, **fields: Any) -> Plant:
    return edit("train", lambda c: c["images"][number - 1].update(fields))


def lines(name: str, *lines: str) -> Plant:
    def plant(root: Path) -> None:
        with (root / "labels" / name).open("a") as file:
            file.write("".join(lines))

    return plant


def cut(name: str, content: bytes | None = None) -> Plant:
    def plant(root: Path) -> None:
        path = root / name
        path.write_bytes(path.read_bytes()[:-20] if content is None else content)

    return plant


def xml(old: str, new: str) -> Plant:
    def plant(root: Path) -> None:
        path = root / "train/1.xml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return plant


TRAIN = "annotations/train.json"
ONE = "annotations[0] (id 1)"

COCO: dict[str, tuple[Plant, Found]] = {
    "category": (annotation(1, category_id=7), (
        "field-unusable", "breaks", TRAIN, ONE, "category_id 7 is of no category")),
    "image": (annotation(1, image_id=9), (
        "field-unusable", "breaks", TRAIN, ONE, "image_id 9 is of no image")),
    "three numbers": (annotation(1, bbox=[1, 2, 3]), (
        "field-unusable", "breaks", TRAIN, ONE, "bbox is [1, 2, 3], not [x, y, width, height]")),
    "no box": (annotation(1, bbox=[]), (
        "box-missing", "spoils", TRAIN, ONE, "has no bbox, and training leaves it out")),
    "no name of the photo": (image(1, file_name=""), (
        "field-unusable", "breaks", TRAIN, "", "images[0] (id 1) has no file_name")),
    "two entries of one photo": (image(2, file_name="train1.jpg"), (
        "field-unusable", "breaks", TRAIN, "images[1] is the photo of images[0]",
        "'train1.jpg'")),
    "id twice": (image(2, id=1), (
        "field-unusable", "breaks", TRAIN, "", "id 1 stands 2 times in images")),
    "no JSON": (cut(TRAIN, b'{"images": ['), (
        "list-unreadable", "breaks", ".", "", "train cannot be read: ")),
    "no area": (annotation(1, bbox=[5, 6, 0, 20]), (
        "box-empty", "spoils", TRAIN, "annotation 1 (cat): box",
        "is (5, 6, 5, 26): no area, and training leaves it out")),
    "negative width": (annotation(1, bbox=[25, 6, -20, 20]), (
        "box-inverted", "spoils", TRAIN, "annotation 1 (cat): box",
        "is (25, 6, 5, 26): a maximum below its minimum, and training leaves it out")),
    "outside": (annotation(2, bbox=[34, 10, 30, 28]), (
        "box-outside", "spoils", TRAIN, "annotation 2 (dog): box",
        "is (34, 10, 64, 38) in an image of 60 x 40: 87% of it lies inside, and training cuts it "
        "off at the border")),
    "far outside": (annotation(2, bbox=[90, 10, 30, 28]), (
        "box-outside", "spoils", TRAIN, "annotation 2 (dog): box",
        "is (90, 10, 120, 38) in an image of 60 x 40: 0% of it lies inside, and training leaves it "
        "out")),
    "half a pixel outside": (annotation(2, bbox=[31, 10, 29.5, 28]), (
        "box-outside", "notice", TRAIN, "annotation 2 (dog): box",
        "is (31, 10, 60.5, 38) in an image of 60 x 40: 98% of it lies inside, and training clips "
        "it")),
    "all pixels are corners": (edit("train", lambda c: [
        a.update(bbox=[30, 10, 58, 38]) for a in c["annotations"] if a["category_id"] == 2]), (
        "boxes-astray", "breaks", TRAIN, "", "has boxes that mean something else: 6 of 12 boxes")),
    "twice": (edit("train", lambda c: c["annotations"].append(
        {**c["annotations"][0], "id": 70})), (
        "box-duplicate", "spoils", TRAIN, "annotation 70 (cat): box",
        "is (5, 6, 25, 26), as that of annotation 1")),
    "two classes": (edit("train", lambda c: c["annotations"].append(
        {**c["annotations"][0], "id": 70, "category_id": 2})), (
        "box-contradicts", "spoils", TRAIN, "annotation 70 (dog): box",
        "is (5, 6, 25, 26), and annotation 1 (cat) is (5, 6, 25, 26): IoU 1.00")),
    "other size": (image(1, width=80, height=44), (
        "size-differs", "breaks", TRAIN, "image 1 (train1): size",
        "states 80 x 44 and train1.jpg has 60 x 40; the boxes fit both")),
    "sides exchanged": (image(1, width=40, height=60), (
        "size-transposed", "breaks", TRAIN, "image 1 (train1): size",
        "states 40 x 60 and train1.jpg has 60 x 40; the boxes fit 60 x 40 alone")),
    "no photo": (lambda r: (r / "images/train1.jpg").unlink(), (
        "photo-missing", "spoils", TRAIN, "image 1 (train1): photo",
        "does not exist and stands in train: training leaves it out")),
    "no photos": (lambda r: [(r / f"images/train{k}.jpg").unlink() for k in COUNT], (
        "photo-missing", "breaks", ".", "", "holds none of the 6 photos of train.json")),
    "truncated": (cut("images/train1.jpg"), (
        "photo-truncated", "spoils", "images/train1.jpg", "",
        "is truncated, its end is missing: training leaves it out")),
    "case": (edit("train", lambda c: (
        c["categories"].append({"id": 3, "name": "Dog"}),
        c["annotations"][1].update(category_id=3))), (
        "class-spelling", "spoils", TRAIN, "", "names 'Dog' in 1 objects")),
    "a class of val alone": (edit("val", lambda c: (
        c["categories"].append({"id": 3, "name": "horse"}),
        c["annotations"][1].update(category_id=3))), (
        "class-unknown", "breaks", "annotations/val.json", "",
        "names 'horse' in 1 objects, not in the list of classes (the categories of train.json)")),
    "declared and absent": (edit("train", lambda c: c["categories"].append(
        {"id": 3, "name": "horse"})), (
        "class-absent", "notice", ".", "name",
        "'horse' is declared in the categories of train.json and no object has it")),
    "in two splits": (edit("val", lambda c: c["images"][0].update(file_name="train1.jpg")), (
        "split-overlap", "spoils", "annotations/val.json", "train1", "stands in train.json too")),
    "a copy in two splits": (
        lambda r: shutil.copy(r / "images/train1.jpg", r / "images/val1.jpg"), (
        "photo-in-two-splits", "spoils", "images/val1.jpg", "",
        "in val is the same file as train1.jpg in train")),
    "annotated without EXIF": (lambda r: photo(r / "images/train1.jpg", seed=1, exif=6), (
        "exif-turned", "notice", TRAIN, "image 1 (train1): size",
        "states 60 x 40 and train1.jpg has 40 x 60 upright, 60 x 40 as stored (EXIF orientation "
        "6); size and boxes fit the photo as stored, and training reads it so")),
    "no object": (edit("train", lambda c: c["annotations"].__delitem__(slice(2))), (
        "image-empty", "notice", TRAIN, "image 1 (train1)", "has no object")),
    "shares": (edit("train", lambda c: [
        o.update(bbox=[o["bbox"][0] / 60, o["bbox"][1] / 40, o["bbox"][2] / 60, o["bbox"][3] / 40])
        for o in c["annotations"]]), (
        "boxes-guessed", "notice", TRAIN, "",
        "has boxes in [0, 1], taken as shares of width and height")),
    "tiny": (annotation(1, bbox=[1, 2, 3, 3]), (
        "object-tiny", "notice", TRAIN, "",
        "has 1 of 12 objects (8.3%) below 32 x 32 pixels when photos have 224 x 224")),
}  # fmt: skip


def _linked(path: Path) -> None:
    """A link to a file outside, in place of what is there."""
    target = path.parents[3] / f"outside-{path.name}"
    target.write_bytes(path.read_bytes() if path.exists() else photo(target).read_bytes())
    path.unlink(missing_ok=True)
    path.symlink_to(target)


FIRST = "labels/train/1.txt"

YOLO: dict[str, tuple[Plant, Found]] = {
    "class": (lines("train/1.txt", "\n", label(2, (5, 25, 20, 38))), (
        "field-unusable", "breaks", FIRST, "line 4", "has class 2, and data.yaml names 0 to 1")),
    "word": (lines("train/1.txt", "dog 0.5 0.5 0.1 0.1\n"), (
        "field-unusable", "breaks", FIRST, "line 3",
        "'dog 0.5 0.5 0.1 0.1' has a part that is no number")),
    "four numbers": (lines("train/1.txt", "0 0.5 0.5 0.1\n"), (
        "field-unusable", "breaks", FIRST, "line 3",
        "has 4 numbers; a box has 5, a polygon 7, 9, ...")),
    "no area": (lines("train/1.txt", "\n", label(0, (5, 25, 5, 38))), (
        "box-empty", "spoils", FIRST, "line 4 (cat): box",
        "is (5, 25, 5, 38): no area, and training leaves it out")),
    "outside": (lines("train/1.txt", "0 0.95 0.8 0.2 0.2\n"), (
        "box-outside", "spoils", FIRST, "line 3 (cat): box",
        "is (51, 28, 63, 36) in an image of 60 x 40: 75% of it lies inside, and training cuts it "
        "off at the border")),
    "twice": (lines("train/1.txt", label(0, CAT)), (
        "box-duplicate", "spoils", FIRST, "line 3 (cat): box",
        "is (5, 6, 25, 26), as that of line 1")),
    "zero bytes": (cut("images/train/1.jpg", b""), (
        "photo-empty", "spoils", "images/train/1.jpg", "",
        "has 0 bytes: training leaves it out")),
    "truncated": (cut("images/train/1.jpg"), (
        "photo-truncated", "spoils", "images/train/1.jpg", "",
        "is truncated, its end is missing: training leaves it out")),
    "labels without photo": (lines("train/9.txt", label(0, CAT)), (
        "photo-missing", "spoils", "labels/train/9.txt", "",
        "is the label file of no photo, and training leaves its objects out")),
    "one stem twice": (lambda r: photo(r / "images/train/1.png", seed=9), (
        "label-shared", "spoils", FIRST, "",
        "is the label file of 1.jpg and of 1.png, and both get its objects")),
    "a link leads out": (lambda r: _linked(r / "images/train/9.jpg"), (
        "link-outside", "spoils", "images/train/9.jpg", "",
        "is a link that leads out of the data set, and training leaves it out")),
    "labels outside": (lambda r: _linked(r / FIRST), (
        "field-unusable", "breaks", "images/train/1.jpg", "label file", "")),
    "turned": (lambda r: photo(r / "images/train/1.jpg", (40, 60), seed=1, exif=6), (
        "exif-turned", "notice", "images/train/1.jpg", "",
        "is read upright, 60 x 40, as its EXIF orientation 6 says")),
    "case": (lambda r: (
        (r / "data.yaml").write_text((r / "data.yaml").read_text().replace("dog]", "dog, Dog]")),
        lines("train/1.txt", label(2, (5, 25, 20, 38)))(r)), (
        "class-spelling", "spoils", ".", "train", "names 'Dog' in 1 objects")),
    "no object": (lambda r: (r / FIRST).unlink(), (
        "image-empty", "notice", FIRST, "", "has no object")),
    "no labels": (lambda r: shutil.rmtree(r / "labels/train"), (
        "field-unusable", "breaks", ".", "", "none of the 6 photos has a label file")),
    "a list names no photo": (lambda r: (
        (r / "train.txt").write_text("images/train/1.jpg\nimages/train/2.jpg\nimages/train/9.jpg\n"
                                     "images/train/3.jpg\nimages/train/4.jpg\nimages/train/5.jpg\n"),
        (r / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\n")), (
        "field-unusable", "breaks", "train.txt", "line 3",
        "'images/train/9.jpg' is no photo in the data set")),
}  # fmt: skip

XML = "train/1.xml"

FLAT: dict[str, tuple[Plant, Found]] = {
    "broken": (xml("</annotation>", ""), (
        "xml-unreadable", "breaks", XML, "", "is not well-formed XML ")),
    "no number": (xml("<xmin>6<", "<xmin>two<"), (
        "field-unusable", "breaks", XML, "object 1 (cat): bndbox/xmin",
        "is 'two', not a number of pixels")),
    "inverted": (xml("<xmin>6</xmin><ymin>7</ymin><xmax>25<", "<xmin>25</xmin><ymin>7</ymin><xmax>6<"), (  # noqa: E501
        "box-inverted", "spoils", XML, "object 1 (cat): bndbox",
        "is (25, 7, 6, 26): a maximum below its minimum, and training leaves it out")),
    "outside": (xml("<xmax>58<", "<xmax>64<"), (
        "box-outside", "spoils", XML, "object 2 (dog): bndbox",
        "is (31, 11, 64, 38) in an image of 60 x 40: 88% of it lies inside, and training cuts it "
        "off at the border")),
    "other size": (xml("<width>60<", "<width>61<"), (
        "size-differs", "breaks", XML, "size",
        "states 61 x 40 and 1.jpg has 60 x 40; the boxes fit both")),
    "no photo": (lambda r: (r / "train/1.jpg").unlink(), (
        "photo-missing", "spoils", "train/1.jpg", "",
        "does not exist and stands in train: training leaves it out")),
    "photo alone": (lambda r: photo(r / "train/9.jpg", seed=99), (
        "photo-without-xml", "notice", "train/9.jpg", "", "has no XML and is not used")),
}  # fmt: skip
