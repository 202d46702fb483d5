"""Valid documents of every kind that is read, small."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz.mutate import Tree


def coco(draw: Random) -> Tree:
    """A COCO file of two photos, a.jpg and sub/b.jpg of 60 x 40 pixels."""
    annotations = [
        {
            "id": k + 1, "image_id": draw.choice((1, 2)), "category_id": draw.choice((1, 3, 90)),
            "bbox": [draw.randint(0, 29), draw.randint(0, 19), draw.randint(1, 30), 20.5],
            "area": 20.0, "iscrowd": draw.randint(0, 1),
            "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
            "attributes": {"difficult": draw.random() < 0.5, "pose": "left"},
        }
        for k in range(draw.randint(0, 5))
    ]  # fmt: skip
    return {
        "info": {"description": "seed"},
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40},
            {"id": 2, "file_name": "sub/b.jpg", "width": 60, "height": 40},
        ],
        "annotations": annotations,
        "categories": [
            {"id": 3, "name": "cat", "supercategory": "animal"},
            {"id": 1, "name": "person"},
            {"id": 90, "name": "dog", "supercategory": "none"},
        ],
    }


def results(draw: Random) -> Tree:
    """Predictions for the two photos of `coco`."""
    return [
        {
            "image_id": draw.choice((1, 2, "a")), "category_id": draw.choice((1, 3, 90)),
            "category_name": draw.choice(("cat", "person", "dog")), "bbox": [1.0, 2, 3.5, 4],
            "score": draw.random(),
        }
        for _ in range(draw.randint(0, 4))
    ]  # fmt: skip


def voc(draw: Random) -> Tree:
    """An annotation as [tag, text or list of such]."""
    objects = [
        ["object", [
            ["name", draw.choice(("dog", "cat", "person"))], ["pose", "Left"],
            ["truncated", str(draw.randint(0, 1))], ["difficult", "0"],
            ["part", [["name", "head"]]],
            ["bndbox", [["xmin", str(draw.randint(1, 30))], ["ymin", "2"],
                        ["xmax", str(draw.randint(31, 60))], ["ymax", "39.5"]]],
            ["attributes", [["attribute", [["name", "colour"], ["value", "red"]]]]],
        ]]
        for _ in range(draw.randint(0, 3))
    ]  # fmt: skip
    size = ["size", [["width", "60"], ["height", "40"], ["depth", "3"]]]
    return ["annotation", [["folder", "x"], ["filename", "a.jpg"], size, *objects]]


def yolo_yaml(draw: Random) -> Tree:
    """A data.yaml of photos in images."""
    names: Any = (
        ["dog", "cat", "no"] if draw.random() < 0.5 else {"0": "dog", "1": "cat", "2": "no"}
    )
    found = {"path": draw.choice((".", "", "set")), "train": "images", "names": names}
    if draw.random() < 0.3:
        found |= {"nc": 3, "val": draw.choice(("images", ["images"], "")), "test": ""}
    return found


def yolo_lines(draw: Random) -> list[list[str]]:
    """Label lines: boxes, some with a confidence, some polygons."""
    lines = []
    for _ in range(draw.randint(0, 4)):
        count = draw.choice((4, 4, 4, 5, 6, 8))
        numbers = [f"{draw.random() / 2 + 0.2:.4f}" for _ in range(count)]
        lines.append([str(draw.randint(0, 2)), *numbers])
    return lines


def darknet(draw: Random) -> str:
    """An obj.data."""
    return "classes = 3\ntrain = data/train.txt\nnames = obj.names\n"


def cache_index(nbytes: int) -> Tree:
    """The index of a cache of two pictures in three views, whose shard has so many bytes."""
    mosaic = {"name": "mosaic 2", "kind": "mosaic", "number": 2, "seed": 0, "flip": False,
              "side": [0.5, 1.1], "centre": [0.35, 0.65], "fill": [1, 2, 3]}  # fmt: skip
    zoom = {"name": "zoom-in 3", "kind": "zoom-in", "number": 3, "seed": 0, "flip": False,
            "side": [0.4, 1.0], "aspect": 1.33, "brightness": 0.2, "contrast": 0.2,
            "saturation": 0.3, "hue": 0.02, "fill": [1, 2, 3]}  # fmt: skip
    return {
        "format_version": 4, "backbone": "b", "weights_hash": "0", "size": [64, 64],
        "mode": "shrink", "strides": [32],
        "views": [{"name": "original", "flip": False}, mosaic, zoom],
        "fingerprint": "0", "dtype": "float16", "precision": "32", "channels": [4],
        "map_sizes": [[2, 2]], "dataset": "d", "split": "train", "classes": ["a"], "images": 3,
        "shard_images": 3, "complete": True, "boundary": None, "created_by": "test",
        "shards": [{
            "file": "shard-00000.safetensors", "ids": ["a", "b"], "sizes": [[60, 40], [64, 64]],
            "skipped": {"c": "broken"}, "nbytes": nbytes, "sha256": "0", "engine": "e",
        }],
    }  # fmt: skip


def picture(draw: Random) -> bytes:
    """A small photo in one of the formats that are read."""
    size = (draw.randint(1, 24), draw.randint(1, 24))
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (*size, 3), np.uint8)
    image, file = Image.fromarray(pixels), io.BytesIO()
    kind = draw.choice(("JPEG",) * 5 + ("PNG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF"))
    options: dict[str, Any] = {}
    if kind == "JPEG":
        options = {"progressive": draw.random() < 0.4, "quality": draw.randint(20, 95)}
        if draw.random() < 0.5:
            tags = Image.Exif()
            tags[0x0112] = draw.randint(1, 8)
            options["exif"] = tags
        image = image.convert(draw.choice(("RGB", "L", "CMYK")))
    elif kind == "PNG":
        image = image.convert(draw.choice(("RGB", "RGBA", "L", "P", "1", "I;16")))
    elif kind == "TIFF":
        options = {"compression": draw.choice((None, "tiff_lzw", "tiff_deflate", "jpeg"))}
        image = image.convert(draw.choice(("RGB", "L")))
    if kind == "AVIF" and "AVIF" not in Image.SAVE:
        kind = "PNG"
    image.save(file, kind, **options)
    return file.getvalue()
