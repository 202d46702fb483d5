"""Checks of the boxes, and the repairs of a box that are safe.

All numbers are VOC's own: pixels counted from 1, the last one included, so that a box of one pixel
has xmax = xmin. What frostbox's reader refuses breaks the training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from frostbox.data.doctor.findings import Finding
from frostbox.data.doctor.survey import RawBox, RawImage, RawObject

NEAR_IOU = 0.9
"""From here on two boxes are in one place: annotators who draw one object twice agree so well."""

_AT_BORDER = 3  # pixels

MOSTLY_INSIDE = 0.8
"""The share of a box that must lie inside its image for clipping to be safe."""


def check_boxes(images: Iterable[RawImage]) -> Iterator[Finding]:
    """The faults of each box, of each pair in an image, and of the set's origin of coordinates."""
    images = list(images)
    shifted = counts_from_zero(images)
    yield from _origin(images, shifted)
    for image in images:
        for obj, box in image.boxed:
            yield from _single(image, obj, box, shifted)
        for (first, a), (second, b) in combinations(image.boxed, 2):
            yield from _pair(image, first, a, second, b)


def counts_from_zero(images: Iterable[RawImage]) -> bool:
    """Whether the whole set counts its pixels from 0.

    So it is when minima of 0 occur, maxima reach width - 1 or height - 1, and none goes further.
    """
    zero = last = False
    for image in images:
        if image.size is None:
            continue
        for _, (xmin, ymin, xmax, ymax) in image.boxed:
            width, height = image.size
            if max(xmin, xmax) >= width or max(ymin, ymax) >= height:
                return False
            zero = zero or min(xmin, ymin) == 0
            last = last or xmax == width - 1 or ymax == height - 1
    return zero and last


def mended(box: RawBox, size: tuple[int, int] | None, shift: bool) -> RawBox | None:
    """The box after every repair that is safe; None when nothing is left of it.

    In this order: count from 1 (all four values when `shift`, else minima of 0 become 1), put
    exchanged corners right, clip what mostly lies inside the image. A box without area goes.
    """
    xmin, ymin, xmax, ymax = (value + shift for value in box)
    xmin, xmax = min(xmin, xmax), max(xmin, xmax)
    ymin, ymax = min(ymin, ymax), max(ymin, ymax)
    xmin, ymin = (1.0 if low == 0 else low for low in (xmin, ymin))
    if (
        size is not None
        and xmin < xmax
        and ymin < ymax
        and inside((xmin, ymin, xmax, ymax), size) >= MOSTLY_INSIDE
    ):
        xmin, ymin = max(xmin, 1.0), max(ymin, 1.0)
        xmax, ymax = min(xmax, float(size[0])), min(ymax, float(size[1]))
    return (xmin, ymin, xmax, ymax) if xmin < xmax and ymin < ymax else None


def _mends(box: RawBox, size: tuple[int, int] | None, shift: bool) -> bool:
    result = mended(box, size, shift)
    return result is None or size is None or inside(result, size) == 1.0


def inside(box: RawBox, size: tuple[int, int]) -> float:
    """The share of the box's area, in [0, 1], that lies inside the image."""
    xmin, ymin, xmax, ymax = box
    width = min(xmax, size[0]) - max(xmin - 1, 0)
    height = min(ymax, size[1]) - max(ymin - 1, 0)
    area = (xmax - xmin + 1) * (ymax - ymin + 1)
    return max(width, 0.0) * max(height, 0.0) / area if area > 0 else 0.0


def fits(boxes: Iterable[RawBox], size: tuple[int, int]) -> bool:
    """Whether no box reaches over the right or the lower side of a picture of `size`."""
    return all(max(b[0], b[2]) <= size[0] and max(b[1], b[3]) <= size[1] for b in boxes)


