"""Fetching an archive: resumed where it was cut off, checked, unpacked inside its folder.

Written here because neither torchvision, torch.hub nor pooch goes on with a file of 18 GB that
was cut off; unpacking is the standard library's, with its guard against paths that lead out.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import lzma
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from frostbox.errors import DataError, NotFoundError

logger = logging.getLogger("frostbox")

_BLOCK = 1 << 20
_TIMEOUT = 30.0
# What zipfile, tarfile and the decompressors below them raise on a damaged or locked archive.
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError,
    gzip.BadGzipFile, RuntimeError, ValueError,
)  # fmt: skip
TRIES = 4  # in a row without a byte more
PAUSE = 1.0  # seconds before another try; twice as long after each that was fruitless

Report = Callable[[int], None]


@dataclass(frozen=True)
class Archive:
    """A file on a server.

    Attributes:
        url: http or https. nbytes: its size, for estimates.
        md5: of the whole file, in hex, as its publishers give it. sha256: the same, as it is known
            from others; it also withstands whoever would forge a file.
    """

    url: str
    md5: str
    nbytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rsplit("/", 1)[-1]


def fetch(archive: Archive, folder: Path, report: Report | None = None) -> Path:
    """Download an archive into a folder, going on where an earlier call was cut off.

    A connection that breaks is tried again, from where it broke. A part that is there lies in
    NAME.part. A file NAME that is there, such as one fetched by hand, is checked as well: one that
    is cut off is gone on with. If what was gone on with turns out wrong, all is fetched anew.

    Args:
        report: called with the number of bytes that are there.

    Returns:
        The path of the file, whole and with the right checksum.

    Raises:
        NotFoundError: the server cannot be reached or refuses, with what to do by hand.
        DataError: the file has another checksum; it is removed.
    """
    target, part = folder / archive.name, folder / f"{archive.name}.part"
    if target.is_file():
        if _is_whole(target, archive):
            return target
        _set_aside(target, part, archive)
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(archive, folder, part)
    gone_on = _size(part) > 0
    _receive_all(archive, folder, part, report)
    whole = _is_whole(part, archive)
    if not whole and gone_on:
        logger.warning("%s: what was there is not its beginning; all is fetched anew", archive.name)
        part.unlink()
        _receive_all(archive, folder, part, report)
        whole = _is_whole(part, archive)
    if not whole:
        part.unlink()
        raise DataError(
            f"{archive.url} came with another checksum than the {archive.sha256} that is known, "
            "and was removed; run the command again, or fetch the file by hand from another place."
        )
    part.replace(target)
    return target


def _set_aside(target: Path, part: Path, archive: Archive) -> None:
    """What becomes of a file with another checksum: a part where it may be one, else nothing."""
    begun = _size(part) < _size(target) < archive.nbytes
    logger.warning(
        "%s has another checksum than %s; %s",
        target, archive.url, "it is taken for a part of it" if begun else "it is fetched anew",
    )  # fmt: skip
    if begun:
        target.replace(part)
    else:
        target.unlink()


def _receive_all(archive: Archive, folder: Path, part: Path, report: Report | None) -> None:
    """Receive what a part lacks. Raises NotFoundError when the server does not give it."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            _receive(archive.url, part, report)
            return
        except (OSError, HTTPException) as error:
            fruitless = 0 if _size(part) > before else fruitless + 1
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if refused or fruitless == TRIES:
                raise NotFoundError(
                    f"{archive.url} cannot be downloaded ({error}); run the command again to go on "
                    f"from {_size(part):,} bytes, or fetch the file by hand into {folder}."
                ) from error
            time.sleep(PAUSE * 2**fruitless)


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip or tar file into a folder, nothing outside of it.

    Raises:
        DataError: a member would land outside or is no file, the file is damaged, or holds more
            than the disk has room for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    parts = PurePosixPath(name.replace("\\", "/"))
                    drive = ":" in "".join(parts.parts[:1])
                    if parts.is_absolute() or ".." in parts.parts or drive:
                        raise DataError(f"{path} holds {name!r}, which leads out of its folder.")
                _check_content(path, [info.file_size for info in archive.infolist()], free)
                archive.extractall(folder)
        else:
            with tarfile.open(path) as tar:
                _check_content(path, (info.size for info in tar), free)
                tar.extractall(folder, filter="data")
    except DataError:
        raise
    except _DAMAGED as error:
        raise DataError(f"{path} cannot be unpacked ({error}); remove it and try again.") from error


def _check_content(path: Path, sizes: Iterable[int], free: int) -> None:
    """Refuse an archive whose content the disk cannot hold, as that of a decompression bomb."""
    needed = 0
    for size in sizes:
        needed += size
        if needed > free:
            raise DataError(
                f"{path} holds {needed / 1e9:.1f} GB or more, and the disk has {free / 1e9:.1f} GB "
                "free; make room if that is right."
            )


def _is_whole(path: Path, archive: Archive) -> bool:
    """Whether a file has both checksums, read once."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
    return (md5.hexdigest(), sha256.hexdigest()) == (archive.md5, archive.sha256)


def _receive(url: str, part: Path, report: Report | None) -> None:
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing is left to send: the checksum decides
            return
        raise
    with answer:
        if answer.status != 206:
            start = 0  # a server that knows no ranges sends the whole file
        length = answer.headers.get("Content-Length")
        whole = start + int(length) if length else 0
        done = start
        with part.open("ab" if start else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                if report is not None:
                    report(done)
    if whole and done < whole:
        raise ConnectionError(f"the connection ended after {done:,} of {whole:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check_room(archive: Archive, folder: Path, part: Path) -> None:
    """Refuse a download that would fill the disk: the archive and, once more, its content."""
    free = shutil.disk_usage(folder).free
    needed = 2 * archive.nbytes - _size(part)
    if needed > free:
        raise DataError(
            f"{folder} has {free / 1e9:.1f} GB free and {archive.name} needs {needed / 1e9:.1f} GB "
            "with its content; make room, or name another folder in FROSTBOX_DATA."
        )
