"""Pictures by http: a server in the test sends what a server may send."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from frostbox import fetch
from frostbox.errors import DataError, NotFoundError
from frostbox.fetch import PICTURE, Remote, url_name
from frostbox.sources import pixels


def picture_bytes(form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 30, 30)).save(buffer, form)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = picture_bytes()
        match self.path:
            case "/red.png" | "/no-suffix":
                self.answer(200, content)
            case "/moved":
                self.answer(302, b"", Location="/red.png")
            case "/round":
                self.answer(302, b"", Location="/round")
            case "/to-file":
                self.answer(302, b"", Location="file:///etc/passwd")
            case "/to-ftp":
                self.answer(302, b"", Location="ftp://localhost/red.png")
            case "/page":
                self.answer(200, b"<html>log in first</html>", Type="text/html; charset=utf-8")
            case "/vector":
                self.answer(200, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
            case "/broken.png":
                self.answer(200, content[:-30])
            case "/cut":
                self.answer(200, content[:-30], Length=str(len(content)))
            case "/says-large":
                self.answer(200, content, Length="10000000000")
            case "/is-large":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b"\0" * 10_000)
            case "/slow":
                self.send_response(200)
                self.end_headers()
                for _ in range(40):
                    self.wfile.write(b"\0")
                    time.sleep(0.1)
            case "/slow-header" | "/slow-chunk":
                chunked = b"Transfer-Encoding: chunked\r\n\r\n" if "chunk" in self.path else b""
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + chunked)
                for _ in range(40):
                    self.wfile.write(b"0")
                    time.sleep(0.1)
            case "/escape":
                self.answer(200, b"no picture", Type="text/\x1b]0;title\x07html")
            case "/escape-status":
                self.wfile.write(b"HTTP/1.0 404 \x1b[2JNo\r\n\r\n")
            case "/silent":
                time.sleep(1)
            case _:
                self.send_error(404)

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Length": str(len(content)), "Type": "image/png", **headers}.items():
            self.send_header(f"Content-{name}" if name in ("Length", "Type") else name, value)
        self.end_headers()
        self.wfile.write(content)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):  # the client has had enough
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: a line a request would hide what pytest says."""


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("path", ["red.png", "no-suffix", "moved"])
def test_a_picture_is_fetched_once_and_decoded(server, tmp_path, path):
    remote = Remote(f"{server}/{path}", tmp_path / "0" / "a.jpg")
    picture, size = pixels(remote)
    assert size == (60, 40)
    assert picture[:, 20, 30].tolist() == [200, 30, 30]
    with replace(remote, name="http://127.0.0.1:1/gone").file() as file:
        assert file.read_bytes() == picture_bytes()
    remote.remove()
    assert not remote.path.exists()


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("gone", NotFoundError, "/gone cannot be fetched: the server answers 404 Not Found"),
        ("round", NotFoundError, "cannot be fetched: the server answers 302"),
        ("to-file", NotFoundError, "cannot be fetched: the server answers 302"),
        ("to-ftp", NotFoundError, "cannot be fetched: unknown url type: ftp"),
        ("page", DataError, "/page is no picture: the server sent text/html, 25 bytes"),
        ("vector", DataError, "/vector is no picture"),
        ("broken.png", DataError, "/broken.png cannot be decoded"),
        ("cut", DataError, r"/cut was cut off after \d+ of \d+ bytes"),
        ("says-large", DataError, "/says-large is larger than 0.2 MB"),
        ("is-large", DataError, "/is-large is larger than 0.2 MB"),
        ("slow", NotFoundError, "cannot be fetched: it takes longer than 0.5 s"),
        ("slow-header", NotFoundError, "cannot be fetched: it takes longer than 0.5 s"),
        ("slow-chunk", NotFoundError, "cannot be fetched: it takes longer than 0.5 s"),
        ("escape", DataError, r"the server sent text/ \]0, 10 bytes$"),
        ("escape-status", NotFoundError, r"the server answers 404 \[2JNo$"),
        ("silent", NotFoundError, "cannot be fetched: nothing comes from the server"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(server, tmp_path, monkeypatch, path, error, message):
    limits = replace(PICTURE, nbytes=200_000, seconds=0.5)
    if path == "silent":
        monkeypatch.setattr(fetch, "_SILENCE", 0.1)
    started = time.monotonic()
    with pytest.raises(error, match=message) as caught:
        pixels(Remote(f"{server}/{path}", tmp_path / "a.jpg", limits))
    assert time.monotonic() - started < 3  # what is slow would take four
    assert str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.glob("*.jpg")) or path == "broken.png"


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match=r"http://127.0.0.1:9/a.jpg cannot be fetched: Conn"):
        pixels(Remote("http://127.0.0.1:9/a.jpg", tmp_path / "a.jpg"))


def test_a_picture_of_too_many_pixels_is_not_decoded(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PICTURE_PIXELS", 2000)
    with pytest.raises(DataError, match="more than 0.002 megapixels"):
        pixels(Remote(f"{server}/red.png", tmp_path / "a.jpg"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://a/b/cat%20one.png?size=2#x", "cat one.png"),
        ("http://a/b/", ""),
        ("http://a/b/..", ""),
        ("http://a/b%2F..%2Fetc%2Fpasswd", "passwd"),
        ("http://a/..%5C..%5Ccat.png", "cat.png"),
    ],
)
def test_the_file_of_a_url_lies_in_its_folder(url, name):
    assert url_name(url) == name
