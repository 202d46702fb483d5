"""Data sets on remote paths: a folder here that stands for the remote one, for all readers.

Annotations and lists are fetched into it. Each photo is a file of the right size that takes no
room and holds nothing: a stand-in. Whoever reads a photo asks `local_copy` for a real one, which
is fetched then and kept for a while (`remote.py`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from filelock import FileLock

from frostbox.data.coco_layout import folder_says
from frostbox.data.voc_layout import PHOTO_SUFFIXES
from frostbox.errors import NotFoundError, RemoteError, SettingsError, know_as
from frostbox.files import write_whole
from frostbox.remote import RemoteFile, RemoteFolder, is_stand_in, kept_bytes, sets_home
from frostbox.units import size_text
from frostbox.untrusted import is_plain, parse_json

T = TypeVar("T")
logger = logging.getLogger("frostbox")

THREADS = 16
"""Files that are fetched at a time: a store answers each after tens of milliseconds."""
WINDOW = 64
"""Photos that are fetched ahead of who reads them."""
_INDEX, _VERSION = "index.json", 1
_PHOTOS = (*PHOTO_SUFFIXES, ".jpe", ".jfif", ".ppm", ".pgm", ".pnm")
_READ = (".xml", ".txt", ".json", ".yaml", ".yml", ".data", ".names", ".labels", ".parquet",
         ".arrow")  # fmt: skip
_SMALL = 1_000_000  # bytes, up to which a file of an unknown kind may be one that readers read
_FILES = (".json", ".yaml", ".yml", ".data", ".parquet")  # that may be given themselves
_SAVED_EVERY = 2.0  # seconds: what a process that is killed has to fetch again


def mirrored(url: str) -> Path:
    """The folder or file here that stands for a remote one, as that one is now.

    Only what was changed since the last time is fetched.

    Args:
        url: of a data set's folder, or of its COCO JSON, data.yaml, obj.data or parquet.

    Raises:
        NotFoundError: nothing lies there.
        RemoteError: it cannot be reached or listed, or has names that cannot be had here.
        SettingsError: no file system of that kind, or an address with "..".
    """
    folder, files, name = _located(url)
    key = f"{folder.url}\0{name if name.endswith('.parquet') else ''}"
    home = sets_home() / hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    home.mkdir(parents=True, exist_ok=True)
    tree = home / folder.name
    know_as(str(tree), folder.url)
    with FileLock(home / ".lock"):
        _bring_up(folder, files, home)
    return tree / name


@contextmanager
def local_copy(path: str | Path) -> Iterator[Path]:
    """The file to read: the path itself, or for a stand-in its content, which may go afterwards.

    Raises:
        NotFoundError: it is gone from there. RemoteError: it cannot be fetched, or was changed.
    """
    one = _found(path)
    if one is None:
        yield Path(path)
        return
    with one.folder.held(one.name, one.file) as copy:
        yield copy


def ahead(items: Iterable[T], photo: Callable[[T], str | Path | None]) -> Iterator[T]:
    """The items in their order, while the remote photos of those that follow are fetched.

    At most WINDOW photos ahead, and what half of the bound on what is kept has room for. Local
    photos are left alone. An error in fetching is raised where the photo is read, not here.

    Args:
        photo: the path of an item's photo, None for none.
    """
    waiting: deque[tuple[T, int]] = deque()
    pool: ThreadPoolExecutor | None = None
    nbytes = 0
    try:
        for item in items:
            path = photo(item)
            one = _found_quietly(path) if path is not None and is_stand_in(path) else None
            if one is not None:
                pool = pool or ThreadPoolExecutor(THREADS, "fetch")
                pool.submit(one.folder.fetch, one.name, one.file)
            elif not waiting:
                yield item
                continue
            waiting.append((item, one.file.nbytes if one is not None else 0))
            nbytes += waiting[-1][1]
            while waiting and (len(waiting) > WINDOW or nbytes > kept_bytes() // 2):
                first, size = waiting.popleft()
                nbytes -= size
                yield first
        while waiting:
            yield waiting.popleft()[0]
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def address_of(path: Path) -> str | None:
    """The address that a path in such a folder stands for; None of any other path."""
    parts = _parts(path)
    index = None if parts is None else _index(sets_home() / parts[0])
    if parts is None or index is None:
        return None
    return f"{index.url}/{parts[1]}".rstrip("/")


@dataclass(frozen=True)
class _Index:
    """What a folder stands for: the address, and the files as they were listed."""

    url: str
    files: Mapping[str, RemoteFile]

    @classmethod
    def read(cls, home: Path) -> _Index | None:
        """None where there is none, or one that is damaged or of another version."""
        try:
            stored = parse_json((home / _INDEX).read_bytes())
            if stored["version"] != _VERSION:
                return None
            files = {str(k): RemoteFile(int(n), str(s)) for k, (n, s) in stored["files"].items()}
            return cls(str(stored["url"]), files)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, home: Path) -> None:
        files = {name: (file.nbytes, file.stamp) for name, file in self.files.items()}
        content = {"version": _VERSION, "url": self.url, "files": files}
        write_whole(home / _INDEX, json.dumps(content, ensure_ascii=False))


@dataclass(frozen=True)
class _Photo:
    """A file that a stand-in stands for."""

    folder: RemoteFolder
    name: str
    file: RemoteFile


@dataclass
class _Open:
    """What this process knows of the folders, so that it reads each index once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    indices: dict[Path, tuple[int, _Index]] = field(default_factory=dict)
    # By process, too: connections do not outlive a fork.
    folders: dict[tuple[int, str], RemoteFolder] = field(default_factory=dict)


