"""From measured figures to what fills the page, and the page as a file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frostbox.data.annotations import ObjectAnnotation
from frostbox.metrics import calibration
from frostbox.report import write_evaluation_report
from frostbox.report.evaluation import RULE, evaluation_report, examples
from frostbox.suite import measure
from tests.scored import dataset, predictions, random_pair
from tests.test_detector import make

LEFT, RIGHT, LOW = (10, 10, 60, 60), (120, 10, 190, 60), (10, 120, 90, 190)


@pytest.fixture(scope="module")
def measured():
    data, good, _ = random_pair(seed=3, images=40, photo=None)
    return measure(good, data, bootstrap=20)


@pytest.fixture(scope="module")
def detector():
    return make()


def data_of(page: Path) -> dict:
    """The report as the page carries it."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_shows_the_figures_that_were_measured(measured):
    report = evaluation_report(measured, None, Path("runs/p.json"))
    figures = measured.figures
    assert report["title"] == "p.json on made val"
    assert report["rule"] == RULE
    assert report["intervals"] == "95 % bootstrap over images, 20 resamples"
    assert [(h["value"], [h["low"], h["high"]]) for h in report["headline"]] == [
        (figures[key], figures["intervals"][key]) for key in ("ap50", "ap50_11point", "coco_ap")
    ]
    for row in report["classes"]:
        name = row["name"]
        assert row["ap50"] == figures["ap50_per_class"][name]
        assert [row["low"], row["high"]] == figures["intervals"]["ap50_per_class"][name]
        assert row["threshold"] == figures["best_f1_per_class"][name]["threshold"]
        assert row["hits"] + row["misses"] == row["ground_truth"]
        f1 = 2 * row["hits"] / (2 * row["hits"] + row["false_positives"] + row["misses"])
        assert f1 == pytest.approx(row["best_f1"])
        assert len(row["curve"]["recall"]) == len(row["curve"]["precision"]) > 0
    assert {e["kind"]: e["count"] for e in report["errors"]} == {
        kind: e["count"] for kind, e in figures["errors"].items()
    }
    assert [s["ground_truth"] for s in report["by_size"]] == [
        s["objects"] for s in figures["ap50_by_size"].values()
    ]
    confusion = report["confusion"]
    assert confusion is not None
    assert confusion["names"] == ["a", "b", "background"]
    # Each object stands in one cell of its row.
    assert [sum(row) for row in confusion["counts"][:2]] == list(
        figures["objects_per_class"].values()
    )
    assert report["score"] == measured.threshold == confusion["score"]
    assert report["training"] is None
    assert ("predictions", "runs/p.json") in report["facts"]["model"]
    assert ("images", "40") in report["facts"]["data"]
    json.dumps(report, allow_nan=False)


def test_without_bootstrap_there_are_no_intervals(measured):
    plain = measure(measured.predictions, measured.dataset, bootstrap=0)
    report = evaluation_report(plain, None, Path("p.json"))
    assert report["intervals"] is None
    assert {h["low"] for h in report["headline"]} == {c["low"] for c in report["classes"]} == {None}


def test_every_box_gets_what_became_of_it():
    hard = ObjectAnnotation("a", LOW, difficult=True)
    data = dataset({"1": [("a", LEFT), ("b", RIGHT), hard], "2": [], "3": [("b", LOW)]}, photo=None)
    found = predictions(
        data,
        {
            "1": [
                ("a", LEFT, 0.9),
                ("a", LEFT, 0.8),  # once more
                ("a", RIGHT, 0.7),  # the other class's
                ("a", LOW, 0.6),  # difficult
                ("b", LEFT, 0.04),  # below what is shown
            ],
            "2": [("b", LEFT, 0.5)],
            "3": [("b", (10, 120, 40, 190), 0.3)],  # IoU 30 / 80
        },
    )
    shown = examples(measure(found, data, bootstrap=0))
    assert [e.image_id for e in shown] == ["1", "2", "3"]
    assert [(f["name"], f["score"], f["kind"]) for f in shown[0].found] == [
        ("a", 0.9, "hit"),
        ("a", 0.8, "duplicate"),
        ("a", 0.7, "classification"),
        ("a", 0.6, "ignored"),
    ]
    assert [(t["name"], t["state"]) for t in shown[0].truth] == [
        ("a", "found"),
        ("b", "missed"),
        ("a", "difficult"),
    ]
    assert shown[0].truth[1]["box"] == list(RIGHT)
    assert [f["kind"] for f in shown[1].found] == ["background"]
    assert shown[1].truth == []
    assert [f["kind"] for f in shown[2].found] == ["localisation"]
    assert [t["state"] for t in shown[2].truth] == ["missed"]


def test_the_histogram_counts_every_shown_detection_once():
    data = dataset({"1": [("a", LEFT)]}, photo=None)
    found = predictions(
        data, {"1": [("a", LEFT, 1.0), ("b", RIGHT, 0.52), ("b", LOW, 0.53), ("a", LOW, 0.01)]}
    )
    scores = evaluation_report(measure(found, data, bootstrap=0), None, Path("p.json"))["scores"]
    assert scores is not None
    assert (len(scores["edges"]), len(scores["hits"])) == (21, 20)
    assert scores["hits"] == [0] * 19 + [1]
    assert scores["false_positives"] == [0] * 10 + [2] + [0] * 9


