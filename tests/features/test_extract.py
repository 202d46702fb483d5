"""Extraction: the right features in the right rows, interruptions, broken photos, full disks."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from frostbox import backbones
from frostbox.data.colour import apply_colour
from frostbox.data.transforms import apply_image, read_image
from frostbox.errors import CacheError, DataError
from frostbox.features import extract as extract_module
from frostbox.features import shards
from frostbox.features.cache import FeatureCache
from frostbox.features.engine import TOLERANCE, create_engine
from frostbox.features.extract import cache_nbytes, extract
from frostbox.features.index import CacheIndex, views_for
from frostbox.features.records import write_record
from frostbox.files import write_parts
from tests.features.conftest import write_photos

SIZE = (96, 64)  # width, height


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("mode", ["shrink", "letterbox", "crop"])
def test_features_are_the_backbones_in_every_view(engine, mode, photos, backbone, tmp_path):
    cache = extract(
        photos, backbone, tmp_path / "c", size=SIZE, mode=mode, views=6, engine=engine,
        batch_size=None if engine == "openvino" else 3, shard_images=4,
    )  # fmt: skip
    assert cache.ids == [image.image_id for image in photos.images]
    names = ["original", "flip", "mosaic 2", "zoom-in 3", "mosaic 4", "zoom-out 5"]
    assert [view.name for view in cache.views] == names
    assert len(cache.index.shards) == 3
    assert cache.original_sizes == [(image.width, image.height) for image in photos.images]
    by_id = {image.image_id: image for image in photos.images}
    for k, image in enumerate(photos.images):
        for v in range(6):
            geometry = cache.geometry(k, v)
            assert v > 1 or geometry.flip == bool(v)
            picture = apply_image(read_image(image.photo), geometry)
            partners = cache.partners(k, v, list(by_id))
            assert len(partners) == (3 if v in (2, 4) else 0)
            for partner, moved in partners:
                left, top, right, bottom = moved.shown()
                whole = apply_image(read_image(by_id[partner].photo), moved)
                picture[:, top:bottom, left:right] = whole[:, top:bottom, left:right]
            if colour := cache.views[v].colour(image.image_id):
                picture = apply_colour(picture, colour, geometry.shown())
            expected = backbone(backbone.normalise(picture[None]))
            for ours, theirs in zip(cache.read([(k, v)]), expected, strict=True):
                assert (ours.float() - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


def test_a_picture_zoomed_out_lies_on_the_backbones_mean_colour(photos, backbone):
    views = views_for(backbone, 6)
    for image in photos.images:
        size, pictures = shards.load_views(image, "shrink", SIZE, views)
        left, top, right, bottom = views[5].geometry(image.image_id, "shrink", size, SIZE).shown()
        canvas = pictures[5].clone()
        canvas[:, top:bottom, left:right] = 128
        assert (canvas == 128).all()
        assert (bottom - top, right - left) != SIZE[::-1]


def test_sizes_on_disk_are_known_before(photos, backbone, tmp_path):
    cache = extract(photos, backbone, tmp_path / "c", size=SIZE, engine="torch", views=2)
    expected = cache_nbytes(backbone, size=SIZE, images=10, views=2)
    assert expected == 2 * 20 * (112 * 4 * 6 + 320 * 2 * 3)
    assert 0 <= cache.nbytes - expected < 1000
    assert cache.map_sizes == ((4, 6), (2, 3))


def test_progress_and_a_second_call_do_nothing_twice(photos, backbone, tmp_path, monkeypatch):
    steps: list[tuple[int, int]] = []
    extract(
        photos,
        backbone,
        tmp_path / "c",
        size=SIZE,
        engine="torch",
        progress=lambda *step: steps.append(step),
    )
    assert steps == [(k, 10) for k in range(11)]
    before = files(tmp_path / "c")
    monkeypatch.setattr(shards, "load_views", lambda *_: pytest.fail("decoded again"))
    assert len(extract(photos, backbone, tmp_path / "c", size=SIZE, engine="torch")) == 10
    assert files(tmp_path / "c") == before


def test_an_engine_can_be_given(photos, backbone, tmp_path):
    engine = create_engine("torch", backbone, SIZE, batch_size=4)
    cache = extract(photos, backbone, tmp_path / "c", size=SIZE, engine=engine)
    assert cache.index.shards[0].engine == engine.name


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_bytes_whatever_the_threads_do(workers, photos, backbone, tmp_path):
    for name, count in (("a", 2), ("b", workers)):
        torch.set_num_threads(count)
        try:
            extract(
                photos, backbone, tmp_path / name, size=SIZE, views=4, workers=count,
                shard_images=4, engine="openvino",
            )  # fmt: skip
        finally:
            torch.set_num_threads(1)
    assert files(tmp_path / "a") == files(tmp_path / "b")


SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from frostbox import backbones
from frostbox.features import shards
from frostbox.features.extract import extract
from tests.features.conftest import write_photos
folder = Path(sys.argv[1])
load_views = shards.load_views
def slow(image, *rest):
    if image.image_id == "photo09":
        (folder / "reached").touch()
        time.sleep(60)
    return load_views(image, *rest)
shards.load_views = slow
extract(write_photos(folder / "photos", 10), backbones.create("lite0", (16, 32)), folder / "killed",
        size=(96, 64), views=5, shard_images=3, workers=2, engine="openvino")
"""


