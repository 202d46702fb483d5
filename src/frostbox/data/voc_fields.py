"""The fields of one VOC XML: each is read, or refused with a sentence.

`voc.py` stops at the first `FieldFault`, the doctor collects them; so both mean the same by a
number, a flag or a size.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from frostbox.data.annotations import LARGEST_SIDE
from frostbox.data.voc_layout import LONGEST_NAME
from frostbox.errors import DataError
from frostbox.untrusted import is_plain, shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CORNERS = ("xmin", "ymin", "xmax", "ymax")
# What the typed form holds, and names of files, which are written anew.
_OF_IMAGES = ("folder", "filename", "path", "size", "object")
_OF_OBJECTS = ("name", "bndbox", "pose", "truncated", "occluded", "difficult")
_DEEPEST = 20  # levels of tags; VOC has 5. What reads them calls itself for each
_TOGETHER = {"part": "parts and actions", "actions": "parts and actions"}
_SAYS_NOTHING = ("", "0", "0.0", "false", "no", "unknown", "unspecified")
_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}


class FieldFault(DataError):
    """A field that cannot be used: where it stands, what was found, what to do."""

    def __init__(self, where: str, field: str, found: str, way_out: str) -> None:
        subject = f"{where}: {field}" if field else where
        super().__init__(f"{subject} {found}; {way_out}.")
        self.field = field
        self.found = found
        self.way_out = way_out


def parse(path: str) -> Element:
    """The <annotation> element of a file. Raises FieldFault for anything else."""
    try:
        root: Element | None = defusedxml.ElementTree.parse(path).getroot()
    except defusedxml.ElementTree.ParseError as error:
        found = f"is not well-formed XML ({error})"
        raise FieldFault(path, "", found, "mend or remove it") from error
    except DefusedXmlException as error:
        found = "declares entities, which are not read"
        raise FieldFault(path, "", found, "remove them") from error
    except (LookupError, ValueError) as error:
        found = f"is in an unknown encoding ({error})"
        raise FieldFault(path, "", found, "save as UTF-8") from error
    if root is not None and _deeper_than(root, _DEEPEST):
        found = f"has tags nested more than {_DEEPEST} deep"
        raise FieldFault(path, "", found, "it is no annotation: remove it")
    if root is None or root.tag != "annotation":
        found = "is missing" if root is None else f"is <{root.tag}>"
        raise FieldFault(path, "its outermost tag", found, "VOC's is <annotation>")
    return root


def _deeper_than(root: Element, levels: int) -> bool:
    level = [root]
    for _ in range(levels):
        level = [node for parent in level for node in parent]
    return bool(level)


def text(node: Element, tag: str) -> str:
    """The text of a child without blanks around it; "" when there is none."""
    return (node.findtext(tag) or "").strip()


def child(node: Element, tag: str) -> Element:
    """The first child of that tag. Raises FieldFault when there is none."""
    found = node.find(tag)
    if found is None:
        raise FieldFault(node.tag, tag, "is missing", "write it")
    return found


def place(path: str, number: int, node: Element) -> str:
    """How messages name the `number`-th object, counted from 1."""
    name = text(node, "name")
    fine = is_plain(name) and len(name) <= LONGEST_NAME
    return f"{path}: object {number} ({(name if fine else shown(name)) or 'without name'})"


def object_name(node: Element, where: str) -> str:
    """The class name without blanks around it. Raises FieldFault for none, an odd or long one."""
    name = text(node, "name")
    if not name:
        raise FieldFault(where, "name", "is missing or empty", "write the class name")
    if not is_plain(name):
        found = f"is {shown(name)}, with a control character"
        raise FieldFault(where, "name", found, "write it without")
    if len(name) > LONGEST_NAME:
        found = f"has {len(name):,} characters"
        raise FieldFault(where, "name", found, f"write at most {LONGEST_NAME}")
    return name


def object_box(node: Element, where: str) -> Element:
    """The one bndbox of an object. Raises FieldFault for none or several."""
    boxes = node.findall("bndbox")
    if len(boxes) != 1:
        found = "stands there more than once" if boxes else "is missing"
        raise FieldFault(where, "bndbox", found, "give each object one box")
    return boxes[0]


def number(node: Element, tag: str, where: str) -> float:
    """A finite number of pixels. Raises FieldFault otherwise; `node` names the parent field."""
    found = node.findtext(tag)
    field = f"{node.tag}/{tag}"
    if found is None:
        raise FieldFault(where, field, "is missing", "write it as a number of pixels")
    try:
        value = float(found)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FieldFault(
            where, field, f"is {shown(found.strip())}, not a number of pixels", "write a number"
        )
    return value


def flag(node: Element, tag: str, where: str) -> bool:
    """Whether a flag is set; an absent one is not. Raises FieldFault for other text than 0 or 1."""
    found = text(node, tag)
    if found.lower() not in _FLAGS:
        raise FieldFault(where, tag, f"is {shown(found)}", "write 0 or 1")
    return _FLAGS[found.lower()]


def stated_size(tree: Element, where: str) -> tuple[int, int] | None:
    """Width and height in pixels; None when there is no size or it is 0 x 0.

    Raises:
        FieldFault: a size that is not two whole numbers above 0.
    """
    node = tree.find("size")
    if node is None:
        return None
    width, height = (number(node, tag, where) for tag in ("width", "height"))
    if width == 0 and height == 0:
        return None
    sides = 0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE
    if not sides or width != int(width) or height != int(height):
        raise FieldFault(
            where, "size", f"is {width:g} x {height:g}", "write the photo's width and height"
        )
    return int(width), int(height)


def beyond(tree: Element) -> Counter[tuple[str, str]]:
    """What an annotation says and the typed form does not hold, as `annotations.in_words` takes it.

    A field that is empty, 0, false or unknown says nothing.
    """
    found = Counter((name, "images") for name, value in tree.items() if not _is_empty(value))
    found.update((c.tag, "images") for c in tree if c.tag not in _OF_IMAGES and _says(c))
    for node in tree.iterfind("object"):
        more = [c for c in node if c.tag not in _OF_OBJECTS and _says(c)]
        found.update((what, "objects") for what in {w for c in more for w in _words(c)})
    return found


def _words(node: Element) -> list[str]:
    """What an unread field of an object is called; each of CVAT's attributes by its own name."""
    named = [a for a in node.iterfind("attribute") if text(a, "name")]
    if node.tag == "attributes" and named:
        said = [a for a in named if not _is_empty(text(a, "value"))]
        return [f"attribute {text(a, 'name')!r}" for a in said]
    return [_TOGETHER.get(node.tag, node.tag)]


def _says(node: Element) -> bool:
    return not _is_empty(node.text or "") or any(_says(c) for c in node)


def _is_empty(value: str) -> bool:
    return value.strip().lower() in _SAYS_NOTHING
