"""COCO, YOLO, tables and XML without lists: each fault is planted alone and told to the letter."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from frostbox.data.doctor import diagnose, examine
from frostbox.data.doctor.fix import write_repaired
from frostbox.data.formats import load_training
from frostbox.errors import DataError, FrostboxError, NotFoundError
from tests.data.doctor.other_faults import (
    COCO,
    FLAT,
    NAMES,
    YOLO,
    Found,
    Plant,
    annotation,
    coco,
    cut,
    flat,
    yolo,
)
from tests.data.sets import photo

# What follows from the planted fault.
ALSO = {
    "all pixels are corners": {"box-outside", "boxes-astray"},
    "sides exchanged": {"boxes-astray", "box-outside"},
    "no JSON": {"class-unknown"}, "id twice": {"class-unknown"}, "no labels": {"class-absent"},
    "a list names no photo": set(), "two entries of one photo": set(),
}  # fmt: skip

CASES = [
    pytest.param(write, plant, found, name, id=f"{write.__name__}: {name}")
    for write, faults in ((coco, COCO), (yolo, YOLO), (flat, FLAT))
    for name, (plant, found) in faults.items()
]


@pytest.mark.parametrize(("write", "plant", "expected", "name"), CASES)
def test_a_planted_fault_is_told(
    write: Callable[[Path], Path], plant: Plant, expected: Found, name: str, tmp_path: Path
) -> None:
    root = write(tmp_path / "data")
    plant(root)
    report = examine(root)
    said = [f.sentence() for f in report.findings]
    kind, severity, file, field, found = expected
    mine = [f for f in report.findings if (f.kind, f.field) == (kind, field)]
    assert [(f.severity, f.file) for f in mine] == [(severity, root / file)], said
    assert mine[0].found.startswith(found), mine[0].found
    assert mine[0].way_out
    worse = {f.kind for f in report.findings if f.severity != "notice"} - {kind}
    assert worse <= ALSO.get(name, set()), said
    assert report.healthy == (severity == "notice")


@pytest.mark.parametrize("write", [coco, yolo, flat])
def test_a_sound_set_has_no_finding(
    write: Callable[[Path], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = examine(write(tmp_path / "data"))
    assert not report.findings, [f.sentence() for f in report.findings]
    assert report.lists == {"train": 6, "val": 6}
    assert (report.objects, report.photos) == (24, 12)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(("write", "plant", "expected", "name"), CASES)
def test_what_breaks_is_what_training_refuses(
    write: Callable[[Path], Path], plant: Plant, expected: Found, name: str, tmp_path: Path
) -> None:
    root = write(tmp_path / "data")
    plant(root)
    if "size" in expected[0]:
        return  # photos' sizes are compared after loading
    breaks = bool(examine(root, photos=False).of("breaks"))
    try:
        load_training(root, "train", "val")
        refused = False
    except (DataError, NotFoundError):
        refused = True
    assert breaks == refused


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    root = coco(tmp_path)
    for name in ("category", "no photo", "truncated", "outside", "no box"):
        if name in ("category", "no box"):
            number = 3 if name == "category" else 5
            change = {"category_id": 7} if name == "category" else {"bbox": None}
            annotation(number, **change)(root)
        elif name == "truncated":
            cut("images/train2.jpg")(root)
        else:
            COCO[name][0](root)
    kinds = {f.kind for f in examine(root).findings}
    assert kinds >= {
        "field-unusable", "photo-missing", "photo-truncated", "box-outside", "box-missing"
    }  # fmt: skip


FEATURES = datasets.Features({
    "image": datasets.Image(),
    "objects": datasets.List({
        "bbox": datasets.List(datasets.Value("float32")),
        "category": datasets.ClassLabel(names=list(NAMES)),
    }),
})  # fmt: skip


def test_a_name_in_two_spellings_is_not_called_absent(tmp_path: Path) -> None:
    root = yolo(tmp_path / "data")
    yaml = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(yaml.replace("dog]", "dog, Dog]"))
    labels = root / "labels/train/1.txt"
    labels.write_text(labels.read_text() + "2 0.2 0.8 0.2 0.2\n")
    kinds = [f.kind for f in examine(root).findings]
    assert "class-spelling" in kinds
    assert "class-absent" not in kinds


def _rows(tmp_path: Path, split: str) -> list[dict[str, Any]]:
    rows = []
    for k in range(3):
        content = photo(tmp_path / "p.jpg", seed=k + 10 * (split == "val")).read_bytes()
        objects = [
            {"bbox": [1, 2, 20, 20], "category": 0},
            {"bbox": [30, 10, 28, 28], "category": 1},
        ]
        rows.append({"image": {"path": None, "bytes": content}, "objects": objects})
    return rows


def test_tables(tmp_path: Path) -> None:
    rows = {split: _rows(tmp_path, split) for split in ("train", "val")}
    root = tmp_path / "saved"

    def save() -> None:
        shutil.rmtree(root, ignore_errors=True)
        tables = {s: datasets.Dataset.from_list(r, features=FEATURES) for s, r in rows.items()}
        datasets.DatasetDict(tables).save_to_disk(root)

    save()
    assert not examine(root).findings
    more = [[1, 2, 20, 20], [5, 25, 0, 8], [1, 2, 3], [50, 2, 20, 10]]
    rows["train"][1]["objects"] += [{"bbox": box, "category": 0} for box in more]
    rows["train"][2]["image"] = {"path": None, "bytes": b"no picture"}
    save()
    found = {f.kind: f for f in examine(root).findings if f.severity != "notice"}
    place = "train, row 1, object"
    assert {kind: f.field for kind, f in found.items() if kind != "boxes-astray"} == {
        "field-unusable": f"{place} 5",
        "photo-unreadable": "train, row 2",
        "box-duplicate": f"{place} 3 (cat): box",
        "box-empty": f"{place} 4 (cat): box",
        "box-outside": f"{place} 6 (cat): box",
    }
    assert {f.file for f in found.values()} == {root}
    assert "has no box and category" in found["field-unusable"].found
    assert found["box-duplicate"].found.endswith("as that of train, row 1, object 1")


def test_chosen_lists_and_objects_in_memory(tmp_path: Path) -> None:
    root = coco(tmp_path)
    COCO["category"][0](root)
    assert not examine(root, ["train"]).healthy
    assert examine(root, ["val"]).healthy
    assert examine({"val": root / "annotations/val.json"}).healthy
    with pytest.raises(NotFoundError, match="has no list 'test'; it has train, val"):
        examine(root, ["test"])
    with pytest.raises(FrostboxError, match="no folder of XML for 'test'; it has train, val"):
        examine(flat(tmp_path / "flat"), ["test"])


def test_flat_xml_is_repaired(tmp_path: Path) -> None:
    root = flat(tmp_path / "data")
    for name in ("outside", "inverted", "photo alone"):
        FLAT[name][0](root)
    Image.open(root / "train/2.jpg").save(root / "train/2.png")
    (root / "train/2.jpg").unlink()
    (root / "valid/1.jpg").unlink()
    repairs = write_repaired(diagnose(root), tmp_path / "fixed")
    assert [str(repair) for repair in repairs] == [
        "train/1.xml: object 1 (cat): bndbox: (25, 7, 6, 26) -> (6, 7, 25, 26)",
        "train/1.xml: object 2 (dog): bndbox: (31, 11, 64, 38) -> (31, 11, 60, 38)",
        "valid/1.xml: left out: it has no photo",
    ]
    after = examine(tmp_path / "fixed")
    assert after.healthy
    assert after.lists == {"train": 6, "val": 5}
