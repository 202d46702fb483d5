"""Every reader of other people's files: what it is given, and what must hold of what it gives.

An input is a few files. Whatever they hold, `read` comes back in time, with a result of which all
that `annotations.py` and the other contracts promise is true, or with a FrostboxError; anything
else is a defect. Photos stand for a secret beside the data folder: none may be found there.
"""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from random import Random
from typing import ClassVar
from unittest.mock import patch
from xml.sax.saxutils import escape

import numpy as np
import torch
import yaml
from safetensors.torch import save

from frostbox.data.annotations import LARGEST_SIDE, DetectionSet, ImageAnnotation
from frostbox.data.coco import read_coco
from frostbox.data.doctor import examine
from frostbox.data.photos import (
    image_size,
    read_enough,
    read_image,
    read_thumbnail,
    turned_size,
)
from frostbox.data.voc import read_annotation, read_voc
from frostbox.data.yolo import read_yolo
from frostbox.data.yolo_find import find_yolo
from frostbox.detector import Detector
from frostbox.errors import BackboneError, FrostboxError
from frostbox.features.cache import FeatureCache
from frostbox.predictions import read_predictions
from frostbox.settings import TrainSettings
from frostbox.untrusted import is_plain, shown
from tests.data.sets import photo
from tests.fuzz import seeds
from tests.fuzz.mutate import Tree, as_json, changed, near, odd_value, scrambled
from tests.tiny import tiny

Files = Mapping[str, bytes]
_SCORES = 1e-6


class Reader(ABC):
    """Gives inputs for a reader, and reads them."""

    share: ClassVar[int]
    """Of all inputs, in parts."""
    modules: ClassVar[tuple[str, ...]]
    """Whose branches are counted, below src/frostbox."""

    def prepare(self, folder: Path) -> None:  # noqa: B027 (most need nothing)
        """Put what never changes into the folder."""

    @abstractmethod
    def make(self, draw: Random) -> Files:
        """An input: bytes by path. The paths are always the same ones."""

    @abstractmethod
    def read(self, folder: Path) -> None:
        """Read what lies in the folder. Raises AssertionError for a result that is wrong."""


def holds(dataset: DetectionSet, folder: Path) -> None:
    """Assert what is promised of a data set."""
    inside = os.path.realpath(folder)
    names = dataset.classes
    assert len(set(names)) == len(names)
    assert all(is_plain(name) and name for name in names)
    ids = [image.image_id for image in dataset.images]
    assert len(set(ids)) == len(ids)
    for image in dataset.images:
        assert is_plain(image.image_id)
        assert 1 <= image.width <= LARGEST_SIDE
        assert 1 <= image.height <= LARGEST_SIDE
        assert isinstance(image.width, int)
        if image.photo is not None:
            assert os.path.realpath(image.photo).startswith(inside + os.sep)
        for obj in image.objects:
            assert 0 <= dataset.label(obj) < len(names)
            xmin, ymin, xmax, ymax = obj.box
            assert all(math.isfinite(value) for value in obj.box)
            assert 0 <= xmin < xmax <= image.width
            assert 0 <= ymin < ymax <= image.height
            assert math.isfinite(obj.size)
            assert obj.size >= 0


class Voc(Reader):
    """VOC XML, its list, and a classes.txt."""

    share = 22
    modules = ("data/voc.py", "data/voc_fields.py", "data/voc_layout.py")

    def prepare(self, folder: Path) -> None:
        for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (folder / "set" / name).mkdir(parents=True)
        photo(folder / "set/JPEGImages/a.jpg")
        photo(folder / "secret.jpg")

    def make(self, draw: Random) -> Files:
        text = xml(changed(seeds.voc(draw), draw), draw)
        head = ""
        if draw.random() < 0.06:
            head = draw.choice((
                '<?xml version="1.0" encoding="utf-16"?>', '<?xml version="1.0" encoding="x"?>',
                '<!DOCTYPE a SYSTEM "file:///etc/passwd">', '<!DOCTYPE a [<!ENTITY e "dog">]>',
                "\ufeff", "<!-- a -->", "<?php ?>",
            ))  # fmt: skip
        content = (head + text).encode("utf-8", "surrogatepass")
        if draw.random() < 0.1:
            content = scrambled(content, draw)
        lists = (
            "a\n" if draw.random() < 0.9 else f"{draw.choice(('a 1', 'b', '', '../a', 'a'))}\na\n"
        )
        return {"set/Annotations/a.xml": content, "set/ImageSets/Main/train.txt": lists.encode()}

    def read(self, folder: Path) -> None:
        with suppress(FrostboxError):
            read_annotation(folder / "set/Annotations/a.xml")
        holds(read_voc(folder / "set", "train", also=None), folder / "set")


