"""The bytes of a picture from anywhere -> what the network takes, or one sentence why not."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from frostbox.data.photos import failure
from frostbox.data.transforms import Geometry
from frostbox.detector import Detector
from frostbox.errors import DataError
from frostbox.serve.limits import Limits, Refused, megas

# What browsers and cameras make. Pillow reads dozens more, which nobody sends on purpose. The
# pictures of several in one file that phones make (MPO) are JPEGs to it.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def check(body: bytes, limits: Limits) -> None:
    """Look at a picture's header only.

    Raises:
        Refused: 400 for nothing, 415 for what is no picture, 413 for too many pixels.
    """
    if not body:
        raise Refused(400, "The request has no picture: send the bytes of one as its body.")
    try:
        with Image.open(io.BytesIO(body), formats=_FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise Refused(413, _too_large("more than 178 M", limits)) from error
    except UnidentifiedImageError as error:
        known = f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}"
        raise Refused(415, f"This is no picture that can be read: send {known}.") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise Refused(400, f"The picture's header cannot be read: {failure(error)}.") from error
    if width * height > limits.max_pixels:
        raise Refused(413, _too_large(f"{width} x {height}", limits))


def _too_large(size: str, limits: Limits) -> str:
    return (
        f"The picture has {size} pixels, more than the {megas(limits.max_pixels)} that are taken: "
        "send a smaller one."
    )


def decode(
    body: bytes, detector: Detector, limits: Limits, folder: Path
) -> tuple[Tensor, Geometry]:
    """The picture as `Detector.to_input` gives it: the very pixels that `frostbox predict` sees.

    Args:
        body: the file's bytes.
        folder: for a file that lives as long as this call; the decoders read files.

    Raises:
        Refused: as `check`, and 400 for a picture that is broken behind its header.
    """
    check(body, limits)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="picture-") as file:
            file.write(body)
            file.flush()
            return detector.to_input(file.name)
    except (DataError, OSError, ValueError, SyntaxError) as error:
        cause = error.__cause__ if isinstance(error, DataError) else error
        reason = failure(cause) if isinstance(cause, Exception) else "32 bits a channel"
        raise Refused(400, f"The picture cannot be decoded: {reason}.") from error
