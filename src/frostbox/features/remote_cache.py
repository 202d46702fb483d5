"""Caches on remote paths: a folder on this machine stands for each, and its shards come when read.

Where `frostbox.features` has the Path of a cache's folder, it may be such a stand-in: what is
written into it is handed over to the other side at once, and of what is read a bounded part is kept
(see remote.py).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from frostbox.errors import CacheError, FrostboxError, NotFoundError, know_as
from frostbox.files import write_whole
from frostbox.remote import RemoteFile, RemoteFolder, is_remote, kept_bytes, remote_home

if TYPE_CHECKING:
    from frostbox.features.index import Shard

_LOG = logging.getLogger("frostbox")
_URL = "url"
_AT_ONCE = 4  # shards fetched side by side: one connection does not fill a line
WINDOW = 4  # a window of shuffled images, and what is fetched ahead of it, is that part of the room


def stand_in(path: str | Path) -> Path:
    """The folder of a cache, or of caches, on this machine: the path itself unless it is remote.

    Raises:
        SettingsError: a remote path of a kind for which there is no package.
    """
    if not is_remote(path):
        return Path(path)
    folder = RemoteFolder(str(path))
    key = hashlib.blake2b(folder.url.encode(), digest_size=8).hexdigest()
    place = remote_home() / "caches" / key / folder.name
    place.mkdir(parents=True, exist_ok=True)
    know_as(str(place), folder.url)
    known = place.parent / _URL
    if not _says(known, folder.url):
        with FileLock(f"{known}.lock"):  # all ranks of a machine come here
            if not _says(known, folder.url):
                write_whole(known, folder.url)
    return place


def _says(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


def remote_of(folder: Path) -> RemoteFolder | None:
    """The remote folder that a folder stands for; None for an ordinary one."""
    url = _url(folder)
    return RemoteFolder(url) if url is not None else None


def shown(folder: Path) -> str:
    """The path of a cache for a person: where it lies in truth."""
    return _url(folder) or str(folder)


def _url(folder: Path) -> str | None:
    root = remote_home() / "caches"
    if not folder.is_relative_to(root):
        return None
    key, _, *below = folder.relative_to(root).parts
    return "/".join([(root / key / _URL).read_text(encoding="utf-8"), *below])


def content(folder: Path, name: str) -> bytes:
    """A small file of a cache's folder, as it is now. Raises OSError, RemoteError."""
    remote = remote_of(folder)
    try:
        return (folder / name).read_bytes() if remote is None else remote.read(name)
    except NotFoundError as error:
        raise FileNotFoundError(2, "No such file or directory", name) from error


def names(folder: Path) -> set[str]:
    """The files of a cache's folder. Raises OSError, RemoteError."""
    remote = remote_of(folder)
    if remote is None:
        return {path.name for path in folder.iterdir()}
    return {name for name in remote.files() if "/" not in name}


def hand_over(folder: Path, name: str) -> None:
    """Send a file that was written into a stand-in to the other side; nothing elsewhere.

    Raises RemoteError.
    """
    remote = remote_of(folder)
    if remote is not None:
        remote.hand_over(folder / name, name)


def remove(folder: Path, name: str) -> None:
    """Take a file away, here and on the other side. Raises OSError, RemoteError."""
    remote = remote_of(folder)
    if remote is not None:
        remote.remove(name)
    (folder / name).unlink(missing_ok=True)


class RemoteShards:
    """The shards of a cache on a remote path. Cheap to send to another process.

    Attributes:
        folder: where they lie. window: bytes of shards among which to shuffle; 0 for all.
    """

    def __init__(self, folder: RemoteFolder) -> None:
        self.folder = folder
        self._files = folder.files()
        self._verified: set[str] = set()
        self._ahead: _Ahead | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}

    def check(self, shard: Shard) -> None:
        """Raise CacheError when a shard is missing, or has another size than the index says."""
        file = self._files.get(shard.file)
        where = f"the shard {self.folder.url}/{shard.file}"
        if file is None:
            raise CacheError(f"{where} is missing; run the same extract command again")
        if file.nbytes != shard.nbytes:
            raise CacheError(
                f"{where} is damaged: it has {file.nbytes} bytes, not {shard.nbytes}; delete it "
                "and run the same extract command again"
            )

    def window(self, nbytes: int) -> int:
        """Bytes of a cache of so many among which to shuffle, so that each comes once an epoch.

        0 where all of it can be kept here.
        """
        room = kept_bytes()
        return 0 if nbytes <= room * 3 // 4 else room // WINDOW

    @contextmanager
    def held(self, shard: Shard) -> Iterator[Path]:
        """A copy on this machine, whose sha256 was compared.

        One that was damaged here, by a power cut or its disk, is fetched once more.

        Raises CacheError, NotFoundError, RemoteError, SettingsError.
        """
        if self._ahead is not None:
            self._ahead.reached(shard.file)
        file = self._file(shard)
        where = f"the shard {self.folder.url}/{shard.file}"
        for _ in range(2):
            with self.folder.held(shard.file, file) as path:
                if shard.file in self._verified or _sha256(path) == shard.sha256:
                    self._verified.add(shard.file)
                    try:
                        yield path
                    except CacheError as error:  # of that copy, whose name means nothing to anyone
                        said = str(error).replace(f"the shard {path}", where)
                        raise CacheError(said) from error
                    return
            self.folder.drop(shard.file, file)
        raise CacheError(
            f"{where} is damaged: its sha256 is not the index's; delete it and run the same "
            "extract command again"
        )

    def follow(self, order: Sequence[Shard]) -> None:
        """Fetch shards that will be read in this order before they are, a part of the room ahead.

        What is being fetched ahead for an earlier order comes to its end, and the rest of that
        order is left. An empty order leaves it at that.
        """
        if self._ahead is not None:
            self._ahead.stop()
        self._ahead = None
        if order:
            largest = max(shard.nbytes for shard in order)
            count = max(1, kept_bytes() // WINDOW // largest)
            self._ahead = _Ahead([shard.file for shard in order], count, self._fetch)

    def _fetch(self, name: str) -> None:
        try:
            self.folder.fetch(name, self._files[name])
        except (FrostboxError, OSError) as error:  # whoever reads it tries once more, and says it
            _LOG.debug("not fetched ahead: %s", error)

    def _file(self, shard: Shard) -> RemoteFile:
        self.check(shard)
        return self._files[shard.file]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Ahead:
    """Fetches names in order, so many ahead of what was reached.

    In threads for which no process waits at its end.
    """

    def __init__(self, order: Sequence[str], count: int, fetch: Callable[[str], None]) -> None:
        self._order, self._count, self._fetch = order, count, fetch
        self._place = {name: k for k, name in enumerate(order)}
        self._begun, self._end = 0, count
        self._changed = threading.Condition()
        for _ in order[:_AT_ONCE]:
            threading.Thread(target=self._work, name="fetch", daemon=True).start()

    def reached(self, name: str) -> None:
        """This one is read now."""
        if name in self._place:
            with self._changed:
                self._end = max(self._end, self._place[name] + 1 + self._count)
                self._changed.notify_all()

    def stop(self) -> None:
        """Begin no more."""
        with self._changed:
            self._begun = len(self._order)
            self._changed.notify_all()

    def _work(self) -> None:
        while (name := self._next()) is not None:
            self._fetch(name)

    def _next(self) -> str | None:
        """What is to be fetched next, when it is time; None when there is nothing any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._end <= self._begun < len(self._order))
            if self._begun == len(self._order):
                return None
            self._begun += 1
            return self._order[self._begun - 1]
