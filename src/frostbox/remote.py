"""Folders on remote paths (s3://, gs://, abfs:// ..., whatever fsspec has a file system for).

Files are fetched whole and kept on this machine, up to a bound: those that were not used for
longest make room for others. See docs/scale.md for the variables that say where, and how much.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

from frostbox.errors import NotFoundError, RemoteError, SettingsError, one_line
from frostbox.units import size_text
from frostbox.untrusted import is_plain

_DEFAULT = "20GB"
_LEAST = 1_000_000  # of a bound: less is a unit that was forgotten
_SLACK = 8  # of that part of the bound, what was fetched since is counted before room is made
_TRIES = 4
_UNITS = {"": 1, "MB": 10**6, "GB": 10**9, "TB": 10**12}
# What file systems call the value that changes with a file's content, the best first.
_STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "checksum", "LastModified", "last_modified",
           "mtime", "created")  # fmt: skip
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


def is_remote(path: object) -> bool:
    """Whether a path is an address of another file system, such as s3://bucket/folder.

    Not http:// and https://, which have no folders, and not file://.
    """
    found = _SCHEME.match(path) if isinstance(path, str) else None
    return found is not None and found[1].lower() not in ("file", "local", "http", "https")


def remote_home() -> Path:
    """The folder on this machine for what is fetched (FROSTBOX_REMOTE)."""
    from frostbox.data.home import data_home  # whose package reads through this module

    given = os.environ.get("FROSTBOX_REMOTE")
    return Path(given).expanduser() if given else data_home() / "remote"


def sets_home() -> Path:
    """The folder in it for what stands here for remote data sets; see data/remote_sets.py."""
    return Path(_sets(os.fspath(remote_home())))


def is_stand_in(path: str | Path) -> bool:
    """Whether a path lies there, so that a photo has to be fetched before it is read. Quick."""
    text = os.fspath(path)
    inside = f"{os.sep}sets{os.sep}" in text
    return inside and text.startswith(_sets(os.fspath(remote_home())))


@functools.lru_cache
def _sets(home: str) -> str:
    return os.path.join(os.path.realpath(home), "sets", "")


def kept_bytes() -> int:
    """How much of it may be kept (FROSTBOX_REMOTE_SIZE, such as 50GB), 20 GB without.

    Raises:
        SettingsError: the variable says something else than a size of 1 MB at least.
    """
    given = os.environ.get("FROSTBOX_REMOTE_SIZE") or _DEFAULT
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]B)?\s*", given, re.IGNORECASE)
    nbytes = int(float(found[1]) * _UNITS[(found[2] or "").upper()]) if found else 0
    if nbytes < _LEAST:
        raise SettingsError(
            f"FROSTBOX_REMOTE_SIZE is {given!r}: give a size such as 20GB, and 1MB at least"
        )
    return nbytes


@dataclass(frozen=True)
class RemoteFile:
    """A file of a remote folder.

    Attributes:
        nbytes: its size. stamp: a text that is another one when its content is.
    """

    nbytes: int
    stamp: str


class RemoteFolder:
    """A folder of another file system, whose files are fetched when they are needed.

    Cheap to send to another process. Names are relative to the folder, with slashes.

    Attributes:
        url: its address.

    Args:
        url: such as s3://bucket/folder.

    Raises:
        SettingsError: no file system of that kind, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._base = _file_system(self.url)
        # A lock is there for as long as somebody has it or waits for it.
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._own = threading.Lock()

    def __reduce__(self) -> tuple[type[RemoteFolder], tuple[str]]:
        return RemoteFolder, (self.url,)

    @property
    def name(self) -> str:
        """The last part of its address."""
        return PurePosixPath(self._base).name or self.url

    def files(self) -> dict[str, RemoteFile]:
        """What lies in it and below, as the other side lists it now; empty where nothing does.

        Raises:
            RemoteError: it cannot be listed, or a name would lead out of a folder.
        """
        with self._said(self.url):
            self._fs.invalidate_cache()
            try:
                found: Mapping[str, Any] = self._fs.find(self._base, detail=True)
            except FileNotFoundError:
                return {}
        files = {}
        for path, info in found.items():
            name = path.removeprefix(self._base).lstrip("/")
            parts = name.split("/")
            if not name or info.get("type") == "directory" or name.endswith("/"):
                continue
            if not all(part not in ("", ".", "..") and is_plain(part) for part in parts):
                raise RemoteError(f"{self.url} holds {path!r}, which is no name for a file here")
            files[name] = RemoteFile(int(info.get("size") or 0), _stamp(info))
        return files

    @contextmanager
    def held(self, name: str, file: RemoteFile) -> Iterator[Path]:
        """A copy on this machine that stays for so long; it may be gone afterwards.

        Args:
            file: what `files` says of it.

        Raises:
            NotFoundError: it is gone from there. RemoteError: it cannot be fetched.
            SettingsError: it is too large for the bound on what is kept.
        """
        place = self._place(name, file)
        fetched = self._have(name, file)
        # A second name: whoever makes room, in whatever process, leaves that one alone.
        while not _linked(place, own := _new_name(place.suffix)):  # taken away in between
            fetched = self._have(name, file) or fetched
        try:
            if fetched:
                _make_room(file.nbytes)
            yield own
        finally:
            own.unlink(missing_ok=True)

    def fetch(self, name: str, file: RemoteFile) -> None:
        """Have it on this machine, unless it is there already. Errors are those of `held`."""
        if self._have(name, file):
            _make_room(file.nbytes)

    def drop(self, name: str, file: RemoteFile) -> None:
        """Take away the copy on this machine, so that it is fetched again; it is damaged."""
        self._place(name, file).unlink(missing_ok=True)

    def copy(self, name: str, file: RemoteFile, target: Path, partial: Path | None = None) -> None:
        """Fetch it into a file of its own, which is whole or not there. Errors as of `held`.

        `partial` is its name until then: one beside `target` if not given.
        """
        partial = partial or target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._get(name, partial)
            got = partial.stat().st_size
            if got != file.nbytes:
                raise RemoteError(
                    f"{self.url}/{name} has {got:,} bytes, not {file.nbytes:,} as it was "
                    "listed: it was changed meanwhile; run the command again"
                )
            with partial.open("rb+") as whole:  # else a power cut may leave the name alone
                os.fsync(whole.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """The content of a small file, as it is now. Errors are those of `held`."""
        with self._said(f"{self.url}/{name}"):
            self._fs.invalidate_cache()
            content: bytes = self._fs.cat_file(f"{self._base}/{name}")
        return content

    def put(self, source: Path, name: str) -> None:
        """Send a file there; it is there under its name when it is whole. Raises RemoteError."""
        with self._said(f"{self.url}/{name}", "written"):
            self._fs.makedirs(str(PurePosixPath(self._base, name).parent), exist_ok=True)
            self._fs.put_file(os.fspath(source), f"{self._base}/{name}")

    def hand_over(self, source: Path, name: str) -> None:
        """`put`, and keep the file here as one that was fetched; it is gone from its place.

        Raises RemoteError.
        """
        self.put(source, name)
        with self._said(f"{self.url}/{name}", "written"):
            self._fs.invalidate_cache()
            info = self._fs.info(f"{self._base}/{name}")
        file = RemoteFile(int(info["size"]), _stamp(info))
        place = self._place(name, file)
        place.parent.mkdir(parents=True, exist_ok=True)
        source.replace(place)
        _make_room(file.nbytes)

    def remove(self, name: str) -> None:
        """Take a file away there; nothing where it is not. Raises RemoteError."""
        with self._said(f"{self.url}/{name}", "removed"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._base}/{name}")

    def _place(self, name: str, file: RemoteFile) -> Path:
        """Where a copy of this content lies."""
        text = f"{self.url}\0{name}\0{file.nbytes}\0{file.stamp}"
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return remote_home() / "kept" / key[:2] / f"{key[2:]}{PurePosixPath(name).suffix}"

    def _have(self, name: str, file: RemoteFile) -> bool:
        """Have it on this machine; whether it had to be fetched. Errors are those of `held`."""
        place = self._place(name, file)
        with self._own:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            with contextlib.suppress(FileNotFoundError):
                if place.stat().st_size == file.nbytes:
                    os.utime(place)  # it was used now
                    return False
            bound = kept_bytes()
            if file.nbytes > bound - bound // _SLACK:  # it would be what makes room for others
                raise SettingsError(
                    f"{self.url}/{name} has {size_text(file.nbytes)}, too much to be kept within "
                    f"{size_text(bound)}: set FROSTBOX_REMOTE_SIZE={-(-file.nbytes // 500_000)}MB"
                )
            place.parent.mkdir(parents=True, exist_ok=True)
            self.copy(name, file, place, _new_name(".tmp"))
        return True

    def _get(self, name: str, target: Path) -> None:
        with self._said(f"{self.url}/{name}"):
            for left in range(_TRIES)[::-1]:
                try:
                    self._fs.get_file(f"{self._base}/{name}", os.fspath(target))
                    return
                except FileNotFoundError:
                    raise
                except Exception:  # connections end in errors of any class
                    if not left:
                        raise
                    time.sleep(0.2 * 2 ** (_TRIES - left))

    @contextmanager
    def _said(self, what: str, done: str = "read") -> Iterator[None]:
        """Errors of all the libraries behind fsspec as one sentence."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{what} does not exist") from error
        except Exception as error:
            said = one_line(error) or type(error).__name__
            raise RemoteError(f"{what} cannot be {done}: {said[:300]}") from error


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        known = "pip install 'frostbox[s3]'" if url.startswith("s3:") else "install its package"
        raise SettingsError(f"{url}: {one_line(error)}; {known}") from error
    return fs, base.rstrip("/")


def _stamp(info: Mapping[str, Any]) -> str:
    return next((str(info[key]) for key in _STAMPS if info.get(key) is not None), "")


def _linked(place: Path, own: Path) -> bool:
    """Give a file a second name; False where it is gone."""
    try:
        os.link(place, own)
    except FileNotFoundError:
        return False
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        try:
            shutil.copyfile(place, own)
        except OSError as error:
            own.unlink(missing_ok=True)
            if isinstance(error, FileNotFoundError):
                return False
            raise
    return True


class _Process:
    """What a process knows of itself. One that is forked starts anew: locks do not outlive it.

    Attributes:
        fetched: bytes since it last looked at all that is kept; None before it has.
        folders: of its names, by `remote_home`, each with the lock that says that it is alive.
    """

    def __init__(self) -> None:
        self.counting, self.naming = threading.Lock(), threading.Lock()
        self.fetched: int | None = None
        self.folders: dict[Path, tuple[Path, FileLock]] = {}
        self.numbers = itertools.count()


_processes: dict[int, _Process] = {}


def _process() -> _Process:
    return _processes.setdefault(os.getpid(), _Process())


def _new_name(suffix: str) -> Path:
    """A name for a file that is this process's alone, and goes when the process has ended."""
    us, home = _process(), remote_home()
    with us.naming:
        folder, _ = us.folders.get(home, (None, None))
        if folder is None or not folder.is_dir():
            folder = home / "held" / secrets.token_hex(8)
            alive = FileLock(folder / ".lock", thread_local=False)
            with FileLock(home / ".room"):  # nobody looks for the dead meanwhile
                folder.mkdir(parents=True)
                alive.acquire()
            us.folders[home] = folder, alive
    return folder / f"{next(us.numbers)}{suffix}"


def _make_room(nbytes: int) -> None:
    """Count what was fetched, and remove what was not used for longest where it is too much."""
    bound, us = kept_bytes(), _process()
    with us.counting:
        if us.fetched is not None:
            us.fetched += nbytes
            if us.fetched < bound // _SLACK:
                return
        us.fetched = 0
        home = remote_home()
        with FileLock(home / ".room"):
            _drop_names_of_the_dead(home / "held")
            found = []
            for path in (home / "kept").glob("*/*"):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    found.append((stat.st_mtime, stat.st_size, path))
            total = sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if total <= bound - bound // _SLACK:
                    break
                path.unlink(missing_ok=True)
                total -= size


def _drop_names_of_the_dead(folder: Path) -> None:
    """Names by which processes that have ended held files: nobody has the locks beside them."""
    ours = {own for own, _ in _process().folders.values()}
    for names in {*folder.glob("*/")} - ours:
        alive = FileLock(names / ".lock", timeout=0)
        try:
            alive.acquire()
        except Timeout:
            continue
        alive.release()
        shutil.rmtree(names)
