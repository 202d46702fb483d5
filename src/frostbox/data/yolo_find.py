"""Whether a folder or file is a data set in YOLO's layout: its names, and what its splits are.

Known are Ultralytics' data.yaml (also as Roboflow and CVAT write it), darknet's obj.data with
obj.names (CVAT's "YOLO 1.1"), and folders without either: `images` with `labels`, or photos with
their label files beside them, in one folder or one a split, and the names in a classes.txt (Label
Studio, LabelImg) or beside the photos (Roboflow's _darknet.labels).

What lies in those folders is the business of `yolo_layout.py`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from frostbox.data.photo_names import escapes, parts_of
from frostbox.data.split_names import split_of_folder
from frostbox.data.voc_layout import PHOTO_SUFFIXES, check_names, read_names, read_text_file
from frostbox.data.yolo_layout import CVAT_FOLDER, NAME_FILES, YoloFolder
from frostbox.errors import DataError, NotFoundError
from frostbox.remote import is_stand_in
from frostbox.untrusted import shown

logger = logging.getLogger("frostbox")

_SUFFIXES = (".yaml", ".yml")
_LARGEST = 2_000_000  # bytes of a data.yaml; PyYAML takes 10 seconds for a megabyte
_MOST = 100_000  # classes
_DIGITS = 10  # of their numbers, too many
_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def find_yolo(data: Path) -> YoloFolder | None:
    """The data set that a folder, data.yaml or obj.data means; None when it is not one.

    A YAML that is given itself may name folders anywhere by absolute paths. One that is found in a
    folder, such as a download, is not followed out of it, nor one on a remote path.

    Raises:
        DataError: a YAML that is meant as one and cannot be used; folders that are links leading
            out of the data set.
    """
    if data.is_file():
        if data.suffix.lower() in _SUFFIXES:
            return _from_yaml(data, trusted=not is_stand_in(data))
        found = _from_darknet(data) if data.suffix.lower() == ".data" else None
    else:
        told = description(data)
        if told is None:
            found = _from_folders(data)
        elif told.suffix.lower() in _SUFFIXES:
            found = _from_yaml(told, trusted=False)
        else:
            found = _from_darknet(told)
    if found is not None and len(found.bases) > 1:
        raise DataError(
            f"{found.bases[1]} is a link to {found.bases[1].resolve()}, which leads out of "
            f"{found.root}; give a data.yaml itself, not its folder, if that is meant."
        )
    return found


def description(data: Path) -> Path | None:
    """The data.yaml, by whatever name, or the obj.data in a folder.

    Raises:
        DataError: there are several.
    """
    yamls = [path for suffix in _SUFFIXES for path in sorted(data.glob(f"*{suffix}"))]
    found = [path for path in yamls if _is_description(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{data} holds several descriptions of a data set ({names}); give one.")
    darknet = sorted(data.glob("*.data"))
    return found[0] if found else darknet[0] if len(darknet) == 1 else None


def _read_yaml(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(
                f"{path} has {path.stat().st_size:,} bytes, and the description of a data set at "
                f"most {_LARGEST:,}; write the photos into lists."
            )
        text = path.read_text(encoding="utf-8-sig")
        _check_nodes(yaml.compose(text, Loader=yaml.BaseLoader), path)
        # BaseLoader keeps all scalars text: a class called `no` is not False, 007 not 7.
        return yaml.load(text, Loader=yaml.BaseLoader)
    except RecursionError:
        raise DataError(f"{path} has lists or mappings nested too deeply; mend it.") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        text = " ".join(str(error).split())
        raise DataError(f"{path} is not YAML ({text}); mend it.") from error


def _check_nodes(root: Any, path: Path) -> None:
    """Refuse a key that stands twice in a mapping, of which YAML would take the last.

    And a list or mapping that is used again by an alias: a few lines can stand for billions so.
    """
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if not isinstance(node, yaml.CollectionNode):
            continue
        if id(node) in seen:
            raise DataError(
                f"{path}, line {node.start_mark.line + 1}: a list or mapping is used again by an "
                "alias (*); write it out."
            )
        seen.add(id(node))
        lines: dict[str, int] = {}
        for entry in node.value:
            key, value = entry if isinstance(node, yaml.MappingNode) else (None, entry)
            nodes.append(value)
            if key is None:
                continue
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise DataError(
                    f"{path}: the key {shown(name)} stands in line {lines[name]} and in line "
                    f"{line}; remove one of the two."
                )
            lines[name] = line


def _is_description(path: Path) -> bool:
    try:
        content = _read_yaml(path)
        keys = set(content) if isinstance(content, dict) else set()
    except DataError:  # `_from_yaml` says what is wrong with it, if it is meant as one
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            text = file.read(_LARGEST)
        keys = {*re.findall(r"^(\w+)\s*:", text, re.MULTILINE)}
    return bool(keys & {"names", "nc"}) and bool(keys & set(_KEYS))


def _from_yaml(path: Path, *, trusted: bool) -> YoloFolder:
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is no mapping; it has names, and train and val with their photos.")
    names = _yaml_names(content, path)
    root = _yaml_root(content, path, trusted)
    splits: dict[str, tuple[Path, ...]] = {}
    for key, split in _KEYS.items():
        entry = content.get(key)
        if not entry:  # an empty `test:` is common
            continue
        entries = entry if isinstance(entry, list) else [entry]
        try:
            sources = tuple(_source(str(item), root, path, key, trusted) for item in entries)
        except NotFoundError as error:
            if key != "test":
                raise NotFoundError(f"{error}{_no_path(content, root)}") from error
            # Exports name a test split that they do not have.
            logger.warning("%s; the data set has no test", str(error).split(";")[0])
            continue
        if split in splits and splits[split] != sources:
            raise DataError(f"{path}: {key} and val are both given; remove one of the two.")
        splits[split] = sources
    if not splits:
        raise DataError(f"{path} has neither train nor val; name the folders of their photos.")
    return YoloFolder(root, path, names, splits, pose="kpt_shape" in content)


def _yaml_names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    found, count = content.get("names"), content.get("nc")
    if isinstance(found, list):
        names = {k: str(name).strip() for k, name in enumerate(found)}
    elif isinstance(found, dict):
        if not all(str(key).isdecimal() and len(str(key)) < _DIGITS for key in found):
            raise DataError(
                f"{path}: names has a key that is no number, or a large one; write `0: name` and "
                "so on."
            )
        keys: dict[int, str] = {}
        for key in map(str, found):
            if int(key) in keys:
                raise DataError(
                    f"{path}: names has the keys {keys[int(key)]!r} and {key!r}, which are one "
                    "number; remove one of the two."
                )
            keys[int(key)] = key
        names = {number: str(found[key]).strip() for number, key in sorted(keys.items())}
    elif found is None and str(count).isdecimal() and len(str(count)) < _DIGITS:
        if int(str(count)) > _MOST:
            raise DataError(f"{path}: nc is {count}; at most {_MOST:,} classes are read.")
        names = {k: f"class_{k}" for k in range(int(str(count)))}
    else:
        raise DataError(f"{path}: names is {shown(found)}; write the list of class names.")
    values = found.values() if isinstance(found, dict) else found or ()
    odd = [value for value in values if not isinstance(value, str) or not value.strip()]
    if odd:
        raise DataError(f"{path}: names has {shown(odd[0])}, which is no name; write text.")
    check_names(names.values(), f"{path}: names")
    if count is not None and str(count) != str(len(names)):
        raise DataError(f"{path}: nc is {count} and names has {len(names)}; mend one of the two.")
    return names


def _yaml_root(content: Mapping[str, Any], path: Path, trusted: bool) -> Path:
    """The folder of the data: `path` where it exists, else that of the YAML itself."""
    given = str(content.get("path") or "").strip()
    here = path.parent
    if not given or parts_of(given) == [] or here.resolve().name == given.rstrip("/"):
        return here
    # Ultralytics looks in its folder of data sets, which lies beside the code or in it.
    places = (here, here / "datasets", *([here.parent / "datasets"] if trusted else []))
    root = next((place / given for place in places if os.path.isdir(place / given)), None)
    if root is None:
        return here
    if escapes(given) and not _really(root).is_relative_to(_really(here)) and not trusted:
        raise DataError(
            f"{path}: path is {shown(given)}, which leads out of {here}; give the YAML file itself "
            "instead of its folder if that is meant."
        )
    return root


def _no_path(content: Mapping[str, Any], root: Path) -> str:
    """A remark on a `path` that was not found, when something else is missing."""
    given = str(content.get("path") or "").strip()
    there = not given or root.resolve().name == (parts_of(given) or [root.resolve().name])[-1]
    return "" if there else f" Its path, {shown(given)}, is not there either."


def _source(entry: str, root: Path, path: Path, key: str, trusted: bool) -> Path:
    """What one entry of a split means: a folder or a list, inside the data set unless trusted."""
    if "\0" in entry:
        raise NotFoundError(f"{path}: {key} is {shown(entry)}, which is no path; mend the entry.")
    # Roboflow writes ../train/images for what lies beside the YAML.
    plain = entry.replace("\\", "/")
    inside = "/".join(part for part in parts_of(plain) if part != "..")
    tried = [root / inside, path.parent / inside]
    outright = Path(plain) if Path(plain).is_absolute() else path.parent / plain
    absolute = Path(plain).is_absolute() and ".." not in outright.parts
    if escapes(plain) and (
        _really(outright).is_relative_to(_really(root)) or (trusted and absolute)
    ):
        tried.insert(0, outright)
    for candidate in tried:
        if _is_source(candidate):
            return candidate
    if escapes(plain) and ".." not in parts_of(plain) and not _is_source(outright):
        found = next(filter(_is_source, _ends(plain, root)), None)
        if found is not None:
            text = "%s: %s is %r, which is not there; read is %s"
            logger.warning(text, path, key, entry, found)
            return found
    leads_out = f", which leads out of {root}" if escapes(plain) else ""
    way_out = "mend the entry"
    if key != "train":
        way_out += ", or remove it" + (", and a val is made of train" if key != "test" else "")
    if leads_out and _is_source(outright):
        way_out = "give the YAML file itself, with an absolute path in it, if that is meant"
    raise NotFoundError(
        f"{path}: {key} is {shown(entry)}{leads_out}; there is no such folder or list of photos in "
        f"{root}: {way_out}."
    )


def _ends(entry: str, root: Path) -> list[Path]:
    """Where an absolute path of another machine may lie in the data set, by its last parts.

    Its last part alone has to be a list, or named after a split: `images` may hold several.
    """
    parts = parts_of(entry)
    last = parts[-1:]
    alone = last and (last[0].endswith(".txt") or split_of_folder(last[0]) is not None)
    return [root.joinpath(*parts[k:]) for k in range(len(parts) if alone else len(parts) - 1)]


def _is_source(path: Path) -> bool:
    # Unlike those of Path, these are False for a name that no file can have.
    return os.path.isdir(path) or (path.suffix.lower() == ".txt" and os.path.isfile(path))


def _really(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `resolve` raises on links in circles


def _from_darknet(path: Path) -> YoloFolder:
    """CVAT's "YOLO 1.1": obj.data names the lists and the file of names."""
    fields = {}
    for line in read_text_file(path).splitlines():
        key, _, value = line.partition("=")
        fields[key.strip()] = value.strip()
    root = path.parent
    finder = {key: _darknet_file(root, fields[key]) for key in fields if key in (*_KEYS, "names")}
    named_in = finder.get("names")
    if named_in is None:
        raise NotFoundError(
            f"{path}: names is {shown(fields.get('names'))}; there is no such file."
        )
    splits = {_KEYS[k]: (p,) for k, p in finder.items() if k in _KEYS and p is not None}
    if not splits:
        raise NotFoundError(
            f"{path} names no list of photos that exists; write `train = train.txt`."
        )
    return YoloFolder(root, named_in, dict(enumerate(read_names(named_in))), splits)


