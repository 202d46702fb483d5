"""Which classes of a data set are used, under which names: renaming, merging, subsets.

First names are changed (`--map dog=animal,cat=animal`), then classes are chosen (`--classes`).
Objects of other classes are left out and counted; a name that the data set does not have is an
error, because it is misspelt more often than not.
"""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from frostbox.data.annotations import DetectionSet, ObjectAnnotation
from frostbox.data.voc_layout import check_names
from frostbox.errors import DataError, SettingsError

logger = logging.getLogger("frostbox")


def choose(
    dataset: DetectionSet,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    *,
    absent: Collection[str] = (),
) -> DetectionSet:
    """The data set with classes renamed, and objects of all others left out.

    Args:
        dataset: as a reader gives it.
        classes: names after renaming to keep, in label order; None for all.
        rename: new name by old one; several old ones may get the same.
        absent: names that the data set may lack, as those of a detector that is used on other data
            than it was trained on.

    Returns:
        The data set; images that keep no object stay, as background.

    Raises:
        SettingsError: a name to keep or to rename that the data set does not have and that is not
            in `absent`, or none of `classes`.
    """
    names = dataset.own_names or {name: name for name in _known(dataset)}
    if rename:
        dataset = _renamed(dataset, rename, absent)
        names = {own: rename.get(name, name) for own, name in names.items()}
    if classes is not None:
        dataset = _subset(dataset, classes, absent)
    return dataset if classes is None and not rename else replace(dataset, own_names=names)


def aligned(dataset: DetectionSet, train: DetectionSet) -> DetectionSet:
    """A split with the labels of the training split.

    Raises:
        DataError: it has an object of a class that the training split does not name.
    """
    if dataset.classes == train.classes:
        return dataset
    for image in dataset.images:
        for obj in image.objects:
            if obj.name not in train.classes:
                raise DataError(
                    f"{image.source}: {image.image_id!r} has an object named {obj.name!r}, and the "
                    f"classes of {train.split!r} ({train.classes_from}) do not name it; "
                    f"{_hint(obj.name, train.classes)}mend the name, change it with --map, or say "
                    "with --classes what to keep."
                )
    return _relabelled(dataset, train.classes, train.classes_from)


def _renamed(
    dataset: DetectionSet, rename: Mapping[str, str], absent: Collection[str]
) -> DetectionSet:
    known = _known(dataset)
    for name in rename:
        if name not in absent:
            _check(name, known, dataset, "--map")
    names = dict.fromkeys(rename.get(name, name) for name in dataset.classes)
    images = [
        replace(image, objects=tuple(_with_name(obj, rename) for obj in image.objects))
        if any(obj.name in rename for obj in image.objects)
        else image
        for image in dataset.images
    ]
    renamed = replace(dataset, images=tuple(images))
    in_order = tuple(names)
    numbers = {
        number: None if label is None else in_order.index(rename.get(old, old))
        for number, label in dataset.categories.items()
        for old in [dataset.classes[label] if label is not None else ""]
    }
    return replace(renamed, classes=in_order, categories=numbers)


def _with_name(obj: ObjectAnnotation, rename: Mapping[str, str]) -> ObjectAnnotation:
    return replace(obj, name=rename[obj.name]) if obj.name in rename else obj


def _subset(dataset: DetectionSet, classes: Sequence[str], absent: Collection[str]) -> DetectionSet:
    names = check_names(classes, "--classes")
    known = _known(dataset)
    for name in names:
        if name not in absent:
            _check(name, known, dataset, "--classes")
    if known and not known & set(names):
        raise SettingsError(
            f"{dataset.root} has none of the classes {_listed(names)}: it has "
            f"{_listed(sorted(known))}; change names with --map OLD=NEW"
        )
    left_out: Counter[str] = Counter()
    images = []
    emptied = 0
    for image in dataset.images:
        kept = tuple(obj for obj in image.objects if obj.name in names)
        if len(kept) < len(image.objects):
            left_out.update(obj.name for obj in image.objects if obj.name not in names)
            emptied += not kept
            image = replace(image, objects=kept)
        images.append(image)
    if left_out:
        logger.warning(
            "%s: %s objects of %s other classes are left out (%s); %s images keep no object",
            dataset.split, f"{left_out.total():,}", len(left_out),
            _listed(name for name, _ in left_out.most_common()), f"{emptied:,}",
        )  # fmt: skip
    chosen = replace(dataset, images=tuple(images))
    return _relabelled(chosen, names, "the names that were given")


def _relabelled(dataset: DetectionSet, names: tuple[str, ...], origin: str) -> DetectionSet:
    label = {name: k for k, name in enumerate(names)}
    numbers = {
        number: None if old is None else label.get(dataset.classes[old])
        for number, old in dataset.categories.items()
    }
    return replace(dataset, classes=names, classes_from=origin, categories=numbers)


def _known(dataset: DetectionSet) -> set[str]:
    """The names that the data set declares or uses."""
    return {*dataset.classes, *(obj.name for image in dataset.images for obj in image.objects)}


def _check(name: str, known: Iterable[str], dataset: DetectionSet, option: str) -> None:
    names = sorted(known)
    if names and name not in names:  # a data set without any object shows no name
        raise SettingsError(
            f"{option} names {name!r}, and {dataset.root} has no class of that name: "
            f"{_hint(name, names)}it has {_listed(names)}"
        )


def _hint(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def _listed(names: Iterable[str], shown: int = 8) -> str:
    found = list(names)
    more = f" and {len(found) - shown} more" if len(found) > shown else ""
    return ", ".join(found[:shown]) + more