def iou(a: RawBox, b: RawBox) -> float:
    """Intersection over union in inclusive pixels; 0 for inverted boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b)]
    return width * height / (sum(areas) - width * height)


def numbers(box: RawBox) -> str:
    """'(1, 2, 30, 40)'."""
    return f"({', '.join(f'{value:g}' for value in box)})"


def _origin(images: list[RawImage], shifted: bool) -> Iterator[Finding]:
    zeros = [(image, obj, box) for image in images for obj, box in image.boxed if min(box[:2]) == 0]
    if shifted:
        image = zeros[0][0]
        objects = sum(len(i.boxed) for i in images)
        yield Finding(
            "box-zero-based", "spoils", image.xml.parent, "bndbox of every object",
            "counts from 0: minima of 0 occur and no maximum goes beyond width - 1 or height - 1",
            "add 1 to xmin, ymin, xmax and ymax", fixable=True, count=objects,
        )  # fmt: skip
        return
    for image, obj, box in zeros:
        yield Finding(
            "box-zero-based", "spoils", image.xml, f"{obj.place}: bndbox",
            f"is {numbers(box)}, and VOC counts from 1; training takes the 0 as 1",
            "look whether the other boxes of its tool are one pixel off too", fixable=True,
        )  # fmt: skip


def _single(image: RawImage, obj: RawObject, box: RawBox, shifted: bool) -> Iterator[Finding]:
    xmin, ymin = (low or 1.0 for low in box[:2])  # the reader takes 0 as 1; see `_origin`
    xmax, ymax = box[2:]
    where = (image.xml, f"{obj.place}: bndbox")
    if xmax < xmin or ymax < ymin:
        yield Finding(
            "box-inverted", "breaks", *where, f"is {numbers(box)}: a maximum below its minimum",
            "exchange the two", fixable=_mends(box, image.size, shifted),
        )  # fmt: skip
        return
    if xmax == xmin or ymax == ymin:
        yield Finding(
            "box-empty", "breaks", *where, f"is {numbers(box)}: no area",
            "draw it again or remove the object", fixable=True,
        )  # fmt: skip
        return
    if image.size is None:
        return
    width, height = image.size
    if min(xmin, ymin) < 1 or xmax > width or ymax > height:
        share = inside(box, image.size)
        found = f"is {numbers(box)} in an image of {width} x {height}"
        yield Finding(
            "box-outside", "breaks", *where, f"{found}: {share:.0%} of it lies inside",
            "clip it" if share >= MOSTLY_INSIDE else "draw it again, or mend a wrong size",
            fixable=share >= MOSTLY_INSIDE,
        )  # fmt: skip
    elif xmin <= 1 and ymin <= 1 and xmax >= width - shifted and ymax >= height - shifted:
        yield Finding(
            "box-covers-image", "notice", *where,
            f"is {numbers(box)}, the whole image of {width} x {height}",
            "look whether it stands for an object or for a label of the image",
        )  # fmt: skip


def _pair(
    image: RawImage, first: RawObject, a: RawBox, second: RawObject, b: RawBox
) -> Iterator[Finding]:
    where = (image.xml, f"{second.place}: bndbox")
    same = first.name.strip() == second.name.strip()
    if a == b and same:
        yield Finding(
            "box-duplicate", "spoils", *where, f"is {numbers(b)}, as that of object {first.number}",
            "remove one of the two; one counts as missed whatever is detected",
            fixable=first.difficult == second.difficult,
        )  # fmt: skip
        return
    overlap = iou(a, b)
    if overlap < NEAR_IOU:
        return
    found = f"is {numbers(b)}, and {first.place} is {numbers(a)}: IoU {overlap:.2f}"
    if same:
        yield Finding(
            "box-near-duplicate", "spoils", *where, found,
            "look whether these are two objects, and remove one if not",
        )  # fmt: skip
    else:
        yield Finding(
            "box-contradicts", "notice" if _cut_by_frame(b, image.size) else "spoils", *where,
            found, "look whether one object has two labels, and keep the right one",
        )  # fmt: skip


def _cut_by_frame(box: RawBox, size: tuple[int, int] | None) -> bool:
    """Whether two sides or more lie at the image's border.

    Boxes of a person and of the sofa behind coincide when the frame cuts off both.
    """
    if size is None:
        return False
    width, height = size
    gaps = (box[0] - 1, box[1] - 1, width - box[2], height - box[3])
    return sum(gap <= _AT_BORDER for gap in gaps) >= 2
