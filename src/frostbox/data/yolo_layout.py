"""Where a data set in YOLO's layout lies: its names, its splits, the label file of each photo.

Known are Ultralytics' data.yaml (also as Roboflow and CVAT write it), darknet's obj.data with
obj.names (CVAT's "YOLO 1.1"), and folders without either: `images` with `labels`, or photos with
their label files beside them, and the names in a classes.txt (Label Studio, LabelImg).

What stands inside the label files is the business of `yolo.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from frostbox.data.faults import gathered
from frostbox.data.photo_names import PhotoFinder, escapes, parts_of, photos_below
from frostbox.data.split_names import SPLIT_WORDS
from frostbox.data.voc_layout import PHOTO_SUFFIXES, check_names, read_names, read_text_file
from frostbox.errors import DataError, NotFoundError

logger = logging.getLogger("frostbox")

_SUFFIXES = (".yaml", ".yml")
NAME_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")
_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class YoloFolder:
    """A data set in YOLO's layout.

    Attributes:
        root: the folder that all photos lie in.
        named_in: the file that names the classes.
        names: class name of each index that label files may use.
        splits: what each split is made of: folders of photos, lists of photos (.txt).
        pose: whether label lines hold a box and keypoints behind it (`kpt_shape`).
    """

    root: Path
    named_in: Path
    names: Mapping[int, str]
    splits: Mapping[str, tuple[Path, ...]]
    pose: bool = False


def find_yolo(data: Path) -> YoloFolder | None:
    """The data set that a folder, data.yaml or obj.data means; None when it is not one.

    Raises:
        DataError: a YAML that is meant as one and cannot be used.
    """
    if data.is_file():
        if data.suffix.lower() in _SUFFIXES:
            return _from_yaml(data, trusted=True)
        return _from_darknet(data) if data.suffix.lower() == ".data" else None
    described = [path for suffix in _SUFFIXES for path in sorted(data.glob(f"*{suffix}"))]
    found = [path for path in described if _is_description(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{data} holds several descriptions of a data set ({names}); give one.")
    if found:
        return _from_yaml(found[0], trusted=False)
    darknet = sorted(data.glob("*.data"))
    if len(darknet) == 1:
        return _from_darknet(darknet[0])
    return _from_folders(data)


def label_file(photo: Path) -> Path:
    """The label file of a photo: `labels` for the last `images` in its path, else beside it."""
    beside = photo.with_suffix(".txt")
    parts = list(beside.parts)
    places = [k for k, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if not places:
        return beside
    parts[places[-1]] = "labels"
    mirrored = Path(*parts)
    return mirrored if mirrored.is_file() or not beside.is_file() else beside


def photos_of(folder: YoloFolder, split: str) -> list[Path]:
    """The photos of a split, each once, in the order of its list or by name.

    Raises:
        NotFoundError: a list names photos that are not there, or a split has no photo.
        DataError: a list names photos outside the data set.
    """
    found: list[Path] = []
    for source in folder.splits[split]:
        found += photos_below(source) if source.is_dir() else _listed(source, folder.root)
    if not found:
        places = ", ".join(map(str, folder.splits[split]))
        raise NotFoundError(f"{places} holds no photo for the split {split!r}; put photos there.")
    return list(dict.fromkeys(found))


def _listed(path: Path, root: Path) -> list[Path]:
    """The photos that a list names, one a line."""
    lines = read_text_file(path).splitlines()
    finder = PhotoFinder([path.parent, root, root / "images"])
    found, missing = [], []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        photo = _inside(name, root) if escapes(name) else None
        photo = photo or finder.find(name) or _without_prefix(finder, name)
        if photo is None:
            missing.append(f"line {number}: {name!r}")
        else:
            found.append(photo)
    no_photo = [f"{text} is no photo in the data set" for text in missing]
    if missing and not gathered(no_photo, path, "mend or remove the line"):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}, {missing[0]}{more}: no such photo in {root}; names are relative to the list "
            "or to the data set, and absolute ones must lie in it: mend the lines or remove them."
        )
    return found


def _inside(name: str, root: Path) -> Path | None:
    """An absolute path that lies in the data set, as it is."""
    path, base = Path(name), root.resolve()
    if not path.is_absolute() or ".." in path.parts:
        return None
    below = path.is_relative_to(root.absolute()) or path.is_relative_to(base)
    return path if below and path.is_file() else None


def _without_prefix(finder: PhotoFinder, name: str) -> Path | None:
    # CVAT lists data/obj_train_data/a.jpg, of which "data" is no folder.
    parts = parts_of(name)
    return finder.find("/".join(parts[1:])) if len(parts) > 1 and parts[0] == "data" else None


def _read_yaml(path: Path) -> Any:
    try:
        # BaseLoader keeps all scalars text: a class called `no` is not False, 007 not 7.
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path} is not YAML ({text}); mend it.") from error


def _is_description(path: Path) -> bool:
    try:
        content = _read_yaml(path)
    except DataError:
        return path.name in ("data.yaml", "data.yml")  # `_from_yaml` says what is wrong with it
    keys = set(content) if isinstance(content, dict) else set()
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
            sources = tuple(_source(str(item), root, path, key) for item in entries)
        except NotFoundError as error:
            if key != "test":
                raise
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
        if not all(str(key).isdecimal() for key in found):
            raise DataError(
                f"{path}: names has a key that is no number; write `0: name` and so on."
            )
        names = {int(key): str(name).strip() for key, name in found.items()}
        names = dict(sorted(names.items()))
    elif found is None and str(count).isdecimal():
        names = {k: f"class_{k}" for k in range(int(str(count)))}
    else:
        raise DataError(f"{path}: names is {found!r}; write the list of class names.")
    values = found.values() if isinstance(found, dict) else found or ()
    odd = [value for value in values if not isinstance(value, str) or not value.strip()]
    if odd:
        raise DataError(f"{path}: names has {odd[0]!r}, which is no name; write text.")
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
    root = here / given
    if not root.is_dir():
        return here
    if escapes(given) and not root.resolve().is_relative_to(here.resolve()) and not trusted:
        raise DataError(
            f"{path}: path is {given!r}, which leads out of {here}; give the YAML file itself "
            "instead of its folder if that is meant."
        )
    return root


def _source(entry: str, root: Path, path: Path, key: str) -> Path:
    """What one entry of a split means: a folder or a list inside the data set."""
    # Roboflow writes ../train/images for what lies beside the YAML.
    plain = entry.replace("\\", "/")
    inside = "/".join(part for part in parts_of(plain) if part != "..")
    tried = [root / inside, path.parent / inside]
    if escapes(plain):
        outright = Path(plain) if Path(plain).is_absolute() else (path.parent / plain)
        if outright.resolve().is_relative_to(root.resolve()):
            tried.insert(0, outright)
    for candidate in tried:
        if candidate.is_dir() or (candidate.suffix.lower() == ".txt" and candidate.is_file()):
            return candidate
    leads_out = f", which leads out of {root}" if escapes(plain) else ""
    raise NotFoundError(
        f"{path}: {key} is {entry!r}{leads_out}; there is no such folder or list of photos in "
        f"{root}: mend the entry."
    )


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
        raise NotFoundError(f"{path}: names is {fields.get('names')!r}; there is no such file.")
    splits = {_KEYS[k]: (p,) for k, p in finder.items() if k in _KEYS and p is not None}
    if not splits:
        raise NotFoundError(
            f"{path} names no list of photos that exists; write `train = train.txt`."
        )
    return YoloFolder(root, named_in, dict(enumerate(read_names(named_in))), splits)


def _darknet_file(root: Path, name: str) -> Path | None:
    parts = [part for part in parts_of(name) if part != ".."]
    tried = [root.joinpath(*parts[k:]) for k in range(len(parts))]
    return next((path for path in tried if path.is_file()), None)


def _from_folders(data: Path) -> YoloFolder | None:
    """Photos with label files and a list of names, without any description."""
    places = [folder / name for folder in (data, data / "labels") for name in NAME_FILES]
    named_in = next((path for path in places if path.is_file()), None)
    images = data / "images"
    splits: dict[str, tuple[Path, ...]] = {}
    if images.is_dir() and _has_text(data / "labels"):
        parts = {child.name: child for child in sorted(images.iterdir()) if child.is_dir()}
        splits = {
            SPLIT_WORDS[n.lower()]: (p,) for n, p in parts.items() if n.lower() in SPLIT_WORDS
        }
        splits = splits or {"all": (images,)}
    else:
        for child in sorted(child for child in data.iterdir() if child.is_dir()):
            if child.name.lower() in SPLIT_WORDS and _has_text(child / "labels"):
                splits[SPLIT_WORDS[child.name.lower()]] = (child / "images",)
        if not splits and _has_pairs(data):
            splits = {"all": (data,)}
    if not splits:
        return None
    if named_in is None:
        raise DataError(
            f"{data} has photos with YOLO labels and nothing that names the classes; write "
            "classes.txt with one name a line, or a data.yaml."
        )
    return YoloFolder(data, named_in, dict(enumerate(read_names(named_in))), splits)


def _has_text(folder: Path) -> bool:
    """Whether a folder holds label files, and not XML."""
    return next(folder.rglob("*.txt"), None) is not None


def _has_pairs(folder: Path) -> bool:
    """Whether photos of a folder have label files beside them."""
    stems = {path.stem for path in folder.glob("*.txt") if path.name not in NAME_FILES}
    photos = (path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    return any(photo.stem in stems for photo in photos)
