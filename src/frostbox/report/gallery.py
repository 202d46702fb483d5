"""Which images a report shows, and their pictures as data URIs.

An image is worth showing when it is among the best or the worst, or holds a telling example of one
kind of error. Pictures carry no boxes: the page draws those, so that they can be switched.
"""

from __future__ import annotations

import base64
import io
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from frostbox.data.annotations import DetectionSet
from frostbox.data.photos import read_thumbnail
from frostbox.errors import DataError, NotFoundError
from frostbox.report.contract import ErrorName, FoundBox, GalleryImage, TruthBox

logger = logging.getLogger("frostbox")

LIMIT = 48
SIDE = 640
QUALITY = 80
LOWEST_SCORE = 0.05
MOST_BOXES = 60
_ERRORS: tuple[str, ...] = get_args(ErrorName)
_WRONG = frozenset(_ERRORS) - {"missed"}
_RANKS = ("best", "worst")
_RANKED = 8


@dataclass(frozen=True)
class Example:
    """One image with everything that the gallery may show of it.

    Attributes:
        image_id: the image's name.
        photo: its file, or None where there is none.
        width, height: of the original image in pixels.
        truth: ground truth; `found_at` is filled by `gallery`.
        found: all detections, in any order.
        exif: whether the photo's EXIF orientation applies (`ImageAnnotation.exif`).
    """

    image_id: str
    photo: Path | None
    width: int
    height: int
    truth: Sequence[TruthBox]
    found: Sequence[FoundBox]
    exif: bool = True


# Index of an image, and why it is shown.
_Candidate = tuple[int, str]


class _Error(NamedTuple):
    """One mistake: how much it weighs, its class, the index of its image, and what is said."""

    weight: float
    name: str
    image: int
    text: str


def gallery(
    examples: Sequence[Example],
    *,
    score: float = 0.25,
    limit: int = LIMIT,
    side: int = SIDE,
    quality: int = QUALITY,
) -> list[GalleryImage]:
    """Choose the best, the worst and the most instructive images, and encode their pictures.

    Best and worst (eight each) are by the F1 of the image's own objects at `score`; for each kind
    of error the most confident mistakes come first (for missed objects: the largest), another
    class each time where there is one. Each of these lists gives an image in turn until `limit` is
    reached. A photo that cannot be decoded is passed over with a warning. Detections below 0.05,
    and beyond the best 60 of an image, are left out.

    Args:
        examples: all images of the split.
        score: detections with a lower score do not count for the choice.
        limit: the number of images at most.
        side: the longer side of a picture in pixels.
        quality: of the JPEGs.

    Returns:
        The images with all their tags, in the order of the choice.
    """
    matched = [_with_scores(example) for example in examples]
    lists = _candidates(matched, score)
    chosen: dict[int, GalleryImage] = {}
    broken: set[int] = set()
    for index, note in _in_turn(list(lists.values())):
        if len(chosen) == limit:
            break
        if index in chosen or index in broken:
            continue
        try:
            picture = _picture(matched[index], side, quality)
        except (DataError, NotFoundError) as error:
            logger.warning("left out of the gallery: %s", error)
            broken.add(index)
            continue
        ranks = [tag for tag in _RANKS if any(index == other for other, _ in lists[tag])]
        chosen[index] = _entry(matched[index], picture, ranks, note, score)
    return list(chosen.values())


def samples(
    dataset: DetectionSet, *, count: int = 24, seed: int = 0, side: int = SIDE
) -> list[GalleryImage]:
    """Photos drawn at random, with their ground truth; broken ones are passed over.

    Args:
        dataset: the split.
        count: the number of pictures at most.
        seed: of the draw.
        side: the longer side of a picture in pixels.
    """
    photos = dataset.photos
    shown: list[GalleryImage] = []
    for k in np.random.default_rng(seed).permutation(len(photos)):
        if len(shown) == count:
            break
        image = photos[int(k)]
        truth: list[TruthBox] = [
            {
                "box": list(obj.box),
                "name": obj.name,
                "difficult": obj.difficult or obj.crowd,
                "state": "difficult" if obj.difficult or obj.crowd else "found",
            }
            for obj in image.objects
        ]
        example = Example(
            image.image_id, image.photo, image.width, image.height, truth, (), image.exif
        )
        try:
            shown.append(_entry(example, _picture(example, side, QUALITY), [], "", 0.0))
        except (DataError, NotFoundError) as error:
            logger.warning("left out of the report: %s", error)
    return shown