def xml(tree: Tree, draw: Random) -> str:
    """A tree of [tag, text or children] as XML; whatever else a tree holds becomes text."""
    if not isinstance(tree, list) or len(tree) < 2 or not isinstance(tree[0], str):
        return escape(shown(tree))
    tag = tree[0] if tree[0].isidentifier() else "odd"
    inner = tree[1]
    if isinstance(inner, list):
        text = "".join(xml(child, draw) for child in inner)
    else:
        plain = inner if isinstance(inner, str) else shown(inner)
        text = plain if draw.random() < 0.02 else escape(plain)
    return f"<{tag}>{text}</{tag}>"


class Coco(Reader):
    """COCO JSON."""

    share = 22
    modules = (
        "data/coco.py", "data/coco_fields.py", "data/coco_unread.py", "data/photo_names.py",
        "data/box_check.py", "untrusted.py",
    )  # fmt: skip

    def prepare(self, folder: Path) -> None:
        photo(folder / "set/images/a.jpg")
        photo(folder / "set/images/sub/b.jpg")
        photo(folder / "secret.jpg")

    def make(self, draw: Random) -> Files:
        return {"set/train.json": as_json(changed(seeds.coco(draw), draw), draw)}

    def read(self, folder: Path) -> None:
        holds(read_coco(folder / "set/train.json"), folder / "set")


class Yolo(Reader):
    """Label files, data.yaml, obj.data with its list and names."""

    share = 16
    modules = ("data/yolo.py", "data/yolo_find.py", "data/yolo_layout.py")

    def prepare(self, folder: Path) -> None:
        photo(folder / "set/images/a.jpg")
        photo(folder / "set/images/sub/b.jpg", exif=6)
        (folder / "set/labels/sub").mkdir(parents=True)
        photo(folder / "secret.jpg")

    def make(self, draw: Random) -> Files:
        lines = seeds.yolo_lines(draw)
        for line in lines:
            if draw.random() < 0.15:
                at = draw.randrange(len(line))
                line[at] = str(odd_value(draw) if draw.random() < 0.5 else near(line[at], draw))
            if draw.random() < 0.03:
                del line[draw.randrange(len(line))]
        label = "\n".join(" ".join(line) for line in lines).encode("utf-8", "surrogatepass")
        described, other = b"", b""
        names = draw.choice(("dog\ncat\nno\n", "dog\n", "dog\ndog\n", "", "a\x1b[0m\n"))
        if draw.random() < 0.75:
            described = self._yaml(draw)
        elif draw.random() < 0.8:
            other = seeds.darknet(draw).encode()
            other = scrambled(other, draw) if draw.random() < 0.4 else other
        return {
            "set/labels/a.txt": scrambled(label, draw) if draw.random() < 0.06 else label,
            "set/labels/sub/b.txt": b"0 0.5 0.5 0.2 0.2\n",
            "set/data.yaml": described,
            "set/obj.data": other,
            "set/obj.names": names.encode(),
            "set/train.txt": draw.choice((
                "images/a.jpg\n", "data/images/a.jpg\nimages/sub/b.jpg\n", "../secret.jpg\n", "",
                "images/a.jpg\nimages/a.jpg\n", "\0\n", f"{'x' * 5000}\n", "/etc/passwd\n",
            )).encode(),
        }  # fmt: skip

    def _yaml(self, draw: Random) -> bytes:
        tree = changed(seeds.yolo_yaml(draw), draw, most=2)
        if draw.random() < 0.3:
            return as_json(tree, draw)  # which is YAML too
        try:
            text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        except RecursionError:
            text = json.dumps(1)
        if draw.random() < 0.05:
            text += draw.choice(
                ("a: &a [*a]\n", "b: &b {c: d}\ne: *b\n", "f: !!python/none\n", "? x\n")
            )
        content = text.encode("utf-8", "surrogatepass")
        return scrambled(content, draw) if draw.random() < 0.08 else content

    def read(self, folder: Path) -> None:
        root = folder / "set"
        for name in ("data.yaml", "obj.data"):
            if (root / name).stat().st_size == 0:
                (root / name).unlink()
        found = find_yolo(root)
        for split in found.splits if found is not None else ():
            holds(read_yolo(found, split), root)


