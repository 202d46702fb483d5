"""The repaired copy: what has one safe repair is repaired, everything else is left as it is.

The original is never touched. Photos are hard links where the file system allows it, XML and lists
are files of their own. The lists are written last: an interrupted copy is no data set.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ElementTree

from frostbox.data import voc_fields as fields
from frostbox.data.doctor.boxes import counts_from_zero, mended
from frostbox.data.doctor.photos import Broken, Facts, right_size, trusted_size
from frostbox.data.doctor.survey import RawBox, RawImage, RawObject, numbers
from frostbox.data.photos import place_photo
from frostbox.data.remote_sets import ahead, local_copy
from frostbox.data.voc import digits
from frostbox.data.voc_layout import PHOTO_SUFFIXES, annotation_paths, image_id
from frostbox.inputs import check_new_folder
from frostbox.progress import Progress

if TYPE_CHECKING:
    from frostbox.data.doctor import Diagnosis

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was done: in which file of the copy, at which place, and what."""

    file: str
    field: str
    done: str

    def __str__(self) -> str:
        return f"{self.file}{': ' if self.field else ''}{self.field}: {self.done}"

    def to_json(self) -> dict[str, str]:
        """The fields as plain values."""
        return asdict(self)


def write_repaired(found: Diagnosis, out: Path, progress: Progress | None = None) -> list[Repair]:
    """Write a copy of a data set with every safe repair done, and repairs.txt beside it.

    Args:
        found: the diagnosis of the data set.
        out: a new or empty folder; it becomes one like that of the data set.
        progress: the bar to show while files are copied.

    Raises:
        SettingsError: `out` is not empty or lies in the data set.
    """
    root = found.survey.root
    check_new_folder(out, root, "with --out")
    repairs: list[Repair] = []
    renamed = _renamed(found)
    walk = os.walk(root, followlinks=True)
    files = sorted(Path(top) / name for top, _, names in walk for name in names)
    main = root / "ImageSets" / "Main"
    lists = [file for file in files if file.parent == main and file.suffix == ".txt"]
    dropped = _dropped(found)
    mending = {image.file: image for image in found.survey.images.values()}
    shift = counts_from_zero(found.survey.images.values())
    if progress is not None:
        progress.start("writing the repaired copy", len(files), "files")
    for file in ahead(files, lambda file: file):
        if file in lists:
            continue
        target = out / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file in renamed:
            target = target.with_suffix(renamed[file])
            repairs.append(Repair(_name(target, out), "", f"renamed from {file.name}"))
        if file in mending:
            image = mending[file]
            if not lists and file in dropped:
                repairs.append(Repair(_name(target, out), "", f"left out: {dropped[file]}"))
                continue
            suffix = None if image.photo is None else renamed.get(image.photo)
            repairs += _write_xml(image, target, out, found, shift, suffix)
        else:
            _place(file, target)
        if progress is not None:
            progress.advance()
    if progress is not None:
        progress.stop()
    declared = Path(found.survey.declared_in)
    if declared.name == "classes.txt" and not (out / "classes.txt").exists():
        shutil.copy2(declared, out / "classes.txt")
    images = found.survey.images.values()
    ids = {image.image_id: dropped[image.file] for image in images if image.file in dropped}
    # VOC has a list for each class and split: one line an id, not one a list.
    removed: dict[tuple[str, str], list[str]] = {}
    for file in sorted(lists, key=lambda file: file.stem not in found.report.lists):
        for entry in _write_list(file, out / file.relative_to(root), ids, root):
            removed.setdefault(entry, []).append(file.name)
    for (name, reason), names in removed.items():
        more = f" and {len(names) - _SHOWN} more lists" if len(names) > _SHOWN else ""
        done = f"removed from {', '.join(names[:_SHOWN])}{more}: {reason}"
        repairs.append(Repair("ImageSets/Main", name, done))
    text = "".join(f"{repair}\n" for repair in repairs)
    (out / "repairs.txt").write_text(text or "nothing was repaired\n", encoding="utf-8")
    return repairs


def _place(file: Path, target: Path) -> None:
    if file.suffix.lower() in PHOTO_SUFFIXES:
        place_photo(file, target)
    else:
        with local_copy(file) as local:
            shutil.copy2(local.resolve(), target)


