"""Where COCO files lie, and which splits they are named after.

What stands inside the JSON is the business of `coco.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from frostbox.data.split_names import SPLIT_WORDS, tokens, word_in
from frostbox.errors import DataError

_PEEK = 1 << 18
_KEYS = re.compile(r'"(images|annotations)"\s*:\s*\[')
_OTHER_KINDS = ("captions_", "image_info_", "panoptic_", "stuff_", "person_keypoints_")


def is_coco(path: Path) -> bool:
    """Whether the beginning of a file looks like a COCO data set (not like COCO results)."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        text = file.read(_PEEK)
    return text.lstrip().startswith("{") and _KEYS.search(text) is not None


def find_files(folder: Path) -> dict[str, Path]:
    """The COCO files of a folder by split; empty when it holds none.

    Looked for in the folder, in its `annotations`, and in folders named after splits. Where there
    are COCO's own `instances_*`, they alone count.
    """
    below = sorted(child for child in folder.iterdir() if child.is_dir())
    named = [child for child in below if child.name.lower() in SPLIT_WORDS]
    found: list[Path] = []
    for place in (folder, folder / "annotations", *named):
        if place.is_dir():
            found += sorted(path for path in place.glob("*.json") if is_coco(path))
    instances = [path for path in found if path.stem.startswith("instances_")]
    plain = [path for path in found if not path.stem.startswith(_OTHER_KINDS)]
    return _by_split(instances or plain or found)


def siblings(path: Path) -> dict[str, Path]:
    """The given file, and those beside it that are named after other splits in the same way."""
    if _word(path) is None:
        return {split_of(path): path}
    if folder_says(path):
        return find_files(path.parent.parent)
    same = [
        other for other in sorted(path.parent.glob("*.json"))
        if _shape(other) == _shape(path) and is_coco(other)
    ]  # fmt: skip
    return _by_split(same)


def split_of(path: Path) -> str:
    """The split that a file is named after: "train" for instances_train2017.json."""
    return _word(path) or bare_name(path)


def _by_split(paths: Sequence[Path]) -> dict[str, Path]:
    """By the word in their names; by the bare names where two would be the same."""
    count = Counter(split_of(path) for path in paths)
    found: dict[str, Path] = {}
    for path in paths:
        name = split_of(path) if count[split_of(path)] == 1 else bare_name(path)
        if name in found:
            raise DataError(
                f"{found[name]} and {path} both say that they are {name!r}; give one of the two, "
                "or rename it."
            )
        found[name] = path
    return found


def bare_name(path: Path) -> str:
    """The file's name without what COCO's files have in front; "train2017" for COCO's own."""
    stem = re.sub(r"^(instances|annotations?|labels)_", "", path.stem)
    return path.parent.name if folder_says(path) else stem


def folder_says(path: Path) -> bool:
    """Whether a file has the name that it has in each split, and its folder says which it is."""
    # Roboflow and FiftyOne name the file the same everywhere; the folder says the split.
    fixed = path.name.startswith("_annotations.coco") or path.name == "labels.json"
    return fixed and path.parent.name.lower() in SPLIT_WORDS


def _word(path: Path) -> str | None:
    return word_in(bare_name(path))


def _shape(path: Path) -> tuple[str, ...]:
    """The name without split and year, to be compared with that of others."""
    parts = tokens(bare_name(path))
    return tuple(t for t in parts if t not in SPLIT_WORDS and not re.fullmatch(r"\d{4}", t))
