"""What DATA means: recognises the format of a data set, and reads its splits into the typed form.

DATA is a folder or file in one of the known formats, also on a remote path such as s3://
(`remote_sets.py`), a name such as `coco2017` (`named.py`), or an object: a `datasets.Dataset` or
`DatasetDict`, torchvision's `CocoDetection`, a `DetectionSet`, or a mapping from split to any of
these.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from frostbox.data import splitting
from frostbox.data.annotations import DetectionSet
from frostbox.data.box_check import some
from frostbox.data.labels import aligned, choose
from frostbox.data.photo_names import report_missing
from frostbox.data.recognition import KNOWN, Also, Source, recognise
from frostbox.errors import NotFoundError, SettingsError

__all__ = ["KNOWN", "Source", "load", "load_training", "make_splits", "read", "recognise"]

logger = logging.getLogger("frostbox")


def load(
    data: Any,
    split: str,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    *,
    absent: Collection[str] = (),
    require_photos: bool = False,
) -> DetectionSet:
    """Read a split of any data set; photos that are missing are reported once.

    Where the data set has no val, train and val are made from its one list (`splitting.py`). A
    list of its own is always given whole.

    Args:
        data: see the top of this file. split: such as "train".
        classes: names to keep, in label order; None for all. rename: new names by old ones.
        absent: those of these names that the data set may lack (see `labels.choose`).
        require_photos: whether a split without any photo is an error.

    Raises:
        NotFoundError: no such data set or split.
        SettingsError: a name to keep or rename that the data set does not have.
        DataError: annotations that cannot be used, or no photo where photos are required.
    """
    whole = read(recognise(data), split, classes, rename)
    found = choose(whole, classes, rename, absent=absent)
    report_missing(found, require_photos)
    return found


def read(
    source: Source,
    split: str,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> DetectionSet:
    """Read a split with all its classes, as they are; errors are those of `load`.

    `classes` and `rename` say what is to be kept and changed afterwards: these names may occur.
    """
    also = _also(classes, rename)
    if split in source.lists:
        return source.read(split, also)
    if split in source.splits:
        return _made(source, also)[split]
    raise NotFoundError(
        f"{source.root} ({source.format}) has no split {split!r}; it has "
        f"{', '.join(source.splits)}: choose one (--split, of a training --train-split)."
    )


def load_training(
    data: Any,
    train: str,
    val: str | None,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    *,
    absent: Collection[str] = (),
) -> tuple[DetectionSet, DetectionSet | None]:
    """The images to learn from, and those that choose the best weights, with the same labels.

    Where val has to be made, the images to learn from are those that it leaves. Arguments and
    errors are those of `load`; moreover:

    Raises:
        DataError: an object of val whose class train does not name, and no `classes` are given.
    """
    source = recognise(data)
    also = _also(classes, rename)
    if val == "val" and val not in source.lists and train not in splitting.MADE[1:]:
        if source.base == train:
            # Only where a val is wanted: `--val-split none` learns from the whole list.
            made = _made(source, also)
            sets = [choose(made[name], classes, rename, absent=absent) for name in splitting.MADE]
            for part in sets:
                report_missing(part, require=True)
            return sets[0], sets[1]
        if train in source.lists and source.base is not None:
            raise SettingsError(
                f"{source.root} has no val, and one that is made from {source.base!r} would share "
                f"images with {train!r}: train on {source.base!r}, or give another list with "
                "--val-split (none for none)"
            )
    if val is None and train not in source.lists and train == splitting.MADE[0]:
        train = source.base or train  # nothing is to be held back
    learn = load(source, train, classes, rename, absent=absent, require_photos=True)
    if val is None:
        if source.base == train:
            logger.warning(
                "all of %r is learned from: figures on a val that is made of it would be too good",
                train,
            )  # fmt: skip
        return learn, None
    # The names were found in train; val need not have them all.
    known = {*absent, *(classes or ()), *(rename or ())}
    held = load(source, val, classes, rename, absent=known, require_photos=True)
    if not source.voc:  # the doctor says it of VOC
        _report_overlap(learn, held)
    return learn, aligned(held, learn)


def _report_overlap(learn: DetectionSet, held: DetectionSet) -> None:
    seen = {image.photo for image in learn.photos}
    both = [str(image.photo) for image in held.photos if image.photo in seen]
    if both:
        logger.warning(
            "%s photos stand in both %s and %s, whose figures are then too good: %s",
            len(both), learn.split, held.split, some(both),
        )  # fmt: skip


def _also(classes: Sequence[str] | None, rename: Mapping[str, str] | None) -> Also:
    """Names that may occur: any, where it is said what to keep; else those that are changed."""
    return tuple(rename or ()) if classes is None else None


def _made(source: Source, also: Also) -> dict[str, DetectionSet]:
    return make_splits(source, source.read(str(source.base), also))


def make_splits(source: Source, whole: DetectionSet) -> dict[str, DetectionSet]:
    """Train and val of the list `source.base`, and a word about where they are written down.

    Raises:
        DataError: as `splitting.made_splits`.
    """
    made = splitting.made_splits(whole)
    counts = ", ".join(f"{len(part):,} {name}" for name, part in made.items())
    logger.warning(
        "%s has no val: %r is split by class (%s; seed %s), which is written down in %s",
        source.root, source.base, counts, splitting.SEED, made["val"].made,
    )  # fmt: skip
    return made