def _renamed(found: Diagnosis) -> dict[Path, str]:
    """The right suffix of each mislabelled photo, where no file has that name already."""
    wrong = {f.file for f in found.report.findings if f.kind == "photo-mislabelled"}
    suffixes = {}
    for photo in wrong:
        seen = found.facts[photo]
        if isinstance(seen, Facts) and not photo.with_suffix(seen.suffixes[0]).exists():
            suffixes[photo] = seen.suffixes[0]
    return suffixes


def _dropped(found: Diagnosis) -> dict[Path, str]:
    """XML whose ids leave the lists, and why: photos that cannot be decoded or do not exist.

    Where there are no lists, the XML is left out. A data set without any photo keeps all: its
    photos are elsewhere.
    """
    dropped = {}
    images = found.survey.images.values()
    any_photo = any(image.photo is not None for image in images)
    for image in images:
        seen = found.facts.get(image.photo) if image.photo is not None else None
        if isinstance(seen, Broken):
            dropped[image.file] = f"its photo {seen.reason}"
        elif image.photo is None and any_photo:
            dropped[image.file] = "it has no photo"
    return dropped


def _write_list(
    file: Path, target: Path, dropped: dict[str, str], root: Path
) -> list[tuple[str, str]]:
    """Copy a list without repeated, unusable and unannotated ids.

    Returns the ids that were removed, each with the reason.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    annotated = annotation_paths(root)
    kept: list[str] = []
    seen: set[str] = set()
    removed = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        shutil.copy2(file, target)  # reported as list-unreadable; nothing safe can be done
        return []
    for line in lines:
        name = image_id(line.strip(), annotated)
        reason = dropped.get(name)
        if name and name not in annotated:
            reason = "it has no XML"
        elif name in seen:
            reason = "it stands there already"
        if reason is None:
            kept.append(line)
            seen.add(name)
        else:
            removed.append((name, reason))
    if removed:
        target.write_text("\n".join(kept) + "\n", encoding="utf-8")
    else:
        shutil.copy2(file, target)
    return removed


def _write_xml(
    image: RawImage, target: Path, out: Path, found: Diagnosis, shift: bool, suffix: str | None
) -> list[Repair]:
    """Copy an XML, mended where there is something to mend."""
    tree = fields.parse(str(image.file))
    done: list[tuple[str, str]] = []
    seen = found.facts.get(image.photo) if image.photo is not None else None
    size = right_size(image, seen) if isinstance(seen, Facts) else None
    if size is not None:
        _set_size(tree, size)
        done.append(("size", f"{size[0]} x {size[1]}, as the photo has and the boxes need"))
    filename = tree.find("filename")
    if suffix is not None and filename is not None and image.photo is not None:
        filename.text = image.photo.with_suffix(suffix).name
        done.append(("filename", filename.text))
    kept: dict[tuple[str, RawBox, bool], str] = {}
    nodes = tree.findall("object")
    for obj, node in zip(image.objects, nodes, strict=True):
        name = _set_name(obj, node, found, done)
        if obj.box is None:
            continue
        box = mended(obj.box, trusted_size(image, seen), shift)
        if box is None:
            tree.remove(node)
            done.append((obj.place, f"removed, its box {numbers(obj.box)} has no area"))
            continue
        twin = kept.setdefault((name, box, obj.difficult), obj.where)
        if twin != obj.where:
            tree.remove(node)
            done.append((obj.place, f"removed, it has the box and class of {twin}"))
        elif box != obj.box:
            for tag, value in zip(fields.CORNERS, box, strict=True):
                fields.child(fields.object_box(node, ""), tag).text = digits(value)
            done.append((obj.box_place, f"{numbers(obj.box)} -> {numbers(box)}"))
    if done:
        ElementTree(tree).write(target, encoding="utf-8")
    else:
        shutil.copy2(image.file, target)
    return [Repair(_name(target, out), field, what) for field, what in done]


def _set_name(obj: RawObject, node: Element, found: Diagnosis, done: list[tuple[str, str]]) -> str:
    """Write the class name without blanks around it and as the known name is spelt."""
    name = obj.name.strip()
    if name in found.names.sure:
        name = found.names.meant[name][1]
    if name != obj.name:
        fields.child(node, "name").text = name
        done.append((f"{obj.where}: name", f"{obj.name!r} -> {name!r}"))
    return name


def _set_size(tree: Element, size: tuple[int, int]) -> None:
    node = fields.child(tree, "size")
    for tag, value in zip(("width", "height"), size, strict=True):
        fields.child(node, tag).text = str(value)


def _name(file: Path, out: Path) -> str:
    return str(file.relative_to(out))
