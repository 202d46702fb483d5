"""Each fault is planted alone and must be found: kind, severity, file, field, and the words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from frostbox.boxes import encode_grid
from frostbox.data.doctor import examine
from frostbox.data.doctor.findings import KINDS, SEVERITIES
from frostbox.data.formats import load_training
from frostbox.data.sample import write_sample
from frostbox.errors import DataError, NotFoundError
from tests.conftest import TinyVoc
from tests.data.doctor.conftest import HEALTHY
from tests.data.doctor.faults import FAULTS, Fault, add, lines, list_file, rename_all
from tests.shapes import write_shapes


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(fault: Fault, healthy: Path) -> None:
    fault.plant(healthy)
    report = examine(healthy, size=(224, 224), stride=32)
    found = [
        f for f in report.findings
        if (f.kind, f.severity, f.file) == (fault.kind, fault.severity, healthy / fault.file)
        and f.field.startswith(fault.field) and fault.found in f.found
    ]  # fmt: skip
    assert found, [f.sentence() for f in report.findings]
    assert fault.way_out in found[0].way_out
    assert found[0].fixable == fault.fixable
    if fault.severity != "notice":
        assert not report.healthy
    # One fault is not several: everything that breaks or spoils belongs to what was planted.
    worse = {f.kind for f in report.findings if f.severity != "notice"} - {fault.kind}
    assert worse <= ALSO.get(fault.kind, set()), [f.sentence() for f in report.findings]


# What follows from the planted fault: a size that is too small leaves boxes outside.
ALSO = {
    "size-differs": {"box-outside"}, "size-transposed": {"box-outside"},
    "exif-turned": {"box-outside"}, "field-unusable": {"photo-missing"},
    "xml-unreadable": {"class-unknown"}, "list-unreadable": {"list-empty"},
}  # fmt: skip


def test_what_breaks_is_what_the_loader_refuses(tiny_voc: TinyVoc) -> None:
    for number, (name, fault) in enumerate(FAULTS.items()):
        root = tiny_voc(HEALTHY, name=f"set{number}")
        fault.plant(root)
        breaks = bool(examine(root, ["train", "val"] if name != "no list" else None, photos=False)
                      .of("breaks"))  # fmt: skip
        try:
            load_training(root, "train", "val")
            refused = False
        except (DataError, NotFoundError):
            refused = True
        assert breaks == refused, name


def test_a_healthy_set_has_nothing_that_breaks_or_spoils(healthy: Path) -> None:
    report = examine(healthy)
    assert report.healthy
    assert not report.findings
    assert report.lists == {"train": 2, "val": 2}
    assert (report.objects, report.photos) == (8, 4)


def test_generated_sets_are_healthy(tmp_path: Path) -> None:
    shapes = examine(write_shapes(tmp_path / "shapes", train=24, val=8))
    assert shapes.healthy, [f.sentence() for f in shapes.findings if f.severity != "notice"]
    sample = examine(write_sample(tmp_path / "sample", train=24, val=12, size=(240, 180)))
    assert not sample.of("breaks")
    # So few scenes do not show all classes in both splits; nothing else may be wrong.
    assert {f.kind for f in sample.of("spoils")} <= {"class-absent"}


def test_all_faults_are_listed_and_the_worst_comes_first(healthy: Path) -> None:
    for name in ("whole image", "truncated", "inverted", "list without XML"):
        FAULTS[name].plant(healthy)
    add("d", "dog", (20, 5, 40, 25))(healthy)
    report = examine(healthy)
    kinds = {f.kind for f in report.findings}
    assert kinds >= {
        "box-covers-image", "photo-truncated", "box-inverted", "box-duplicate", "list-without-xml",
    }  # fmt: skip
    ranks = [SEVERITIES.index(f.severity) for f in report.findings]
    assert ranks == sorted(ranks)
    assert [g[0].kind for g in report.groups()][:2] == ["list-without-xml", "box-inverted"]


def test_json_holds_every_finding(healthy: Path) -> None:
    FAULTS["inverted"].plant(healthy)
    value = json.loads(json.dumps(examine(healthy).to_json()))
    first = value["findings"][0]
    assert (first["kind"], first["file"]) == ("box-inverted", "Annotations/a.xml")
    assert value["counts"]["breaks"] == 1
    assert not value["healthy"]
    assert value["lists"] == {"train": 2, "val": 2}


def test_without_photos_only_annotations_are_checked(healthy: Path) -> None:
    FAULTS["truncated"].plant(healthy)
    report = examine(healthy, photos=False)
    assert report.healthy
    assert report.photos is None


def test_chosen_lists_and_names(healthy: Path) -> None:
    FAULTS["inverted"].plant(healthy)  # in a, which only train names
    assert not examine(healthy, ["train"]).healthy
    assert examine(healthy, ["val"], classes=["dog", "person"]).healthy
    unknown = examine(healthy, ["val"], classes=["dog"]).of("breaks")
    assert {f.kind for f in unknown} == {"class-unknown"}
    assert "--classes" in unknown[0].found
    with pytest.raises(NotFoundError, match=r"test\.txt does not exist; the lists there are train"):
        examine(healthy, ["test"])


def test_own_classes_and_frequent_near_names_raise_no_alarm(healthy: Path) -> None:
    rename_all(healthy, "dog", "worker 1")
    rename_all(healthy, "person", "worker 2")
    assert examine(healthy).healthy


def test_trainval_is_not_a_third_split(healthy: Path) -> None:
    lines("trainval", "a", "b", "c", "d")(healthy)
    lines("everything", "a", "b", "c", "d")(healthy)
    assert examine(healthy).healthy
    list_file(healthy, "train").unlink()
    list_file(healthy, "everything").unlink()
    overlap = examine(healthy).of("spoils")  # now trainval is what is learnt, and val is in it
    assert {f.kind for f in overlap} == {"split-overlap"}


@pytest.mark.parametrize(("cells", "lost"), [(1, 1), (2, 0)])
def test_grid_capacity_by_hand(tiny_voc: TinyVoc, cells: int, lost: int) -> None:
    # Centres (15, 10) and (45, 10) of 60 x 40: left and right half.
    root = tiny_voc(
        {"a": [("dog", (6, 6, 25, 15)), ("dog", (36, 6, 55, 15))]}, splits={"train": ["a"]}
    )
    found = [f for f in examine(root, cells=[cells]).findings if f.kind == "grid-crowded"]
    assert sum(f.count for f in found) == lost


def test_grid_capacity_is_the_heads(tiny_voc: TinyVoc) -> None:
    rng = np.random.default_rng(0)
    boxes = []
    for _ in range(40):
        (x1, x2), (y1, y2) = (sorted(rng.choice(n, 2, replace=False) + 1) for n in (60, 40))
        boxes.append((int(x1), int(y1), int(x2), int(y2)))
    root = tiny_voc({"a": [("dog", b) for b in boxes]}, splits={"train": ["a"]})
    raw = torch.tensor(boxes, dtype=torch.float64)
    low, high = (raw[:, :2] - 1) / torch.tensor([60, 40]), raw[:, 2:] / torch.tensor([60, 40])
    encoded = torch.cat(((low + high) / 2, high - low), dim=1)
    for cells in (7, 10):
        _, hosts, _ = encode_grid(encoded, torch.zeros(40), cells, cells)
        (found,) = [f for f in examine(root, cells=[cells]).findings if f.kind == "grid-crowded"]
        assert found.count == 40 - int(hosts.sum())


def test_every_kind_has_a_planted_fault() -> None:
    of_readers = {
        "boxes-astray",
        "boxes-guessed",
        "box-missing",
        "label-shared",
        "link-outside",
    }  # see test_other_formats.py
    assert {fault.kind for fault in FAULTS.values()} | of_readers == set(KINDS)