_open = _Open()


def _located(url: str) -> tuple[RemoteFolder, dict[str, RemoteFile], str]:
    """The folder that is to be had, what lies in it, and the name of the file that was given."""
    scheme, _, rest = url.rstrip("/").partition("://")
    parts = rest.split("/")
    if not all(part not in ("", ".", "..") and is_plain(part) for part in parts):
        raise SettingsError(f"{url}: give an address such as s3://bucket/folder, without '..'")
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if suffix in _FILES and len(parts) > 1:
        # The photos of annotations/FILE.json, and the other splits of train/FILE.json, are beside
        # that folder.
        beside = parts[-2].lower() == "annotations" or folder_says(Path(*parts[-2:]))
        up = 2 if suffix == ".json" and beside and len(parts) > 2 else 1
        folder, name = RemoteFolder(f"{scheme}://{'/'.join(parts[:-up])}"), "/".join(parts[-up:])
        files = folder.files()
        if name in files:
            if suffix == ".parquet":  # those beside it are not read, and may be large
                files = {k: v for k, v in files.items() if k == name or not k.endswith(suffix)}
            return folder, files, name
    folder = RemoteFolder(f"{scheme}://{rest.rstrip('/')}")
    files = folder.files()
    if not files:
        raise NotFoundError(
            f"{url} does not exist, or nothing lies in it: give the address of a data set's folder "
            "or file"
        )
    return folder, files, ""


def _is_photo(name: str, file: RemoteFile) -> bool:
    """Whether a file is had when it is read alone; what readers might read is had at once.

    Archives, videos and models that lie beside a data set are not fetched either.
    """
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in _PHOTOS or (suffix not in _READ and file.nbytes > _SMALL)


def _bring_up(folder: RemoteFolder, files: Mapping[str, RemoteFile], home: Path) -> None:
    """Make the folder here as the remote one is. Who is killed in it leaves what it has."""
    tree = home / folder.name
    folders = {str(above) for name in files for above in PurePosixPath(name).parents}
    both = next((name for name in files if name in folders), None)
    if both is not None:
        raise RemoteError(f"{folder.url} has {both!r} as a file and as a folder: rename one")
    there = _sizes(tree)
    for name in there.keys() - files.keys():
        (tree / name).unlink(missing_ok=True)
    _remove_empty(tree, folders)
    before = _Index.read(home)
    known = before.files if before is not None else {}
    fresh = [n for n, f in files.items() if known.get(n) != f or there.get(n) != f.nbytes]
    if not fresh and known.keys() == files.keys():
        return
    have = {n: files[n] for n in files.keys() - set(fresh)}
    _Index(folder.url, have).write(home)
    for one in sorted({PurePosixPath(name).parent for name in fresh}):
        (tree / one).mkdir(parents=True, exist_ok=True)
    photos = [name for name in fresh if _is_photo(name, files[name])]
    for name in photos:
        with (tree / name).open("wb") as empty:
            empty.truncate(files[name].nbytes)
        have[name] = files[name]
    rest = [name for name in fresh if name not in have]
    try:
        _fetch(folder, {name: files[name] for name in rest}, home, have)
    finally:
        _Index(folder.url, have).write(home)
    if fresh:
        size = size_text(sum(files[name].nbytes for name in rest))
        held_back = sum(_is_photo(name, file) for name, file in files.items())
        logger.warning(
            "%s: %s files (%s) fetched into %s; %s photos are fetched when they are read",
            folder.url, f"{len(rest):,}", size, home, f"{held_back:,}",
        )  # fmt: skip


