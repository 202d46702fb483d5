"""How many pixels a JPEG says to have, before libjpeg makes room for them.

libjpeg takes 4 billion of them from a file of a few bytes, and torchvision has no way to ask it
first. Pillow could be asked; what it refuses to read libjpeg may take, so that asking Pillow would
be no fence. The markers are walked as libjpeg walks them (ITU-T T.81, annex B).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from frostbox.errors import DataError

MOST_PIXELS = 500_000_000
"""Of a JPEG: 22 000 x 22 000, a large aerial photo. Decoded it takes 1.5 GB, if progressive 4.5."""
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))  # markers without a segment
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END, _SCAN = 0xD9, 0xDA
_STRAY = 1 << 16  # bytes between segments, which libjpeg skips; honest files have none


def check_jpeg(path: Path, name: str | Path | None = None) -> None:
    """Raise DataError for a JPEG that says to have more than MOST_PIXELS pixels.

    The message calls it `name`, if that is given.
    """
    name = path if name is None else name
    with path.open("rb") as file:
        width, height = _frame(file, name)
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{name} says to have {width} x {height} pixels, and at most {MOST_PIXELS / 1e6:.0f} "
            "million are decoded; save it smaller or take it off the list."
        )


def _frame(file: BinaryIO, name: str | Path) -> tuple[int, int]:
    """Width and height in the frame header; 0, 0 without one, of which libjpeg decodes nothing."""
    stray = 0
    while byte := file.read(1):
        if byte != b"\xff":
            stray += 1
            if stray > _STRAY:
                raise DataError(f"{name} has {_STRAY} bytes that are no JPEG; replace the photo.")
            continue
        mark = b"\xff"
        while mark == b"\xff":  # any number of them may come before the marker
            mark = file.read(1)
        code = mark[0] if mark else _END
        if code in _FRAMES:
            head = file.read(7)  # length, precision, height, width
            return int.from_bytes(head[5:7], "big"), int.from_bytes(head[3:5], "big")
        if code in (_END, _SCAN):
            break
        if code not in _ALONE:
            file.seek(max(0, int.from_bytes(file.read(2), "big") - 2), 1)
    return 0, 0