def _with_scores(example: Example) -> Example:
    """The same with `found_at`: the score of the hit on each object that was found."""
    hits = [f for f in example.found if f["kind"] == "hit"]
    truth: list[TruthBox] = []
    for obj in example.truth:
        own = [h for h in hits if h["name"] == obj["name"]] if obj["state"] == "found" else []
        best = max(own, key=lambda h: _iou(h["box"], obj["box"]), default=None)
        truth.append({**obj, "found_at": best["score"] if best is not None else None})
    found = sorted(example.found, key=lambda f: -f["score"])
    return replace(example, truth=truth, found=found)


def _missed(obj: TruthBox, score: float) -> bool:
    found_at = obj.get("found_at")
    return not obj["difficult"] and (found_at is None or found_at < score)


def _candidates(examples: Sequence[Example], score: float) -> dict[str, list[_Candidate]]:
    """For each tag its images, the most telling first."""
    quality: list[tuple[float, int, int]] = []
    errors: dict[str, list[_Error]] = {kind: [] for kind in _ERRORS}
    for index, example in enumerate(examples):
        shown = [f for f in example.found if f["score"] >= score]
        hits = sum(f["kind"] == "hit" for f in shown)
        wrong = [f for f in shown if f["kind"] in _WRONG]
        missed = [obj for obj in example.truth if _missed(obj, score)]
        number = hits + len(wrong) + len(missed)
        if number:
            quality.append((2 * hits / (hits + number), number, index))
        for f in wrong:
            text = f"{f['kind']}: {f['name']} {f['score']:.2f}"
            errors[f["kind"]].append(_Error(f["score"], f["name"], index, text))
        for obj in missed:
            share = _area(obj["box"]) / (example.width * example.height)
            text = f"missed: {obj['name']}, {100 * share:.0f} % of the image"
            errors["missed"].append(_Error(share, obj["name"], index, text))
    # Of equally good images the one with more objects says more; so it does of equally bad ones.
    ordered = sorted(quality, key=lambda q: (-q[0], -q[1]))
    half = len(ordered) // 2
    best = [q for q in ordered[: len(ordered) - half] if q[0] > 0][:_RANKED]
    lower = [q for q in ordered[len(ordered) - half :] if q[0] < 1]
    worst = sorted(lower, key=lambda q: (q[0], -q[1]))[:_RANKED]
    lists = {
        tag: [(index, f"{tag}: F1 {f1:.2f} on this image") for f1, _, index in part]
        for tag, part in zip(_RANKS, (best, worst), strict=True)
    }
    for kind, found in errors.items():
        first: dict[int, str] = {}
        for error in _varied(found):
            first.setdefault(error.image, error.text)
        lists[kind] = list(first.items())
    return lists


def _varied(found: list[_Error]) -> list[_Error]:
    """By descending weight, but the first of every class before the second of any."""
    turn: Counter[str] = Counter()
    placed: list[tuple[int, _Error]] = []
    for error in sorted(found, key=lambda e: -e.weight):
        placed.append((turn[error.name], error))
        turn[error.name] += 1
    return [error for _, error in sorted(placed, key=lambda p: p[0])]


def _in_turn(lists: Iterable[Iterable[_Candidate]]) -> Iterator[_Candidate]:
    """The first of each list, then the second of each, until all are empty."""
    for row in zip_longest(*lists):
        yield from (candidate for candidate in row if candidate is not None)


def _entry(
    example: Example, picture: str | None, ranks: list[str], note: str, score: float
) -> GalleryImage:
    """The image as the page takes it, tagged with all kinds of error that it shows."""
    kinds = {f["kind"] for f in example.found if f["score"] >= score}
    missed = ["missed"] if any(_missed(obj, score) for obj in example.truth) else []
    found = [f for f in example.found if f["score"] >= LOWEST_SCORE][:MOST_BOXES]
    return {
        "image_id": example.image_id,
        "tags": [*ranks, *(kind for kind in _ERRORS if kind in kinds), *missed],
        "picture": picture,
        "width": example.width,
        "height": example.height,
        "truth": list(example.truth),
        "found": [
            {**f, "box": [round(float(v), 1) for v in f["box"]], "score": round(f["score"], 4)}
            for f in found
        ],
        "note": note,
    }


def _picture(example: Example, side: int, quality: int) -> str | None:
    """The photo as a JPEG in a data URI. Raises DataError when it cannot be decoded."""
    if example.photo is None:
        return None
    buffer = io.BytesIO()
    small = read_thumbnail(example.photo, side, example.exif)
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    overlap = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = _area(a) + _area(b) - overlap
    return overlap / union if union > 0 else 0.0
