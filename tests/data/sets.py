"""Small data sets in COCO's and YOLO's layouts, and typed annotations for property tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
def objects(
    draw: st.DrawFn, size: tuple[int, int], digits: int, flags: bool, coco: bool = False
) -> ObjectAnnotation:
    """An object inside an image, larger than a pixel each way, to so many decimals.

    `coco`: some are crowds, and some have an area of their own.
    """
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
        crowd=coco and draw(st.booleans()),
        area=draw(st.sampled_from([None, 0.5])) if coco else None,
    )  # fmt: skip


@st.composite
def sets(draw: st.DrawFn, digits: int = 2, flags: bool = True, coco: bool = False) -> DetectionSet:
    """A split of up to four images with odd names, some of them without objects.

    `coco`: as of `objects`; moreover names may differ in case alone and lie in folders, and images,
    categories and objects may have ids of all kinds.
    """
    stems = st.text(
        st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), max_size=8
    ).filter(lambda text: text.strip(" .") == text and text != "" and text[1:2] != ":")  # no A:
    if coco:
        stems = stems | st.sampled_from(["a", "A", "a-2", "a/b", "a_b"])
    unique = None if coco else str.lower
    names = draw(st.lists(stems, min_size=1, max_size=4, unique_by=unique, unique=coco))
    images = []
    for name in names:
        size = draw(st.tuples(st.integers(4, 700), st.integers(4, 700)))
        found = draw(st.lists(objects(size, digits, flags, coco), max_size=3))
        images.append(ImageAnnotation(name, None, *size, tuple(found), Path("i")))
    dataset = DetectionSet("set", Path("set"), "train", NAMES, "the test", tuple(images))
    return draw(_numbered(dataset)) if coco else dataset


@st.composite
def _numbered(draw: st.DrawFn, dataset: DetectionSet) -> DetectionSet:
    """The same with ids as COCO files have them: none, or with gaps, also below 1, also as text."""

    def ids(count: int) -> list[int | str | None]:
        known = st.integers(-5, 2**40) | st.sampled_from(["", "7", "x/y"])
        full = st.lists(known, min_size=count, max_size=count, unique=True)
        return draw(st.just([None] * count) | full)

    of_images = ids(len(dataset))
    of_objects = iter(ids(sum(len(image.objects) for image in dataset.images)))
    images = [
        replace(
            image,
            number=number,
            objects=tuple(replace(obj, number=next(of_objects)) for obj in image.objects),
        )
        for image, number in zip(dataset.images, of_images, strict=True)
    ]
    of_classes = st.lists(st.integers(0, 90), min_size=len(NAMES), max_size=len(NAMES), unique=True)
    numbers = draw(st.none() | of_classes)
    categories = {} if numbers is None else {n: k for k, n in enumerate(sorted(numbers))}
    return replace(dataset, images=tuple(images), categories=categories)


@st.composite
def splits(draw: st.DrawFn) -> dict[str, DetectionSet]:
    """Up to three splits with what COCO holds; they share names of images."""
    names = st.lists(st.sampled_from(["train", "val", "test"]), min_size=1, unique=True)
    return {name: replace(draw(sets(coco=True)), split=name) for name in draw(names)}


def named_set(*names: str) -> DetectionSet:
    """A split of images of these ids, the first with an object."""
    cat = (ObjectAnnotation("dog", (1.0, 2.0, 9.0, 8.0)),)
    images = (
        ImageAnnotation(name, None, 20, 10, cat if k == 0 else (), Path("i"))
        for k, name in enumerate(names)
    )
    return DetectionSet("set", Path("set"), "train", NAMES, "the test", tuple(images))
