"""A data set that a head can learn in seconds: one coloured rectangle a class on grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import xml_annotation

COLOURS = {"red": (210, 40, 40), "green": (40, 190, 60), "blue": (40, 60, 220)}


def write_shapes(root: Path, *, train: int = 24, val: int = 8, size: int = 64) -> Path:
    """A VOC folder with classes red, green and blue; every eighth picture is empty."""
    rng = np.random.default_rng(5)
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    ids = {"train": [], "val": []}
    for k in range(train + val):
        image_id = f"shape_{k:03d}"
        pixels = rng.integers(100, 150, (size, size, 3), dtype=np.uint8)
        objects = []
        for _ in range(0 if k % 8 == 7 else int(rng.integers(1, 3))):
            name = str(rng.choice(list(COLOURS)))
            width, height = rng.integers(16, 40, 2).tolist()
            x, y = int(rng.integers(0, size - width)), int(rng.integers(0, size - height))
            pixels[y : y + height, x : x + width] = COLOURS[name]
            objects.append((name, (x + 1, y + 1, x + width, y + height)))
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
        (root / "Annotations" / f"{image_id}.xml").write_text(
            xml_annotation(image_id, objects, (size, size))
        )
        ids["train" if k < train else "val"].append(image_id)
    for split, names in ids.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root
