"""Files of remote folders, fetched from a real S3 server and kept up to a bound."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from frostbox import remote
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
    assert not folder._locks
    again = pickle.loads(pickle.dumps(folder))
    with again.held("b/3.jpg", files["b/3.jpg"]) as path:
        assert path.read_bytes() == b"\3" * 1000


def test_no_more_is_kept_than_was_said_and_what_is_held_stays(folder, monkeypatch):
    monkeypatch.setattr(remote, "_LEAST", 1)
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


HOLDS = """
import os, sys
os.getpid = lambda: 999999999  # as in containers, where each is process 1
from frostbox.remote import RemoteFolder
folder, name = RemoteFolder(sys.argv[1]), sys.argv[2]
with folder.held(name, folder.files()[name]) as path:
    print(path, flush=True)
    sys.stdin.readline()
    print(path.read_bytes()[0], flush=True)
"""

FORKS = """
import os, sys
from frostbox.remote import RemoteFolder
folder, first, second = RemoteFolder(sys.argv[1]), "a/0.jpg", "b/1.jpg"
files = folder.files()
folder.fetch(second, files[second])
ours = folder.held(first, files[first])
print(ours.__enter__(), flush=True)
if os.fork():
    os._exit(0)
with folder.held(second, files[second]) as path:
    print(path, flush=True)
    sys.stdin.readline()
    print(path.read_bytes()[0], flush=True)
os._exit(0)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def look_for_the_dead(folder: RemoteFolder, name: str) -> None:
    """Fetch a file as the first of a process."""
    remote._process().fetched = None
    folder.fetch(name, folder.files()[name])


def test_processes_of_one_number_leave_each_other_what_they_hold(folder):
    with start(HOLDS, folder.url, "a/0.jpg") as one:
        held = Path(one.stdout.readline().strip())
        with start(HOLDS, folder.url, "b/1.jpg") as other:
            assert Path(other.stdout.readline().strip()) != held
            assert other.communicate("\n") == ("1\n", None)
        look_for_the_dead(folder, "a/2.jpg")
        assert held.read_bytes() == b"\0" * 1000
        assert sorted(path.read_bytes()[0] for path in kept()) == [0, 1, 2]
        one.kill()
    look_for_the_dead(folder, "b/3.jpg")
    assert not held.parent.exists()
    ours = remote._process().folders[remote_home()][0]
    assert list((remote_home() / "held").iterdir()) == [ours]


def test_a_forked_process_holds_by_names_of_its_own(folder):
    with start(FORKS, folder.url) as child:
        first, second = (Path(child.stdout.readline().strip()) for _ in range(2))
        assert first.parent != second.parent
        child.wait()  # the one that forked
        look_for_the_dead(folder, "b/3.jpg")
        assert not first.exists()
        assert child.communicate("\n") == ("1\n", None)


def test_a_name_that_is_taken_is_not_written_over(folder, monkeypatch, tmp_path):
    files = folder.files()
    (tmp_path / "taken").write_bytes(b"mine")
    folder.fetch("a/0.jpg", files["a/0.jpg"])
    monkeypatch.setattr(remote, "_new_name", lambda _: tmp_path / "taken")
    with pytest.raises(FileExistsError), folder.held("a/0.jpg", files["a/0.jpg"]) as path:
        pytest.fail(f"{path} was given")
    assert (tmp_path / "taken").read_bytes() == b"mine"


@pytest.mark.parametrize("damage", ["cut short", "all gone"])
def test_what_is_no_longer_whole_here_is_fetched_again(folder, damage):
    file = folder.files()["a/2.jpg"]
    folder.fetch("a/2.jpg", file)
    if damage == "cut short":
        kept()[0].write_bytes(b"")
    else:
        shutil.rmtree(remote_home())
    with folder.held("a/2.jpg", file) as path:
        assert path.read_bytes() == b"\2" * 1000


def test_a_file_has_its_name_when_it_lies_on_the_disk(folder, monkeypatch):
    seen, sync = [], os.fsync
    monkeypatch.setattr("frostbox.remote.os.fsync", lambda fd: (seen.append(kept()), sync(fd)))
    folder.fetch("a/0.jpg", folder.files()["a/0.jpg"])
    assert seen == [[]]
    assert len(kept()) == 1


def test_a_file_that_is_too_large_for_the_bound_is_refused(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    folder.put(tmp_path / "file", "large.jpg")
    large = folder.files()["large.jpg"]
    monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", "1MB")
    monkeypatch.setattr(RemoteFolder, "copy", None)  # nothing is fetched
    said = f"{folder.url}/large.jpg has 1.0 MB, too much .* set FROSTBOX_REMOTE_SIZE=2MB"
    with pytest.raises(SettingsError, match=said):
        folder.fetch("large.jpg", large)
    with pytest.raises(SettingsError, match=said), folder.held("large.jpg", large) as path:
        pytest.fail(f"{path} was given")


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
    for text, meant in (("3GB", 3 * 10**9), ("1.5 mb", 1_500_000), ("2000000", 2_000_000)):
        monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", text)
        assert kept_bytes() == meant
    for text in ("0", "much", "-3GB", "0.5", "20", "0.9MB"):
        monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", text)
        with pytest.raises(SettingsError, match="give a size such as 20GB"):
            kept_bytes()