def test_killed_and_resumed_gives_the_same_bytes(photos, backbone, tmp_path, monkeypatch):
    photos.images[4].photo.write_bytes(b"\xff\xd8\xff broken")  # skipping survives, too
    script = SCRIPT.replace("write_photos(folder", "the_photos(folder").replace(
        "folder = Path(sys.argv[1])\n",
        "folder = Path(sys.argv[1])\n"
        "def the_photos(where, count):\n"
        "    made = write_photos(where, count)\n"
        "    made.images[4].photo.write_bytes(b'\\xff\\xd8\\xff broken')\n"
        "    return made\n",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2]
    )
    try:
        deadline = time.monotonic() + 60
        third = tmp_path / "killed" / "shard-00002.safetensors"
        while not (third.exists() and (tmp_path / "reached").exists()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (tmp_path / "killed" / "shard-00003.safetensors.tmp").write_bytes(b"half")
    with pytest.raises(CacheError, match=r"is incomplete: 9 of 10 images; run the same"):
        FeatureCache.open(tmp_path / "killed")
    assert not FeatureCache.complete(tmp_path / "killed")

    decoded: list[str] = []
    original = shards.load_views

    def noted(image, *rest):
        decoded.append(image.image_id)
        return original(image, *rest)

    monkeypatch.setattr(shards, "load_views", noted)
    settings = {"size": SIZE, "views": 5, "shard_images": 3, "engine": "openvino"}
    resumed = extract(photos, backbone, tmp_path / "killed", **settings)
    assert decoded == ["photo09"]
    assert list(resumed.skipped) == ["photo04"]
    extract(photos, backbone, tmp_path / "whole", **settings)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_shard_that_is_gone_or_cut_is_made_again(photos, backbone, tmp_path, caplog):
    out = tmp_path / "c"
    extract(photos, backbone, out, size=SIZE, engine="torch", shard_images=4)
    before = files(out)
    (out / "shard-00001.safetensors").unlink()
    with open(out / "shard-00002.safetensors", "r+b") as file:
        file.truncate(5000)
    assert not FeatureCache.complete(out)
    extract(photos, backbone, out, size=SIZE, engine="torch", shard_images=4)
    assert files(out) == before
    assert "shard-00001.safetensors cannot be read" in caplog.text


def test_a_broken_photo_is_named_skipped_and_counted(photos, backbone, tmp_path, caplog):
    whole = extract(
        photos, backbone, tmp_path / "whole", size=SIZE, engine="torch", views=2, shard_images=4
    )
    photos.images[2].photo.write_bytes(b"")
    photos.images[9].photo.write_bytes(photos.images[9].photo.read_bytes()[:300])
    with caplog.at_level(logging.WARNING, "frostbox"):
        cache = extract(
            photos, backbone, tmp_path / "c", size=SIZE, engine="torch", views=2, shard_images=4
        )
    assert len(cache) == 8
    assert sorted(cache.skipped) == ["photo02", "photo09"]
    assert "photo02.jpg is empty" in cache.skipped["photo02"]
    assert caplog.text.count("(skipped)") == 2
    assert cache.ids[2] == "photo03"
    for ours, theirs in zip(cache.read([(2, 1)]), whole.read([(3, 1)]), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(DataError, match=r"2 of 10 photos cannot be read, .*photo02.jpg is empty"):
        extract(photos, backbone, tmp_path / "c", size=SIZE, engine="torch", views=2, strict=True)
    with pytest.raises(DataError, match=r"photo02\.jpg is empty"):
        extract(photos, backbone, tmp_path / "strict", size=SIZE, engine="torch", strict=True)


def test_a_broken_photo_leaves_its_place_in_mosaics_empty(photos, backbone, tmp_path):
    for k in range(1, 10):
        photos.images[k].photo.write_bytes(b"")
    cache = extract(photos, backbone, tmp_path / "c", size=SIZE, engine="torch", views=3)
    view, image = cache.views[2], photos.images[0]
    chosen = view.partners(image.image_id, 10)
    ids = [i.image_id for i in photos.images]
    assert cache.ids == ids[:1]
    assert [partner for partner, _ in cache.partners(0, 2, ids)] == [
        ids[k] for k in chosen if not k
    ]
    _, (picture,) = shards.load_views(image, "shrink", SIZE, [view], photos.images)
    for part, k in enumerate(chosen, start=1):
        moved = view.geometry(image.image_id, "shrink", (90, 90), SIZE, part)
        left, top, right, bottom = moved.shown()
        place = picture[:, top:bottom, left:right]
        assert (place.float().mean((1, 2)) == torch.tensor(view.fill)).all() == (k != 0)


def test_no_photo_at_all(photos, backbone, tmp_path):
    with pytest.raises(DataError, match="has no photo for split 'train'"):
        extract(photos.subset(()), backbone, tmp_path / "c", size=SIZE)
    photos.images[0].photo.write_bytes(b"")
    with pytest.raises(DataError, match="1 of 1 photos cannot be read"):
        extract(
            photos.subset(photos.images[:1]), backbone, tmp_path / "c", size=SIZE, engine="torch"
        )


@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("factor", [1e9, float("nan")])
def test_a_feature_beyond_float16_is_an_error_with_the_photo(engine, factor, photos, tmp_path):
    loud = backbones.create("lite0", (32,))
    state = {key: value.clone() for key, value in loud.state_dict().items()}
    last = [key for key in state if key.endswith("bn3.weight")][-1]
    state[last] *= factor
    loud.load_state_dict(state)
    with pytest.raises(
        CacheError, match=r"a feature of .*photo0\d.jpg by efficientnet_lite0 is beyond"
    ):
        extract(photos, loud, tmp_path / "c", size=SIZE, engine=engine)
    assert not FeatureCache.complete(tmp_path / "c")


def test_a_disk_too_small_is_refused_before_the_work(photos, backbone, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(extract_module.shutil, "disk_usage", lambda _path: usage)
    monkeypatch.setattr(extract_module, "create_engine", lambda *_a, **_k: pytest.fail("began"))
    with pytest.raises(CacheError, match="needs 92160 bytes and the disk has 5000 bytes free"):
        extract(photos, backbone, tmp_path / "c", size=SIZE, engine="torch")


def test_a_disk_that_fills_up_says_so_and_can_go_on(photos, backbone, tmp_path, monkeypatch):
    settings = {"size": SIZE, "engine": "torch", "shard_images": 4}

    def full(path: Path, parts: list[memoryview]) -> Path:
        if path.name.startswith("shard-00001"):
            path.with_name(f"{path.name}.tmp").write_bytes(parts[0][:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_parts(path, parts)

    with monkeypatch.context() as patch:
        patch.setattr("frostbox.features.shards.write_parts", full)
        with pytest.raises(
            CacheError, match=r"the disk is full: .* needs 92160 bytes, and \d+ are"
        ):
            extract(photos, backbone, tmp_path / "c", **settings)
    extract(photos, backbone, tmp_path / "c", **settings)
    extract(photos, backbone, tmp_path / "d", **settings)
    assert files(tmp_path / "c") == files(tmp_path / "d")


def test_folders_that_are_no_cache_or_busy(photos, backbone, tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.doc").write_text("mine")
    with pytest.raises(CacheError, match=r"not empty and no feature cache \(it holds thesis.doc\)"):
        extract(photos, backbone, strange, size=SIZE, engine="torch")
    assert [path.name for path in strange.iterdir()] == ["thesis.doc"]
    for index in ("# contents", '{"format_version": 1, "title": "mine"}'):  # of somebody else
        (strange / "index.json").write_text(index)
        with pytest.raises(CacheError, match=r"no feature cache \(it holds thesis.doc\)"):
            extract(photos, backbone, strange, size=SIZE, engine="torch")
        assert (strange / "index.json").read_text() == index
    with pytest.raises(CacheError, match="cannot be made a feature cache"):
        extract(photos, backbone, strange / "thesis.doc", size=SIZE, engine="torch")
    busy = tmp_path / "busy"
    busy.mkdir()
    with (
        FileLock(busy / ".lock"),
        pytest.raises(CacheError, match="another frostbox is writing"),
    ):
        extract(photos, backbone, busy, size=SIZE, engine="torch")


def test_without_the_index_nobody_knows_of_what_shards_are(photos, backbone, tmp_path, caplog):
    out, settings = tmp_path / "c", {"size": SIZE, "engine": "torch", "shard_images": 4}
    first = extract(photos, backbone, out, **settings)
    for shard in first.index.shards:  # as a run leaves it that was killed
        write_record(out, shard)
    (out / "index.json").unlink()
    other = extract(photos, backbone, out, mode="letterbox", **settings)
    whole = extract(photos, backbone, tmp_path / "whole", mode="letterbox", **settings)
    assert other.index == whole.index
    assert files(out) == files(tmp_path / "whole")
    assert "nothing says what its shards hold, and they are extracted again" in caplog.text


def test_the_index_is_written_once_however_many_shards(photos, backbone, tmp_path, monkeypatch):
    written, write = [], CacheIndex.write
    monkeypatch.setattr(CacheIndex, "write", lambda *all_: [written.append(1), write(*all_)])
    cache = extract(photos, backbone, tmp_path / "c", size=SIZE, engine="torch", shard_images=1)
    assert len(cache.index.shards) == len(photos.photos) > 2
    assert len(written) == 2  # before the first shard, and behind the last


def test_a_cache_of_another_request_is_refused(photos, backbone, tmp_path):
    out = tmp_path / "c"
    extract(photos, backbone, out, size=SIZE, engine="torch")
    before = files(out)
    with pytest.raises(
        CacheError, match=r"image size \(width, height\) is \(96, 64\), not \(64, 96\)"
    ):
        extract(photos, backbone, out, size=(64, 96), engine="torch")
    with pytest.raises(CacheError, match="backbone is efficientnet_lite0, not resnet18"):
        extract(photos, backbones.create("resnet18", (16, 32), "random"), out, size=SIZE)
    other = write_photos(tmp_path / "others", 10, seed=4)
    with pytest.raises(CacheError, match="fingerprint of the photos"):
        extract(other, backbone, out, size=SIZE, engine="torch")
    assert files(out) == before


def test_a_cache_with_more_views_serves_but_one_under_way_must_be_the_same(
    photos, backbone, tmp_path
):
    out = tmp_path / "c"
    extract(photos, backbone, out, size=SIZE, engine="torch", views=2, shard_images=4)
    assert len(extract(photos, backbone, out, size=SIZE, engine="torch", views=1).views) == 2
    index = CacheIndex.read(out)
    index.with_shards(index.shards[:1]).write(out)
    with pytest.raises(CacheError, match="was begun with 2 views"):
        extract(photos, backbone, out, size=SIZE, engine="torch", views=1)


def test_exif_turned_photos_are_stored_upright(backbone, tmp_path):
    from PIL import Image

    made = write_photos(tmp_path / "photos", 1)
    path = made.images[0].photo
    picture = Image.open(path).copy()
    exif = Image.Exif()
    exif[274] = 6
    picture.save(path, exif=exif)
    cache = extract(made, backbone, tmp_path / "c", size=SIZE, engine="torch")
    assert cache.original_sizes == [(picture.height, picture.width)]
