"""What people and tools call the splits of a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

SPLIT_WORDS = {
    "train": "train", "training": "train", "trainval": "trainval", "val": "val", "valid": "val",
    "validation": "val", "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
"""Words in the names of files and folders, and the split that they mean."""


def tokens(name: str) -> list[str]:
    """The words of a name, in lower case: "instances_train2017" has instances, train and 2017."""
    return [t for t in re.split(r"[\W_]+|(?<=[a-z])(?=\d{4})", name.lower()) if t]


def word_in(name: str) -> str | None:
    """The split that a name speaks of; None when it speaks of none or of several."""
    words = {SPLIT_WORDS[token] for token in tokens(name) if token in SPLIT_WORDS}
    return words.pop() if len(words) == 1 else None


def split_of_folder(name: str) -> str | None:
    """The split that a folder is named after, with or without a year: "train" for train2017."""
    return SPLIT_WORDS.get(re.sub(r"(?<=[a-z])\d{4}$", "", name.lower()))


def by_split(named: Mapping[str, T]) -> dict[str, T]:
    """The same under the usual names ("val" for "validation"), where these do not collide."""
    usual = [word_in(name) or name for name in named]
    return dict(zip(usual if len(set(usual)) == len(usual) else named, named.values(), strict=True))
