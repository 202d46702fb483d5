"""Data sets on a real S3 server: the same as from a folder, fetched when they are read."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from frostbox.data import remote_sets
from frostbox.data.annotations import DetectionSet
from frostbox.data.formats import load, load_training, recognise
from frostbox.data.photos import (
    check_photo_sizes,
    image_size,
    photo_suffix,
    place_photo,
    read_enough,
    read_image,
    read_thumbnail,
)
from frostbox.data.remote_sets import WINDOW, ahead, local_copy, mirrored
from frostbox.errors import DataError, NotFoundError, RemoteError, SettingsError, told
from frostbox.features.fingerprint import fingerprint
from frostbox.remote import RemoteFolder, is_stand_in, remote_home, sets_home
from frostbox.sources import pixels, read_ahead
from tests.data.sets import coco_image, coco_object, photo, write_coco_file
from tests.s3 import bucket, s3_server  # noqa: F401
from tests.shapes import write_shapes


def upload(folder: Path, url: str) -> str:
    """Put a folder into a bucket under its name; the address."""
    there = RemoteFolder(url)
    there._fs.put(f"{folder}/", f"{there._base}/{folder.name}/", recursive=True)
    return f"{url}/{folder.name}"


def coco(root: Path) -> Path:
    """A data set with one photo that has no suffix of a photo, and one without a size."""
    images = [coco_image(k, f"{k}.jpg") for k in range(4)] + [coco_image(4, "4.ppm")]
    del images[0]["width"]
    for image in images:
        photo(root / "train" / image["file_name"], seed=image["id"])
    photo(root / "train" / "4.ppm", (60, 40))
    objects = [coco_object(k, 3, [k, 2, 10, 12]) for k in range(5)]
    write_coco_file(root / "annotations/instances_train2017.json", images, objects)
    photo(root / "val" / "9.jpg", seed=9)
    one = [coco_object(9, 3, [1, 2, 10, 12])]
    write_coco_file(root / "annotations/instances_val2017.json", [coco_image(9, "9.jpg")], one)
    return root


def yolo(root: Path) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        for k in range(count):
            photo(root / "images" / split / f"{split}{k}.png", seed=k)
            label = root / "labels" / split / f"{split}{k}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{k % 2} 0.5 0.5 0.{k + 1} 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return root


def flat(root: Path, tiny) -> Path:
    """VOC XML beside photos."""
    made = tiny(name="made", splits={"all": ["a"]})
    root.mkdir()
    for path in [*(made / "Annotations").iterdir(), *(made / "JPEGImages").iterdir()]:
        shutil.copy(path, root / path.name)
    return root


@pytest.fixture(params=["voc", "coco", "yolo", "flat"])
def both(request, tmp_path, tiny_voc, bucket):  # noqa: F811
    """A data set in a folder, and its address on the server."""
    if request.param == "voc":
        made = tiny_voc()
    elif request.param == "flat":
        made = flat(tmp_path / "flat", tiny_voc)
    else:
        made = {"coco": coco, "yolo": yolo}[request.param](tmp_path / f"{request.param}set")
    return made, upload(made, bucket)


@pytest.fixture
def voc(tiny_voc, bucket):  # noqa: F811
    made = tiny_voc()
    return made, upload(made, bucket)


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The names of what is fetched from now on."""
    names: list[str] = []
    get = RemoteFolder._get

    def noted(self, name, target):
        names.append(name)
        return get(self, name, target)

    monkeypatch.setattr(RemoteFolder, "_get", noted)
    return names