def test_calibration_is_that_of_the_images_at_hand(measured, detector):
    detector.configured(temperature=2.0)
    report = evaluation_report(measured, detector, Path("nowhere/best.safetensors"))
    shown = report["calibration"]
    assert shown is not None
    assert shown["ece"] == measured.figures["ece"]
    assert shown["temperature"] == 2.0
    # By hand: the counted detections, their logits halved, in fifteen bins.
    scores = np.concatenate([c.scores for c in measured.result.classes])
    hit = np.concatenate([c.hit for c in measured.result.classes])
    scores, hit = scores[scores >= 0.05], hit[scores >= 0.05]
    scaled = calibration.scale(scores, 2.0)
    gaps = [
        abs(hit[inside].mean() - scaled[inside].mean()) * inside.mean()
        for low in range(15)
        for inside in [(scaled >= low / 15) & (scaled < (low + 1) / 15)]
        if inside.any()
    ]
    assert shown["ece_scaled"] == pytest.approx(sum(gaps))
    assert shown["ece_scaled"] != pytest.approx(shown["ece"])
    from_a_file = evaluation_report(measured, None, Path("p.json"))["calibration"]
    assert from_a_file is not None
    assert from_a_file["temperature"] is from_a_file["ece_scaled"] is None


def test_facts_and_curves_of_a_model(measured, detector, tmp_path):
    """`make` gives a detector with a training summary of its own; a run leaves metrics.csv."""
    file = tmp_path / "best.safetensors"
    metrics = tmp_path / "metrics.csv"
    report = evaluation_report(measured, detector, file)
    facts = dict(report["facts"]["model"])
    assert facts["head"] == "grid"
    assert facts["backbone"].startswith("efficientnet_lite0")
    assert "96 x 64 pixels" in facts["input"]
    assert "epochs" not in facts
    assert report["training"] is None
    metrics.write_text("epoch,train_loss,val_loss\n0,2.5,\n1,1.5,3\n")
    for model in (file, tmp_path):
        training = evaluation_report(measured, detector, model)["training"]
        assert training == {
            "columns": ["epoch", "train_loss", "val_loss"],
            "rows": [[0, 2.5, None], [1, 1.5, 3]],
        }
    thawed = tmp_path / "thaw" / "metrics.csv"
    thawed.parent.mkdir()
    thawed.write_text("epoch,train_loss,val_loss,val_accuracy\n0,1.25,2,0.5\n")
    assert evaluation_report(measured, detector, file)["training"] == training  # it was undone
    fit = {"epochs_run": 2, "best_epoch": 1}
    known = {"data": {"name": "s", "train_images": 9}, "frostbox_version": "0", "fit": fit}
    trained = replace(detector.settings, training={**known, "thaw": {**fit, "epochs_run": 1}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "settings", trained)
        both = evaluation_report(measured, detector, file)
    assert both["training"] == {
        "columns": ["epoch", "train_loss", "val_loss", "val_accuracy"],
        "rows": [[0, 2.5, None, None], [1, 1.5, 3, None], [2, 1.25, 2, 0.5]],
    }
    assert dict(both["facts"]["model"])["epochs with thawed stages"] == "1, kept 2"
    for foreign in ("", "name,loss\nours,0.5\n"):
        metrics.write_text(foreign)
        assert evaluation_report(measured, detector, file)["training"] is None


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("detections", [True, False])
def test_a_page_of_nothing_is_a_page(objects, detections, tmp_path):
    data = dataset({"1": [("a", LEFT)] if objects else [], "2": []}, photo=None)
    found = predictions(data, {"2": [("b", LOW, 0.9)]} if detections else {})
    report = evaluation_report(measure(found, data, bootstrap=5), None, Path("p.json"))
    page = write_evaluation_report(report, tmp_path / "r.html")
    assert [h["value"] for h in data_of(page)["headline"]] == [0 if objects else None] * 3
    assert (report["calibration"] is not None) == detections


def test_the_file_needs_no_other_and_other_peoples_names_stay_text(tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(photo)
    names = ("<script>", '</script><script>alert("1")</script>', "<!--", "a & 'b'")
    data = dataset(
        {"<img src=x onerror=alert(1)>": [(name, LEFT) for name in names]}, names, photo=photo
    )
    found = predictions(data, {data.images[0].image_id: [(n, LEFT, 0.9) for n in names]})
    report = evaluation_report(
        measure(found, data, bootstrap=5), None, Path("<b onclick=alert(2)>.json")
    )
    page = write_evaluation_report(report, tmp_path / "r.html")
    text = page.read_text(encoding="utf-8")
    shown = data_of(page)
    assert [row["name"] for row in shown["classes"]] == list(names)
    assert shown["gallery"][0]["image_id"] == data.images[0].image_id
    assert shown["gallery"][0]["picture"].startswith("data:image/jpeg;base64,")
    # Two script elements, the data and the program, and no markup that came from a name.
    assert len(re.findall(r"<script", text)) == len(re.findall(r"</script>", text)) == 2
    for markup in ("<img src=x", "<b onclick", "alert(1)<", '<script>alert("1")'):
        assert markup not in text
    assert "default-src 'none'" in text
    # An address that is fetched: in an attribute, a style sheet or a call.
    assert not re.search(
        r"""(?i)\b(src|href|srcset|action|poster)\s*=\s*["']?\s*(https?:)?//""", text
    )
    assert not re.search(r"""(?i)(url\(|@import|\bimport\b)\s*["']?\s*(https?:)?//""", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon)\b", text)