class Doctor(Reader):
    """The doctor, which goes on where a reader stops."""

    share = 3
    modules = ("data/doctor/xml.py", "data/doctor/typed.py", "data/doctor/survey.py")

    def __init__(self) -> None:
        self.voc, self.coco = Voc(), Coco()

    def prepare(self, folder: Path) -> None:
        (folder / "voc").mkdir()
        (folder / "coco").mkdir()
        self.voc.prepare(folder / "voc")
        self.coco.prepare(folder / "coco")

    def make(self, draw: Random) -> Files:
        parts = {"voc": self.voc.make(draw), "coco": self.coco.make(draw)}
        return {
            f"{k}/{name}": content for k, part in parts.items() for name, content in part.items()
        }

    def read(self, folder: Path) -> None:
        for kind in ("voc", "coco"):
            try:
                report = examine(folder / kind / "set", photos=False)
            except FrostboxError:
                continue
            for finding in report.findings:
                assert len(str(finding.found)) < 20_000


class Results(Reader):
    """Predictions of other tools."""

    share = 10
    modules = ("predictions.py",)

    @cached_property
    def dataset(self) -> DetectionSet:
        """What is predicted."""
        images = tuple(
            ImageAnnotation(name, None, 60, 40, (), Path(name), number=k + 1)
            for k, name in enumerate(("a", "b"))
        )
        return DetectionSet(
            "x", Path("x"), "val", ("person", "cat", "dog"), "here", images,
            categories={1: 0, 3: 1, 90: 2},
        )  # fmt: skip

    def make(self, draw: Random) -> Files:
        return {"results.json": as_json(changed(seeds.results(draw), draw), draw)}

    def read(self, folder: Path) -> None:
        predictions, _ = read_predictions(folder / "results.json", self.dataset)
        for found in predictions.found:
            assert np.isfinite(found.boxes).all()
            assert ((found.scores >= 0) & (found.scores <= 1)).all()
            assert ((found.labels >= 0) & (found.labels < 3)).all()


