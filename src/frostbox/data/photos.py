"""Photos on disk: their size from the header alone, and their pixels.

One decoder serves training, prediction and the classic data sets, so that all see the same
pixels. torchvision is imported only to decode; reading sizes needs Pillow alone.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from frostbox.data.annotations import Box, DetectionSet, ImageAnnotation
from frostbox.data.jpeg_header import check_jpeg
from frostbox.data.remote_sets import ahead, local_copy
from frostbox.data.voc_layout import PHOTO_SUFFIXES
from frostbox.errors import DataError, NotFoundError
from frostbox.remote import is_stand_in

if TYPE_CHECKING:
    from torch import Tensor


FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""What Pillow may take a photo for, whatever its suffix is. It knows dozens more, which few have
looked at for harm, and hands one (EPS, which is a program) to Ghostscript."""
_EXIF_ORIENTATION = 0x0112
_SHOWN = 3
# Brands of the container that phones write, by what they hold.
_UNREAD = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "HEIC"),
    b"avif": "AVIF",
    b"avis": "AVIF",
}
_LARGE_FILE = 300_000  # bytes, below which a second look at the header costs more than it saves


def open_image(file: str | Path | BinaryIO) -> Image.Image:
    """A picture of a format of FORMATS as Pillow has it before its pixels are decoded."""
    return Image.open(file, formats=FORMATS)


def image_size(path: str | Path) -> tuple[int, int, int]:
    """Width and height as stored in the file, and the EXIF orientation, from the header alone.

    Returns:
        `(width, height, orientation)`, orientation 1 (upright) to 8; from 5 on the upright picture
        has width and height exchanged. A TIFF is always read upright and counts as 1.

    Raises:
        NotFoundError: no such file.
        DataError: the file is not an image.
    """
    with _readable(path) as file, open_image(file) as image:
        return *image.size, exif_orientation(image)


def upright_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright picture, from the header alone; errors as `image_size`."""
    width, height, orientation = image_size(path)
    return turned_size((width, height), orientation)


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) after the turn that an EXIF orientation, 1 to 8, asks for."""
    return size[::-1] if orientation >= 5 else size


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened picture, 1 to 8; 1 where none is to be applied."""
    # Pillow turns TIFF upright by itself, and the size with it. It decodes a whole PNG to look
    # for an EXIF block behind the pixels; libpng does not look there, and neither do we.
    # Nor do the readers look into XMP, as Pillow's `getexif` does: only the EXIF block counts.
    stored = image.info.get("exif") if image.format != "TIFF" else None
    found = Image.Exif()
    if stored:
        found.load(stored)
    orientation = found.get(_EXIF_ORIENTATION, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def photo_suffix(path: Path) -> str:
    """The suffix by which readers know a photo: its own, or that of what it holds.

    Raises:
        DataError: a file of another suffix that is not an image.
    """
    if path.suffix.lower() in PHOTO_SUFFIXES:
        return path.suffix
    with _readable(path) as file, open_image(file) as image:
        return suffix_of(str(image.format))


def suffix_of(kind: str) -> str:
    """The usual suffix of a format by Pillow's name for it."""
    return {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}.get(kind, f".{kind.lower()}")


def read_image(path: str | Path, exif: bool = True) -> Tensor:
    """Decode a photo.

    Greyscale and palette pictures become RGB, CMYK is converted, alpha is dropped, 16 bits a
    channel are scaled to 8, of an animation the first picture is taken.

    Args:
        path: a picture in one of FORMATS.
        exif: whether to turn the picture upright as its EXIF orientation says.

    Returns:
        uint8 tensor (3, H, W), RGB.

    Raises:
        NotFoundError: no such file.
        DataError: the file is empty, truncated, not an image, or has more pixels than Pillow
            takes, 179 million, or a JPEG more than 500 million.
    """
    import torch
    from torchvision.io import ImageReadMode, decode_image, read_file

    with _readable(path) as local:
        with local.open("rb") as file:
            head = file.read(8)
        if not head:
            raise DataError(
                f"{path} is empty (0 bytes); replace the photo or take it off the list."
            )
        if not head.startswith(b"\xff\xd8\xff"):
            # torchvision leaves the EXIF orientation of other formats alone, and its decoder of
            # PNG (0.29) ends the process where the compressed data are damaged.
            pixels = torch.from_numpy(_decode_with_pillow(local, exif, path))
            return pixels.permute(2, 0, 1).contiguous()
        check_jpeg(local, path)
        image: Tensor = decode_image(
            read_file(os.fspath(local)), mode=ImageReadMode.RGB, apply_exif_orientation=exif
        )
        return image


