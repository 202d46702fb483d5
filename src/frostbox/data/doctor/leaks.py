"""Images that stand in two splits: by id, by content, and by likeness.

Likeness is a difference hash (dHash: is each pixel of a tiny grey picture brighter than its right
and its lower neighbour?), which survives recompression, scaling and changes of brightness. Pairs
with nearly equal hashes must also have nearly equal thumbnails: a hash alone takes two pictures of
one kind, such as sky over sea, for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostbox.data.doctor.findings import Finding
from frostbox.data.doctor.photos import THUMBNAIL, Broken, Facts
from frostbox.data.doctor.survey import RawImage, Survey

_SIDE = 8
BITS = 2 * _SIDE * _SIDE
MAX_DISTANCE = 24
"""Of 128 bits; unrelated photos differ in about half of them."""
MIN_CORRELATION = 0.97
"""With both limits, copies that were recompressed, scaled, brightened or squeezed are all found,
those cropped by 2 % mostly; of 6.3 million pairs of unrelated VOC2007 photos none is reported."""
_MIN_CONTRAST = 4.0  # grey levels; a flat picture resembles every flat picture
_PAIRS = 2**23  # compared at a time: 32 MB of distances


def check_overlap(found: Survey) -> Iterator[Finding]:
    """Images that stand in two splits; lists that join others, such as trainval, do not count."""
    for a, b in combinations(found.parts, 2):
        inside = {found.identity(key) for key in found.lists[a]}
        file, field = found.places[b]
        for key in found.lists[b]:
            if found.identity(key) in inside:
                image_id = found.images[key].image_id if key in found.images else key
                yield Finding(
                    "split-overlap", "spoils", file, f"{field}: {image_id}" if field else image_id,
                    f"stands in {found.called(a)} too",
                    "remove it from one: figures on images that were learnt say nothing",
                )  # fmt: skip


def check_copies(found: Survey, facts: Mapping[Path, Facts | Broken]) -> Iterator[Finding]:
    """Photos with the same content under two ids, in one split or in two."""
    first: dict[tuple[str, bytes], RawImage] = {}
    for split in found.parts:
        for image, seen in _decoded(found, split, facts):
            other = first.setdefault((split, seen.digest), image)
            if other is not image:
                yield Finding(
                    "photo-duplicate", "notice", _photo(image), "",
                    f"is the same file as {_photo(other).name}, both in {split}",
                    "keep one; look whether their boxes agree",
                )  # fmt: skip
    for a, b in combinations(found.parts, 2):
        for image, seen in _decoded(found, b, facts):
            twin = first.get((a, seen.digest))
            if twin is not None and twin.photo != image.photo:
                yield Finding(
                    "photo-in-two-splits", "spoils", _photo(image), "",
                    f"in {b} is the same file as {_photo(twin).name} in {a}",
                    "remove one: figures on images that were learnt say nothing",
                )  # fmt: skip


def check_likeness(found: Survey, facts: Mapping[Path, Facts | Broken]) -> Iterator[Finding]:
    """Pairs of photos of two splits that look the same and are not the same file."""
    parts = {split: list(_decoded(found, split, facts)) for split in found.parts}
    for a, b in combinations(parts, 2):
        pairs = alike(_stack(parts[a]), _stack(parts[b]))
        for k, m, distance, correlation in pairs:
            (one, seen), (other, copy) = parts[a][k], parts[b][m]
            if seen.digest == copy.digest or one.photo == other.photo:
                continue
            yield Finding(
                "photo-alike-in-two-splits", "spoils", _photo(other), "",
                f"in {b} looks like {_photo(one).name} in {a} ({distance} of {BITS} bits differ, "
                f"correlation {correlation:.3f})",
                "look at both, and put them into one split",
            )  # fmt: skip


def alike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> list[tuple[int, int, int, float]]:
    """Pairs of thumbnails that show nearly the same picture.

    Args:
        first: grey thumbnails, uint8 (N, THUMBNAIL, THUMBNAIL); second: (M, ...).

    Returns:
        (index in first, index in second, differing bits, correlation) of each pair.
    """
    signs, normed = _signs(first), _normalised(first)
    others, other_normed = _signs(second), _normalised(second)
    found = []
    block = max(1, _PAIRS // max(1, len(others)))
    for start in range(0, len(signs), block):
        # Of signs -1 and 1 the dot product is BITS - 2 * (number of differing bits); as a matrix
        # product that is faster than counting bits.
        distances = (BITS - signs[start : start + block] @ others.T) / 2
        rows, columns = np.nonzero(distances <= MAX_DISTANCE)
        correlations = (normed[start + rows] * other_normed[columns]).sum(axis=1)
        for row, column, value in zip(rows, columns, correlations, strict=True):
            if value >= MIN_CORRELATION:
                distance = int(distances[row, column])
                found.append((int(start + row), int(column), distance, float(value)))
    return found


def _signs(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The difference hash as -1 and 1, (N, BITS)."""
    count, step = len(thumbnails), THUMBNAIL // _SIDE
    small = thumbnails.reshape(count, _SIDE, step, _SIDE, step).mean(axis=(2, 4), dtype=np.float32)
    # Each row and column is compared with the next one, the last with the first.
    right = np.roll(small, -1, axis=2) > small
    below = np.roll(small, -1, axis=1) > small
    bits = np.stack((right, below), axis=1).reshape(count, BITS)
    return np.where(bits, np.float32(1), np.float32(-1))


def _normalised(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Zero mean and unit norm, (N, THUMBNAIL ** 2); all zero where there is hardly any contrast."""
    flat: NDArray[np.float32] = thumbnails.reshape(len(thumbnails), THUMBNAIL**2).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat[norm[:, 0] < _MIN_CONTRAST * flat.shape[1] ** 0.5] = 0
    flat /= np.maximum(norm, 1e-9)
    return flat


def _stack(photos: list[tuple[RawImage, Facts]]) -> NDArray[np.uint8]:
    stacked = [seen.thumbnail for _, seen in photos]
    return np.array(stacked, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)


def _decoded(
    found: Survey, split: str, facts: Mapping[Path, Facts | Broken]
) -> Iterator[tuple[RawImage, Facts]]:
    for image in found.of(split):
        seen = None if image.photo is None else facts[image.photo]
        if isinstance(seen, Facts):
            yield image, seen


def _photo(image: RawImage) -> Path:
    assert image.photo is not None
    return image.photo