class Index(Reader):
    """The index of a feature cache, and the header of its shard."""

    share = 12
    modules = ("features/index.py", "features/cache.py", "data/views.py")
    _FILE = "shard-00000.safetensors"

    @cached_property
    def shard(self) -> bytes:
        """Of two pictures in three views."""
        return save({"stride32": torch.zeros(2, 3, 4, 2, 2, dtype=torch.float16)})

    def make(self, draw: Random) -> Files:
        shard = self.shard
        if draw.random() < 0.2:
            cut = int.from_bytes(shard[:8], "little") + 8
            shard = scrambled(shard[:cut], draw) + shard[cut:]
        index = seeds.cache_index(len(shard))
        return {"index.json": as_json(changed(index, draw, most=2), draw), self._FILE: shard}

    def read(self, folder: Path) -> None:
        cache = FeatureCache.open(folder)
        for row in range(min(len(cache), 4)):
            for view in range(len(cache.views)):
                (maps,) = cache.read([(row, view)], cache.strides[:1])
                assert maps.shape == (1, cache.channels[0], *cache.map_sizes[0])
                geometry = cache.geometry(row, view)
                box = geometry.apply(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
                assert torch.isfinite(torch.as_tensor(box)).all()
                for partner in cache.partners(row, view, cache.ids):
                    assert partner[0] in cache.ids


class Header(Reader):
    """The header of a detector's file; what loads must predict."""

    share = 3
    modules = ("checkpoint.py", "selection.py", "detector.py", "heads/__init__.py")

    def prepare(self, folder: Path) -> None:
        self.saved = {}
        for head in ("grid", "single", "anchors", "pyramid"):
            path = tiny(head, size=(64, 64)).save(folder / "good.safetensors")
            content = path.read_bytes()
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length])
            self.saved[head] = (header, content[8 + length :])
        self.picture = np.zeros((40, 60, 3), np.uint8)

    def make(self, draw: Random) -> Files:
        whole, tensors = self.saved[draw.choice(("grid", "single", "anchors", "pyramid"))]
        known = json.loads(whole["__metadata__"]["frostbox"])
        text = as_json(changed(known, draw, most=2), draw).decode("utf-8", "replace")
        header = {**whole, "__metadata__": {"frostbox": text}}
        if draw.random() < 0.1:
            header = changed(header, draw, most=1)
        try:
            content = json.dumps(header).encode()
        except (UnicodeEncodeError, RecursionError):
            content = b"{}"
        if draw.random() < 0.05:
            content = scrambled(content, draw)
        return {"a.safetensors": len(content).to_bytes(8, "little") + content + tensors}

    def read(self, folder: Path) -> None:
        with patch("frostbox.backbones.create", small_backbone):
            detector = Detector.load(folder / "a.safetensors")
        found = detector.predict(self.picture)
        assert np.isfinite(found.boxes).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= (60, 40, 60, 40)).all()
        assert ((found.scores >= 0) & (found.scores <= 1 + _SCORES)).all()
        assert ((found.labels >= 0) & (found.labels < len(detector.settings.classes))).all()


def small_backbone(name: str, strides: tuple[int, ...], weights: str) -> torch.nn.Module:
    """A backbone of four convolutions where frostbox would build the one that is named."""
    from frostbox.backbones.contract import Backbone, require_strides
    from tests.tiny import _Body

    wanted = tuple(sorted(set(strides)))
    if not wanted:
        raise BackboneError("out_strides is empty")
    require_strides(str(name), wanted, {8: 0, 16: 1, 32: 2})
    return Backbone(
        _Body(wanted), name=str(name), strides=wanted, channels=[8] * len(wanted),
        mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), weights="random:0",
    )  # fmt: skip


class Settings(Reader):
    """A settings.json to be replayed."""

    share = 4
    modules = ("settings.py",)

    @cached_property
    def known(self) -> Tree:
        """The defaults."""
        return json.loads(TrainSettings.create({}).to_json())

    def make(self, draw: Random) -> Files:
        return {"settings.json": as_json(changed(self.known, draw, most=2), draw)}

    def read(self, folder: Path) -> None:
        flat = TrainSettings.read(folder / "settings.json")
        TrainSettings.create(flat)


class Picture(Reader):
    """The decoders of photos."""

    share = 20
    modules = ("data/photos.py", "data/jpeg_header.py")

    def make(self, draw: Random) -> Files:
        content = seeds.picture(draw)
        for _ in range(draw.randint(0, 2)):
            if draw.random() < 0.5:  # headers decide more than pixels do
                content = scrambled(content[:200], draw) + content[200:]
            else:
                content = scrambled(content, draw)
        return {"a.jpg": content}

    def read(self, folder: Path) -> None:
        path, size = folder / "a.jpg", None
        # libjpeg takes what Pillow refuses: where the header is refused, the picture is read too.
        with suppress(FrostboxError):
            width, height, orientation = image_size(path)
            size = turned_size((width, height), orientation)
            read_thumbnail(path, 8)
        image = read_image(path)
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3
        if size is not None:
            # A damaged EXIF block may say something to torchvision and nothing to Pillow.
            assert tuple(image.shape[1:]) in (size[::-1], size)
        with patch("frostbox.data.photos._LARGE_FILE", 0):
            reduced, whole = read_enough(path, True, lambda _: 0.3)
        assert reduced.shape[2] <= max(whole)
        assert reduced.dtype == torch.uint8


READERS: Mapping[str, type[Reader]] = {
    "voc": Voc, "coco": Coco, "yolo": Yolo, "doctor": Doctor, "results": Results, "index": Index,
    "header": Header, "settings": Settings, "picture": Picture,
}  # fmt: skip