def _fetch(
    folder: RemoteFolder,
    files: Mapping[str, RemoteFile],
    home: Path,
    have: dict[str, RemoteFile],
) -> None:
    """Fetch files, THREADS at a time; `have` gets those that are there."""
    from frostbox.progress import Progress  # whoever reads photos alone needs no bar

    tree = home / folder.name
    progress = Progress()
    progress.start("fetching annotations", len(files), "files")
    pool = ThreadPoolExecutor(THREADS, "fetch")
    try:
        coming: dict[Future[None], str] = {
            pool.submit(folder.copy, name, file, tree / name): name for name, file in files.items()
        }
        saved, pause = time.monotonic(), _SAVED_EVERY
        for done in as_completed(coming):
            done.result()
            have[coming[done]] = files[coming[done]]
            progress.advance()
            if time.monotonic() - saved > pause:
                started = time.monotonic()
                _Index(folder.url, have).write(home)
                saved = time.monotonic()
                pause = max(_SAVED_EVERY, 20 * (saved - started))  # a large index takes its time
    finally:
        pool.shutdown(cancel_futures=True)
        progress.stop()


def _sizes(tree: Path) -> dict[str, int]:
    """Bytes of every file in a folder, by its name with slashes."""
    found = {}
    for top, _, names in os.walk(tree):
        front = Path(top).relative_to(tree).as_posix()
        for name in names:
            size = os.lstat(os.path.join(top, name)).st_size
            found[name if front == "." else f"{front}/{name}"] = size
    return found


def _remove_empty(tree: Path, wanted: set[str]) -> None:
    """Remove the folders that the remote folder does not have."""
    for top, _, _ in os.walk(tree, topdown=False):
        if Path(top).relative_to(tree).as_posix() not in wanted and Path(top) != tree:
            os.rmdir(top)


def _parts(path: str | Path) -> tuple[str, str] | None:
    """Of a path in such a folder: which folder it is, and the name in the remote one."""
    if not is_stand_in(path):
        return None
    key, _, rest = Path(os.path.relpath(path, sets_home())).as_posix().partition("/")
    return key, rest.partition("/")[2]


def _found(path: str | Path) -> _Photo | None:
    """What a stand-in stands for; None for a file that is there itself."""
    parts = _parts(path)
    index = None if parts is None else _index(sets_home() / parts[0])
    if parts is None or index is None:
        return None
    name = parts[1]
    file = index.files.get(name)
    if file is None:
        raise NotFoundError(f"{index.url}/{name} does not exist")
    if not _is_photo(name, file):
        return None
    key = (os.getpid(), index.url)
    with _open.lock:
        if key not in _open.folders:
            _open.folders[key] = RemoteFolder(index.url)
        return _Photo(_open.folders[key], name, file)


def _found_quietly(path: str | Path) -> _Photo | None:
    try:
        return _found(path)
    except NotFoundError:  # said where it is read
        return None


def _index(home: Path) -> _Index | None:
    """The index of a folder, read again when it was written again."""
    try:
        stamp = os.stat(home / _INDEX).st_mtime_ns
    except FileNotFoundError:
        return None
    with _open.lock:
        known = _open.indices.get(home)
        if known is None or known[0] != stamp:
            index = _Index.read(home)
            if index is None:
                return None
            know_as(str(home / PurePosixPath(index.url.partition("://")[2]).name), index.url)
            known = _open.indices[home] = stamp, index
    return known[1]
