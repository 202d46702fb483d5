"""The faults that tests plant into a healthy data set, and what the doctor must say of each."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.conftest import xml_annotation, xml_object

Plant = Callable[[Path], None]


@dataclass(frozen=True)
class Fault:
    plant: Plant
    kind: str
    severity: str
    file: str
    field: str = ""
    found: str = ""
    way_out: str = ""
    fixable: bool = False


def _xml(root: Path, image_id: str) -> Path:
    return root / "Annotations" / f"{image_id}.xml"


def list_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _photo(root: Path, image_id: str) -> Path:
    return root / "JPEGImages" / f"{image_id}.jpg"


def swap(image_id: str, old: str, new: str) -> Plant:
    """Replace text of an XML; it must stand there."""

    def plant(root: Path) -> None:
        text = _xml(root, image_id).read_text()
        assert old in text
        _xml(root, image_id).write_text(text.replace(old, new, 1))

    return plant


def box(image_id: str, number: int, values: tuple[float, ...]) -> Plant:
    """Give the `number`-th object another box."""

    def plant(root: Path) -> None:
        head, *objects = _xml(root, image_id).read_text().split("<object>")
        name = objects[number - 1].partition("<name>")[2].partition("</name>")[0]
        end = "</annotation>" if number == len(objects) else ""
        objects[number - 1] = xml_object(name, values).removeprefix("<object>") + end
        _xml(root, image_id).write_text("<object>".join([head, *objects]))

    return plant


def add(image_id: str, name: str, values: tuple[float, ...], extra: str = "") -> Plant:
    return swap(image_id, "</annotation>", xml_object(name, values, extra) + "</annotation>")


def lines(split: str, *ids: str) -> Plant:
    return lambda root: (list_file(root, split).write_text("\n".join(ids) + "\n"), None)[1]


def content(image_id: str, change: Callable[[bytes], bytes]) -> Plant:
    def plant(root: Path) -> None:
        _photo(root, image_id).write_bytes(change(_photo(root, image_id).read_bytes()))

    return plant


def picture(
    image_id: str, change: Callable[[Image.Image], Image.Image], **options: object
) -> Plant:
    """Change the pixels and write the file anew under its name."""

    def plant(root: Path) -> None:
        path = _photo(root, image_id)
        changed = change(Image.open(path))
        saved = {"format": "JPEG", "quality": 95, **options}
        buffer = io.BytesIO()
        changed.save(buffer, **saved)
        path.write_bytes(buffer.getvalue())

    return plant


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def both(*plants: Plant) -> Plant:
    def plant(root: Path) -> None:
        for one in plants:
            one(root)

    return plant


def size(image_id: str, width: int, height: int) -> Plant:
    return both(
        swap(image_id, "<width>60<", f"<width>{width}<"),
        swap(image_id, "<height>40<", f"<height>{height}<"),
    )


def copy(root: Path, source: str, target: str) -> None:
    shutil.copy(_photo(root, source), _photo(root, target))


def rename_all(root: Path, old: str, new: str) -> None:
    for path in (root / "Annotations").iterdir():
        path.write_text(path.read_text().replace(f"<name>{old}<", f"<name>{new}<"))


def _count_from_zero(root: Path) -> None:
    """Every corner one less, as a tool that counts from 0 writes it."""
    from tests.data.doctor.conftest import HEALTHY

    for image_id, objects in HEALTHY.items():
        moved = [(name, tuple(v - 1 for v in b)) for name, b in objects]
        _xml(root, image_id).write_text(xml_annotation(image_id, moved))


def _turn_boxes_too(root: Path) -> None:
    """The photo is stored turned, the XML states the stored size, the boxes fit the upright one."""
    picture("a", lambda i: i.transpose(Image.Transpose.ROTATE_90), exif=orientation(6))(root)
    size("a", 40, 60)(root)


XML_A, XML_C = "Annotations/a.xml", "Annotations/c.xml"
TRAIN, VAL = "ImageSets/Main/train.txt", "ImageSets/Main/val.txt"

FAULTS = {
    # Lists and XML
    "no list": Fault(
        lambda r: [p.unlink() for p in (list_file(r, "train"), list_file(r, "val"))] and None,
        "list-missing", "notice", "ImageSets/Main",
        found="holds no list of images: training splits them by class"),
    "empty list": Fault(lines("val"), "list-empty", "breaks", VAL),
    "latin-1 list": Fault(
        lambda r: (list_file(r, "val").write_bytes(b"caf\xe9\n"), None)[1],
        "list-unreadable", "breaks", VAL, found="is not UTF-8"),
    "twice in a list": Fault(
        lines("train", "a", "b", "a"), "list-repeats", "breaks", TRAIN, "line 3",
        "names 'a', as line 1 does", fixable=True),
    "list without XML": Fault(
        lines("train", "a", "b", "z"), "list-without-xml", "breaks", TRAIN, "line 3",
        "no Annotations/z.xml", fixable=True),
    "classes.txt": Fault(
        lambda r: ((r / "classes.txt").write_text("dog\nperson\ndog\n"), None)[1],
        "class-list", "breaks", "classes.txt", found="'dog' twice"),
    "broken XML": Fault(
        swap("a", "</annotation>", ""), "xml-unreadable", "breaks", XML_A, found="not well-formed"),
    "other XML": Fault(
        lambda r: (_xml(r, "a").write_text("<html></html>"), None)[1],
        "xml-unreadable", "breaks", XML_A, found="its outermost tag is <html>"),
    "no name": Fault(
        swap("a", "<name>dog</name>", ""), "field-unusable", "breaks", XML_A,
        "object 1 (without name): name", "is missing or empty"),
    "no corner": Fault(
        swap("a", "<ymax>35</ymax>", ""), "field-unusable", "breaks", XML_A,
        "object 1 (dog): bndbox/ymax", "is missing"),
    "no number": Fault(
        swap("a", "<xmin>5<", "<xmin>five<"), "field-unusable", "breaks", XML_A,
        "object 1 (dog): bndbox/xmin", "is 'five'"),
    "flag": Fault(
        add("a", "dog", (3, 3, 50, 20), "<difficult>yes</difficult>"), "field-unusable", "breaks",
        XML_A, "object 3 (dog): difficult", "is 'yes'", "write 0 or 1"),
    "half a size": Fault(
        swap("a", "<height>40<", "<height>0<"), "field-unusable", "breaks", XML_A, "size",
        "is 60 x 0"),
    "no size, no photo": Fault(
        both(swap("a", "<size><width>60</width><height>40</height><depth>3</depth></size>", ""),
             lambda r: _photo(r, "a").unlink()),
        "field-unusable", "breaks", XML_A, "size", "no photo to take it from"),
    # Sizes
    "other size": Fault(
        size("c", 80, 44), "size-differs", "breaks", XML_C, "size",
        "states 80 x 44 and c.jpg has 60 x 40; the boxes fit both"),
    "too small a size": Fault(
        size("c", 50, 32), "size-differs", "breaks", XML_C, "size",
        "states 50 x 32 and c.jpg has 60 x 40; the boxes fit 60 x 40 alone", "write 60 x 40", True),
    "transposed": Fault(
        size("c", 40, 60), "size-transposed", "breaks", XML_C, "size", "fit 60 x 40 alone",
        "write 60 x 40", True),
    "transposed, boxes fit both": Fault(
        both(lambda r: (_xml(r, "c").write_text(
            xml_annotation("c", [("dog", (3, 3, 30, 30)), ("person", (1, 9, 9, 20))])), None)[1],
            size("c", 40, 60)),
        "size-transposed", "breaks", XML_C, "size", "the boxes fit both"),
    "annotated without EXIF": Fault(
        picture("c", lambda i: i, exif=orientation(6)), "exif-turned", "notice", XML_C, "size",
        "size and boxes fit the photo as stored, and training reads it so"),
    "annotated with EXIF": Fault(
        picture("c", lambda i: i.transpose(Image.Transpose.ROTATE_90), exif=orientation(6)),
        "exif-turned", "notice", XML_C, "size", "size and boxes fit the photo upright"),
    "half turn": Fault(
        picture("c", lambda i: i, exif=orientation(3)), "exif-turned", "notice", XML_C, "size",
        "fits the photo upright and as stored"),
    "size of one reading, boxes of the other": Fault(
        _turn_boxes_too, "exif-turned", "spoils", XML_A, "size",
        "the size is one reading's and the boxes fit the other, 60 x 40", "write 60 x 40", True),
    # Boxes
    "inverted": Fault(
        box("a", 1, (30, 6, 5, 35)), "box-inverted", "breaks", XML_A, "object 1 (dog): bndbox",
        "is (30, 6, 5, 35)", "exchange", True),
    "no area": Fault(
        box("a", 2, (31, 9, 60, 9)), "box-empty", "breaks", XML_A, "object 2 (person): bndbox",
        "no area", fixable=True),
    "slightly outside": Fault(
        box("a", 2, (31, 2, 63, 40)), "box-outside", "breaks", XML_A, "object 2 (person): bndbox",
        "is (31, 2, 63, 40) in an image of 60 x 40: 91% of it lies inside", "clip", True),
    "far outside": Fault(
        box("a", 2, (31, 2, 90, 40)), "box-outside", "breaks", XML_A, "object 2", "50%", "draw"),
    "negative": Fault(
        box("a", 1, (-1, 6, 30, 35)), "box-outside", "breaks", XML_A, "object 1", "94%", "clip",
        True),
    "0-based box": Fault(
        box("a", 1, (0, 6, 30, 35)), "box-zero-based", "spoils", XML_A, "object 1 (dog): bndbox",
        "is (0, 6, 30, 35)", fixable=True),
    "0-based set": Fault(
        _count_from_zero, "box-zero-based", "spoils", "Annotations", "bndbox of every object",
        "counts from 0", "add 1", True),
    "whole image": Fault(
        box("c", 1, (1, 1, 60, 40)), "box-covers-image", "notice", XML_C, "object 1 (person)",
        "the whole image of 60 x 40"),
    "duplicate": Fault(
        add("a", "dog", (5, 6, 30, 35)), "box-duplicate", "spoils", XML_A, "object 3 (dog)",
        "as that of object 1", fixable=True),
    "near duplicate": Fault(
        add("a", "dog", (5, 6, 31, 35)), "box-near-duplicate", "spoils", XML_A, "object 3 (dog)",
        "object 1 (dog) is (5, 6, 30, 35): IoU 0.96"),
    "two classes in one place": Fault(
        add("a", "person", (5, 6, 31, 35)), "box-contradicts", "spoils", XML_A,
        "object 3 (person): bndbox", "object 1 (dog) is (5, 6, 30, 35): IoU 0.96"),
    "two classes cut by the frame": Fault(
        add("a", "dog", (32, 1, 60, 40)), "box-contradicts", "notice", XML_A, "object 3 (dog)"),
    # Names
    "unknown name": Fault(
        swap("c", "<name>dog<", "<name>zebra<"), "class-unknown", "breaks", XML_C,
        "object 2: name", "is 'zebra', not in the list of classes (VOC's 20"),
    "misspelt name": Fault(
        swap("c", "<name>person<", "<name>persen<"), "class-misspelt", "breaks", XML_C,
        "object 1: name", "is 'persen'", "did you mean 'person'?"),
    "misspelt in train": Fault(
        swap("a", "<name>person<", "<name>persen<"), "class-misspelt", "spoils", XML_A,
        "object 2: name", "is 'persen'", "'person'"),
    "case": Fault(
        swap("c", "<name>dog<", "<name>Dog<"), "class-spelling", "breaks", XML_C,
        "object 2: name", "is 'Dog'", "write 'dog'", True),
    "case in train": Fault(
        swap("a", "<name>dog<", "<name>DOG<"), "class-spelling", "spoils", XML_A,
        "object 1: name", "is 'DOG'", "write 'dog'", True),
    "blank within": Fault(
        both(lambda r: rename_all(r, "dog", "tvmonitor"),
             swap("c", "<name>tvmonitor<", "<name>TV monitor<")),
        "class-spelling", "breaks", XML_C, "object 2: name", "'TV monitor'", "'tvmonitor'", True),
    "blanks around": Fault(
        swap("c", "<name>dog<", "<name> dog <"), "class-spelling", "notice", XML_C,
        "object 2: name", "with blanks around it", "write 'dog'", True),
    "own names misspelt": Fault(
        both(lambda r: rename_all(r, "dog", "zebra"), swap("c", "<name>zebra<", "<name>zebar<"),
             lambda r: ((r / "classes.txt").write_text("zebra\nperson\n"), None)[1]),
        "class-misspelt", "breaks", XML_C, "object 2: name", "'zebar'", "did you mean 'zebra'?"),
    # Splits
    "in two splits": Fault(
        lines("val", "c", "d", "a"), "split-overlap", "spoils", VAL, "a", "in train.txt too"),
    "absent from train": Fault(
        lambda r: [swap(i, "<name>dog<", "<name>person<")(r) for i in "ab"] and None,
        "class-absent", "spoils", TRAIN, found="has no image with 'dog'"),
    "absent from val": Fault(
        lambda r: [swap(i, "<name>dog<", "<name>person<")(r) for i in "cd"] and None,
        "class-absent", "notice", VAL, found="has no image with 'dog'", way_out="measured"),
    "declared and absent": Fault(
        lambda r: ((r / "classes.txt").write_text("dog\nperson\ncat\n"), None)[1],
        "class-absent", "notice", ".", found="'cat' is declared"),
    "imbalance": Fault(
        both(*(add("a", "person", (k, 10 + k, 2 + k, 12 + k)) for k in range(1, 20))),
        "class-imbalance", "notice", TRAIN, found="2 objects of 'dog' and 21 of 'person'"),
    "no object": Fault(
        lambda r: (_xml(r, "c").write_text(xml_annotation("c", [])), None)[1],
        "image-empty", "notice", XML_C, found="has no object"),
    "photo without XML": Fault(
        lambda r: copy(r, "a", "z"), "photo-without-xml", "notice", "JPEGImages/z.jpg"),
    "in no list": Fault(lines("val", "c"), "image-unlisted", "notice", "Annotations/d.xml"),
    # Photos
    "missing photo": Fault(
        lambda r: _photo(r, "a").unlink(), "photo-missing", "spoils", "JPEGImages/a.jpg",
        found="stands in train", fixable=True),
    "no photo at all": Fault(
        lambda r: shutil.rmtree(r / "JPEGImages"), "photo-missing", "breaks", "JPEGImages",
        found="none of the 2 photos of train.txt"),
    "zero bytes": Fault(
        content("a", lambda b: b""), "photo-empty", "spoils", "JPEGImages/a.jpg",
        found="has 0 bytes", fixable=True),
    "truncated": Fault(
        content("a", lambda b: b[:-20]), "photo-truncated", "spoils", "JPEGImages/a.jpg",
        found="its end is missing", fixable=True),
    "truncated header": Fault(
        content("a", lambda b: b[:100]), "photo-truncated", "spoils", "JPEGImages/a.jpg",
        fixable=True),
    "not an image": Fault(
        content("a", lambda b: b"<html>not found</html>"), "photo-unreadable", "spoils",
        "JPEGImages/a.jpg", found="not an image", fixable=True),
    "32 bits": Fault(
        picture("a", lambda i: i.convert("F"), format="TIFF", quality=None), "photo-unreadable",
        "spoils", "JPEGImages/a.jpg", found="32 bits", fixable=True),
    "PNG named jpg": Fault(
        picture("a", lambda i: i, format="PNG"), "photo-mislabelled", "notice", "JPEGImages/a.jpg",
        found="is a PNG file named .jpg", way_out="rename it to .png", fixable=True),
    "same photo, one split": Fault(
        lambda r: copy(r, "a", "b"), "photo-duplicate", "notice", "JPEGImages/b.jpg",
        found="same file as a.jpg, both in train"),
    "same photo, two splits": Fault(
        lambda r: copy(r, "a", "c"), "photo-in-two-splits", "spoils", "JPEGImages/c.jpg",
        found="in val is the same file as a.jpg in train"),
    "recompressed, two splits": Fault(
        both(lambda r: copy(r, "a", "c"), picture("c", lambda i: i, quality=40)),
        "photo-alike-in-two-splits", "spoils", "JPEGImages/c.jpg",
        found="in val looks like a.jpg in train"),
    # What a network cannot express
    "tiny": Fault(
        add("a", "dog", (40, 1, 42, 3)), "object-tiny", "notice", TRAIN,
        found="has 1 of 5 objects (20.0%) below 32 x 32 pixels"),
    "crowded": Fault(
        add("a", "person", (6, 7, 29, 34)), "grid-crowded", "notice", TRAIN,
        found="loses 1 of 5 objects (20.0%) on 7 x 7 cells"),
}  # fmt: skip
