"""Archives, pictures, films, caches and checkpoints that mean harm."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from frostbox.data.download import unpack
from frostbox.data.photos import FORMATS, image_size, read_enough, read_image, read_thumbnail
from frostbox.detector import Detector
from frostbox.errors import CacheError, CheckpointError, DataError, SettingsError, TrainingError
from frostbox.features.cache import FeatureCache
from frostbox.hub import address, pull
from frostbox.labelling import TABLE, Labelled
from frostbox.report.evaluation import _model_facts, _training
from frostbox.resuming import checkpoint_of
from frostbox.video import Frames
from tests.data.sets import photo
from tests.films import grey, write_film
from tests.fuzz.readers import small_backbone
from tests.tiny import tiny

# --- archives --------------------------------------------------------------------------------


def _tar(path: Path, *members: tuple[str, dict[str, Any]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, more in members:
            info = tarfile.TarInfo(name)
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("link", {"type": tarfile.SYMTYPE, "linkname": "../secret"})],
        [("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}), ("link/evil", {"size": 1})],
        [("hard", {"type": tarfile.LNKTYPE, "linkname": "../secret"})],
        [("device", {"type": tarfile.CHRTYPE})],
        [("a/../../evil", {"size": 1})],
    ],
    ids=["symlink", "through a link", "hard link", "device", "dots"],
)
def test_members_of_a_tar_that_lead_out(tmp_path: Path, members: list[Any]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("private")
    with pytest.raises(DataError, match=r"set\.tar cannot be unpacked"):
        unpack(_tar(tmp_path / "set.tar", *members), tmp_path / "out")
    assert secret.read_text() == "private"
    assert not (tmp_path / "evil").exists()
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_a_tar_gives_no_rights(tmp_path: Path) -> None:
    unpack(_tar(tmp_path / "set.tar", ("run", {"mode": 0o6777, "size": 1})), tmp_path / "out")
    assert (tmp_path / "out/run").stat().st_mode & (stat.S_ISUID | stat.S_ISGID | 0o022) == 0


@pytest.mark.parametrize("name", ["C:evil.txt", "C:\\evil.txt", "..\\evil.txt", "\\evil.txt"])
def test_names_of_windows_in_a_zip(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(DataError, match="leads out of its folder"):
        unpack(tmp_path / "set.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_in_a_zip_becomes_a_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    unpack(tmp_path / "set.zip", tmp_path / "out")
    assert not (tmp_path / "out/link").is_symlink()
    assert (tmp_path / "out/link").read_text() == "/etc/passwd"


def test_archives_that_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 10_000_000)
    _tar(tmp_path / "set.tar", ("zeros", {"size": 10_000_000}))
    for name in ("set.zip", "set.tar"):
        assert (tmp_path / name).stat().st_size < 50_000
        with pytest.raises(
            DataError, match=r"holds 0\.0 GB or more, and the disk has 0\.0 GB free"
        ):
            unpack(tmp_path / name, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []


def test_archives_that_are_locked_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(range(256)) * 200)
    good = path.read_bytes()
    locked = bytearray(good)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[good.index(mark) + at] |= 1  # "encrypted"
    stream = bytearray(good)
    stream[40:60] = b"\xff" * 20
    odd = bytearray(good)
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        odd[good.index(mark) + at] = 77  # a compression that nobody knows
    for content in (locked, stream, odd):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"set\.zip cannot be unpacked"):
            unpack(path, tmp_path / "out")
    packed = _tar(tmp_path / "set.tar", ("a", {"size": 100_000})).read_bytes()
    for content in (packed[: len(packed) // 2], packed[:30] + b"\xff" * 30 + packed[60:]):
        (tmp_path / "set.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"set\.tar cannot be unpacked"):
            unpack(tmp_path / "set.tar", tmp_path / "out")


# --- pictures --------------------------------------------------------------------------------


def _jpeg_of(path: Path, width: int, height: int) -> Path:
    """A JPEG whose header says that it has these sides."""
    photo(path, (16, 16))
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [16, 1_000_000])
def test_a_jpeg_that_says_to_have_billions_of_pixels(tmp_path: Path, size: int) -> None:
    path = _jpeg_of(tmp_path / "bomb.jpg", 65_000, 65_000)
    path.write_bytes(
        path.read_bytes() + b"\0" * size
    )  # read_enough takes another way from 300 kB on
    for read in (read_image, lambda path: read_enough(path, True, lambda _: 0.01)):
        with pytest.raises(DataError, match="says to have 65000 x 65000 pixels, and at most 500 m"):
            read(path)
    for read in (lambda path: read_thumbnail(path, 64), image_size):
        with pytest.raises(DataError, match="cannot be decoded.*decompression bomb"):
            read(path)


def test_the_header_of_a_jpeg_is_found_as_libjpeg_finds_it(tmp_path: Path) -> None:
    """Behind a thumbnail that is a JPEG itself, stray bytes, and fill bytes; then it is refused."""
    path = _jpeg_of(tmp_path / "a.jpg", 65_000, 65_000)
    whole = path.read_bytes()
    small = photo(tmp_path / "b.jpg", (8, 8)).read_bytes()
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    for between in (thumbnail, b"stray", b"\xff\xff\xff", b"\xff\xd0", b"\xff\xfe\0\0"):
        path.write_bytes(whole[:20] + between + whole[20:])
        with pytest.raises(DataError, match="says to have 65000 x 65000"):
            read_image(path)
    path.write_bytes(whole[:20] + b"x" * 100_000 + whole[20:])
    with pytest.raises(DataError, match="bytes that are no JPEG"):
        read_image(path)
    path.write_bytes(whole[:100])
    with pytest.raises(DataError):
        read_image(path)


def test_a_png_of_billions_of_pixels(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 100_000, 50_000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(12_501 * 100))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(DataError, match="cannot be decoded.*decompression bomb"):
        read_image(tmp_path / "bomb.png")


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 16 16
%%EndComments
(marked) (w) file closefile
showpage
%%EOF
"""


