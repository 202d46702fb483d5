"""Downloads: cut off and resumed, checked, refused, and unpacked inside their folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from frostbox.data import download
from frostbox.data.download import Archive, fetch, unpack
from frostbox.errors import DataError, NotFoundError

CONTENT = bytes(range(256)) * 4096  # a megabyte


class Server(HTTPServer):
    """Serves CONTENT; cuts each answer after `cut` bytes, and may know no ranges."""

    cut: int | None = None
    ranges = True
    status = 0
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) if self.server.cut is None else start + self.server.cut
        self.wfile.write(CONTENT[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    found = Server(("127.0.0.1", 0), Handler)
    found.asked = []
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def _archive(server: Server, content: bytes = CONTENT) -> Archive:
    return Archive(
        server.url,
        hashlib.md5(content).hexdigest(),
        len(content),
        hashlib.sha256(content).hexdigest(),
    )


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    seen: list[int] = []
    path = fetch(_archive(server), tmp_path / "new", seen.append)
    assert path.read_bytes() == CONTENT
    assert path == tmp_path / "new" / "set.zip"
    assert seen[-1] == len(CONTENT)
    fetch(_archive(server), tmp_path / "new")
    assert server.asked == [""]  # what is there is not fetched again


def test_a_connection_that_breaks_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cut = 300_000
    assert fetch(_archive(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_another_call_goes_on_where_the_last_was_cut_off(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:500_000])
    assert fetch(_archive(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=500000-"]
    assert not (tmp_path / "set.zip.part").exists()


def test_a_part_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    assert fetch(_archive(server), tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "set.zip.part").write_bytes(b"x" * 500_000)
    assert fetch(_archive(server), tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = tmp_path / "set.zip"
    there.write_bytes(CONTENT[:600_000])  # a browser that was closed
    assert fetch(_archive(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=600000-"]
    assert "set.zip has another checksum than http" in caplog.text
    assert "it is taken for a part of it" in caplog.text
    there.write_bytes(b"x" * len(CONTENT))
    assert fetch(_archive(server), tmp_path).read_bytes() == CONTENT
    assert server.asked[1:] == [""]
    assert "it is fetched anew" in caplog.text
    assert list(tmp_path.iterdir()) == [there]


def test_a_beginning_that_is_another_files_is_given_up(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("set.zip", "set.zip.part"):
        for path in tmp_path.iterdir():
            path.unlink()
        server.asked.clear()
        (tmp_path / name).write_bytes(b"<html>not found</html>")
        assert fetch(_archive(server), tmp_path).read_bytes() == CONTENT
        assert server.asked == ["bytes=22-", ""]
    assert "what was there is not its beginning; all is fetched anew" in caplog.text


def test_a_wrong_checksum_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="came with another checksum than .* and was removed"):
        fetch(_archive(server, b"other" + CONTENT[5:]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_refuses(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(NotFoundError, match=r"cannot be downloaded \(HTTP Error 404.*by hand"):
        fetch(_archive(server), tmp_path)
    assert len(server.asked) == 1
    server.status = 503
    with pytest.raises(NotFoundError, match="503"):
        fetch(_archive(server), tmp_path)
    assert len(server.asked) == 1 + download.TRIES


def test_no_room_on_the_disk(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"GB free and set\.zip needs .* FROSTBOX_DATA"):
        fetch(Archive(server.url, "", 10**18, ""), tmp_path)
    assert server.asked == []


def _tar(path: Path, name: str) -> Path:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    return path


def _zip(path: Path, name: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    return path


@pytest.mark.parametrize("make", [_tar, _zip])
def test_unpacking_stays_in_its_folder(tmp_path: Path, make) -> None:
    unpack(make(tmp_path / "good", "a/b.txt"), tmp_path / "out")
    assert (tmp_path / "out/a/b.txt").read_text() == "x"
    for name in ("../evil.txt", "a/../../evil.txt", f"{tmp_path}/evil.txt"):
        if make is _tar and name.startswith("/"):
            continue  # tarfile's guard makes absolute names relative
        with pytest.raises(DataError):
            unpack(make(tmp_path / "bad", name), tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"bad\.tar cannot be unpacked"):
        unpack(tmp_path / "bad.tar", tmp_path / "out")
