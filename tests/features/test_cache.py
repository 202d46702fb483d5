"""Reading a cache: what is checked, what is refused, and that nothing is loaded."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import save_file

from frostbox import backbones
from frostbox.data.annotations import ObjectAnnotation
from frostbox.errors import CacheError, SettingsError
from frostbox.features.cache import CacheRequest, FeatureCache, fingerprint
from frostbox.features.extract import cache_nbytes, extract
from frostbox.features.index import INDEX_FILE, CacheIndex, Shard
from frostbox.features.shards import quantised
from frostbox.features.store import cache_path
from tests.features.conftest import write_photos

SIZE = (96, 64)


@pytest.fixture
def cache(photos, backbone, tmp_path) -> FeatureCache:
    return extract(
        photos, backbone, tmp_path / "c", size=SIZE, views=2, engine="torch", shard_images=4
    )


def edit(cache: FeatureCache, **changes: object) -> None:
    path = cache.path / INDEX_FILE
    stored = json.loads(path.read_text()) | changes
    stored.pop("sha256", None)  # as older versions, which had none, and not as damage
    path.write_text(json.dumps(stored))


def test_the_index_says_all_that_the_design_asks(cache, backbone, photos):
    index = json.loads((cache.path / INDEX_FILE).read_text())
    assert index["format_version"] == 4
    assert index["backbone"] == "efficientnet_lite0"
    assert index["weights_hash"] == backbone.weights_hash
    assert (index["size"], index["mode"]) == ([96, 64], "shrink")
    assert (index["strides"], index["channels"]) == ([16, 32], [112, 320])
    assert index["map_sizes"] == [[4, 6], [2, 3]]
    assert index["dtype"] == "float16"
    assert index["fingerprint"] == fingerprint(photos)
    assert (index["dataset"], index["split"], index["classes"]) == ("tiny", "train", ["cat"])
    assert [view["name"] for view in index["views"]] == ["original", "flip"]
    assert index["boundary"] is None
    assert index["complete"] is True
    assert index["created_by"].startswith("frostbox ")
    shard = index["shards"][0]
    assert shard["ids"] == [f"photo0{k}" for k in range(4)]
    assert shard["sizes"][1] == [84, 98]
    assert len(shard["sha256"]) == 64
    assert "PyTorch" in shard["engine"]
    assert CacheIndex.read(cache.path) == cache.index


def test_read_gives_rows_in_any_order_across_shards(cache):
    rows = [(9, 1), (0, 0), (4, 1), (0, 0), (3, 0)]
    maps = cache.read(rows)
    assert [tuple(m.shape) for m in maps] == [(5, 112, 4, 6), (5, 320, 2, 3)]
    assert all(m.dtype == torch.float16 for m in maps)
    for place, row in enumerate(rows):
        for ours, alone in zip(maps, cache.read([row]), strict=True):
            assert torch.equal(ours[place], alone[0])
    for same in (np.array(rows), torch.tensor(rows)):
        assert torch.equal(cache.read(same)[0], maps[0])
    (last,) = cache.read(rows, strides=(32,))
    assert torch.equal(last, maps[1])
    assert cache.read([])[0].shape == (0, 112, 4, 6)
    maps[0].zero_()  # the caller's own memory: the file stays as it is
    cache.verify()


@given(
    maps=arrays(
        np.float16, (3, 2, 2, 3),
        elements=st.floats(-60000, 60000, width=16) | st.floats(-1, 1, width=16),
    )
)  # fmt: skip
def test_int8_is_within_half_a_step_of_what_was_stored(maps):
    stored, scale = quantised(maps)
    assert stored.dtype == np.int8
    assert scale.dtype == np.float32
    back = stored * scale[:, None, None]
    limit = scale[:, None, None] * 0.5001 + 1e-30
    assert (np.abs(back - maps.astype(np.float32)) <= limit).all()
    peak = np.abs(maps.astype(np.float32)).max(axis=(0, 2, 3))
    assert (np.abs(stored).max(axis=(0, 2, 3)) == np.where(peak > 0, 127, 0)).all()


def test_a_cache_of_int8_is_half_as_large_and_close(cache, photos, backbone, tmp_path):
    options = {"size": SIZE, "views": 2, "engine": "torch", "shard_images": 4, "dtype": "int8"}
    small = extract(photos, backbone, tmp_path / "i", **options)
    assert json.loads((small.path / INDEX_FILE).read_text())["dtype"] == "int8"
    expected = cache_nbytes(backbone, size=SIZE, images=10, views=2, dtype="int8")
    assert 0 <= small.nbytes - expected - 3 * 4 * (112 + 320) < 3000
    rows = [(i, v) for i in range(10) for v in range(2)]
    for ours, whole in zip(small.read(rows), cache.read(rows), strict=True):
        assert ours.dtype == torch.float16
        step = whole.float().abs().amax(dim=(0, 2, 3), keepdim=True) / 127
        difference = (ours.float() - whole.float()).abs()
        assert difference.max() > 0
        # Half a step of its shard, and the rounding of the scale to float16.
        assert (difference <= 0.6 * step).all()
    before = (small.path / "shard-00001.safetensors").read_bytes()
    (small.path / "shard-00001.safetensors").unlink()
    again = extract(photos, backbone, tmp_path / "i", **options)
    assert (again.path / "shard-00001.safetensors").read_bytes() == before
    with pytest.raises(CacheError, match="its type of the stored features is int8, not float16"):
        small.check(CacheRequest.of(photos, backbone, size=SIZE, views=2))
    with pytest.raises(SettingsError, match="float16 or int8, not as 'int4'"):
        CacheRequest.of(photos, backbone, size=SIZE, dtype="int4")
    requests = [CacheRequest.of(photos, backbone, size=SIZE, dtype=d) for d in ("float16", "int8")]
    assert len({cache_path(tmp_path, photos, r) for r in requests}) == 2


def test_a_cache_of_an_older_version_is_read(cache):
    edit(cache, format_version=2)
    assert FeatureCache.open(cache.path).index.request == cache.index.request


def test_read_outside_the_cache(cache):
    for row in [(10, 0), (0, 2), (-1, 0)]:
        with pytest.raises(IndexError, match="reach outside"):
            cache.read([row])
    with pytest.raises(CacheError, match=r"has strides \(16, 32\), not \[8\]"):
        cache.read([(0, 0)], strides=(8,))


def test_geometry_needs_no_photo(cache, photos):
    for image in photos.images:
        image.photo.unlink()
    again = FeatureCache.open(cache.path)
    geometry = again.geometry(2, 1)
    assert geometry.flip
    boxes = geometry.apply(torch.tensor([[0.0, 0.0, 44.0, 96.0]]))
    torch.testing.assert_close(boxes, torch.tensor([[48.0, 0.0, 96.0, 64.0]]))


def test_an_open_cache_can_be_sent_to_a_worker(cache):
    expected = cache.read([(5, 1)])
    copy = pickle.loads(pickle.dumps(cache))
    assert len(pickle.dumps(cache)) < 20_000
    assert torch.equal(copy.read([(5, 1)])[1], expected[1])


def test_check_gives_the_reason(cache, photos, backbone):
    request = CacheRequest.of(photos, backbone, size=SIZE, views=2)
    cache.check(request)
    cache.check(replace(request, views=request.views[:1]))
    for change, reason in (
        ({"backbone": "resnet18"}, "backbone is efficientnet_lite0, not resnet18"),
        ({"weights_hash": "0" * 64}, "hash of the backbone's weights is .* not 0000"),
        ({"size": (224, 224)}, r"image size \(width, height\) is \(96, 64\), not \(224, 224\)"),
        ({"mode": "letterbox"}, "resize mode is shrink, not letterbox"),
        ({"strides": (32,)}, r"strides is \(16, 32\), not \(32\)"),
        ({"views": (*request.views[:1], *request.views)}, "views is"),
        ({"fingerprint": "1" * 32}, "fingerprint of the photos is .* not 1111"),
    ):
        with pytest.raises(CacheError, match=reason):
            cache.check(replace(request, **change))


def test_a_cache_of_format_version_1_is_read_and_serves(cache, photos, backbone):
    path = cache.path / INDEX_FILE
    plain = [{"name": "original", "flip": False}, {"name": "flip", "flip": True}]
    assert json.loads(path.read_text())["views"] == plain
    edit(cache, format_version=1)
    old = FeatureCache.open(cache.path)
    old.check(CacheRequest.of(photos, backbone, size=SIZE, views=2))
    assert torch.equal(old.read([(3, 1)])[0], cache.read([(3, 1)])[0])
    with pytest.raises(CacheError, match=r"\(original, flip\), not \(original, flip, mosaic 2\)"):
        old.check(CacheRequest.of(photos, backbone, size=SIZE, views=3))


def test_drawn_views_are_in_the_index_and_serve_only_the_same_draw(photos, backbone, tmp_path):
    cache = extract(photos, backbone, tmp_path / "d", size=SIZE, views=4, engine="torch")
    views = json.loads((cache.path / INDEX_FILE).read_text())["views"]
    assert [view.get("kind") for view in views] == [None, None, "mosaic", "zoom-in"]
    assert views[2]["side"] == [0.5, 1.1]
    assert views[3]["side"] == [0.4, 1.0]
    assert views[3]["fill"] == [128, 128, 128]  # the mean of efficientnet_lite0 is 0.5
    assert CacheIndex.read(cache.path) == cache.index
    for count in (1, 2, 3, 4):
        cache.check(CacheRequest.of(photos, backbone, size=SIZE, views=count))
    for key, value, reason in (
        ("seed", 1, "seed 1, not 0"),
        ("side", [0.2, 1.0], r"side \(0.2, 1.0\), not \(0.4, 1.0\)"),
    ):
        edit(cache, views=[*views[:3], {**views[3], key: value}])
        other = FeatureCache.open(cache.path)
        other.check(CacheRequest.of(photos, backbone, size=SIZE, views=2))
        with pytest.raises(CacheError, match=f"view 'zoom-in 3' was drawn with {reason}; extract"):
            other.check(CacheRequest.of(photos, backbone, size=SIZE, views=4))
    edit(cache, views=[*views[:3], {**views[3], "kind": "other"}])
    with pytest.raises(CacheError, match="damaged .*a view is of kind 'other'"):
        FeatureCache.open(cache.path)


def test_corrected_labels_keep_the_cache(cache, photos, backbone):
    labelled = photos.subset(
        [replace(i, objects=(ObjectAnnotation("cat", (1, 2, 3, 4)),)) for i in photos.images]
    )
    cache.check(CacheRequest.of(labelled, backbone, size=SIZE, views=2))


def test_fingerprint_follows_the_photos_not_their_times(photos):
    first = fingerprint(photos)
    os.utime(photos.images[0].photo, (1, 1))
    assert fingerprint(photos) == first
    assert fingerprint(photos.subset(photos.images[::-1])) != first
    assert fingerprint(photos.subset(photos.images[:-1])) != first
    turned = [replace(photos.images[0], exif=False), *photos.images[1:]]
    assert fingerprint(photos.subset(turned)) != first
    path = photos.images[3].photo
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert fingerprint(photos) != first
    path.unlink()
    with pytest.raises(CacheError, match=r"photo03.jpg cannot be read .* put it back"):
        fingerprint(photos)


def test_fingerprint_of_five_thousand_photos_takes_under_a_second(photos):
    many = photos.subset(photos.images * 500)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        fingerprint(many)
        times.append(time.perf_counter() - start)
    assert min(times) < 1


def test_damaged_shards_are_named(cache):
    path = cache.path / "shard-00001.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(CacheError, match=r"shard-00001.safetensors is damaged: it has \d+ bytes"):
        FeatureCache.open(cache.path)
    path.write_bytes(b"\x20" + bytes(7) + b"x" * (len(data) - 8))
    with pytest.raises(CacheError, match=r"shard-00001.safetensors is damaged: its header"):
        FeatureCache.open(cache.path)
    flipped = bytearray(data)
    flipped[-5] ^= 255
    path.write_bytes(flipped)
    opened = FeatureCache.open(cache.path)  # the size is right: only verify reads it all
    with pytest.raises(CacheError, match=r"shard-00001.safetensors is damaged: its sha256"):
        opened.verify()
    path.unlink()
    with pytest.raises(CacheError, match=r"shard-00001.safetensors cannot be read"):
        FeatureCache.open(cache.path)


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="no madvise on this system")
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_what_is_read_is_announced_to_the_system(photos, backbone, tmp_path, monkeypatch, dtype):
    cache = extract(
        photos, backbone, tmp_path / "d", size=SIZE, views=2, engine="torch", shard_images=4,
        dtype=dtype,
    )  # fmt: skip
    advised, announced = [], []

    class Noted(mmap.mmap):
        def madvise(self, option, *where):
            advised.append((option, *where))
            super().madvise(option, *where)
            if where:
                announced.append(self[where[0] : sum(where)])

    monkeypatch.setattr(mmap, "mmap", Noted)
    samples = [(5, 1), (0, 0), (2, 1)]
    maps = cache.read(samples)
    assert len(announced) == len(samples) * len(cache.strides)
    assert all(option == mmap.MADV_WILLNEED for option, *where in advised if where)
    # And nothing is read around what is touched, in each shard that was opened.
    assert [option for option, *where in advised if not where] == [mmap.MADV_RANDOM] * 2
    for place in range(len(samples)):
        for k, found in enumerate(maps):
            kind = np.dtype(dtype)
            nbytes = announced[place * len(maps) + k][-found[place].numel() * kind.itemsize :]
            if dtype == "float16":
                assert nbytes == found[place].numpy().tobytes()
            else:
                stored = np.frombuffer(nbytes, np.int8).reshape(found[place].shape)
                scale = np.abs(found[place].numpy() / np.where(stored == 0, 1, stored)).max((1, 2))
                back = stored * scale[:, None, None]
                np.testing.assert_allclose(back, found[place].numpy(), rtol=2e-3, atol=1e-6)


def test_shards_that_are_not_used_are_let_go(cache, monkeypatch):
    monkeypatch.setattr("frostbox.features.cache._MOST_MAPPED", 1)
    expected = [m.clone() for m in cache.read([(0, 0), (5, 1)])]
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(20):
        for found, known in zip(cache.read([(0, 0), (5, 1)]), expected, strict=True):
            assert torch.equal(found, known)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_large_cache_is_verified_as_it_is_read(cache, monkeypatch):
    monkeypatch.setattr("frostbox.features.cache.VERIFIED_AT_ONCE", 0)
    path = cache.path / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    assert not FeatureCache.whole(cache.path)
    assert FeatureCache.whole(cache.path, 0)
    opened = FeatureCache.open(cache.path)
    opened.read([(0, 0), (3, 1)])
    with pytest.raises(CacheError, match=r"shard-00001.safetensors is damaged: its sha256"):
        opened.read([(4, 0)])


def test_a_shard_with_other_tensors(cache):
    path = cache.path / "shard-00000.safetensors"
    save_file({"stride16": torch.zeros(4, 2, 112, 4, 6)}, path)
    shards = json.loads((cache.path / INDEX_FILE).read_text())["shards"]
    edit(cache, shards=[{**shards[0], "nbytes": path.stat().st_size}, *shards[1:]])
    with pytest.raises(CacheError, match=r"shard-00000.safetensors is damaged: stride16 is"):
        FeatureCache.open(cache.path).read([(0, 0)])


def test_damaged_foreign_and_newer_indexes(cache, tmp_path):
    with pytest.raises(CacheError, match=r"is no feature cache: index.json cannot be read"):
        FeatureCache.open(tmp_path / "nowhere")
    edit(cache, format_version=5)
    with pytest.raises(CacheError, match=r"has format_version 5, .* up to 4; upgrade frostbox"):
        FeatureCache.open(cache.path)
    edit(cache, format_version=1, complete=False)
    with pytest.raises(CacheError, match="is incomplete: 10 of 10"):
        FeatureCache.open(cache.path)
    edit(cache, complete=True, views=None)
    with pytest.raises(CacheError, match=r"index.json is damaged \(TypeError"):
        FeatureCache.open(cache.path)
    edit(cache, views=[{"name": "original", "flip": False, "x" * 200_000: 1}])
    with pytest.raises(CacheError, match=r"index.json is damaged \(TypeError") as caught:
        FeatureCache.open(cache.path)
    assert len(str(caught.value)) < 1000
    (cache.path / INDEX_FILE).write_text("{")
    with pytest.raises(CacheError, match=r"index.json is damaged"):
        FeatureCache.open(cache.path)
    (cache.path / INDEX_FILE).write_text("[]")
    with pytest.raises(CacheError, match=r"has no format_version"):
        FeatureCache.open(cache.path)


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
def test_reading_maps_the_files(cache, tmp_path):
    big, images, side = tmp_path / "big", 512, 20
    big.mkdir()
    shards = []
    for number in range(2):
        name = f"shard-{number:05d}.safetensors"
        values = torch.full((images, 1, 320, side, side), float(number), dtype=torch.float16)
        save_file({"stride32": values}, big / name)
        ids = tuple(f"{number}-{k}" for k in range(images))
        shards.append(
            Shard(name, ids, ((64, 64),) * images, {}, (big / name).stat().st_size, "", "test")
        )
    del values
    request = replace(cache.index.request, strides=(32,), views=cache.views[:1])
    replace(
        cache.index, request=request, channels=(320,), map_sizes=((side, side),),
        images=2 * images, shard_images=images, shards=tuple(shards),
    ).write(big)  # fmt: skip
    opened = FeatureCache.open(big)
    assert opened.nbytes > 250e6
    before = anonymous_bytes()
    total = 0.0
    for start in range(0, len(opened), 16):
        (maps,) = opened.read([(k, 0) for k in range(start, start + 16)])
        total += float(maps[:, 0, 0, 0].sum())
    assert total == images
    # The allocator keeps up to 64 MB of the batches' memory; loading would take the whole 262 MB.
    assert anonymous_bytes() - before < 131e6


def test_a_backbone_cut_elsewhere_is_another(photos, tmp_path):
    cache = extract(
        photos, backbones.create("lite0", (32,)), tmp_path / "d", size=SIZE, engine="torch"
    )
    shallow = backbones.create("lite0", (16,))
    with pytest.raises(CacheError, match=r"strides is \(32\), not \(16\)"):
        cache.check(CacheRequest.of(photos, shallow, size=SIZE))


def test_another_data_set_is_refused(cache, backbone, tmp_path):
    other = write_photos(tmp_path / "others", 10, seed=9)
    with pytest.raises(CacheError, match="fingerprint"):
        cache.check(CacheRequest.of(other, backbone, size=SIZE, views=2))