def test_postscript_is_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand it to Ghostscript: a picture that is a program."""
    (tmp_path / "a.jpg").write_bytes(EPS)
    (tmp_path / "a.eps").write_bytes(EPS)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "EPS"  # or the test proves nothing

    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    for name in ("a.jpg", "a.eps"):
        for read in (read_image, image_size, lambda path: read_thumbnail(path, 8)):
            with pytest.raises(DataError, match="is not an image in a known format"):
                read(tmp_path / name)


def test_every_format_that_is_promised_is_read(tmp_path: Path) -> None:
    whole = Image.new("RGB", (20, 10), (200, 30, 40))
    for kind in FORMATS:
        if kind == "AVIF" and "AVIF" not in Image.SAVE:
            continue
        whole.save(tmp_path / "a.jpg", kind)
        assert tuple(read_image(tmp_path / "a.jpg").shape) == (3, 10, 20)


# --- films -----------------------------------------------------------------------------------


def test_a_playlist_is_no_film(tmp_path: Path) -> None:
    """FFmpeg would read what it lists: other files of this machine, or of its network."""
    other = write_film(tmp_path / "private.mp4", grey(3))
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{other}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {other}\n",
    ):
        (tmp_path / "film.mp4").write_text(text)
        with pytest.raises(DataError, match=r"film\.mp4 cannot be opened as a video"):
            Frames(tmp_path / "film.mp4", "film.mp4")
    assert next(iter(Frames(other, "private"))).number == 0


# --- caches ----------------------------------------------------------------------------------


def _cache(folder: Path) -> dict[str, Any]:
    """A whole cache of two pictures; its index."""
    folder.mkdir()
    name = "shard-00000.safetensors"
    save_file({"stride32": torch.zeros(2, 1, 4, 2, 2, dtype=torch.float16)}, folder / name)
    index = {
        "format_version": 4, "backbone": "b", "weights_hash": "0", "size": [64, 64],
        "mode": "shrink", "strides": [32], "views": [{"name": "original", "flip": False}],
        "fingerprint": "0", "dtype": "float16", "precision": "32", "channels": [4],
        "map_sizes": [[2, 2]], "dataset": "d", "split": "train", "classes": ["a"], "images": 2,
        "shard_images": 2, "complete": True, "boundary": None, "created_by": "test",
        "shards": [{
            "file": name, "ids": ["a", "b"], "sizes": [[64, 64], [64, 64]], "skipped": {},
            "nbytes": (folder / name).stat().st_size, "sha256": "0", "engine": "e",
        }],
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(index))
    return index


def test_the_cache_that_is_then_damaged_is_whole(tmp_path: Path) -> None:
    _cache(tmp_path / "cache")
    cache = FeatureCache.open(tmp_path / "cache")
    assert cache.read([(1, 0)])[0].shape == (1, 4, 2, 2)


MOSAIC = {
    "name": "m",
    "kind": "mosaic",
    "side": [0.5, 1.1],
    "centre": [0.4, 0.6],
    "fill": [0, 0, 0],
}
INDEXES: dict[str, dict[str, Any]] = {
    "a shard elsewhere": {"shards.0.file": "../other.safetensors"},
    "an absolute shard": {"shards.0.file": "/etc/passwd"},
    "a shard twice": {"shards": "twice"},
    "too few shards": {"images": 5},
    "no images a shard": {"shard_images": 0},
    "negative images": {"images": -1},
    "a negative map": {"map_sizes": [[-2, 2]]},
    "a map without end": {"map_sizes": [[10**6, 10**6]]},
    "a map beyond its file": {"channels": [400]},
    "maps without channels": {"channels": []},
    "a size without end": {"size": [10**9, 10**9]},
    "an infinite size": {"size": [float("inf"), 64]},
    "sizes that are none": {"shards.0.sizes": [[0, 64], [64, 64]]},
    "ids that are none": {"shards.0.ids": [1, {"a": 2}]},
    "too many ids": {"shards.0.skipped": {"c": "x"}},
    "a name that is none": {"dataset": ["../x"]},
    "a version that is none": {"format_version": True},
    "views without end": {"views": [{"name": "original", "flip": False}] * 1000},
    "no view": {"views": []},
    "a view that is none": {"views": [{"name": 3}]},
    "a mosaic without side": {"views": [{**MOSAIC, "side": [0, 0]}]},
    "a mosaic from beyond": {"views": [{**MOSAIC, "centre": [float("nan"), 5]}]},
    "a mosaic of light": {"views": [{**MOSAIC, "fill": [0, 0, 1000]}]},
    "a file without end": {"shards.0.nbytes": 10**18},
    "complete in words": {"complete": "yes"},
    "an engine that is a number": {"shards.0.engine": 5},
    "a checksum that is none": {"shards.0.sha256": None},
}


@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_that_lies(tmp_path: Path, kind: str) -> None:
    index = _cache(tmp_path / "cache")
    save_file({"stride32": torch.zeros(2, 1, 4, 2, 2, dtype=torch.float16)},
              tmp_path / "other.safetensors")  # fmt: skip
    for place, value in INDEXES[kind].items():
        if value == "twice":
            index["shards"] = 2 * index["shards"]
            continue
        *way, last = place.split(".")
        at: Any = index
        for key in way:
            at = at[int(key) if key.isdigit() else key]
        at[last] = value
    (tmp_path / "cache/index.json").write_text(json.dumps(index))
    with pytest.raises(CacheError) as raised:
        FeatureCache.open(tmp_path / "cache")
    assert len(str(raised.value)) < 500


def test_headers_of_shards_that_lie(tmp_path: Path) -> None:
    index = _cache(tmp_path / "cache")
    path = tmp_path / "cache/shard-00000.safetensors"
    size = path.stat().st_size

    def written(header: bytes, length: int | None = None) -> None:
        content = struct.pack("<Q", len(header) if length is None else length) + header
        path.write_bytes(content.ljust(size, b"\0")[: max(size, len(content))])
        index["shards"][0]["nbytes"] = path.stat().st_size
        (tmp_path / "cache/index.json").write_text(json.dumps(index))

    shape = {"dtype": "F16", "shape": [2, 1, 4, 2, 2]}
    for header in (
        {"stride32": {**shape, "data_offsets": [0, 10**15]}},
        {"stride32": {**shape, "data_offsets": [10**15, 10**15 + 64]}},
        {"stride32": {**shape, "data_offsets": [64, 0]}},
        {"stride32": {**shape, "shape": [2**62, 4, 4], "data_offsets": [0, 64]}},
        {"stride32": {**shape, "shape": [-2, -32], "data_offsets": [0, 64]}},
        {"other": {**shape, "data_offsets": [0, 64]}},
    ):
        written(json.dumps(header).encode())
        with pytest.raises(CacheError, match=r"shard-00000\.safetensors is damaged"):
            FeatureCache.open(tmp_path / "cache").read([(0, 0)])
    for header, length in ((b"[" * 100_000, None), (b"{}", 2**63), (b"{}", size - 1)):
        written(header, length)
        with pytest.raises(CacheError, match="its header is no safetensors header"):
            FeatureCache.open(tmp_path / "cache")


# --- checkpoints -----------------------------------------------------------------------------


class Evil:
    """What a pickle could do: here it only leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_training_is_not_resumed_from_a_program(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "last.ckpt"
    for write in (torch.save, lambda value, to: to.write_bytes(pickle.dumps(value))):
        write({"state_dict": {}, "epoch": Evil(mark)}, path)
        with pytest.raises(TrainingError, match=r"last\.ckpt is damaged") as raised:
            checkpoint_of(tmp_path)
        assert len(str(raised.value)) < 500
        assert not mark.exists()
    for content in (b"", b"\x80\x04.", b"PK\x03\x04 no zip"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"last\.ckpt is damaged"):
            checkpoint_of(tmp_path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(TrainingError, match=r"last\.ckpt is damaged"):
        checkpoint_of(tmp_path)


@pytest.mark.slow
def test_a_detector_whose_header_asks_for_all_memory(tmp_path: Path) -> None:
    """The weights must be there before room is made for them."""
    program = """
import resource, sys
from pathlib import Path
import torch
import frostbox.heads.pyramid
from frostbox import Detector
from frostbox.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_DATA, (6_000_000_000, 6_000_000_000))
for path in sys.argv[1:]:
    try:
        Detector.load(path)
    except CheckpointError as error:
        print(error)
"""
    paths = []
    asked = (
        {"width": 4096, "depth": 64}, {"width": 10**9}, {"depth": 4096}, {"strides": [8] * 10**5},
    )  # fmt: skip
    for k, settings in enumerate(asked):
        header = {
            "format_version": 4, "classes": ["a"],
            "backbone": {"name": "lite0", "strides": [8, 16, 32], "weights": "x",
                         "weights_hash": "0", "included": False},
            "head": {"name": "pyramid", "settings": settings},
            "preprocessing": {"size": [64, 64], "resize": "shrink"},
            "selection": {}, "training": {},
        }  # fmt: skip
        paths.append(tmp_path / f"{k}.safetensors")
        save_file({"head.x": torch.zeros(1)}, paths[-1], {"frostbox": json.dumps(header)})
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for line, said in zip(
        lines, ("does not fit", "1,000,000,000", "depth is 4096", "100,000 values"), strict=True
    ):
        assert said in line
        assert len(line) < 1000


def test_a_header_that_asks_for_gigabytes_of_picture(tmp_path: Path) -> None:
    header = {
        "format_version": 4, "classes": ["a"], "head": {"name": "grid", "settings": {}},
        "backbone": {"name": "lite0", "strides": [32], "weights": "x", "included": False},
        "preprocessing": {"size": [16384, 16384], "resize": "shrink"}, "selection": {},
        "training": {},
    }  # fmt: skip
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", {"frostbox": json.dumps(header)})
    with pytest.raises(CheckpointError, match="size is .*16,777,216 in all"):
        Detector.load(tmp_path / "a.safetensors")


# --- tables and addresses ----------------------------------------------------------------------


def test_a_spreadsheet_runs_nothing(tmp_path: Path) -> None:
    entry = {
        "image": "=cmd|'/C calc'!A1.jpg", "width": 9, "height": 9,
        "detections": [
            {"name": name, "score": 0.5, "box": [0.0, 0.0, 1.0, 1.0]}
            for name in ("=1+1", "+1", "-1", "@SUM(A1)", "dog, \"x\"", "a=b")
        ],
    }  # fmt: skip
    with Labelled("csv", tmp_path, ("a",)) as labelled:
        labelled.add(entry)
    rows = list(csv.DictReader((tmp_path / TABLE).open(newline="")))
    assert {row["image"] for row in rows} == {"'=cmd|'/C calc'!A1.jpg"}
    assert [row["name"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", 'dog, "x"', "a=b"]


@pytest.mark.parametrize("revision", ["../../x", "/etc/x", "a/../../b", "a\0b", "x" * 300, "a b"])
def test_revisions_name_no_file_of_this_machine(tmp_path: Path, revision: str) -> None:
    with pytest.raises(SettingsError, match="is no revision"):
        pull("anna/birds", revision=revision, out=tmp_path / "out")
    if "\0" not in revision:
        with pytest.raises(SettingsError, match="is no revision"):
            address(f"hf://anna/birds@{revision}")
    assert address("hf://anna/birds@refs/pr/1") == ("anna/birds", "refs/pr/1")


ODD_HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an odd limit": lambda h: h["selection"].update(max_detections="many"),
    "no limit": lambda h: h["selection"].update(max_detections=None),
    "a limit below all": lambda h: h["selection"].update(max_detections=-5),
    "a selection that is a list": lambda h: h.update(selection=["a"]),
    "settings that are a list": lambda h: h["head"].update(settings=[[]]),
    "a ratio near nothing": lambda h: h["head"]["settings"].update(aspect_ratios=[1e-320, 1.0]),
    "a size without end": lambda h: h["head"]["settings"].update(scales=[1e300]),
    "a version that is true": lambda h: h.update(format_version=True),
    "a class that is half a letter": lambda h: h.update(classes=["\ud800", "b", "c"]),
    "classes of a page each": lambda h: h.update(classes=["x" * 10_000, "b", "c"]),
    "a backbone without strides": lambda h: h["backbone"].update(strides=3),
}


@pytest.mark.parametrize("kind", ODD_HEADERS)
def test_headers_that_fuzzing_found(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frostbox.backbones.create", small_backbone)
    path = tiny("anchors", size=(64, 64)).save(tmp_path / "a.safetensors")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    known = json.loads(header["__metadata__"]["frostbox"])
    ODD_HEADERS[kind](known)
    header["__metadata__"]["frostbox"] = json.dumps(known)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(CheckpointError) as raised:
        Detector.load(path)
    assert len(str(raised.value)) < 1000
    assert str(raised.value).isprintable()


# --- a run from elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "epoch,loss\n0,x\n",
        "epoch,loss\n0,1,2\n",
        "epoch,loss\n0," + "1" * 200_000 + "\n",
        "epoch\n[\n",
    ],
)
def test_curves_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv is damaged"):
        _training(tmp_path, tiny("grid"))


def test_curves_with_numbers_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,<b>\n0,nan\n1,1e999\nnan,0.5\n")
    found = _training(tmp_path, tiny("grid"))
    assert found == {"columns": ["epoch", "<b>"], "rows": [[0.0, None], [1.0, None], [0.0, 0.5]]}


@pytest.mark.parametrize("training", [{"fit": {}}, {"fit": [], "data": 3}, {"fit": 1, "data": {}}])
def test_a_training_summary_that_is_none(tmp_path: Path, training: dict[str, Any]) -> None:
    detector = tiny("grid")
    detector.settings = replace(detector.settings, training=training)
    with pytest.raises(CheckpointError, match="what it says of its training"):
        _model_facts(detector, tmp_path / "a.safetensors")
