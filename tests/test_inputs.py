"""What a person types: files, folders, patterns, URLs, stdin, cameras."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from frostbox.data.voc_layout import PHOTO_SUFFIXES
from frostbox.errors import DataError, NotFoundError, SettingsError
from frostbox.fetch import PICTURE, VIDEO, Remote
from frostbox.inputs import SUFFIXES, find_images, find_inputs, unique_names
from tests.test_fetch import picture_bytes


class Piped(io.TextIOWrapper):
    def __init__(self, content: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_everything_is_sorted_into_pictures_videos_and_cameras(tmp_path):
    for name in ("b.jpg", "a.PNG", "clip.MP4", "notes.txt"):
        (tmp_path / name).touch()
    given = find_inputs(
        [
            tmp_path, tmp_path / "b.jpg", f"{tmp_path}/*.txt", "0", "12",
            "https://a.b/c/d.jpg?x=1", "https://a.b/film.webm", "http://a.b/", "http://a.b/e.cgi",
        ],
        tmp_path / "scratch",
    )  # fmt: skip
    scratch = tmp_path / "scratch"
    assert given.pictures == [
        tmp_path / "a.PNG",
        tmp_path / "b.jpg",
        tmp_path / "notes.txt",
        Remote("https://a.b/c/d.jpg?x=1", scratch / "5" / "d.jpg", PICTURE),
        Remote("http://a.b/", scratch / "7" / "picture.jpg", PICTURE),
        Remote("http://a.b/e.cgi", scratch / "8" / "e.cgi.jpg", PICTURE),
    ]
    assert given.videos == [
        tmp_path / "clip.MP4",
        Remote("https://a.b/film.webm", scratch / "6" / "film.webm", VIDEO),
    ]
    assert given.cameras == [0, 12]
    assert len(given) == 10
    assert not scratch.exists()


def test_a_file_whose_name_is_a_number_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("7").touch()
    assert find_inputs(["7"], tmp_path / "s").pictures == [Path("7")]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="gone.jpg does not exist: give photos, videos"):
        find_inputs(["gone.jpg"], tmp_path)
    with pytest.raises(NotFoundError, match="holds no picture .* and no video"):
        find_inputs([tmp_path], tmp_path)


def test_a_picture_comes_through_stdin(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Piped(picture_bytes("JPEG")))
    [picture] = find_inputs(["-", "-"], tmp_path).pictures
    assert isinstance(picture, Remote)
    assert (picture.name, picture.path.read_bytes()) == ("stdin", picture_bytes("JPEG"))


@pytest.mark.parametrize(
    ("stdin", "error", "message"),
    [
        (Piped(b""), SettingsError, "stdin is empty: pipe a picture in"),
        (Piped(b"", terminal=True), SettingsError, "- reads a picture from stdin"),
        (Piped(b"no picture"), DataError, "stdin is no picture: it holds 10 bytes of something"),
    ],
)
def test_stdin_without_a_picture_is_said(tmp_path, monkeypatch, stdin, error, message):
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(error, match=message):
        find_inputs(["-"], tmp_path)


def test_equal_stems_get_numbers():
    assert unique_names(["a", "b", "a", "a"], ".jpg") == ["a.jpg", "b.jpg", "a-2.jpg", "a-3.jpg"]


def test_a_photo_of_a_data_set_is_a_picture_to_predict():
    assert set(PHOTO_SUFFIXES) < SUFFIXES


def test_find_images_leaves_videos_out(tmp_path):
    for name in ("b.jpg", "a.png", "c.mp4", "notes.txt"):
        (tmp_path / name).touch()
    expected = [tmp_path / "a.png", tmp_path / "b.jpg"]
    assert find_images([tmp_path, str(tmp_path / "*.jpg")]) == expected
    with pytest.raises(NotFoundError, match="no picture there"):
        find_images([tmp_path / "c.mp4"])
