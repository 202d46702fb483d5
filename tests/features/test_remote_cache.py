"""Caches on a real S3 server: the bytes of local ones, read through a part that is kept here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from frostbox.cli import app
from frostbox.data.voc import load
from frostbox.errors import CacheError, DataError, RemoteError
from frostbox.features import remote_cache
from frostbox.features.cache import FeatureCache
from frostbox.features.extract import extract
from frostbox.features.index import INDEX_FILE
from frostbox.features.mapped import damaged
from frostbox.heads import FeatureSpec, create_head
from frostbox.loading import batches
from frostbox.remote import RemoteFolder, remote_home
from frostbox.sampling import BatchParts
from frostbox.training import CachedViews, FitSettings, fit, view_sampler
from tests.features.conftest import write_photos
from tests.features.ranks import files, finished, one_process
from tests.s3 import bucket, s3_server  # noqa: F401
from tests.shapes import write_shapes


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 10)
    return tmp_path / "photos"


def there(url: str) -> dict[str, bytes]:
    """What lies on the other side."""
    folder = RemoteFolder(url)
    return {name: folder.read(name) for name in folder.files()}


def here() -> set[str]:
    """Shards in stand-ins on this machine."""
    return {path.name for path in (remote_home() / "caches").rglob("shard-*")}


def kept() -> int:
    total = 0
    for path in (remote_home() / "kept").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # others fetch meanwhile
            total += path.stat().st_size
    return total


@pytest.fixture
def gets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are fetched from now on."""
    found: list[str] = []
    original: Callable[..., None] = RemoteFolder._get

    def noted(self: RemoteFolder, name: str, target: Path) -> None:
        found.append(name)
        original(self, name, target)

    monkeypatch.setattr(RemoteFolder, "_get", noted)
    return found


@pytest.mark.parametrize("options", [{}, {"dtype": "int8", "views": 2}])
def test_the_bytes_are_those_of_a_local_cache(options, photos, bucket, tmp_path, gets):  # noqa: F811
    local = one_process(photos, 9, tmp_path / "local", **options)
    cache = one_process(photos, 9, f"{bucket}/caches/one", **options)
    assert there(f"{bucket}/caches/one") == files(tmp_path / "local")
    assert here() == set()
    rows = [(k, k % len(local.views)) for k in (8, 0, 4, 2, 2)]
    for _ in range(2):
        for ours, theirs in zip(cache.read(rows), local.read(rows), strict=True):
            assert torch.equal(ours, theirs)
    assert gets == []  # what was written here is still here
    again = FeatureCache.open(f"{bucket}/caches/one")
    assert again.ids == local.ids
    one_process(photos, 9, f"{bucket}/caches/one", **options)
    with pytest.raises(CacheError, match=r"s3://.*/caches/one does not match: its"):
        one_process(photos, 8, f"{bucket}/caches/one", **options)


