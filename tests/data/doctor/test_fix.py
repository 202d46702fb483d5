"""The repaired copy: what is fixable is gone in it, the rest is there unchanged, DATA untouched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from frostbox.data.doctor import diagnose, examine
from frostbox.data.doctor.fix import Repair, write_repaired
from frostbox.data.photos import check_photo_sizes
from frostbox.data.voc import load, read_voc
from frostbox.errors import SettingsError
from tests.data.doctor.faults import FAULTS, add, box, content, lines, size, swap

FIXABLE = {name: fault for name, fault in FAULTS.items() if fault.fixable}


def _state(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _fix(root: Path, out: Path) -> list[Repair]:
    return write_repaired(diagnose(root), out)


@pytest.mark.parametrize("name", FIXABLE)
def test_what_is_fixable_is_gone_in_the_copy(name: str, healthy: Path, tmp_path: Path) -> None:
    FIXABLE[name].plant(healthy)
    before, out = _state(healthy), tmp_path / "out"
    repairs = _fix(healthy, out)
    assert repairs
    assert _state(healthy) == before
    after = examine(out)
    fault = FIXABLE[name]
    assert (fault.kind, fault.severity) not in {(f.kind, f.severity) for f in after.findings}
    assert after.healthy, [f.sentence() for f in after.findings]
    train = check_photo_sizes(load(out, "train", require_photos=True))
    check_photo_sizes(load(out, "val", train.classes, require_photos=True))
    assert (out / "repairs.txt").read_text().splitlines() == [str(repair) for repair in repairs]


def test_many_faults_at_once(healthy: Path, tmp_path: Path) -> None:
    for image_id in "abcd":
        add(image_id, "dog", (50, 35, 40, 41))(healthy)  # inverted and outside
        add(image_id, "Dog ", (50, 35, 40, 41))(healthy)  # and, spelt otherwise, once more
    swap("a", "<name>person<", "<name> Person<")(healthy)
    content("d", lambda b: b[:-30])(healthy)
    _fix(healthy, tmp_path / "out")
    after = examine(tmp_path / "out")
    assert after.healthy, [f.sentence() for f in after.findings]
    assert after.lists == {"train": 2, "val": 1}
    image = read_voc(tmp_path / "out", "train").images[0]
    names_and_boxes = [(o.name, o.box) for o in image.objects]
    assert names_and_boxes == [
        ("dog", (4, 5, 30, 35)), ("person", (30, 1, 60, 40)), ("dog", (39, 34, 50, 40)),
    ]  # fmt: skip


def test_boxes_after_the_repair_by_hand(healthy: Path, tmp_path: Path) -> None:
    box("a", 1, (30, 6, 5, 35))(healthy)
    box("a", 2, (31, -1, 63, 40))(healthy)
    repairs = _fix(healthy, tmp_path / "out")
    image = read_voc(tmp_path / "out", "train").images[0]
    assert [o.box for o in image.objects] == [(4, 5, 30, 35), (30, 0, 60, 40)]
    assert [str(r) for r in repairs] == [
        "Annotations/a.xml: object 1 (dog): bndbox: (30, 6, 5, 35) -> (5, 6, 30, 35)",
        "Annotations/a.xml: object 2 (person): bndbox: (31, -1, 63, 40) -> (31, 1, 60, 40)",
    ]


def test_a_set_that_counts_from_zero_gets_its_boxes_back(healthy: Path, tmp_path: Path) -> None:
    wanted = [i.objects for i in read_voc(healthy, "train").images]
    FAULTS["0-based set"].plant(healthy)
    _fix(healthy, tmp_path / "out")
    assert [i.objects for i in read_voc(tmp_path / "out", "train").images] == wanted


def test_what_has_no_safe_repair_is_left_alone(healthy: Path, tmp_path: Path) -> None:
    plants = ("far outside", "other size", "in two splits", "misspelt in train", "near duplicate")
    for name in plants:
        FAULTS[name].plant(healthy)
    assert _fix(healthy, tmp_path / "out") == []
    assert (tmp_path / "out" / "repairs.txt").read_text() == "nothing was repaired\n"
    copied = _state(tmp_path / "out")
    del copied["repairs.txt"]
    assert copied == _state(healthy)


def test_boxes_are_not_clipped_to_a_size_that_is_disputed(healthy: Path, tmp_path: Path) -> None:
    FAULTS["slightly outside"].plant(healthy)
    size("a", 58, 40)(healthy)  # the box fits neither 58 x 40 nor the photo's 60 x 40
    assert _fix(healthy, tmp_path / "out") == []
    (outside,) = [f for f in examine(healthy).findings if f.kind == "box-outside"]
    assert (outside.way_out, outside.fixable) == ("settle the size first", False)


def test_other_fields_and_lists_are_kept(healthy: Path, tmp_path: Path) -> None:
    swap(
        "a", "<object>", "<source><database>x & y</database></source><object>".replace("&", "&amp;")
    )(healthy)
    box("a", 1, (30, 6, 5, 35))(healthy)
    main = healthy / "ImageSets" / "Main"
    (main / "dog_train.txt").write_text("a  1\nb -1\n")
    content("b", lambda b: b"")(healthy)
    lines("train", "a", "b", "b")(healthy)
    (healthy / "SegmentationClass").mkdir()
    Image.new("L", (60, 40)).save(healthy / "SegmentationClass" / "a.png")
    _fix(healthy, tmp_path / "out")
    assert "<database>x &amp; y</database>" in (tmp_path / "out/Annotations/a.xml").read_text()
    lists = tmp_path / "out" / "ImageSets" / "Main"
    assert (lists / "dog_train.txt").read_text() == "a  1\n"
    assert (lists / "train.txt").read_text() == "a\n"
    assert (lists / "val.txt").read_bytes() == (main / "val.txt").read_bytes()
    assert (tmp_path / "out" / "SegmentationClass" / "a.png").exists()


def test_a_renamed_photo_is_named_in_its_xml(healthy: Path, tmp_path: Path) -> None:
    FAULTS["PNG named jpg"].plant(healthy)
    _fix(healthy, tmp_path / "out")
    assert not (tmp_path / "out/JPEGImages/a.jpg").exists()
    assert Image.open(tmp_path / "out/JPEGImages/a.png").format == "PNG"
    assert "<filename>a.png<" in (tmp_path / "out/Annotations/a.xml").read_text()


def test_out_must_be_empty_and_elsewhere(healthy: Path, tmp_path: Path) -> None:
    FAULTS["inverted"].plant(healthy)
    found = diagnose(healthy)
    for out, message in ((healthy / "fixed", "lies in the data set"), (healthy, "lies in")):
        with pytest.raises(SettingsError, match=message):
            write_repaired(found, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SettingsError, match="not an empty folder"):
        write_repaired(found, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert write_repaired(found, tmp_path / "empty")