def kept_now(suffix: str = "") -> int:
    """Bytes of the photos that are kept; other threads may take some away meanwhile."""
    total = 0
    for path in (remote_home() / "kept").glob(f"*/*{suffix}"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def moved(dataset: DetectionSet, root: Path, place: Path) -> DetectionSet:
    """The data set as if its folder were another one."""

    def there(path: Path) -> Path:
        return place / path.relative_to(root)

    def text(said: str) -> str:
        return said.replace(str(root), str(place))

    images = tuple(
        replace(i, source=type(i.source)(text(str(i.source))), photo=i.photo and there(i.photo))
        for i in dataset.images
    )
    return replace(
        dataset, root=there(dataset.root), images=images, classes_from=text(dataset.classes_from),
        made=None,
    )  # fmt: skip


def test_it_is_the_same_data_set_with_the_same_pixels(both, fetched):
    folder, url = both
    source = recognise(url)
    photos = [name for name in fetched if name.endswith((".jpg", ".png", ".ppm"))]
    assert not photos  # none before it is read
    for split in ("train", "val"):
        here, there = load(str(folder), split), load(source, split)
        assert there.name == here.name
        assert {image.source for image in there.images} != {image.source for image in here.images}
        place = there.root if here.root == folder else mirrored(url)
        assert moved(here, folder, place) == replace(there, made=None)
        assert fingerprint(here) == fingerprint(there)
        assert len(here.photos) == len(here) == len(there.photos)
        for a, b in zip(here.images, there.images, strict=True):
            assert image_size(a.photo) == image_size(b.photo)
            assert torch.equal(read_image(a.photo, a.exif), read_image(b.photo, b.exif))
            assert a.photo.stat().st_size == b.photo.stat().st_size
            assert b.photo.read_bytes().strip(b"\0") == b""  # it takes no room
    sets = [load_training(data, "train", "val") for data in (str(folder), url)]
    assert [[i.image_id for i in one.images] for one in sets[0]] == [
        [i.image_id for i in one.images] for one in sets[1]
    ]


def test_a_file_of_a_data_set_may_be_given(tmp_path, bucket):  # noqa: F811
    urls = [upload(make(tmp_path / name), bucket) for make, name in ((coco, "c"), (yolo, "y"))]
    given = [f"{urls[0]}/annotations/instances_train2017.json", f"{urls[1]}/data.yaml"]
    for url, root, train in zip(given, urls, (5, 4), strict=True):
        source = recognise(url)
        assert set(source.lists) == {"train", "val"}
        dataset = load(source, "train", require_photos=True)
        assert len(dataset.photos) == train
        assert load(root, "train").images == dataset.images  # one folder here for both


def test_a_table_is_fetched_whole(tmp_path, bucket, data_home, fetched):  # noqa: F811
    datasets = pytest.importorskip("datasets")
    photos = [photo(tmp_path / f"{k}.png", seed=k) for k in range(3)]
    rows = [
        {"image": {"bytes": p.read_bytes(), "path": None},
         "objects": {"bbox": [[1.0, 2.0, 10.0, 12.0]], "category": ["cat"]}}
        for p in photos
    ]  # fmt: skip
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    (tmp_path / "t").mkdir()
    for name in ("train", "other"):
        table.to_parquet(tmp_path / "t" / f"{name}.parquet")
    url = upload(tmp_path / "t", bucket)
    there = load(f"{url}/train.parquet", "train")
    assert fetched == ["train.parquet"]
    assert len(there.photos) == 3
    for image, path in zip(there.images, photos, strict=True):
        assert torch.equal(read_image(image.photo), read_image(path))
    assert recognise(url).format == "Hugging Face data set"


def test_every_way_to_read_a_photo(tmp_path, bucket):  # noqa: F811
    folder = tmp_path / "d"
    noise = photo(folder / "JPEGImages/a.jpg", (900, 700), exif=6)
    assert noise.stat().st_size > 300_000  # which are read no finer than needed
    photo(folder / "b.png")
    shutil.move(folder / "b.png", folder / "b.bin")
    (folder / "b.bin").write_bytes((folder / "b.bin").read_bytes() + b"\0" * 1_000_000)
    (folder / "empty.jpg").touch()
    (folder / "no.jpg").write_bytes(b"no photo, but its name says so")
    root = mirrored(upload(folder, bucket))
    a, b = root / "JPEGImages/a.jpg", root / "b.bin"
    assert b.stat().st_size == (folder / "b.bin").stat().st_size
    assert not b.read_bytes().strip(b"\0")
    assert photo_suffix(b) == ".png"
    for share in (0.1, 1.0):
        here, there = (read_enough(p, True, lambda _, s=share: s) for p in (noise, a))
        assert here[1] == there[1] == (700, 900)
        assert torch.equal(here[0], there[0])
    assert read_thumbnail(a, 50).tobytes() == read_thumbnail(noise, 50).tobytes()
    for k, copy in enumerate((False, True)):
        place_photo(a, tmp_path / f"{k}.jpg", copy=copy)
        assert (tmp_path / f"{k}.jpg").read_bytes() == noise.read_bytes()
    for name, said in (("empty.jpg", r"is empty \(0 bytes\)"), ("no.jpg", "is not an image")):
        for read in (read_image, image_size):
            with pytest.raises(DataError, match=said) as caught:
                read(root / name)
            # The address, and not where the copy was.
            assert str(caught.value).startswith(f"{bucket}/d/{name} ")
            assert str(remote_home()) not in str(caught.value)


def test_what_is_kept_stays_within_the_bound(voc, monkeypatch, tmp_path, fetched):
    folder, _ = voc
    for k in range(40):
        photo(folder / "JPEGImages" / f"more{k}.jpg", seed=k)
    url = upload(folder, voc[1].rpartition("/")[0])
    size = (folder / "JPEGImages/more0.jpg").stat().st_size
    monkeypatch.setattr("frostbox.remote._LEAST", 1)
    monkeypatch.setenv("FROSTBOX_REMOTE_SIZE", str(8 * size))
    photos = sorted(p for p in mirrored(url).rglob("*.jpg") if "more" in p.name)
    fetched.clear()
    seen, most = 0, 0
    for path in ahead(photos, lambda path: path):
        expected = folder / "JPEGImages" / path.name
        with local_copy(path) as copy:
            assert copy.read_bytes() == expected.read_bytes()
        seen += 1
        most = max(most, kept_now(".jpg"))
    assert seen == 40
    assert size < most <= 14 * size  # and what is on its way, which is half of it at most
    assert kept_now() <= 8 * size
    assert len(fetched) < 60  # what was fetched ahead was still there when it was read
    assert not list((remote_home() / "held").glob("*/[0-9]*"))


def test_fetching_ahead_is_ahead_and_bounded(voc, fetched, monkeypatch):
    folder, _ = voc
    for k in range(WINDOW + 40):
        photo(folder / "JPEGImages" / f"more{k}.jpg", (8, 8), seed=k)
    url = upload(folder, voc[1].rpartition("/")[0])
    photos = sorted(mirrored(url).glob("JPEGImages/more*"))
    fetched.clear()
    coming = ahead([None, *photos, Path("local.jpg")], lambda path: path)
    assert next(coming) is None
    assert next(coming) == photos[0]
    deadline = time.monotonic() + 10
    while len(fetched) < WINDOW + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert sorted(fetched) == sorted(f"JPEGImages/{p.name}" for p in photos[: WINDOW + 1])
    assert [*coming] == [*photos[1:], Path("local.jpg")]
    # Of local photos nothing is waited for.
    endless = iter(int, 1)
    assert next(ahead(endless, lambda _: "x.jpg")) == 0


@pytest.mark.parametrize("pass_over", [check_photo_sizes, fingerprint, "yolo", "predicted"])
def test_a_pass_over_the_photos_fetches_several_at_a_time(pass_over, tmp_path, bucket, monkeypatch):  # noqa: F811
    url = upload(yolo(tmp_path / "set"), bucket)
    source = recognise(url)
    get, together = RemoteFolder._get, threading.Barrier(4)  # photos of train

    def waits(self, name, target):
        together.wait(timeout=10)
        return get(self, name, target)

    if pass_over == "yolo":
        monkeypatch.setattr(RemoteFolder, "_get", waits)
        assert len(load(source, "train")) == 4
        assert not together.broken
        return
    dataset = load(source, "train")
    shutil.rmtree(remote_home() / "kept")
    monkeypatch.setattr(RemoteFolder, "_get", waits)
    if pass_over == "predicted":
        rows = read_ahead(dataset.images, pixels, 1, skip=False)
        assert len([*rows]) == 4
    else:
        assert pass_over(dataset)
    assert not together.broken


def test_a_full_disk_is_no_fault_of_the_photo(voc, monkeypatch):
    dataset = load(voc[1], "train")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("frostbox.remote.os.link", full)
        patch.setattr("frostbox.remote.shutil.copyfile", full)
        for read in (image_size, read_image):
            with pytest.raises(OSError, match="No space left") as caught:
                read(dataset.images[0].photo)
            assert not isinstance(caught.value, DataError)
    shutil.rmtree(remote_home() / "kept")
    with monkeypatch.context() as patch:
        patch.setattr("frostbox.remote.time.sleep", lambda _: None)
        patch.setattr(RemoteFolder(voc[1])._fs, "get_file", full)
        with pytest.raises(RemoteError, match="No space left"):
            check_photo_sizes(dataset)
    assert image_size(dataset.images[0].photo) == (60, 40, 1)


def test_only_what_changed_is_fetched_again(voc, fetched, tmp_path):
    folder, url = voc
    root = mirrored(url)
    names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    assert sorted(fetched) == sorted(name for name in names if not name.endswith(".jpg"))
    fetched.clear()
    before = load(url, "train")
    with local_copy(before.images[0].photo) as copy:
        photo = folder / "JPEGImages" / before.images[0].photo.name
        assert copy.read_bytes() == photo.read_bytes()
    assert fetched == [f"JPEGImages/{before.images[0].photo.name}"]
    check_photo_sizes(load(url, "train").subset(before.images[:1]))
    assert len(fetched) == 1

    there, changed = RemoteFolder(url), before.images[0]
    fetched.clear()
    xml = (folder / f"Annotations/{changed.image_id}.xml").read_text()
    (tmp_path / "new").write_text(re.sub("<name>.*?</name>", "<name>fox</name>", xml))
    there.put(tmp_path / "new", f"Annotations/{changed.image_id}.xml")
    Image.new("RGB", (60, 40), "red").save(tmp_path / "new.jpg")
    there.put(tmp_path / "new.jpg", f"JPEGImages/{changed.image_id}.jpg")
    after = load(url, "train")
    assert "fox" in {obj.name for obj in after.images[0].objects}
    assert after.images[1:] == before.images[1:]
    assert fetched == [f"Annotations/{changed.image_id}.xml"]
    assert read_image(after.images[0].photo)[0].float().mean() > 200
    assert fingerprint(after) != fingerprint(load(str(folder), "train"))

    last = before.images[-1].image_id
    there.remove(f"JPEGImages/{last}.jpg")
    for split in ("train", "val"):
        there.remove(f"ImageSets/Main/{split}.txt")
    (tmp_path / "all").write_text(f"{changed.image_id}\n{last}\n")
    there.put(tmp_path / "all", "ImageSets/Main/all.txt")
    assert set(recognise(url).lists) == {"all"}
    assert load(url, "all").missing_photos == (last,)
    # What was damaged here is fetched again.
    (root / "ImageSets/Main/all.txt").unlink()
    (root / f"Annotations/{last}.xml").write_text("x")
    assert set(recognise(url).lists) == {"all"}
    assert (root / f"Annotations/{last}.xml").read_bytes() == (
        folder / f"Annotations/{last}.xml"
    ).read_bytes()


def test_a_folder_that_goes_takes_its_place_along(voc):
    _, url = voc
    root = mirrored(url)
    assert (root / "JPEGImages").is_dir()
    there = RemoteFolder(url)
    for name in there.files():
        if name.startswith("JPEGImages/"):
            there.remove(name)
    assert mirrored(url) == root
    assert not (root / "JPEGImages").exists()
    assert not load(url, "train").photos


def test_a_made_split_is_of_the_address(tmp_path, tiny_voc, bucket, monkeypatch, data_home):  # noqa: F811
    folder = flat(tmp_path / "set", tiny_voc)
    url = upload(folder, bucket)
    first = load(url, "val")
    assert first.made is not None
    assert json.loads(first.made.read_text())["data"] == url
    monkeypatch.setenv("FROSTBOX_REMOTE", str(tmp_path / "elsewhere"))
    again = load(f"{url}/", "val")
    assert again.root != first.root
    assert again.made == first.made
    assert [i.image_id for i in again.images] == [i.image_id for i in first.images]


def test_what_cannot_be_had_is_one_sentence(voc, bucket, monkeypatch):  # noqa: F811
    _, url = voc
    for wrong in (f"{bucket}/nothing", "s3://no-such-bucket/set", f"{bucket}/VOC2012/x.json",
                  f"{bucket}/nothing/data.yaml"):  # fmt: skip
        with pytest.raises(NotFoundError, match=f"{wrong} does not exist"):
            recognise(wrong)
    for wrong in (f"{url}/..", f"{bucket}/../x", f"{url}/./x", "s3://", f"{bucket}//x"):
        with pytest.raises(SettingsError, match="give an address such as s3://bucket/folder"):
            recognise(wrong)
    root = mirrored(url)
    (root / "ImageSets/Main/train.txt").write_text("gone\n")
    with pytest.raises(DataError) as caught:
        load(root, "train")
    assert f"{url}/ImageSets/Main/train.txt, line 1" in str(caught.value)
    image = load(url, "val").images[0]
    RemoteFolder(url).remove(f"JPEGImages/{image.photo.name}")
    with pytest.raises(NotFoundError, match=f"{url}/JPEGImages/{image.photo.name} does not exist"):
        read_image(image.photo)

    async def denied(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr("frostbox.remote.time.sleep", lambda _: None)
    monkeypatch.setattr("s3fs.S3FileSystem._lsdir", denied)
    with pytest.raises(RemoteError, match=rf"{url} cannot be read: Access Denied"):
        recognise(url)


def test_a_photo_that_was_changed_meanwhile_is_said(voc, tmp_path):
    _, url = voc
    image = load(url, "train").images[0]
    (tmp_path / "new").write_bytes(b"other")
    RemoteFolder(url).put(tmp_path / "new", f"JPEGImages/{image.photo.name}")
    with pytest.raises(RemoteError, match=f"{image.photo.name} has 5 bytes, not .* run"):
        read_image(image.photo)
    image = load(url, "train").images[0]  # listed again
    with pytest.raises(DataError, match="is not an image"):
        read_image(image.photo)


def test_names_from_a_bucket_do_not_lead_out(voc, bucket, tmp_path):  # noqa: F811
    _, url = voc
    there = RemoteFolder(bucket)
    (tmp_path / "x").write_bytes(b"x")
    there._fs.pipe_file(f"{there._base}/VOC2012/a/../../../out.xml", b"x")
    with pytest.raises(RemoteError, match="no name for a file here"):
        recognise(url)
    assert not list(remote_home().rglob("out.xml"))
    photo(tmp_path / "secret" / "a.png")
    for root in (tmp_path / "secret", "../../../../../../../../../.."):
        (tmp_path / "yaml").write_text(f"path: {root}\ntrain: {tmp_path}/secret\nnames: [cat]\n")
        there.put(tmp_path / "yaml", "out/data.yaml")
        there.put(tmp_path / "x", "out/images/b.png")
        for given in (f"{bucket}/out", f"{bucket}/out/data.yaml"):
            with pytest.raises((DataError, NotFoundError)):
                load(given, "train")
    there.put(tmp_path / "x", "both/a")
    there.put(tmp_path / "x", "both/a/b.txt")
    with pytest.raises(RemoteError, match="'a' as a file and as a folder"):
        recognise(f"{bucket}/both")


def test_a_connection_that_ends_leaves_what_is_whole(voc, monkeypatch, fetched):
    _, url = voc
    get, count = RemoteFolder._get, 0

    def ends(self, name, target):
        nonlocal count
        count += 1
        if count > 4:
            target.write_bytes(b"hal")
            raise RemoteError(f"{self.url}/{name} cannot be read: connection reset")
        return get(self, name, target)

    monkeypatch.setattr(RemoteFolder, "_get", ends)
    monkeypatch.setattr(remote_sets, "THREADS", 1)
    with pytest.raises(RemoteError, match="connection reset"):
        recognise(url)
    first = list(fetched)
    assert len(first) == 4
    assert not [p for p in sets_home().rglob("*") if p.is_file() and p.read_bytes() == b"hal"]
    monkeypatch.setattr(RemoteFolder, "_get", get)
    dataset = load(url, "train")
    assert len(dataset) == len(dataset.photos) > 0
    assert not {*first} & {*fetched[4:]}  # it goes on


KILLED = """
import os, sys, time
from frostbox.remote import RemoteFolder
from frostbox.data import remote_sets
remote_sets._SAVED_EVERY = 0.0
remote_sets.THREADS = 2
get, count = RemoteFolder._get, 0
def slow(self, name, target):
    global count
    count += 1
    if count > 4:
        target.write_bytes(b"half")
        os.write(1, b"now\\n")  # whole, whatever another thread writes
        time.sleep(60)
    get(self, name, target)
RemoteFolder._get = slow
remote_sets.mirrored(sys.argv[1])
"""


def test_who_is_killed_while_a_folder_is_made_goes_on(voc, fetched):
    folder, url = voc
    child = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "now\n"
    time.sleep(0.3)  # what came before is written down
    child.send_signal(signal.SIGKILL)
    child.wait()
    root = mirrored(url)
    here = {p.relative_to(folder): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    assert {p.relative_to(root): p.stat().st_size for p in root.rglob("*") if p.is_file()} == here
    labels = [name for name in here if name.suffix != ".jpg"]
    assert 0 < len(fetched) < len(labels)
    for name in labels:
        assert (root / name).read_bytes() == (folder / name).read_bytes()


def read_by_a_fork(path: Path) -> Iterable[int]:
    return read_image(path).shape


def test_a_forked_process_has_connections_of_its_own(voc):
    import multiprocessing

    _, url = voc
    images = load(url, "train").images
    read_image(images[0].photo)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for image in images[:2]:
            assert pool.apply_async(read_by_a_fork, (image.photo,)).get(20) == (3, 40, 60)


def test_ordinary_paths_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTBOX_REMOTE", str(tmp_path))
    for path in (tmp_path / "a.jpg", tmp_path / "kept/a", "sets/a.jpg", "/data/sets/a.jpg"):
        assert not is_stand_in(path)
        with local_copy(path) as same:
            assert same == Path(path)
    assert is_stand_in(sets_home() / "x/y/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("FROSTBOX_REMOTE", str(tmp_path / "link"))
    assert sets_home() == tmp_path.resolve() / "sets"
    assert told("nothing") == "nothing"


@pytest.mark.slow
def test_extraction_gives_the_same_bytes(tmp_path, bucket, monkeypatch):  # noqa: F811
    from frostbox.extraction import extract_features
    from frostbox.features.index import CacheRequest

    folder = write_shapes(tmp_path / "shapes", train=12, val=2)
    (folder / "JPEGImages/shape_003.jpg").write_bytes(b"broken")
    url = upload(folder, bucket)
    options = {"weights": "random:0", "size": (64, 64), "engine": "torch", "device": "cpu",
               "views": 2}  # fmt: skip
    here = extract_features(str(folder), tmp_path / "here", **options)
    there = extract_features(url, tmp_path / "there", **options)
    assert there.index.request.fingerprint == here.index.request.fingerprint
    assert [s.sha256 for s in there.index.shards] == [s.sha256 for s in here.index.shards]
    assert list(there.skipped) == list(here.skipped) == ["shape_003"]
    assert f"{url}/JPEGImages/shape_003.jpg is not an image" in there.skipped["shape_003"]
    # What goes before it is read is named and left out.
    request_of, asked = CacheRequest.of, []

    def gone(*arguments, **more):
        made = request_of(*arguments, **more)
        asked.append(made)
        if len(asked) == 1:  # after the only fingerprint
            RemoteFolder(url).remove("JPEGImages/shape_001.jpg")
            shutil.rmtree(remote_home() / "kept")
        return made

    with monkeypatch.context() as patch:
        patch.setattr(CacheRequest, "of", gone)
        less = extract_features(url, tmp_path / "less", **options)
    assert len(asked) == 1
    assert list(less.skipped) == ["shape_001", "shape_003"]
    assert f"{url}/JPEGImages/shape_001.jpg does not exist" in less.skipped["shape_001"]
    RemoteFolder(url).put(folder / "JPEGImages/shape_001.jpg", "JPEGImages/shape_001.jpg")
    # A cache of the one is one of the other.
    assert len(extract_features(url, tmp_path / "here", **options)) == 11