def _darknet_file(root: Path, name: str) -> Path | None:
    parts = [part for part in parts_of(name) if part != ".."]
    tried = [root.joinpath(*parts[k:]) for k in range(len(parts))]
    return next((path for path in tried if os.path.isfile(path)), None)


def _from_folders(data: Path) -> YoloFolder | None:
    """Photos with label files and a list of names, without any description."""
    splits = _split_folders(data)
    if not splits:
        return None
    photos = [place for places in splits.values() for place in places]
    named_in = _named_in(data, photos)
    if named_in is None and any(_has(place, ".xml") for place in photos):
        return None  # the same objects as VOC XML, with their names
    if named_in is None:
        raise DataError(
            f"{data} has photos with YOLO labels and nothing that names the classes; write "
            "classes.txt with one name a line, or a data.yaml."
        )
    return YoloFolder(data, named_in, dict(enumerate(read_names(named_in))), splits)


def _split_folders(data: Path) -> dict[str, tuple[Path, ...]]:
    """The folders of photos of each split; empty where there are none with label files."""
    below = _folders(data)
    splits: dict[str, tuple[Path, ...]] = {}
    if "images" in below and "labels" in below and _has(below["labels"], ".txt"):
        for name, child in _folders(below["images"]).items():
            split = split_of_folder(name)
            if split is not None:
                splits[split] = (*splits.get(split, ()), child)
        return splits or {"all": (below["images"],)}
    for name, child in below.items():
        cvat = CVAT_FOLDER.fullmatch(name)
        split = split_of_folder(cvat[1] if cvat else name)
        photos = _labelled(child) if split is not None else None
        if split is not None and photos is not None:
            splits[split] = (*splits.get(split, ()), photos)
    return splits or ({"all": (data,)} if _has_pairs(data) else {})


