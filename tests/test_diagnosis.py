"""What the doctor prints, and the brief check before a training."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from frostbox.data.doctor import examine
from frostbox.diagnosis import check_before_training, print_report, run_doctor
from frostbox.errors import DataError, SettingsError
from tests.conftest import TinyVoc, xml_object
from tests.data.doctor.other_faults import FLAT, flat

GOOD = [("dog", (5, 6, 30, 35)), ("person", (31, 2, 60, 40))]


def _set(tiny_voc: TinyVoc, bad: dict[str, list[str]], count: int = 16) -> Path:
    """Each image good, apart from what `bad` adds to it as raw XML."""
    ids = [f"i{k:02d}" for k in range(count)]
    root = tiny_voc(dict.fromkeys(ids, GOOD))
    for image_id, objects in bad.items():
        path = root / "Annotations" / f"{image_id}.xml"
        path.write_text(
            path.read_text().replace("</annotation>", "".join(objects) + "</annotation>")
        )
    return root


def _printed(root: Path) -> str:
    stream = io.StringIO()
    print_report(examine(root), Console(file=stream, width=200))
    return stream.getvalue()


def test_worst_first_with_ten_examples_and_the_way_out(tiny_voc: TinyVoc) -> None:
    outside = xml_object("dog", (41, 31, 80, 39))
    covers = xml_object("dog", (1, 1, 60, 40))
    text = _printed(_set(tiny_voc, {f"i{k:02d}": [outside, covers] for k in range(14)}))
    overview, breaks, notice = (text.index(t) for t in (
        "fixable", "breaks training: box-outside (14)", "notice: box-covers-image (14)",
    ))  # fmt: skip
    assert overview < breaks < notice < text.index("breaks training: 14;")
    assert "and 4 more (--json has all)" in text
    assert "Annotations/i00.xml: object 3 (dog): bndbox is (41, 31, 80, 39) in an image" in text
    assert text.count("what to do: draw it again") == 1


def test_a_healthy_set_says_so(tiny_voc: TinyVoc) -> None:
    text = _printed(_set(tiny_voc, {}))
    assert "nothing breaks or spoils training" in text
    assert "images: train 8, val 8; 32 objects; 16 photos decoded" in text


def test_fix_and_out_belong_together(tiny_voc: TinyVoc, tmp_path: Path) -> None:
    root = _set(tiny_voc, {}, 2)
    for options in ({"fix": True}, {"out": tmp_path / "o"}):
        with pytest.raises(SettingsError, match="give both or neither"):
            run_doctor(root, **options)
    with pytest.raises(SettingsError, match="leave --no-photos out"):
        run_doctor(root, fix=True, out=tmp_path / "o", photos=False)


def test_fix_says_what_it_did_and_examines_the_copy(
    tiny_voc: TinyVoc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _set(tiny_voc, {"i00": [xml_object("dog", (30, 31, 10, 39))]}, 4)
    healthy, found = run_doctor(root, fix=True, out=tmp_path / "fixed")
    assert healthy
    assert not found["healthy"]
    assert found["after"]["healthy"]
    assert [r["done"] for r in found["repairs"]] == ["(30, 31, 10, 39) -> (10, 31, 30, 39)"]
    out = " ".join(capsys.readouterr().out.split())
    assert "1 repairs, all listed in" in out
    assert "nothing breaks or spoils training" in out


def test_the_brief_check_stops_with_the_first_fault_and_the_count(tiny_voc: TinyVoc) -> None:
    bad = {"i01": [xml_object("dog", (30, 31, 10, 39))], "i09": [xml_object("dog", (2, 2, 99, 9))]}
    root = _set(tiny_voc, bad)
    with pytest.raises(DataError) as caught:
        check_before_training(root, ["train", "val"], (), Console(file=io.StringIO()))
    message = str(caught.value)
    assert message.startswith(f"{root / 'Annotations' / 'i01.xml'}: object 3 (dog): bndbox is (30,")
    assert "2 faults stop the training; `frostbox doctor" in message
    with pytest.raises(DataError) as caught:
        check_before_training(root, ["train"], (), Console(file=io.StringIO()))
    assert "faults" not in str(caught.value)
    fix = f"`frostbox doctor {root} --fix --out FOLDER` writes a copy with it repaired."
    assert str(caught.value).endswith(fix)


def test_the_brief_check_says_what_spoils_and_goes_on(tiny_voc: TinyVoc) -> None:
    root = _set(tiny_voc, {f"i{k:02d}": [xml_object("dog", (5, 6, 30, 35))] for k in range(3)})
    stream = io.StringIO()
    check_before_training(root, ["train", "val"], (), Console(file=stream, width=80))
    assert "warning: the same box twice (3 times):" in stream.getvalue()
    quiet = io.StringIO()
    check_before_training(root, ["val"], (), Console(file=quiet))
    assert quiet.getvalue() == ""


def test_the_brief_check_leaves_boxes_to_the_reader_that_fits_them(tmp_path: Path) -> None:
    root = flat(tmp_path)
    FLAT["outside"][0](root)
    console = Console(file=(file := io.StringIO()), width=300)
    check_before_training(root, ["train", "val"], (), console)
    assert not file.getvalue()
    FLAT["no number"][0](root)
    with pytest.raises(DataError, match="bndbox/xmin is 'two', not a number of pixels"):
        check_before_training(root, ["train", "val"], (), console)
