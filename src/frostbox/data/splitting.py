"""Splits for data sets that have none: stratified by class, seeded, and written down.

The list is written into the user's own folder of frostbox (`home.data_home`), never into the data
set, and keyed by where the data set lies. So all commands see the same split, also after labels
were corrected or photos added: an image keeps its side as long as it keeps its id, and new ones
are shared out.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.box_check import some
from frostbox.data.home import data_home
from frostbox.data.remote_sets import address_of
from frostbox.errors import DataError
from frostbox.untrusted import once, parse_json

logger = logging.getLogger("frostbox")

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
        _report_single(whole.images)
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


def _report_single(images: Sequence[ImageAnnotation]) -> None:
    """Say which classes val cannot measure, because they stand in one image."""
    count = Counter(name for image in images for name in _content(image) if name != _EMPTY)
    single = sorted(name for name, number in count.items() if number == 1)
    if single:
        logger.warning(
            "%s classes stand in a single image, which is learned from: val has none of them (%s)",
            len(single), some(single),
        )  # fmt: skip


def splits_file(whole: DetectionSet) -> Path:
    """Where the split of a data set is written down."""
    key = f"{_where(whole)}\0{whole.split}"
    digest = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
    return data_home() / "splits" / f"{whole.name}-{digest}.json"


def _where(whole: DetectionSet) -> str:
    """Where a data set lies: of one on a remote path its address, whatever stands for it here."""
    root = whole.root.resolve()
    return address_of(root) or str(root)


def stratified(
    images: Sequence[ImageAnnotation],
    share: float,
    seed: int,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Share images out so that each class, and images without objects, are split alike.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011), by objects: the rarest class
    that is left comes first, and each of its images goes where most of that class is wanted,
    relative to the share of that side. Two rules come before that: no class ends up in val alone,
    so one with a single image is learned, and no side gets more images than its share, however the
    objects are spread.

    Images are dealt in the order of a hash of seed and id: one that is added finds its own place
    among the others instead of shuffling them.

    Args:
        images: all of them. share: of objects and of images that goes to "val", in (0, 1).
        seed: of the order in which images are dealt.
        fixed: image ids whose side is known already; they count, and stay.

    Returns:
        "train" or "val" for each image id. Both get an image when there are two or more.
    """
    content = {image.image_id: _content(image) for image in images}
    dealt = _Deal(content, {"train": 1 - share, "val": share})
    for image_id, side in (fixed or {}).items():
        if image_id in content:
            dealt.put(image_id, side)
    order = sorted(content.keys() - dealt.sides.keys(), key=lambda i: (_rank(seed, i), i))
    with_class: dict[str, list[str]] = {}
    for image_id in order:
        for name in content[image_id]:
            with_class.setdefault(name, []).append(image_id)
    for name in sorted(with_class, key=lambda n: (len(with_class[n]), n)):
        # Images full of the class first: the small ones then even out what is left.
        for image_id in sorted(with_class[name], key=lambda i: -content[i][name]):
            if image_id not in dealt.sides:
                dealt.put(image_id, dealt.side(image_id, name))
    dealt.fill(order)
    return dealt.sides


class _Deal:
    """Images on their way to the sides, and what each side still wants."""

    def __init__(self, content: Mapping[str, Counter[str]], shares: Mapping[str, float]) -> None:
        self.sides: dict[str, str] = {}
        self._content = content
        self._shares = shares
        objects: Counter[str] = Counter()
        for found in content.values():
            objects.update(found)  # a sum would copy all classes for each image
        self._wanted = {
            side: {name: part * objects[name] for name in objects} for side, part in shares.items()
        }
        self._room = {side: part * len(content) for side, part in shares.items()}
        self._left = Counter(name for found in content.values() for name in found)
        self._learned: Counter[str] = Counter()

    def put(self, image_id: str, side: str) -> None:
        self.sides[image_id] = side
        self._room[side] -= 1
        self._left.subtract(self._content[image_id].keys())
        if side == "train":
            self._learned.update(self._content[image_id].keys())
        for name, count in self._content[image_id].items():
            self._wanted[side][name] -= count

    def side(self, image_id: str, name: str) -> str:
        """Where an image goes that is dealt for the sake of a class."""
        if any(not self._learned[n] and self._left[n] == 1 for n in self._content[image_id]):
            return "train"
        open_sides = [side for side in self._shares if self._room[side] > 0] or list(self._shares)
        return max(open_sides, key=lambda side: self._need(side, name))

    def _need(self, side: str, name: str) -> tuple[float, float]:
        # Relative to its share: so val gets one of two images of a class, and can measure it.
        share = self._shares[side]
        return self._wanted[side][name] / share, self._room[side] / share

    def fill(self, movable: Sequence[str]) -> None:
        """Move one image to a side that got none, the one with which fewest classes go."""
        for side in MADE:
            if side not in self.sides.values() and len(self.sides) > 1 and movable:
                self.sides[min(reversed(movable), key=self._lost_without)] = side

    def _lost_without(self, image_id: str) -> int:
        return sum(self._learned[name] == 1 for name in self._content[image_id])


_EMPTY = "\0empty"  # stands for the class of an image without objects


def _content(image: ImageAnnotation) -> Counter[str]:
    return Counter(obj.name for obj in image.objects if not obj.crowd) or Counter([_EMPTY])


def _rank(seed: int, image_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{image_id}".encode(), digest_size=8).digest()


def _read(path: Path) -> dict[str, str]:
    try:
        stored = parse_json(path.read_bytes(), once)
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
        "data": _where(whole),
        "list": whole.split,
        "seed": SEED,
        "val_share": VAL_SHARE,
        "splits": {n: sorted(i for i, side in sides.items() if side == n) for n in MADE},
    }
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    partial.replace(path)
