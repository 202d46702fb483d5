"""Small data sets in COCO's and YOLO's layouts, and typed annotations for property tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from frostbox.data.annotations import DetectionSet, ImageAnnotation, ObjectAnnotation

NAMES = ("dog", "stra\u00dfe", "a b", "<x> & 'y'", "no", "007")


def photo(path: Path, size: tuple[int, int] = (60, 40), seed: int = 0, exif: int = 1) -> Path:
    """Coloured noise of this size as it is stored; `exif` says how it is to be turned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    tags = Image.Exif()
    tags[0x0112] = exif
    Image.fromarray(pixels).save(path, exif=tags)
    return path


def coco_image(number: int, name: str, size: tuple[int, int] = (60, 40)) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": size[0], "height": size[1]}


def coco_object(image: int, category: int, bbox: Sequence[float], **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


CATEGORIES = [
    {"id": 3, "name": "cat", "supercategory": "animal"},
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 90, "name": "dog", "supercategory": "animal"},
]


def write_coco_file(
    path: Path,
    images: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]] = (),
    categories: Sequence[Mapping[str, Any]] = CATEGORIES,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    numbered = [{"id": k, **entry} for k, entry in enumerate(objects, start=1)]
    content = {"images": list(images), "annotations": numbered, "categories": list(categories)}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@st.composite
def objects(draw: st.DrawFn, size: tuple[int, int], digits: int, flags: bool) -> ObjectAnnotation:
    """An object inside an image, larger than a pixel each way, to so many decimals."""
    corners = []
    for side in size:
        unit = 10**digits
        low = draw(st.integers(0, (side - 2) * unit))
        high = draw(st.integers(low + unit + 1, side * unit))
        corners.append((low / unit, high / unit))
    (xmin, xmax), (ymin, ymax) = corners
    marks = st.booleans() if flags else st.just(False)
    pose = draw(st.sampled_from(["Unspecified", "Left", "R&D"])) if flags else "Unspecified"
    return ObjectAnnotation(
        draw(st.sampled_from(NAMES)), (xmin, ymin, xmax, ymax),
        draw(marks), draw(marks), draw(marks), pose,
    )  # fmt: skip


@st.composite
def sets(draw: st.DrawFn, digits: int = 2, flags: bool = True) -> DetectionSet:
    """A split of up to four images with odd names, some of them without objects."""
    stems = st.text(
        st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), max_size=8
    ).filter(lambda text: text.strip(" .") == text and text != "")
    names = draw(st.lists(stems, min_size=1, max_size=4, unique_by=str.lower))
    images = []
    for name in names:
        size = draw(st.tuples(st.integers(4, 700), st.integers(4, 700)))
        found = draw(st.lists(objects(size, digits, flags), max_size=3))
        images.append(ImageAnnotation(name, None, *size, tuple(found), Path("i")))
    return DetectionSet("set", Path("set"), "train", NAMES, "the test", tuple(images))


def named_set(*names: str) -> DetectionSet:
    """A split of images of these ids, the first with an object."""
    cat = (ObjectAnnotation("dog", (1.0, 2.0, 9.0, 8.0)),)
    images = (
        ImageAnnotation(name, None, 20, 10, cat if k == 0 else (), Path("i"))
        for k, name in enumerate(names)
    )
    return DetectionSet("set", Path("set"), "train", NAMES, "the test", tuple(images))
