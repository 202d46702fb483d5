"""Files of remote folders, fetched from a real S3 server and kept up to a bound."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from frostbox.errors import NotFoundError, RemoteError, SettingsError
from frostbox.remote import RemoteFolder, is_remote, kept_bytes, remote_home
from tests.s3 import bucket, s3_server  # noqa: F401


@pytest.mark.parametrize(
    ("path", "remote"),
    [("s3://b/c", True), ("gs://b", True), ("memory://x", True), ("/s3/b", False),
     ("voc2007", False), ("C:/photos", False), ("https://x.org/a.zip", False), ("file:///a", False),
     (Path("s3:/b"), False)],
)  # fmt: skip
def test_what_is_remote(path, remote):
    assert is_remote(path) == remote


@pytest.fixture
def folder(bucket, tmp_path):  # noqa: F811
    """A remote folder with ten files of 1000 bytes, in two folders."""
    found = RemoteFolder(f"{bucket}/set/")
    for k in range(10):
        (tmp_path / "file").write_bytes(bytes([k]) * 1000)
        found.put(tmp_path / "file", f"{'ab'[k % 2]}/{k}.jpg")
    return found


def kept() -> list[Path]:
    return list((remote_home() / "kept").glob("*/*"))


def test_files_are_listed_fetched_once_and_held(folder):
    files = folder.files()
    assert sorted(files) == [f"{'ab'[k % 2]}/{k}.jpg" for k in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]
    assert {file.nbytes for file in files.values()} == {1000}
    assert len({file.stamp for file in files.values()}) == 10
    assert folder.name == "set"
    calls = []
    get = folder._fs.get_file
    folder._fs.get_file = lambda *a: (calls.append(a), get(*a))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: folder.fetch("a/2.jpg", files["a/2.jpg"]), range(8)))
    with folder.held("a/2.jpg", files["a/2.jpg"]) as path:
        assert path.read_bytes() == b"\2" * 1000
        assert path.suffix == ".jpg"
    assert not path.exists()
    assert len(calls) == len(kept()) == 1
    again = pickle.loads(pickle.dumps(folder))
    with again.held("b/3.jpg", files["b/3.jpg"]) as path:
        assert path.read_bytes() == b"\3" * 1000


def test_no_more_is_kept_than_was_said_and_what_is_held_stays(folder, monkeypatch):
    monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", "4000")
    files = folder.files()
    first = "a/0.jpg"
    with folder.held(first, files[first]) as path:
        for name in sorted(files):
            folder.fetch(name, files[name])
            assert sum(p.stat().st_size for p in kept()) <= 4000
            for p in kept():  # clocks are coarse: what was fetched before is older
                os.utime(p, (p.stat().st_atime, p.stat().st_mtime - 10))
        assert path.read_bytes() == b"\0" * 1000
    with folder.held(first, files[first]) as path:
        assert path.read_bytes() == b"\0" * 1000
    # The last ones that were used are those that are there.
    with folder.held("b/9.jpg", files["b/9.jpg"]):
        assert len(kept()) == 3


def test_a_changed_file_is_another_one(folder, tmp_path):
    old = folder.files()["a/0.jpg"]
    folder.fetch("a/0.jpg", old)
    (tmp_path / "file").write_bytes(b"new")
    folder.put(tmp_path / "file", "a/0.jpg")
    new = folder.files()["a/0.jpg"]
    assert new.nbytes == 3
    assert new.stamp != old.stamp
    with folder.held("a/0.jpg", new) as path:
        assert path.read_bytes() == b"new"
    stale = type(old)(1000, "of a listing that is no longer true")
    with pytest.raises(RemoteError, match="has 3 bytes, not 1,000 as it was listed"):
        folder.fetch("a/0.jpg", stale)
    assert len(kept()) == 2
    folder.remove("a/0.jpg")
    folder.remove("a/0.jpg")
    with pytest.raises(NotFoundError, match="a/0.jpg does not exist"):
        folder.fetch("a/0.jpg", stale)
    assert "a/0.jpg" not in folder.files()


def test_what_a_killed_process_held_goes(folder):
    files = folder.files()
    left = remote_home() / "held" / "999999999-0.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    from frostbox import remote

    remote._room.fetched = None
    folder.fetch("a/0.jpg", files["a/0.jpg"])
    assert not left.exists()


def test_a_connection_that_breaks_is_tried_again(folder, monkeypatch):
    monkeypatch.setattr("frostbox.remote.time.sleep", lambda _: None)
    files, get, failures = folder.files(), folder._fs.get_file, [ConnectionResetError("reset")] * 2

    def shaky(*arguments):
        if failures:
            raise failures.pop()
        return get(*arguments)

    folder._fs.get_file = shaky
    folder.fetch("a/0.jpg", files["a/0.jpg"])
    failures += [ConnectionResetError("reset by\npeer")] * 9
    with pytest.raises(RemoteError, match="b/1.jpg cannot be read: reset by peer"):
        folder.fetch("b/1.jpg", files["b/1.jpg"])
    assert len(kept()) == 1


def test_names_that_lead_out_are_refused(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    folder._fs.put_file(str(tmp_path / "file"), f"{folder._base}/../out.jpg")
    folder._fs.pipe_file(f"{folder._base}/a/../../x.jpg", b"x")
    with pytest.raises(RemoteError, match="no name for a file here"):
        folder.files()


def test_what_cannot_be_reached_is_one_sentence(bucket, monkeypatch):  # noqa: F811
    assert RemoteFolder(f"{bucket}/nothing").files() == {}
    with pytest.raises(SettingsError, match="nosuch://a: .*install its package"):
        RemoteFolder("nosuch://a")
    with pytest.raises((RemoteError, NotFoundError)) as caught:
        RemoteFolder("s3://no-such-bucket/a").read("x")
    assert "\n" not in str(caught.value)
    for text, meant in (("3GB", 3 * 10**9), ("0.5 mb", 500_000), ("70", 70)):
        monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", text)
        assert kept_bytes() == meant
    for text in ("0", "much", "-3GB"):
        monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", text)
        with pytest.raises(SettingsError, match="give a size such as 20GB"):
            kept_bytes()