def test_one_that_was_cut_off_goes_on(photos, bucket, tmp_path, monkeypatch):  # noqa: F811
    url = f"{bucket}/cache"
    (photos / "photo05.jpg").rename(tmp_path / "aside")
    (photos / "photo05.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(DataError, match="photo05"):
        one_process(photos, 8, url, strict=True)
    begun = RemoteFolder(url).files()
    assert {"shard-00000.safetensors", INDEX_FILE} <= set(begun)
    assert "shard-00003.safetensors" not in begun
    with pytest.raises(CacheError, match=r"s3://.* is incomplete: \d of 8 images"):
        FeatureCache.open(url)
    # The broken photo is another one by its edges, and so the whole cache would be.
    RemoteFolder(url).remove(INDEX_FILE)
    (tmp_path / "aside").replace(photos / "photo05.jpg")
    one_process(photos, 8, url)
    one_process(photos, 8, tmp_path / "local")
    assert there(url) == files(tmp_path / "local")

    # The last shard is lost: the others are kept as they are.
    before = RemoteFolder(url).files()
    RemoteFolder(url).remove("shard-00002.safetensors")
    with pytest.raises(CacheError, match="shard-00002.safetensors is missing"):
        FeatureCache.open(url)
    put: list[str] = []
    original = RemoteFolder.put
    monkeypatch.setattr(
        RemoteFolder, "put", lambda self, path, name: (put.append(name), original(self, path, name))
    )
    one_process(photos, 8, url)
    shards = {name for name in put if name.endswith(".safetensors")}
    assert shards == {"shard-00002.safetensors"}
    assert there(url) == files(tmp_path / "local")
    assert before.keys() == RemoteFolder(url).files().keys()


def test_damaged_shards_are_named(photos, bucket, tmp_path):  # noqa: F811
    url, name = f"{bucket}/cache", "shard-00001.safetensors"
    cache = one_process(photos, 8, url)
    content = bytearray(RemoteFolder(url).read(name))
    content[-1] ^= 1
    (tmp_path / "file").write_bytes(content)
    RemoteFolder(url).put(tmp_path / "file", name)
    cache = FeatureCache.open(url)
    cache.read([(0, 0)])
    with pytest.raises(CacheError, match=f"{url}/{name} is damaged: its sha256"):
        cache.read([(len(cache.index.shards[0].ids), 0)])
    (tmp_path / "file").write_bytes(content[:-1])
    RemoteFolder(url).put(tmp_path / "file", name)
    with pytest.raises(CacheError, match=rf"{name} is damaged: it has \d+ bytes, not"):
        FeatureCache.open(url)
    one_process(photos, 8, url)
    assert FeatureCache.open(url).read([(3, 0)])[0].isfinite().all()


def test_a_shard_that_was_damaged_here_is_fetched_once_more(photos, bucket, gets):  # noqa: F811
    url = f"{bucket}/cache"
    wanted = one_process(photos, 8, url).read([(0, 0)])[0]
    for path in (remote_home() / "kept").glob("*/*"):  # what a power cut leaves
        path.write_bytes(bytes(path.stat().st_size))
    cache = FeatureCache.open(url)
    assert torch.equal(cache.read([(0, 0)])[0], wanted)
    assert gets == ["shard-00000.safetensors"]
    again = FeatureCache.open(url)
    assert torch.equal(again.read([(0, 0)])[0], wanted)
    assert len(gets) == 1
    with (
        pytest.raises(CacheError, match=f"the shard {url}/shard-00000.safetensors is damaged: x"),
        again.remote.held(again.index.shards[0]) as copy,
    ):
        raise damaged(copy, "x")


def test_messages_name_the_address(bucket, tmp_path):  # noqa: F811
    url = f"{bucket}/cache"
    (tmp_path / "file").write_bytes(b"{")
    RemoteFolder(url).put(tmp_path / "file", INDEX_FILE)
    with pytest.raises(CacheError, match=f"^{url}/{INDEX_FILE} is damaged"):
        FeatureCache.open(url)


def test_what_stands_for_a_folder_is_written_once(bucket, monkeypatch):  # noqa: F811
    together, written, write = threading.Barrier(4), [], remote_cache.write_whole

    def slow(path, content):
        written.append(path)
        time.sleep(0.1)
        return write(path, content)

    def made(_):
        together.wait()
        return remote_cache.stand_in(f"{bucket}/caches")

    monkeypatch.setattr(remote_cache, "write_whole", slow)
    with ThreadPoolExecutor(4) as pool:
        (place,) = {*pool.map(made, range(4))}
    assert len(written) == 1
    assert remote_cache.shown(place / "a/b") == f"{bucket}/caches/a/b"
    written[0].write_text("")
    assert remote_cache.shown(remote_cache.stand_in(f"{bucket}/caches")) == f"{bucket}/caches"


def test_a_folder_of_something_else_is_left_alone(photos, bucket, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "file").write_bytes(b"x")
    RemoteFolder(f"{bucket}/mine").put(tmp_path / "file", "thesis.tex")
    with pytest.raises(CacheError, match="no feature cache"):
        one_process(photos, 4, f"{bucket}/mine")
    assert there(f"{bucket}/mine") == {"thesis.tex": b"x"}
    with pytest.raises(CacheError, match="is no feature cache: index.json cannot be read"):
        FeatureCache.open(f"{bucket}/nothing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # where nobody listens
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RemoteError, match="cannot be read"):
        FeatureCache.open(f"{bucket}/mine")


@pytest.fixture
def learned(tmp_path, bucket, backbone):  # noqa: F811
    """Data set, head, and the same cache here and there, of twelve shards."""
    data = load(write_shapes(tmp_path / "VOC2012"), "train")
    options = {"size": (64, 64), "views": 2, "engine": "torch", "shard_images": 2}
    local = extract(data, backbone, tmp_path / "local", **options)
    remote = extract(data, backbone, f"{bucket}/cache", **options)
    assert len(remote.index.shards) >= 10
    for path in (remote_home() / "kept").glob("*/*"):
        path.unlink()
    spec = FeatureSpec((16, 32), backbone.channels, backbone.map_sizes((64, 64)))
    return data, local, remote, spec


def shard_of(cache: FeatureCache, image: int) -> str:
    """The file that an image is in."""
    return next(s.file for s in cache.index.shards if cache.ids[image] in s.ids)


def test_an_epoch_fetches_each_shard_once_within_the_bound(learned, monkeypatch, gets):
    data, local, remote, spec = learned
    shard = max(shard.nbytes for shard in remote.index.shards)
    bound = 8 * shard
    monkeypatch.setattr("frostbox.remote._LEAST", 1)
    assert remote.nbytes > bound
    monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", str(bound))
    remote = FeatureCache.open(f"{remote.remote.folder.url}")
    head = create_head("grid", spec, 3)
    here_, there_ = (CachedViews(cache, data, head) for cache in (local, remote))
    settings = FitSettings(epochs=1, batch_size=4, seed=1)
    assert here_.window == 0
    assert there_.window == 4  # a quarter of the bound: two shards of two images
    rows = BatchParts(view_sampler(there_, settings), 4, least=2)
    most = 0
    seen = []
    for maps, encoded in batches(there_, rows, "cpu"):
        most = max(most, kept())
        seen.append((maps, encoded))
    assert most <= bound + 4 * shard  # and those that are on their way
    read = {shard_of(remote, image) for batch in rows for image, _ in batch}
    assert len(read) > 8
    assert sorted(gets) == sorted(read)
    for (ours, _), batch in zip(seen, rows, strict=True):
        for one, other in zip(ours, here_.__getitems__(batch)[0], strict=True):
            assert torch.equal(one, other)


def test_training_from_it_gives_the_same_weights(learned, tmp_path, monkeypatch):
    data, local, remote, spec = learned
    settings = FitSettings(epochs=2, batch_size=8, lr=2e-3, device="cpu", shuffle_window=12)
    heads = []
    for name, cache in (("local", local), ("remote", remote)):
        if name == "remote":
            monkeypatch.setattr("frostbox.remote._LEAST", 1)
            monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", str(cache.nbytes // 2))
        torch.manual_seed(0)
        head = create_head("grid", spec, 3)
        (tmp_path / f"run-{name}").mkdir()
        fit(head, CachedViews(cache, data, head), None, settings, tmp_path / f"run-{name}")
        heads.append(head.state_dict())
    assert all(torch.equal(value, heads[1][key]) for key, value in heads[0].items())


def until(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within ten seconds."""
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_fetching_ahead_keeps_to_its_order_and_ends():
    found: list[str] = []
    ahead = remote_cache._Ahead("abcdefghij", 3, found.append)
    assert until(lambda: len(found) == 3)
    ahead.reached("b")
    assert until(lambda: len(found) == 5)
    ahead.reached("a")
    ahead.reached("z")
    time.sleep(0.1)
    assert sorted(found) == [*"abcde"]
    ahead.stop()
    ahead.reached("j")
    assert until(lambda: not any(t.name == "fetch" for t in threading.enumerate()))
    assert len(found) == 5


def test_an_empty_order_ends_what_was_fetched_ahead(learned, monkeypatch):
    _, _, remote, _ = learned
    begun, let = [], threading.Event()
    monkeypatch.setattr(RemoteFolder, "fetch", lambda _, name, __: (begun.append(name), let.wait()))
    remote.follow(range(len(remote)))
    assert until(lambda: len(begun) == remote_cache._AT_ONCE)
    remote.follow(())
    remote.follow([])
    let.set()
    assert until(lambda: not any(t.name == "fetch" for t in threading.enumerate()))
    assert len(begun) == remote_cache._AT_ONCE


AHEAD = """
import threading, time
from frostbox.features.remote_cache import _Ahead
begun = threading.Event()
def fetch(name):
    print(name, flush=True)
    begun.set()
    time.sleep(2)
_Ahead([str(k) for k in range(12)], 12, fetch)
begun.wait()
"""


def test_no_process_waits_for_what_it_was_to_fetch_ahead():
    done = subprocess.run([sys.executable, "-c", AHEAD], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert 0 < len(done.stdout.split()) <= remote_cache._AT_ONCE
    assert not done.stderr


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(photos, start, bucket, tmp_path):  # noqa: F811
    url = f"{bucket}/cache"
    said = finished(start({"devices": 2, "jobs": [{"photos": [str(photos), 9], "out": url}]}))
    assert sorted(entry["rank"] for entry in said) == [0, 1]
    one_process(photos, 9, tmp_path / "one")
    assert there(url) == files(tmp_path / "one")


def test_the_commands(bucket, tmp_path):  # noqa: F811
    root = write_shapes(tmp_path / "VOC2012")
    caches = f"{bucket}/caches"

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    small = ("--size", 64, "--head", "grid", "--epochs", 1, "--logger", "none", "--cache", caches)
    assert f"features of 'train' in {caches}/VOC2012/train-" in run(
        "train", root, *small, "--out", tmp_path / "a"
    )
    assert f"features of 'train' reused from {caches}/VOC2012/train-" in run(
        "train", root, *small, "--out", tmp_path / "b"
    )
    assert (tmp_path / "b/best.safetensors").is_file()
    listed = run("cache", "list", "--cache", caches)
    assert "VOC2012/train-" in listed
    assert "VOC2012/val-" in listed
    assert "removed 2 caches" in run("cache", "prune", "--yes", "--cache", caches)
    assert RemoteFolder(caches).files() == {}
    assert f"no caches in {caches}" in run("cache", "list", "--cache", caches)
    said = run("extract", root, "--size", 64, "--out", f"{bucket}/single")
    assert f"views in {bucket}/single" in said
    assert INDEX_FILE in RemoteFolder(f"{bucket}/single").files()
    assert not os.path.exists("s3:")
