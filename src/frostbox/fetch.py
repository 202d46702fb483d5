"""Pictures and videos that are no files yet: from a server by http(s), and from stdin.

What comes from outside is limited in bytes, seconds and pixels, and must be what was asked for.
"""

from __future__ import annotations

import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from frostbox._version import __version__
from frostbox.errors import DataError, NotFoundError, SettingsError, one_line
from frostbox.units import seconds_text, size_text

SCHEMES = ("http://", "https://")
_BLOCK = 1 << 16
_SILENCE = 15.0  # seconds without a byte
Watch = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Limits:
    """What a server may send, in how many seconds."""

    nbytes: int
    seconds: float
    picture: bool


PICTURE = Limits(100_000_000, 60.0, picture=True)
VIDEO = Limits(8_000_000_000, 3600.0, picture=False)
PICTURE_PIXELS = 150_000_000


@dataclass(frozen=True)
class Remote:
    """A picture or video behind a URL, or that came through stdin.

    Attributes:
        name: the URL, or "stdin": what people know it by.
        path: where the file is, or will be put.
    """

    name: str
    path: Path
    limits: Limits = PICTURE

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Its file, fetched unless it is there; a DataError about it names the URL instead.

        Raises:
            NotFoundError: the server cannot be reached, refuses, or is too slow.
            DataError: too large, cut off, or no picture where one is expected.
        """
        if not self.path.exists():
            self._fetch()
        try:
            yield self.path
        except DataError as error:
            raise DataError(str(error).replace(str(self.path), self.name)) from error

    def remove(self) -> None:
        """Delete the file: it is not needed any more."""
        self.path.unlink(missing_ok=True)

    def _fetch(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        try:
            kind = self._receive(part)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise NotFoundError(f"{self.name} cannot be fetched: {_reason(error)}") from error
        if self.limits.picture:
            what = f"the server sent {kind}, {part.stat().st_size:,} bytes"
            _check_picture(part, self.name, what)
        part.replace(self.path)

    def _receive(self, part: Path) -> str:
        """Write the body to a file; what the server calls it."""
        seconds = self.limits.seconds
        request = urllib.request.Request(
            self.name, headers={"User-Agent": f"frostbox/{__version__}"}
        )
        with (
            _deadline(seconds) as watch,
            _opener(watch).open(request, timeout=min(_SILENCE, seconds)) as answer,
        ):
            length = answer.headers.get("Content-Length")
            self._check_size(int(length) if length else 0)
            done = 0
            with part.open("wb") as file:
                while block := answer.read1(_BLOCK):
                    done += file.write(block)
                    self._check_size(done)
            if length and done < int(length):
                raise DataError(
                    f"{self.name} was cut off after {done:,} of {int(length):,} bytes; try again"
                )
            kind = answer.headers.get("Content-Type", "")
            return one_line(kind).split(";")[0] or "no type"

    def _check_size(self, nbytes: int) -> None:
        if nbytes > self.limits.nbytes:
            raise DataError(
                f"{self.name} is larger than {size_text(self.limits.nbytes)}: fetch it by hand "
                "and give the file if that is right"
            )


def _check_picture(path: Path, name: str, what: str) -> None:
    """DataError unless the file is a picture of a size that can be decoded."""
    from frostbox.data.photos import open_image  # `frostbox --help` needs no reader

    try:
        with open_image(path) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        width, height = 0, 0
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} is no picture: {what}") from error
    if not 0 < width * height <= PICTURE_PIXELS:
        raise DataError(
            f"{name} has more than {PICTURE_PIXELS / 1e6:g} megapixels: give it as a file if it is "
            "right"
        )


def is_url(text: str) -> bool:
    """Whether it is an address to be fetched."""
    return text.lower().startswith(SCHEMES)


def url_name(url: str) -> str:
    """The file name in a URL, safe as one here; "" where it has none."""
    name = unquote(urlsplit(url).path).replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in name if c.isalnum() or c in "-_.() ").strip(". ")[-100:]


def from_stdin(path: Path) -> Remote:
    """The picture whose bytes come through stdin, as a file.

    Raises:
        SettingsError: stdin is a terminal, or empty.
        DataError: too large, or no picture.
    """
    if sys.stdin.isatty():
        raise SettingsError("- reads a picture from stdin: pipe one in, as in `... - < photo.jpg`")
    content = sys.stdin.buffer.read(PICTURE.nbytes + 1)
    if not content:
        raise SettingsError("stdin is empty: pipe a picture in, as in `... - < photo.jpg`")
    if len(content) > PICTURE.nbytes:
        raise DataError(f"stdin holds more than {size_text(PICTURE.nbytes)}: give a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    _check_picture(path, "stdin", f"it holds {len(content):,} bytes of something else")
    return Remote("stdin", path)


@contextmanager
def _deadline(seconds: float) -> Iterator[Watch]:
    """End the connections that it is told of after so many seconds, with a TimeoutError.

    A socket's own timeout begins anew with every byte that comes.
    """
    connections: list[socket.socket] = []
    over = threading.Event()

    def end() -> None:
        over.set()
        for connection in connections:
            with suppress(OSError):  # the server has ended it already
                connection.shutdown(socket.SHUT_RDWR)

    def watch(connection: socket.socket) -> None:
        connections.append(connection)
        if over.is_set():
            end()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield watch
    finally:
        timer.cancel()
        for connection in connections:
            connection.close()
        if over.is_set():  # and what was read seemed to have an end
            raise TimeoutError(f"it takes longer than {seconds_text(seconds)}")


def _opener(watch: Watch) -> urllib.request.OpenerDirector:
    """Of http and https alone: no redirection leads to a file or to ftp.

    Args:
        watch: told of each connection before anything is sent.
    """

    class Connection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            watch(self.sock.dup())  # TLS takes the socket itself over

    class SecureConnection(HTTPSConnection, Connection):
        """Watched before the handshake: HTTPSConnection has its base connect."""

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(Connection, req)

        def https_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(SecureConnection, req)

        https_request = urllib.request.HTTPHandler.http_request

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        Handler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return one_line(f"the server answers {error.code} {error.reason}")
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError) and "longer" not in str(cause):
        return "nothing comes from the server"
    return one_line(getattr(cause, "strerror", None) or cause or type(cause).__name__)
