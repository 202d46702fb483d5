"""A small data set out of VOC2007: 300 photos and three classes, of which bottles are small.

    python benchmarks/small_data.py $VOCDEVKIT/VOC2007 small
    frostbox train small/VOC2007 --budget 4min
    frostbox train small/VOC2007 --budget 4min --set 'strides=[16,32]'     # without stride 8

Train are the first 300 photos of VOC's train with a bottle, a potted plant or a person, a hundred
for each class in this order; val are the photos of VOC's val that have one. Other objects are left
out of the annotations; the photos are links.
"""

from __future__ import annotations

import argparse
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from frostbox.data.voc import load

CLASSES = ("bottle", "pottedplant", "person")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=100, help="photos for each class")
    given = parser.parse_args()
    root = given.out / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        images = load(given.data, split).photos
        chosen: dict[str, Path] = {}
        for name in CLASSES:
            having = [i for i in images if any(o.name == name for o in i.objects)]
            new = [i for i in having if i.image_id not in chosen]
            limit = given.each if split == "train" else len(new)
            chosen |= {i.image_id: i.photo for i in new[:limit] if i.photo is not None}
        for image_id, photo in chosen.items():
            target = root / "JPEGImages" / photo.name
            if not target.exists():
                os.symlink(photo.resolve(), target)
            tree = ElementTree.parse(given.data / "Annotations" / f"{image_id}.xml")
            annotation = tree.getroot()
            for obj in annotation.findall("object"):
                if obj.findtext("name") not in CLASSES:
                    annotation.remove(obj)
            tree.write(root / "Annotations" / f"{image_id}.xml")
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(sorted(chosen)) + "\n")
        counts = {
            name: sum(o.name == name for i in load(root, split).photos for o in i.objects)
            for name in CLASSES
        }
        print(f"{split}: {len(chosen)} photos, {counts}")


if __name__ == "__main__":
    main()
