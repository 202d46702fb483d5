"""Checks of the boxes, and the repairs of a box that are safe.

All numbers are VOC's own: pixels counted from 1, the last one included, so that a box of one pixel
has xmax = xmin. What frostbox's reader refuses breaks the training; what it cuts off or leaves out,
in formats other than VOC's own, spoils it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

from frostbox.data.box_check import BoxCheck
from frostbox.data.doctor.findings import Finding, Severity
from frostbox.data.doctor.survey import VOC, RawBox, RawImage, RawObject, Survey

NEAR_IOU = 0.9
"""From here on two boxes are in one place: annotators who draw one object twice agree so well."""

_AT_BORDER = 3  # pixels
_NOISE = 0.1  # pixels that rounding in a file of text explains
_FITTED: Mapping[str, tuple[Severity, str]] = {
    "": ("spoils", ""),
    "empty": ("spoils", ", and training leaves it out"),
    "outside": ("spoils", ", and training leaves it out"),
    "cut": ("spoils", ", and training cuts it off at the border"),
    "rounded": ("notice", ", and training clips it"),
}
"""What `BoxCheck` does with a box, by the list in which it counts it."""

MOSTLY_INSIDE = 0.8
"""The share of a box that must lie inside its image for clipping to be safe."""


def check_boxes(found: Survey, disputed: Mapping[str, bool]) -> Iterator[Finding]:
    """The faults of each box, of each pair in an image, and of the set's origin of coordinates.

    Args:
        found: the data set.
        disputed: keys of images whose size is wrong, each with whether the right one is known: of a
            box outside, it is then the size that has to be mended.
    """
    shifted = found.fixable and counts_from_zero(found.images.values())
    if found.fixable:
        yield from _origin(list(found.images.values()), shifted)
    if found.strict:
        for key, image in found.images.items():
            yield from _image(image, shifted, disputed.get(key), None)
        return
    for split in found.lists:
        check = BoxCheck("", "")
        for key in found.lists[split]:
            if key in found.images:
                yield from _image(found.images[key], shifted, disputed.get(key), check)
        if check.astray:
            yield Finding(
                "boxes-astray", "breaks", *found.places[split],
                f"has boxes that mean something else: {check.astray}",
                "look whether they are in the unit and the order of their format, and the sizes "
                "those of the photos",
            )  # fmt: skip


def _image(
    image: RawImage, shifted: bool, proven: bool | None, check: BoxCheck | None
) -> Iterator[Finding]:
    """The faults of an image's boxes; `proven` as of `check_boxes`, None for no dispute."""
    for obj in image.objects:
        finding = None if obj.box is None else _single(image, obj, obj.box, shifted, check)
        if finding is not None and finding.kind == "box-outside" and proven is not None:
            way_out = "mend the size: the box fits the photo" if proven else "settle the size first"
            finding = replace(finding, way_out=way_out, fixable=proven)
        if finding is not None:
            yield finding
    for (first, a), (second, b) in combinations(image.boxed, 2):
        # At an IoU of 0.9 the sides differ by less than an eighth.
        if 8 * abs(a[0] - b[0]) <= a[2] - a[0] + 1:
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


def _origin(images: list[RawImage], shifted: bool) -> Iterator[Finding]:
    zeros = [(image, obj, box) for image in images for obj, box in image.boxed if min(box[:2]) == 0]
    if shifted:
        image = zeros[0][0]
        objects = sum(len(i.boxed) for i in images)
        yield Finding(
            "box-zero-based", "spoils", image.file.parent, "bndbox of every object",
            "counts from 0: minima of 0 occur and no maximum goes beyond width - 1 or height - 1",
            "add 1 to xmin, ymin, xmax and ymax", fixable=True, count=objects,
        )  # fmt: skip
        return
    for image, obj, _ in zeros:
        yield Finding(
            "box-zero-based", "spoils", image.file, obj.box_place,
            f"is {obj.shown}, and VOC counts from 1; training takes the 0 as 1",
            "look whether the other boxes of its tool are one pixel off too", fixable=True,
        )  # fmt: skip


