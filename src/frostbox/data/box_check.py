"""Boxes of COCO and YOLO files, made to fit their images, with an account of what was done.

Real files hold boxes without area and boxes a pixel outside; these must not stop a training. A file
whose boxes lie outside by and large is another matter: its numbers mean something else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from frostbox.data.annotations import Box
from frostbox.data.faults import Noted, gathered, is_gathering
from frostbox.errors import DataError

logger = logging.getLogger("frostbox")

ROUNDING = 1.0
"""Pixels outside the image up to which a box is clipped without a word about it alone."""
MOSTLY_INSIDE = 0.5
"""Share of a box that must lie inside its image for the rest to be cut off; else it is left out."""
TOO_MANY = 0.1
"""Share of the boxes further outside than rounding explains from which on the file is refused."""
FEW = 5
"""So few such boxes are slips, not another meaning, unless they are half of the file or more."""
_SHOWN = 3


@dataclass
class BoxCheck:
    """Fits boxes into images and keeps count; `close` reports.

    Attributes:
        file: how messages name the file or folder.
        hint: what may be wrong with a file whose boxes lie outside by and large.
    """

    file: str
    hint: str
    total: int = 0
    rounded: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def fit(self, box: Box, size: tuple[int, int], where: Callable[[], str]) -> Box | None:
        """The box, clipped to its image where it has to be; None for one that is left out.

        Args:
            box: xyxy in pixels, finite. size: (width, height). where: names the box in messages.

        Where faults are gathered (`faults.py`), every box comes back as it is.
        """
        if is_gathering():
            return box
        self.total += 1
        xmin, ymin, xmax, ymax = box
        width, height = size
        if xmax <= xmin or ymax <= ymin:
            self.empty.append(f"{where()} is {_numbers(box)}")
            return None
        if xmin >= 0 and ymin >= 0 and xmax <= width and ymax <= height:
            return box
        clipped = max(xmin, 0.0), max(ymin, 0.0), min(xmax, width), min(ymax, height)
        seen = max(clipped[2] - clipped[0], 0.0) * max(clipped[3] - clipped[1], 0.0)
        share = seen / ((xmax - xmin) * (ymax - ymin))
        text = f"{where()} is {_numbers(box)} in an image of {width} x {height}"
        if seen <= 0 or share < MOSTLY_INSIDE:
            self.outside.append(text)
            return None
        beyond = max(-xmin, -ymin, xmax - width, ymax - height)
        (self.rounded if beyond <= ROUNDING else self.cut).append(text)
        return clipped

    @property
    def astray(self) -> str:
        """What shows that the boxes mean something else; "" where nothing does."""
        far = [*self.outside, *self.cut]
        enough = len(far) >= FEW or 2 * len(far) >= self.total > 0
        if not enough or len(far) <= TOO_MANY * self.total:
            return ""
        return f"{len(far)} of {self.total} boxes reach outside their images: {some(far)}"

    def close(self) -> tuple[str, ...]:
        """Say what was done.

        Returns:
            What the typed form then lacks of the file, in words, for `DetectionSet.unread`.

        Raises:
            DataError: so many boxes lie outside their images that the file means something else.
        """
        if self.astray:
            raise DataError(f"{self.file}: {self.astray}; {self.hint}.")
        done = [
            (found, what)
            for found, what in (
                (self.empty, "have no area and are left out"),
                (self.outside, "lie mostly outside their images and are left out"),
                (self.cut, "reach outside their images and are cut off at the border"),
                (self.rounded, f"reach outside by at most {ROUNDING:g} pixel and are clipped"),
            )
            if found
        ]
        for found, what in done:
            count = f"{len(found)} of {self.total}"
            logger.warning("%s: %s boxes %s: %s", self.file, count, what, some(found))
        return tuple(f"{len(found):,} boxes that {what}" for found, what in done)


def some(found: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def refuse(faults: Sequence[str], file: str, way_out: str, *, go_on: bool = False) -> None:
    """Raise DataError for the faults of a file, with the first few of them; nothing for none.

    Where faults are gathered (`faults.py`), all of them are noted before.

    Args:
        go_on: whether the reader can then do without what they concern; else it is left by `Noted`.
    """
    noted = bool(faults) and gathered(faults, file, way_out)
    if faults and not (noted and go_on):
        count = f"{len(faults)} faults: " if len(faults) > 1 else ""
        error = Noted if noted else DataError
        raise error(f"{file}: {count}{some(faults)}; {way_out}.")


def _numbers(box: Box) -> str:
    return f"({', '.join(f'{value:g}' for value in box)})"
