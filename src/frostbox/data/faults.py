"""What readers find wrong, for somebody who wants all of it.

A reader stops at what it cannot use, or leaves it out with a warning. While `gathering` lasts, the
readers of the same thread note that instead, and go on where they can; boxes then come as they
stand in the file, because the doctor, who gathers, judges them itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from frostbox.errors import DataError


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a reader cannot use.

    Attributes:
        kind: as of the doctor's findings.
        file: what is being read, or a file in it that the fault names.
        field: the place in it, such as "annotations[3] (id 4)"; "" for all of it.
        found: what stands there. way_out: what to do.
    """

    kind: str
    file: Path
    field: str
    found: str
    way_out: str


class Noted(DataError):
    """A reader cannot go on; the faults that it says have all been noted."""


_GATHERED: ContextVar[list[Fault] | None] = ContextVar("gathered", default=None)


@contextmanager
def gathering() -> Iterator[list[Fault]]:
    """Have readers note what they cannot use in the list that is given."""
    found: list[Fault] = []
    token = _GATHERED.set(found)
    try:
        yield found
    finally:
        _GATHERED.reset(token)


def is_gathering() -> bool:
    """Whether somebody wants all faults, and boxes as they stand."""
    return _GATHERED.get() is not None


def gathered(
    faults: Sequence[str], file: str | Path, way_out: str, kind: str = "field-unusable"
) -> bool:
    """Hand faults to whoever gathers them; whether somebody does.

    Args:
        faults: each as "PLACE: FOUND", where PLACE may begin with a file below `file` and a comma
            ("labels/a.txt, line 3: class 9 ..."), or as a sentence.
    """
    found = _GATHERED.get()
    if found is not None:
        found += [_fault(kind, text, Path(file), way_out) for text in faults]
    return found is not None


def _fault(kind: str, text: str, file: Path, way_out: str) -> Fault:
    place, colon, what = text.partition(": ")
    if not colon:
        return Fault(kind, file, "", text, way_out)
    head, _, rest = place.partition(", ")
    if rest and (file / head).is_file():
        file, place = file / head, rest
    return Fault(kind, file, place, what, way_out)
