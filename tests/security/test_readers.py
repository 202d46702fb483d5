"""Files that mean harm, given to every reader: one sentence, no code, no hang, nothing outside."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frostbox.cli import _Visible
from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.coco import read_coco
from frostbox.data.doctor import examine
from frostbox.data.formats import load
from frostbox.data.voc import read_annotation, read_voc
from frostbox.data.voc_layout import LONGEST_NAME, check_names
from frostbox.errors import DataError, FrostboxError, NotFoundError, SettingsError, visible
from frostbox.features.index import CacheIndex
from frostbox.loggers import RUNS, RunLoggers
from frostbox.predictions import read_predictions
from frostbox.settings import TrainSettings
from frostbox.untrusted import parse_json, shown
from tests.conftest import TinyVoc, xml_annotation
from tests.data.sets import CATEGORIES, coco_image, photo, write_coco_file

DEEP = "[" * 100_000 + "]" * 100_000
LONG_NUMBER = "1" * 10_000
HARMFUL = {"deep": DEEP, "long number": f"[{LONG_NUMBER}]", "not text": b'{"a": "\xff"}'}


# --- XML -------------------------------------------------------------------------------------

LAUGHS = "".join(
    f'<!ENTITY l{k} "{f"&l{k - 1};" * 10 if k else "lol"}">' for k in range(12)
)  # a terabyte of "lol"
XML = {
    "billion laughs": (f"<!DOCTYPE x [{LAUGHS}]>", "&l11;"),
    "quadratic blow-up": (f'<!DOCTYPE x [<!ENTITY a "{"a" * 100_000}">]>', "&a;" * 10_000),
    "a local file": ('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>', "&f;"),
    "an address": ('<!DOCTYPE x [<!ENTITY f SYSTEM "http://127.0.0.1:9/x">]>', "&f;"),
    "a parameter entity": (
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>', "dog",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", XML)
def test_xml_has_no_entities(tiny_voc: TinyVoc, kind: str) -> None:
    root = tiny_voc({"a": [("dog", (1, 1, 20, 20))]})
    path = root / "Annotations" / "a.xml"
    head, name = XML[kind]
    path.write_text(head + path.read_text().replace("<name>dog", f"<name>{name}"))
    begun = time.monotonic()
    for read in (lambda: read_voc(root, "train"), lambda: read_annotation(path)):
        with pytest.raises(DataError, match=r"a\.xml declares entities, which are not read"):
            read()
    report = examine(root)
    assert [f.found for f in report.findings if f.file == path] == [
        "declares entities, which are not read"
    ]
    assert time.monotonic() - begun < 30


def test_an_external_document_type_is_not_fetched(tiny_voc: TinyVoc) -> None:
    root = tiny_voc({"a": [("dog", (1, 1, 20, 20))]})
    path = root / "Annotations" / "a.xml"
    # Nothing listens there: who asked for it would fail.
    path.write_text('<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + path.read_text())
    assert [obj.name for obj in read_voc(root, "train").images[0].objects] == ["dog"]


def test_tags_that_are_nested_without_end(tiny_voc: TinyVoc) -> None:
    root = tiny_voc({"a": [("dog", (1, 1, 20, 20))]})
    path = root / "Annotations" / "a.xml"
    deep = "<a>" * 100_000 + "x" + "</a>" * 100_000
    path.write_text(xml_annotation("a", []).replace("</annotation>", f"{deep}</annotation>"))
    for read in (lambda: read_voc(root, "train"), lambda: read_annotation(path)):
        with pytest.raises(DataError, match="tags nested more than 20 deep"):
            read()


def test_a_class_name_of_a_page(tiny_voc: TinyVoc) -> None:
    root = tiny_voc({"a": [("x" * 100_000, (1, 1, 20, 20))]})
    with pytest.raises(DataError, match="name has 100,000 characters; write at most 500") as raised:
        read_voc(root, "train")
    assert len(str(raised.value)) < 600


def test_a_size_beyond_all_pictures(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    root = tiny_voc({"a": [("dog", (1, 1, 20, 20))]}, photos=False)
    path = root / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<width>60", "<width>1e300"))
    with pytest.raises(DataError, match="size is 1e.300 x 40"):
        read_voc(root, "train")
    image = {**coco_image(1, "a.jpg"), "width": 10**300}
    with pytest.raises(DataError, match="no width and height"):
        read_coco(write_coco_file(tmp_path / "set.json", [image]))


# --- JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HARMFUL)
def test_json_that_python_itself_stumbles_over(tmp_path: Path, kind: str) -> None:
    path, content = tmp_path / "index.json", HARMFUL[kind]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / RUNS).write_bytes(path.read_bytes())
    empty = DetectionSet("x", tmp_path, "val", ("a",), "here", ())
    loggers = RunLoggers(("csv",), tmp_path, resume=True)
    readers: list[Callable[[], Any]] = [
        lambda: read_coco(path),
        lambda: read_predictions(path, empty),
        lambda: CacheIndex.read(tmp_path),
        lambda: TrainSettings.read(path),
        lambda: loggers._stored("wandb"),
    ]
    for read in readers:
        with pytest.raises(FrostboxError) as raised:
            read()
        assert len(str(raised.value)) < 600
        assert str(path) in str(raised.value) or RUNS in str(raised.value)


def test_a_key_that_stands_twice_in_a_coco_file(tmp_path: Path) -> None:
    path = write_coco_file(tmp_path / "set.json", [coco_image(1, "a.jpg")])
    text = path.read_text()
    path.write_text(text.replace('"width": 60', '"width": 60, "width": 9'))
    with pytest.raises(DataError, match="has the key 'width' twice; remove one of the two"):
        read_coco(path)
    path.write_text(text[:-1] + ', "annotations": []}')
    with pytest.raises(DataError, match="has the key 'annotations' twice"):
        read_coco(path)


def test_a_value_in_a_message_is_neither_long_nor_deep() -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**6)), {str(k): k for k in range(10**5)}):
        assert len(shown(value)) < 500
    assert shown("a\x1b[2J") == "'a\\x1b[2J'"
    assert shown([1, "b"]) == "[1, 'b']"
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)


@pytest.mark.parametrize(
    "bbox", [[[]] * 4, "x" * 10**6, [[[[1]]]], [float("nan")] * 4, [1e999] * 4]
)
def test_boxes_that_are_none(tmp_path: Path, bbox: Any) -> None:
    entry = {"image_id": 1, "category_id": 1, "bbox": bbox}
    path = write_coco_file(tmp_path / "set.json", [coco_image(1, "a.jpg")], [entry])
    with pytest.raises(DataError, match=r"annotations\[0\].*bbox is ") as raised:
        read_coco(path)
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg", "..\\secret.jpg", "images/../../secret.jpg", "C:\\secret.jpg",
        "C:secret.jpg", "\\\\server\\share\\secret.jpg", "file:///secret.jpg", "~/secret.jpg",
        "a\0/../secret.jpg",
        "x" * 5000 + "/../secret.jpg", "/secret.jpg",
    ],
)  # fmt: skip
def test_names_of_photos_lead_nowhere(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "secret.jpg")
    root = tmp_path / "set"
    name = name.replace("/secret", f"{tmp_path}/secret") if name == "/secret.jpg" else name
    path = write_coco_file(root / "set.json", [coco_image(1, name)])
    if name.startswith(("file:", "~")):
        assert read_coco(path).images[0].photo is None
    else:
        with pytest.raises(DataError, match=r"leads out of the data folder|control character"):
            read_coco(path)


def test_ids_that_lists_and_terminals_would_break_on(tmp_path: Path) -> None:
    for name in ("a\nb.jpg", "\x1b]0;x\x07.jpg", "\ud800.jpg", "a\u2028b.jpg"):
        path = write_coco_file(tmp_path / "set.json", [coco_image(1, name)])
        with pytest.raises(DataError, match="control character or is no UTF-8") as raised:
            read_coco(path)
        assert str(raised.value).isprintable()
    fine = ImageAnnotation("Screenshot 9.41\u202fPM, \u05d0\u200f", None, 1, 1, (), tmp_path)
    DetectionSet("x", tmp_path, "val", (), "here", (fine,))


@pytest.mark.skipif(os.name != "posix", reason="only there are file names bytes")
def test_a_photo_whose_name_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    photo(tmp_path / "images/a.jpg").rename(
        os.fsdecode(bytes(tmp_path / "images") + b"/caf\xe9.jpg")
    )
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / os.fsdecode(b"caf\xe9.txt")).write_text("")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [a]\n")
    with pytest.raises(DataError, match=r"caf\\udce9' has a control character or is no UTF-8"):
        load(tmp_path, "train")


def test_messages_hold_nothing_that_a_terminal_obeys() -> None:
    record = logging.makeLogRecord({"msg": "%s is missing", "args": ("\x1b[2J\ufffe\x9b.jpg\n",)})
    assert _Visible().format(record) == "\\x1b[2J\\ufffe\\x9b.jpg\n is missing"
    assert visible("café\u202f\tok\n") == "café\u202f\tok\n"


# --- YAML ------------------------------------------------------------------------------------

LAUGHING = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
YAML = {
    "an object": (
        "train: images\nnames: !!python/object/apply:os.system ['touch marked']\n",
        "no such|DATA|names the|none of",
    ),
    "billion laughs": (f"{LAUGHING}train: images\nnames: *l\n", "used again by an alias"),
    "a list in itself": ("train: images\nnames: &a [x, *a]\n", "used again by an alias"),
    "deep": (f"train: images\nnames: {'[' * 5000}{']' * 5000}\n", "nested too deeply"),
    "many classes": ("train: images\nnc: 99999999\n", "at most 100,000 classes"),
    "a number of digits": (f"train: images\nnc: {LONG_NUMBER}\n", "write the list of class"),
    "a key of digits": (f"train: images\nnames: {{{LONG_NUMBER[:500]}: a}}\n", "a large one"),
    "no path": ('train: "a\\0b"\nnames: [a]\n', "is no path"),
    "a long path": (f"train: {'x' * 5000}\nnames: [a]\n", "no such folder"),
    "a long root": (f"path: {'x' * 5000}\ntrain: gone\nnames: [a]\n", "no such folder"),
    "a large file": ("train: images\nnames: [a]\n" + "# x\n" * 600_000, "at most 2,000,000"),
    "a dictionary as path": ("train: {a: b}\nnames: [a]\n", "no such folder"),
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml_that_means_harm(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "set/images/a.jpg")
    text, said = YAML[kind]
    (tmp_path / "set/data.yaml").write_text(text)
    begun = time.monotonic()
    with pytest.raises((DataError, NotFoundError), match=said) as raised:
        load(tmp_path / "set", "train")
    assert len(str(raised.value)) < 1000
    assert time.monotonic() - begun < 20
    assert not (tmp_path / "marked").exists()


def test_links_in_circles(tmp_path: Path) -> None:
    photo(tmp_path / "set/images/a.jpg")
    (tmp_path / "set/round").symlink_to("round")
    for text in ("train: ../round\nnames: [a]\n", "path: round\ntrain: ../round\nnames: [a]\n"):
        (tmp_path / "set/data.yaml").write_text(text)
        with pytest.raises(NotFoundError, match="no such folder"):
            load(tmp_path / "set", "train")


def test_many_and_long_names() -> None:
    begun = time.monotonic()
    assert len(check_names([f"n{k}" for k in range(100_000)], "x")) == 100_000
    assert time.monotonic() - begun < 5
    check_names(["n" * LONGEST_NAME], "x")
    with pytest.raises(DataError, match="a class name of 10,000,000 characters") as raised:
        check_names(["n" * 10_000_000], "x")
    assert len(str(raised.value)) < 400
    with pytest.raises(DataError, match=r"the class name '\\ud800'"):
        check_names(["\ud800"], "x")


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, "ab", {"a": 1}])
def test_settings_from_elsewhere(tmp_path: Path, size: Any) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"version": 1, "fit": {}, "size": size}))
    with pytest.raises(SettingsError, match="size is .*must be a list"):
        TrainSettings.read(path)


def test_a_coco_set_is_still_read(tmp_path: Path) -> None:
    path = write_coco_file(tmp_path / "set.json", [coco_image(1, "a.jpg")])
    assert read_coco(path).classes == ("person", "cat", "dog")
    assert len(CATEGORIES) == 3


def test_no_message_grows_with_what_it_repeats() -> None:
    whole = "photo.jpg is wrong: " + "x" * 3000 + "; mend it"
    assert str(DataError(whole)) == whole
    said = str(DataError("photo.jpg is wrong: " + "x" * 300_000 + "; mend it"))
    assert len(said) < 4000
    assert said.startswith("photo.jpg is wrong: xxx")
    assert said.endswith("xxx; mend it")
