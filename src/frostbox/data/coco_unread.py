"""What a COCO file says and the typed form does not hold, for `DetectionSet.unread`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from frostbox.data.annotations import in_words

LONG = {"segmentation": "masks", "keypoints": "keypoints"}
"""Keys of annotations whose values are long, and what they hold."""
OWN_INFO = ", written by frostbox"
"""End of the description in `info` of our own files, by which they are told from other people's."""

_FLAGS = frozenset(("difficult", "truncated", "occluded", "pose", "ignore"))
_OF_OBJECTS = _FLAGS | {
    "id", "image_id", "category_id", "bbox", "area", "iscrowd", "attributes", "num_keypoints",
}  # fmt: skip
_PLAIN = (str, bytes, list, dict, bool, int, float)
_OF_IMAGES = frozenset(("id", "file_name", "width", "height"))
_OF_CATEGORIES = frozenset(("id", "name", "supercategory"))
_OF_FILES = frozenset(("images", "annotations", "categories"))


def beyond(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What is not read of a file, masks first. A value that is empty, 0 or false says nothing.

    Args:
        content: the JSON, whose three lists hold objects.
    """
    found = _said(content["annotations"], _OF_OBJECTS, "objects")
    for entry in content["annotations"]:
        more = entry.get("attributes")
        if isinstance(more, dict):
            said = [key for key in more.keys() - _FLAGS if says(more[key])]
            found.update((f"attribute {key!r}", "objects") for key in said)
        elif more:
            found["attributes", "objects"] += 1
    long = {(words, "objects"): found.pop((key, "objects"), 0) for key, words in LONG.items()}
    found += _said(content["images"], _OF_IMAGES, "images")
    found += _said(content["categories"], _OF_CATEGORIES, "categories")
    others = content.keys() - _OF_FILES
    whole = [str(key) for key in others if says(content[key]) and not _is_own(content[key])]
    return (*in_words(long), *in_words(dict(sorted(found.items()))), *sorted(whole))


def says(value: Any) -> bool:
    """Whether a value says something; of other types than JSON's that is not looked into."""
    return bool(value) if isinstance(value, _PLAIN) else value is not None


def _said(
    entries: Sequence[Mapping[str, Any]], known: frozenset[str], of: str
) -> Counter[tuple[str, str]]:
    return Counter(
        (str(key), of) for entry in entries for key in entry.keys() - known if says(entry[key])
    )


def _is_own(info: Any) -> bool:
    """Whether `info` is no more than what `write_coco` puts there."""
    description = info.get("description") if isinstance(info, dict) and len(info) == 1 else None
    return isinstance(description, str) and description.endswith(OWN_INFO)