def read_enough(
    path: str | Path, exif: bool, share: Callable[[tuple[int, int]], float]
) -> tuple[Tensor, tuple[int, int]]:
    """Decode a photo no finer than is needed: libjpeg leaves out what a smaller picture does not
    show, which takes a third of the time for a photo of 12 megapixels.

    Args:
        path, exif: as of `read_image`.
        share: of the sides that is enough, given (width, height) of the upright photo.

    Returns:
        uint8 tensor (3, h, w), RGB, whole or with 1/2, 1/4 or 1/8 of the sides, rounded up, but not
        below `share` of them; and (width, height) of the whole upright photo.

    Raises:
        NotFoundError, DataError: as `read_image`.
    """
    reduced = _reduced(path, exif, share)
    if reduced is not None:
        return reduced
    image = read_image(path, exif)
    return image, (int(image.shape[2]), int(image.shape[1]))


def _reduced(
    path: str | Path, exif: bool, share: Callable[[tuple[int, int]], float]
) -> tuple[Tensor, tuple[int, int]] | None:
    """The JPEG with a part of its sides; None where nothing is gained, or `read_image` decides."""
    import torch

    try:
        if os.path.getsize(path) < _LARGE_FILE:
            return None
        with local_copy(path) as file, open_image(file) as image:
            if not isinstance(image, JpegImageFile):
                return None
            whole, orientation = image.size, exif_orientation(image) if exif else 1
            upright_whole = turned_size(whole, orientation)
            enough = share(upright_whole)
            image.draft("RGB", (math.ceil(enough * whole[0]), math.ceil(enough * whole[1])))
            if image.size == whole:
                return None
            pixels = torch.from_numpy(rgb_array(_upright(image, orientation), str(path)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, DataError):
        return None  # Pillow refuses what libjpeg alone takes; a broken photo is named there too
    return pixels.permute(2, 0, 1).contiguous(), upright_whole


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as an EXIF orientation, 1 to 8, says."""
    return image.transpose(_UPRIGHT[orientation]) if orientation > 1 else image


def read_thumbnail(path: str | Path, side: int, exif: bool = True) -> Image.Image:
    """A small copy of a photo, quickly: a JPEG is decoded at a fraction of its size.

    Args:
        path: a picture in one of FORMATS.
        side: the longer side of the copy in pixels; a smaller photo keeps its size.
        exif: whether to turn the picture upright as its EXIF orientation says.

    Returns:
        An RGB image.

    Raises:
        NotFoundError: no such file.
        DataError: the file is empty, truncated or not an image.
    """
    with _readable(path) as file, open_image(file) as image:
        # Twice the side leaves the resampling enough pixels to be smooth.
        image.draft("RGB", (2 * side, 2 * side))
        image.load()
        upright = _upright(image, exif_orientation(image)) if exif else image
        small = Image.fromarray(rgb_array(upright, str(path)))
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        return small


def check_photo_sizes(dataset: DetectionSet) -> DetectionSet:
    """Compare the size in each photo's header with the one that its annotation states.

    A photo whose EXIF turns it by 90 degrees and whose annotation has the size of the stored,
    unturned picture was annotated without EXIF: it gets `exif=False` and is decoded unturned.
    (A half turn and a mirrored photo leave the size as it is; they are read upright.)
    Files that are no images are left alone: whoever decodes them names and skips them.

    Returns:
        The data set with `exif` set for every image.

    Raises:
        DataError: sizes that differ; the message names up to three files with both sizes.
    """
    checked: list[ImageAnnotation] = []
    wrong: list[str] = []
    for image in ahead(dataset.images, lambda image: image.photo):
        exif = True
        if image.photo is not None:
            try:
                width, height, orientation = image_size(image.photo)
            except DataError:
                checked.append(image)
                continue
            upright = turned_size((width, height), orientation)
            stated = (image.width, image.height)
            exif = stated == upright
            if not exif and stated != (width, height):
                wrong.append(
                    f"{image.photo} is {upright[0]} x {upright[1]} pixels but {image.source} "
                    f"says {stated[0]} x {stated[1]}"
                )
        checked.append(image if image.exif == exif else replace(image, exif=exif))
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError(
            f"size differs between photo and annotation: {'; '.join(wrong[:_SHOWN])}{more}. "
            "Put the photo back that was annotated, or scale the boxes and mend the size."
        )
    return dataset.subset(checked)


def place_photo(photo: Path, target: Path, *, copy: bool = False) -> None:
    """Put a photo at another place: a hard link where that is possible, which shares the bytes.

    Args:
        copy: whether to copy it in any case.
    """
    if is_stand_in(photo):
        with local_copy(photo) as file:
            shutil.copyfile(file, target)
        return
    source = photo.resolve()
    if not copy:
        try:
            os.link(source, target)
        except OSError:  # another disk, or a file system without links
            copy = True
    if copy:
        shutil.copy2(source, target)


def upright(image: ImageAnnotation) -> ImageAnnotation:
    """The annotation of the upright photo, where it was made on one that EXIF turns.

    Raises:
        DataError: a photo that is no picture.
    """
    if image.exif or image.photo is None:
        return image
    *_, orientation = image_size(image.photo)
    if orientation < 5:
        return image
    width, height = float(image.width), float(image.height)

    def turned(box: Box) -> Box:
        xmin, ymin, xmax, ymax = box
        if orientation in (6, 7):
            ymin, ymax = height - ymax, height - ymin
        if orientation in (7, 8):
            xmin, xmax = width - xmax, width - xmin
        return ymin, xmin, ymax, xmax

    objects = tuple(replace(obj, box=turned(obj.box)) for obj in image.objects)
    return replace(image, width=image.height, height=image.width, objects=objects, exif=True)


@contextmanager
def _readable(path: str | Path) -> Iterator[Path]:
    """Turn what decoders raise into one sentence that names the photo and the reason.

    What is yielded is the file to read, which has another name for a photo on a remote path.
    """
    with local_copy(path) as local:  # a full disk while it is fetched is no fault of the photo
        try:
            yield local
        except DataError:
            raise
        except FileNotFoundError as error:
            raise NotFoundError(f"{path} does not exist; give the path of a photo.") from error
        except UnidentifiedImageError as error:
            raise DataError(f"{path} {_unidentified(local)}.") from error
        except (
            OSError, RuntimeError, ValueError, SyntaxError, Image.DecompressionBombError
        ) as error:  # fmt: skip
            if isinstance(error, (IsADirectoryError, PermissionError)):
                text = f"{path} cannot be read ({error.strerror}); give a photo."
                raise DataError(text) from error
            raise DataError(
                f"{path} cannot be decoded ({failure(error)}); replace the photo or take it off "
                "the list."
            ) from error


def _unidentified(path: Path) -> str:
    """Why no decoder takes a file, and what to do."""
    with path.open("rb") as file:
        head = file.read(12)
    kind = _UNREAD.get(head[8:12]) if head[4:8] == b"ftyp" else None
    if kind is not None:
        return (
            f"is {kind}, which the installed Pillow does not read; save the photo as JPEG or PNG "
            "under the same name with .jpg or .png"
        )
    reason = "is not an image in a known format" if head else "is empty (0 bytes)"
    return f"{reason}; replace the photo or take it off the list"


def failure(error: Exception) -> str:
    """Why a decoder gave up, in a few words."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if any(word in text.lower() for word in ("truncated", "incomplete", "out of bound read")):
        return "the file is truncated"
    if "cannot identify image file" in text:  # and an object's address follows
        return "it is no image"
    # torchvision puts its own C++ file and line in front of what it says.
    return text.rsplit(".cpp:", 1)[-1].partition(", ")[2] if ".cpp:" in text else text


def _decode_with_pillow(path: Path, exif: bool, name: str | Path) -> np.ndarray:
    """Decode what libjpeg does not. Returns uint8 (H, W, 3), RGB."""
    with open_image(path) as image:
        image.load()
        turned = _upright(image, exif_orientation(image)) if exif else image
        return rgb_array(turned, str(name))


def rgb_array(image: Image.Image, name: str) -> np.ndarray:
    """Pixels of a PIL image as uint8 (H, W, 3), RGB, 16 bits a channel scaled to 8.

    Raises DataError, with `name` in it, for 32 bits a channel.
    """
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255 when it converts; scale it instead.
        grey = (np.asarray(image, dtype=np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name} has 32 bits a channel, whose range is not known; save it with 8 bits."
        )
    return np.array(image.convert("RGB"))
