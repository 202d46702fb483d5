"""Splits for data sets that have none: stratified by class, seeded, and written down.

The list is written into the user's own folder of frostbox (`home.data_home`), never into the data
set, and keyed by where the data set lies. So all commands see the same split, also after labels
were corrected or photos added: an image keeps its side as long as it keeps its id, and new ones
are shared out.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.home import data_home
from frostbox.errors import DataError

SPLITS_VERSION = 1
"""Of the written file. A reader accepts its own version and older ones and refuses newer ones."""
VAL_SHARE = 0.2
SEED = 0
MADE = ("train", "val")


def made_splits(whole: DetectionSet) -> dict[str, DetectionSet]:
    """Train and val of a data set that comes as one list; `made` names the file that says so.

    The file is written on the first call, and again when images were added.

    Raises:
        DataError: fewer than two images, a side of which no image is left, or a file that is
            damaged or of a newer version.
    """
    if len(whole) < 2:
        raise DataError(
            f"{whole.root}: {whole.split!r} has {len(whole)} image: a training needs at least two, "
            "one to learn from and one to choose the best weights."
        )
    path = splits_file(whole)
    sides = _read(path) if path.is_file() else {}
    fresh = [image for image in whole.images if image.image_id not in sides]
    if fresh:
        sides |= stratified(whole.images, VAL_SHARE, SEED, sides)
        _write(path, whole, sides)
    for name in MADE:
        if not any(sides[image.image_id] == name for image in whole.images):
            raise DataError(
                f"{path} puts none of the images that {whole.root} has now into {name!r}; remove "
                "the file to split them anew."
            )
    return {
        name: replace(
            whole,
            split=name,
            images=tuple(image for image in whole.images if sides[image.image_id] == name),
            made=path,
        )
        for name in MADE
    }


def splits_file(whole: DetectionSet) -> Path:
    """Where the split of a data set is written down."""
    key = f"{whole.root.resolve()}\0{whole.split}"
    digest = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
    return data_home() / "splits" / f"{whole.name}-{digest}.json"


def stratified(
    images: Sequence[ImageAnnotation],
    share: float,
    seed: int,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Share images out so that each class, and images without objects, are split alike.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011), by objects: the rarest class
    that is left comes first, and each of its images goes where most of that class is wanted,
    relative to the share of that side.

    Args:
        images: all of them. share: of objects that goes to "val", in (0, 1).
        seed: of the order in which images are dealt.
        fixed: image ids whose side is known already; they count, and stay.

    Returns:
        "train" or "val" for each image id. Both get an image when there are two or more.
    """
    shares = {"train": 1 - share, "val": share}
    content = {image.image_id: _content(image) for image in images}
    sides = {image_id: side for image_id, side in (fixed or {}).items() if image_id in content}
    totals: Counter[str] = sum(content.values(), Counter())
    wanted = {side: {name: part * totals[name] for name in totals} for side, part in shares.items()}
    room = {side: part * len(images) for side, part in shares.items()}

    def need(side: str, name: str) -> tuple[float, float]:
        # Relative to its share: so val gets one of two images of a class, and can measure it.
        return wanted[side][name] / shares[side], room[side] / shares[side]

    def put(image_id: str, side: str) -> None:
        sides[image_id] = side
        room[side] -= 1
        for name, count in content[image_id].items():
            wanted[side][name] -= count

    for image_id, side in list(sides.items()):
        put(image_id, side)
    order = [image_id for image_id in sorted(content) if image_id not in sides]
    random.Random(seed).shuffle(order)
    with_class: dict[str, list[str]] = {}
    for image_id in order:
        for name in content[image_id]:
            with_class.setdefault(name, []).append(image_id)
    for name in sorted(with_class, key=lambda n: (len(with_class[n]), n)):
        # Images full of the class first: the small ones then even out what is left.
        for image_id in sorted(with_class[name], key=lambda i: -content[i][name]):
            if image_id not in sides:
                put(image_id, max(shares, key=lambda side: need(side, name)))
    _fill(sides, order, fixed or {})
    return sides


_EMPTY = "\0empty"  # stands for the class of an image without objects


def _content(image: ImageAnnotation) -> Counter[str]:
    return Counter(obj.name for obj in image.objects if not obj.crowd) or Counter([_EMPTY])


def _fill(sides: dict[str, str], order: Sequence[str], fixed: Mapping[str, str]) -> None:
    """Move one image to a side that got none."""
    for side in MADE:
        movable = [image_id for image_id in order if image_id not in fixed]
        if side not in sides.values() and len(sides) > 1 and movable:
            sides[movable[-1]] = side


def _read(path: Path) -> dict[str, str]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        version, splits = stored["version"], stored["splits"]
        sides = {str(image_id): name for name in MADE for image_id in splits[name]}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error!r}); remove it, and the split is made again from its seed."
        ) from error
    if not isinstance(version, int) or version > SPLITS_VERSION:
        raise DataError(
            f"{path} has version {version!r}; this frostbox reads up to {SPLITS_VERSION}: upgrade "
            "frostbox."
        )
    return sides


def _write(path: Path, whole: DetectionSet, sides: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": SPLITS_VERSION,
        "data": str(whole.root.resolve()),
        "list": whole.split,
        "seed": SEED,
        "val_share": VAL_SHARE,
        "splits": {n: sorted(i for i, side in sides.items() if side == n) for n in MADE},
    }
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    partial.replace(path)
