"""Checks of class names: what is known, what is misspelt, what a split does not show."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from frostbox.data.doctor.findings import Finding, Severity
from frostbox.data.doctor.survey import Survey
from frostbox.data.voc import CLASSES

_NEAR = 0.8  # difflib's ratio: one wrong letter in four or more
_RARE = 20  # an own name this much rarer than a near one is held for its misspelling
_FEW = 2  # nobody annotates a class of its own for so few objects
_IMBALANCE = 10.0

Suspicion = Literal["class-spelling", "class-misspelt"]


@dataclass(frozen=True)
class Names:
    """The class names of a survey.

    Attributes:
        meant: for each suspect name, the kind of suspicion and the name that is meant.
        sure: the suspect names with exactly one known name that differs in case or blanks alone.
    """

    meant: dict[str, tuple[Suspicion, str]]
    sure: frozenset[str]


def study(found: Survey) -> Names:
    """Which names are known, and which look like misspellings of them.

    Known are the declared names, unless a tool gathered them from what people typed. Without them
    VOC's twenty are known when they cover most objects; of all other names the frequent ones are,
    so that a set with its own classes raises no alarm.
    """
    counts = Counter(obj.name.strip() for image in found.images.values() for obj in image.objects)
    del counts[""]
    trusted = None if found.judged else found.declared
    if trusted is not None:
        known: Sequence[str] = trusted
    else:
        voc = sum(counts[name] for name in CLASSES)
        known = CLASSES if 2 * voc > counts.total() else ()
    meant: dict[str, tuple[Suspicion, str]] = {}
    sure = set()
    for name in sorted(counts):
        if name in known or found.also is None or name in found.also:
            continue
        commoner = [n for n in counts if (counts[n], n) > (counts[name], name)]
        others = list(trusted or dict.fromkeys([*known, *commoner]))
        alike = [n for n in others if _plain(n) == _plain(name)]
        if alike:
            meant[name] = "class-spelling", max(alike, key=lambda n: (n in known, counts[n], n))
            if len(alike) == 1:
                sure.add(name)
            continue
        near = difflib.get_close_matches(name, others, n=1, cutoff=_NEAR)
        if near and (trusted is not None or _is_slip(name, near[0], counts)):
            meant[name] = "class-misspelt", near[0]
    return Names(meant, frozenset(sure))


def check_names(found: Survey, names: Names) -> Iterator[Finding]:
    """Unknown, misspelt and differently spelt names.

    One finding for each object where objects are named one by one, else one for each list.
    """
    if not found.fixable:
        for split in found.lists:
            counts = Counter(obj.name for image in found.of(split) for obj in image.objects)
            for name, count in counts.items():
                finding = _judged(found, names, name, found.places[split])
                if finding is not None:
                    said = f"names {name!r} in {count} objects{finding.found}"
                    yield replace(finding, found=said, count=count)
        return
    for image in found.images.values():
        for obj in image.objects:
            name = obj.name.strip()
            where = (image.file, f"{obj.where}: name")
            if name and obj.name != name:
                yield Finding(
                    "class-spelling", "notice", *where, f"is {obj.name!r}, with blanks around it",
                    f"write {name!r}; frostbox reads it so, other tools may not", fixable=True,
                )  # fmt: skip
            finding = _judged(found, names, name, where) if name else None
            if finding is not None:
                yield replace(finding, found=f"is {name!r}{finding.found}")


def _judged(found: Survey, names: Names, name: str, where: tuple[Path, str]) -> Finding | None:
    """What is wrong with a name; `found` is what follows the name itself."""
    unknown = found.accepted is not None and name not in found.accepted
    severity: Severity = "breaks" if unknown else "spoils"
    if name in names.meant:
        kind, meant = names.meant[name]
        return Finding(
            kind, severity, *where, "",
            f"write {meant!r}" if kind == "class-spelling" else f"did you mean {meant!r}?",
            fixable=name in names.sure,
        )  # fmt: skip
    if not unknown:
        return None
    return Finding(
        "class-unknown", severity, *where, f", not in the list of classes ({found.origin})",
        "mend it, or give all names with --classes or in a classes.txt",
    )  # fmt: skip


def check_balance(found: Survey, names: Names) -> Iterator[Finding]:
    """Classes that a split does not show, and classes of very different frequency."""
    # An object with a misspelt name counts for the class that is meant; the name is reported.
    meant = {name: right for name, (_, right) in names.meant.items()}
    counts = {
        split: Counter(
            meant.get(obj.name.strip(), obj.name.strip())
            for image in found.of(split)
            for obj in image.objects
        )
        for split in found.parts
    }
    everywhere: Counter[str] = sum(counts.values(), Counter())
    # Unknown names are reported as such.
    allowed = everywhere if found.accepted is None else found.accepted
    shown = [n for n in everywhere if n and n in allowed]
    train = found.training
    for name in found.declared or ():
        if not everywhere[name] and name not in meant:
            yield Finding(
                "class-absent", "notice", found.root, "name", f"{name!r} is declared in "
                f"{found.declared_in} and no object has it", "add photos or remove the name",
            )  # fmt: skip
    for split in counts:
        for name in shown:
            if counts[split][name] or not counts[split]:
                continue
            learnt = split == train
            yield Finding(
                "class-absent", "spoils" if learnt else "notice", *found.places[split],
                f"has no image with {name!r}, of which other lists have {everywhere[name]} objects",
                "move images with it here: it cannot be learnt" if learnt
                else "move images with it here: its AP cannot be measured",
            )  # fmt: skip
    if train is not None and counts[train]:
        yield from _imbalance(found, train, counts[train])


def _imbalance(found: Survey, split: str, counts: Counter[str]) -> Iterator[Finding]:
    ranked = [(name, count) for name, count in counts.most_common() if name]
    if not ranked:  # no object has a name
        return
    common, most = ranked[0]
    rare = [(name, count) for name, count in ranked if most >= _IMBALANCE * count]
    for name, count in reversed(rare):
        yield Finding(
            "class-imbalance", "notice", *found.places[split],
            f"has {count} objects of {name!r} and {most} of {common!r}: 1 to {most / count:.0f}",
            "add photos of the rare class, or read its AP with care", count=count,
        )  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _is_slip(name: str, near: str, counts: Counter[str]) -> bool:
    """Whether an own name is a slip: much rarer, and differing in more than a number."""
    if re.sub(r"\d+", "", name) == re.sub(r"\d+", "", near):
        return False
    if counts[name] * _RARE <= counts[near]:
        return True
    return counts[name] <= _FEW and (near in CLASSES or counts[near] >= 2 * counts[name])
