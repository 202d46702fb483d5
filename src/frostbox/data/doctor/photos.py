"""Checks of the photos: each is read from disk once, decoded small, and remembered as a few bytes.

Decoding at an eighth of the size still runs through the whole file (the entropy-coded part of a
JPEG cannot be skipped), so a truncated photo is found at a fraction of the price.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from frostbox.data.doctor.boxes import fits
from frostbox.data.doctor.findings import Finding, Severity
from frostbox.data.doctor.survey import RawImage, Survey
from frostbox.data.photos import (
    exif_orientation,
    failure,
    open_image,
    rgb_array,
    turned_size,
)
from frostbox.data.remote_sets import THREADS, local_copy
from frostbox.errors import NotFoundError
from frostbox.progress import Progress
from frostbox.remote import is_stand_in

THUMBNAIL = 16
"""Side of the grey thumbnail that stands for a photo when photos are compared."""

_DECODED = 4 * THUMBNAIL  # at least this large, so that the thumbnail averages
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",),
    "BMP": (".bmp",), "TIFF": (".tif", ".tiff"), "GIF": (".gif",),
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What one look at a photo tells.

    Attributes:
        size: (width, height) as stored in the file.
        orientation: EXIF's, 1 to 8; see `photos.image_size`.
        suffixes: those of the file's real format, the usual one first; () for a rare format.
        digest: 16 bytes that stand for the content of the file.
        thumbnail: grey picture, uint8 (THUMBNAIL, THUMBNAIL).
    """

    size: tuple[int, int]
    orientation: int
    suffixes: tuple[str, ...]
    digest: bytes
    thumbnail: NDArray[np.uint8]

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) after the turn that the EXIF orientation asks for."""
        return turned_size(self.size, self.orientation)


@dataclass(frozen=True)
class Broken:
    """A photo that cannot be decoded: the kind of the finding and the reason."""

    kind: str
    reason: str


def look(paths: Iterable[Path], progress: Progress | None = None) -> dict[Path, Facts | Broken]:
    """Decode photos, as many at a time as there are cores; each path once."""
    wanted = list(dict.fromkeys(paths))
    if progress is not None:
        progress.start("looking at photos", len(wanted), "photos")
    found: dict[Path, Facts | Broken] = {}
    # Pillow releases the interpreter's lock while it decodes.
    # Those on a remote path are fetched by these threads, which mostly wait then.
    threads = max(os.cpu_count() or 1, THREADS if any(map(is_stand_in, wanted)) else 1)
    with ThreadPoolExecutor(threads) as pool, warnings.catch_warnings():
        # A large photo and a damaged EXIF block are Pillow's warnings, not faults.
        warnings.simplefilter("ignore")
        try:
            for path, result in zip(wanted, pool.map(_examine, wanted), strict=True):
                found[path] = result
                if progress is not None:
                    progress.advance()
        finally:
            if progress is not None:
                progress.stop()
    return found


def check_photos(facts: Mapping[Path, Facts | Broken]) -> Iterator[Finding]:
    """Photos that cannot be decoded or have another format than their names say."""
    for photo, seen in facts.items():
        if isinstance(seen, Broken):
            yield broken_photo(photo, seen)
            continue
        suffix = photo.suffix
        if seen.suffixes and suffix.lower() not in seen.suffixes:
            yield Finding(
                "photo-mislabelled", "notice", photo, "",
                f"is a {seen.suffixes[0].removeprefix('.').upper()} file named {suffix}",
                f"rename it to {seen.suffixes[0]}; frostbox reads it, other tools may not",
                fixable=True,
            )  # fmt: skip


def broken_photo(photo: Path, seen: Broken) -> Finding:
    """What is said of a photo that cannot be decoded."""
    return Finding(
        seen.kind, "spoils", photo, "", f"{seen.reason}: training leaves it out",
        "replace the photo or take it off the lists", fixable=True,
    )  # fmt: skip


def check_sizes(found: Survey, facts: Mapping[Path, Facts | Broken]) -> dict[str, Finding]:
    """What is wrong with the size of an image, by its key; nothing for most."""
    findings = {}
    for key, image in found.images.items():
        seen = facts.get(image.photo) if image.photo is not None else None
        if image.photo is None or not isinstance(seen, Facts):
            continue
        if image.stated is not None:
            finding = _size(image, image.photo, image.stated, seen)
        else:
            finding = _turned_photo(image.photo, seen)
        if finding is not None:
            findings[key] = finding
    return findings


def check_missing(found: Survey) -> Iterator[Finding]:
    """Photos that lists name and the folder lacks; a list without any photo breaks training."""
    named: dict[tuple[Path, str], list[str]] = {}
    for split in found.lists:
        images = found.of(split)
        missing = [image for image in images if image.photo is None]
        if missing and len(missing) == len(images):
            wanted = missing[0].wanted
            yield Finding(
                "photo-missing", "breaks", found.root if wanted is None else wanted.parent, "",
                f"holds none of the {len(missing)} photos of {found.called(split)}",
                "put the photos there", count=len(missing),
            )  # fmt: skip
            continue
        for image in missing:
            place = image.at("photo") if image.wanted is None else (image.wanted, "")
            named.setdefault(place, []).append(split)
    for (file, field), splits in named.items():
        yield Finding(
            "photo-missing", "spoils", file, field,
            f"does not exist and stands in {', '.join(splits)}: training leaves it out",
            "add the photo or take it off the lists", fixable=True,
        )  # fmt: skip


def right_size(image: RawImage, seen: Facts) -> tuple[int, int] | None:
    """The photo's size where the boxes prove that the stated one is wrong; None without proof.

    The proof: the boxes reach over the stated size and fit exactly one reading of the photo.
    Boxes that fit both may as well have been drawn on a picture of the stated size.
    """
    boxes = [box for _, box in image.boxed]
    if image.stated is None or fits(boxes, image.stated):
        return None
    readings = [size for size in {seen.upright, seen.size} if fits(boxes, size)]
    return readings[0] if len(readings) == 1 else None


def trusted_size(image: RawImage, seen: Facts | Broken | None) -> tuple[int, int] | None:
    """The size to clip boxes to; None where XML and photo disagree and no box settles it."""
    if not isinstance(seen, Facts):
        return image.size
    agreed = image.stated in (None, seen.upright, seen.size)
    return right_size(image, seen) or (image.size if agreed else None)


def _turned_photo(photo: Path, seen: Facts) -> Finding | None:
    """A photo that EXIF turns, where no size says how it was annotated."""
    if seen.orientation == 1:
        return None
    return Finding(
        "exif-turned", "notice", photo, "",
        f"is read upright, {_by(seen.upright)}, as its EXIF orientation {seen.orientation} says",
        "look at the boxes in a tool that applies EXIF; store the photo upright to be sure",
    )  # fmt: skip


def _size(image: RawImage, photo: Path, stated: tuple[int, int], seen: Facts) -> Finding | None:
    boxes = [box for _, box in image.boxed]
    proven = right_size(image, seen)
    reads = f"states {_by(stated)} and {photo.name} has {_by(seen.upright)}"
    if seen.orientation >= 5:
        reads += f" upright, {_by(seen.size)} as stored (EXIF orientation {seen.orientation})"
    if stated not in (seen.upright, seen.size):
        transposed = stated[::-1] == seen.size
        if proven is not None:
            fit = f"the boxes fit {_by(proven)} alone"
        elif not boxes:
            fit = "there are no boxes to tell which is right"
        elif fits(boxes, seen.upright):
            fit = "the boxes fit both" if fits(boxes, stated) else "the boxes fit the photo"
        else:
            fit = "the boxes fit what is stated, not the photo"
            if not fits(boxes, stated):
                fit = "the boxes fit neither"
        return Finding(
            "size-transposed" if transposed else "size-differs", "breaks", *image.at("size"),
            f"{reads}; {fit}",
            f"write {_by(proven)}" if proven is not None
            else "put the photo back that was annotated, or mend the size and look at the boxes",
            fixable=proven is not None,
        )  # fmt: skip
    return None if seen.orientation == 1 else _turned(image, stated, seen, reads, proven)


def _turned(
    image: RawImage, stated: tuple[int, int], seen: Facts, reads: str,
    proven: tuple[int, int] | None,
) -> Finding:  # fmt: skip
    severity: Severity = "notice"
    if seen.size == seen.upright:
        found = (
            f"{reads} (EXIF orientation {seen.orientation}), which fits the photo upright and "
            "as stored; training reads it upright"
        )
    elif proven is not None:
        severity = "spoils"
        found = f"{reads}; the size is one reading's and the boxes fit the other, {_by(proven)}"
    else:
        upright = stated == seen.upright
        found = f"{reads}; size and boxes fit the photo {'upright' if upright else 'as stored'}"
        found += ", and training reads it so"
    return Finding(
        "exif-turned", severity, *image.at("size"), found,
        f"write {_by(proven)}" if proven is not None
        else "look at the boxes in a tool that applies EXIF; store the photo upright to be sure",
        fixable=proven is not None,
    )  # fmt: skip


def _examine(path: Path) -> Facts | Broken:
    try:
        with local_copy(path) as file:
            return _examine_local(file)
    except NotFoundError:  # taken away since it was listed
        return Broken("photo-unreadable", "does not exist")


def _examine_local(path: Path) -> Facts | Broken:
    try:
        content = path.read_bytes()
        if not content:
            return Broken("photo-empty", "has 0 bytes")
        with open_image(io.BytesIO(content)) as image:
            size, orientation, kind = image.size, exif_orientation(image), image.format or ""
            image.draft("L", (_DECODED, _DECODED))
            image.load()
            thumbnail = _grey(image, path)
    except UnidentifiedImageError:
        return Broken("photo-unreadable", "is not an image in a known format")
    except (OSError, RuntimeError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = failure(error)
        if "truncated" in reason:
            return Broken("photo-truncated", "is truncated, its end is missing")
        return Broken("photo-unreadable", f"cannot be decoded ({reason})")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Facts(size, orientation, _SUFFIXES.get(kind, ()), digest, thumbnail)


def _grey(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    # PIL's own conversion clips 16 bits a channel.
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(rgb_array(image, str(path)))
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