def _single(
    image: RawImage, obj: RawObject, box: RawBox, shifted: bool, check: BoxCheck | None
) -> Finding | None:
    """What is wrong with a box alone; `check` fits boxes, None refuses those that do not fit."""
    xmin, ymin, xmax, ymax = box
    if obj.words is VOC:  # the reader takes 0 as 1; see `_origin`
        xmin, ymin = xmin or 1.0, ymin or 1.0
    # VOC's reader wants a maximum above its minimum: a box of one pixel is a click.
    wide, high = (far - near + 1 - obj.words.origin for near, far in ((xmin, xmax), (ymin, ymax)))
    severity: Severity = "breaks"
    done = ""
    if check is not None:
        severity, done = _FITTED[_fitted((xmin, ymin, xmax, ymax), image.size, check, obj)]
    where = (image.file, obj.box_place)
    if wide < 0 or high < 0:
        return Finding(
            "box-inverted", severity, *where,
            f"is {obj.shown}: a maximum below its minimum{done}",
            "exchange the two", fixable=_mends(box, image.size, shifted),
        )  # fmt: skip
    if wide == 0 or high == 0:
        return Finding(
            "box-empty", severity, *where, f"is {obj.shown}: no area{done}",
            "draw it again or remove the object", fixable=True,
        )  # fmt: skip
    if image.size is None:
        return None
    width, height = image.size
    beyond = max(1 - xmin, 1 - ymin, xmax - width, ymax - height)
    if beyond > (_NOISE if done else 0):
        share = inside((xmin, ymin, xmax, ymax), image.size)
        found = f"is {obj.shown} in an image of {width} x {height}"
        return Finding(
            "box-outside", severity, *where, f"{found}: {share:.0%} of it lies inside{done}",
            "clip it" if share >= MOSTLY_INSIDE else "draw it again, or mend a wrong size",
            fixable=share >= MOSTLY_INSIDE,
        )  # fmt: skip
    if xmin <= 1 and ymin <= 1 and xmax >= width - shifted and ymax >= height - shifted:
        return Finding(
            "box-covers-image", "notice", *where,
            f"is {obj.shown}, the whole image of {width} x {height}",
            "look whether it stands for an object or for a label of the image",
        )  # fmt: skip
    return None


def _fitted(box: RawBox, size: tuple[int, int] | None, check: BoxCheck, obj: RawObject) -> str:
    """What training does with a box, as of `_FITTED`."""
    xmin, ymin, xmax, ymax = box
    if size is None:
        return ""
    # As `voc.XmlReader` has it: there, maxima that are not above the minima are no area.
    empty = obj.words is VOC and (xmax <= xmin or ymax <= ymin)
    low = (xmin, ymin) if empty else (xmin - 1, ymin - 1)
    before = {kind: len(getattr(check, kind)) for kind in _FITTED if kind}
    check.fit((*low, xmax, ymax), size, lambda: obj.box_place)
    return next((kind for kind in before if len(getattr(check, kind)) > before[kind]), "")


def _pair(
    image: RawImage, first: RawObject, a: RawBox, second: RawObject, b: RawBox
) -> Iterator[Finding]:
    where = (image.file, second.box_place)
    same = first.name.strip() == second.name.strip()
    if a == b and same:
        yield Finding(
            "box-duplicate", "spoils", *where, f"is {second.shown}, as that of {first.where}",
            "remove one of the two; one counts as missed whatever is detected",
            fixable=first.difficult == second.difficult,
        )  # fmt: skip
        return
    overlap = iou(a, b)
    if overlap < NEAR_IOU:
        return
    found = f"is {second.shown}, and {first.place} is {first.shown}: IoU {overlap:.2f}"
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