def _labelled(child: Path) -> Path | None:
    """The folder of photos in the folder of a split."""
    inner = _folders(child)
    if "images" in inner and "labels" in inner and _has(inner["labels"], ".txt"):
        return inner["images"]
    return child if _has_pairs(child) else None


def _named_in(data: Path, photos: Sequence[Path]) -> Path | None:
    """The file of class names. Raises DataError for two that name different classes."""
    folders = [data, *(child for name, child in _folders(data).items() if name == "labels")]
    for place in photos:
        if place != data:
            near = _folders(place.parent)
            folders += [place, place.parent, *([near["labels"]] if "labels" in near else [])]
    places = [folder / name for folder in dict.fromkeys(folders) for name in NAME_FILES]
    found = {path: read_names(path) for path in places if path.is_file()}
    first = next(iter(found), None)
    for path, names in found.items():
        if first is not None and names != found[first]:
            raise DataError(
                f"{first} and {path} do not name the same classes in the same order; write a "
                "data.yaml with the names, or remove one of the two."
            )
    return first


def _folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by their names in lower case; tools write Images and images."""
    found = (child for child in sorted(folder.iterdir()) if child.is_dir())
    return {child.name.lower(): child for child in found}


def _has(folder: Path, suffix: str) -> bool:
    """Whether a folder, or one below it, holds a file of that kind."""
    return next(folder.rglob(f"*{suffix}"), None) is not None


def _has_pairs(folder: Path) -> bool:
    """Whether photos of a folder have label files beside them."""
    stems = {path.stem for path in folder.glob("*.txt") if path.name not in NAME_FILES}
    photos = (path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    return any(photo.stem in stems for photo in photos)
