"""`evaluate`, `compare` and the stored thresholds, as a user types them."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import frostbox as package
from frostbox import detector as detector_module
from frostbox import evaluation
from frostbox.metrics.calibration import scale
from frostbox.selection import Selection
from tests.conftest import xml_annotation
from tests.shapes import write_shapes
from tests.test_detector import make, rewrite

NULLS = ("ap50", "ap50_11point", "coco_ap", "coco_ap50", "coco_ap75")


@pytest.fixture(scope="module")
def evaluated(trained, shapes_voc, tmp_path_factory):
    """What `evaluate` gives, with its page and its predictions; from Python, once for all."""
    from frostbox.inference import evaluate

    out = tmp_path_factory.mktemp("evaluated")
    figures = evaluate(
        trained[0] / "run", shapes_voc, bootstrap=40, report=out / "r.html",
        save_predictions=out / "p.json",
    )  # fmt: skip
    return out, figures


def without_rule(figures):
    """A file has no limits to tell, and no `accuracy` or the like."""
    model_only = {"rule", "accuracy", "box_l1", "mean_iou", "objectness_loss"}
    return {k: v for k, v in figures.items() if k not in model_only}


def test_evaluate_writes_all_and_keeps_stdout_pure(trained, shapes_voc, frostbox, tmp_path):
    page, file = tmp_path / "r.html", tmp_path / "p.json"
    result = frostbox(
        "evaluate", trained[0] / "run", shapes_voc, "--bootstrap", 40, "--json", "-",
        "--report", page, "--save-predictions", file,
    )  # fmt: skip
    assert result.status == 0
    numbers = json.loads(result.out)
    for key in (*NULLS, "ece"):
        assert 0 <= numbers[key] <= 1
    for key in ("ap50", "ap50_11point", "coco_ap"):
        low, high = numbers["intervals"][key]
        assert 0 <= low <= numbers[key] <= high <= 1
    for name in ("blue", "green", "red"):
        assert 0 <= numbers["ap50_per_class"][name] <= 1
        low, high = numbers["intervals"]["ap50_per_class"][name]
        assert 0 <= low <= high <= 1
    assert set(numbers["errors"]) == {
        "classification", "localisation", "both", "duplicate", "background", "missed",
    }  # fmt: skip
    assert numbers["intervals"]["resamples"] == 40
    for written in (page, file):
        assert f"written {written}" in result.err
    text = page.read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    shown = json.loads(found[1])
    assert [row["name"] for row in shown["classes"]] == ["blue", "green", "red"]
    assert shown["headline"][0]["value"] == numbers["ap50"]
    assert len(shown["training"]["rows"]) == 40
    assert shown["calibration"]["temperature"] > 0
    assert any(image["picture"].startswith("data:image/jpeg") for image in shown["gallery"])


def test_the_saved_predictions_give_the_same_figures_without_a_model(
    evaluated, shapes_voc, frostbox, monkeypatch
):
    out, before = evaluated
    monkeypatch.setattr(package.Detector, "load", None)
    result = frostbox("evaluate", out / "p.json", shapes_voc, "--bootstrap", 40, "--json", "-")
    assert result.status == 0
    after = json.loads(result.out)
    assert without_rule(after) == without_rule(before)
    assert after["ap50"] == pytest.approx(before["ap50"], abs=1e-9)
    assert before["rule"]["max_detections"] == 300
    assert after["rule"]["max_detections"] is None
    assert "accuracy" not in after


@pytest.mark.parametrize("options", [("--engine", "torch"), ("--precision", "bf16")])
def test_the_engine_that_is_asked_for_predicts(
    options, evaluated, trained, shapes_voc, frostbox, monkeypatch, tmp_path
):
    asked, create = [], detector_module.create_engine
    monkeypatch.setattr(
        detector_module,
        "create_engine",
        lambda kind, *a, **k: asked.append((kind, k["precision"])) or create(kind, *a, **k),
    )
    run = trained[0] / "run"
    result = frostbox("evaluate", run, shapes_voc, "--bootstrap", 0, "--json", "-", *options)
    assert result.status == 0
    assert json.loads(result.out)["ap50"] == pytest.approx(evaluated[1]["ap50"], abs=0.1)
    photo = next(shapes_voc.rglob("JPEGImages/*"))
    one = frostbox("predict", run, photo, "--json", "-", *options)
    assert one.status == 0
    assert len(json.loads(one.out)) == 1
    expected = ("torch", "32") if options[0] == "--engine" else ("auto", "bf16")
    assert asked == [expected] * 2


def test_the_tables_of_evaluate_and_compare(evaluated, shapes_voc, frostbox):
    out, figures = evaluated
    file = out / "p.json"
    shown = frostbox("evaluate", file, shapes_voc, "--bootstrap", 40)
    assert shown.status == 0
    text = " ".join(shown.out.split())
    for words in ("AP50 on val", "interval", "best F1", "IoU 0.5", "COCO (101 points", "missed"):
        assert words in text
    for name in ("blue", "green", "red"):
        assert f"{100 * figures['ap50_per_class'][name]:.1f}" in text
    plain = frostbox("evaluate", file, shapes_voc, "--bootstrap", 0)
    assert "interval" not in plain.out
    both = frostbox("compare", file, file, shapes_voc, "--bootstrap", 20)
    assert both.status == 0
    text = " ".join(both.out.split())
    assert "+0.0 │ +0.0 to +0.0 │ 50.0" in text
    assert "20 resamples of the 16 images of val" in text


def test_other_images_are_counted_on_the_screen_too(evaluated, shapes_voc, frostbox, tmp_path):
    entries = json.loads((evaluated[0] / "p.json").read_text())
    entries += [{**entries[0], "image_id": "elsewhere"}] * 3
    (tmp_path / "p.json").write_text(json.dumps(entries))
    result = frostbox("evaluate", tmp_path / "p.json", shapes_voc, "--bootstrap", 0)
    assert "3 detections of other images left out" in result.out
    split = frostbox("evaluate", evaluated[0] / "p.json", shapes_voc, "--split", "train")
    assert split.status == 1
    assert "no detection for any image of 'train'" in split.err


def test_a_model_against_itself_and_against_its_own_file(evaluated, trained, shapes_voc, frostbox):
    run, file = trained[0] / "run", evaluated[0] / "p.json"
    for a, b in ((run, run), (run, file), (file, run)):
        result = frostbox("compare", a, b, shapes_voc, "--bootstrap", 30, "--json", "-")
        assert result.status == 0
        numbers = json.loads(result.out)
        assert (numbers["a"], numbers["b"]) == (str(a), str(b))
        assert (numbers["images"], numbers["images_left_out"]) == (16, 0)
        for rule in ("ap50", "ap50_11point", "coco_ap"):
            mean = numbers[rule]["mean"]
            assert (mean["difference"], mean["probability"]) == (0, 0.5)


def test_good_against_spoiled(evaluated, shapes_voc, frostbox, tmp_path):
    good = evaluated[0] / "p.json"
    entries = json.loads(good.read_text())
    shuffled = np.random.default_rng(0).permutation([e["score"] for e in entries]).tolist()
    spoiled = tmp_path / "spoiled.json"
    spoiled.write_text(
        json.dumps([{**e, "score": s} for e, s in zip(entries, shuffled, strict=True)])
    )
    result = frostbox("compare", good, spoiled, shapes_voc, "--bootstrap", 200, "--json", "-")
    numbers = json.loads(result.out)
    assert numbers["ap50"]["mean"]["probability"] > 0.98
    swapped = frostbox("compare", spoiled, good, shapes_voc, "--bootstrap", 200, "--json", "-")
    assert json.loads(swapped.out)["ap50"]["mean"]["probability"] < 0.02


def test_models_of_other_classes_are_not_compared(
    trained, shapes_voc, frostbox, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluation, "predict_photos", None)  # it is said before the work
    other = tmp_path / "other.safetensors"
    shutil.copy(trained[0] / "run" / "best.safetensors", other)
    rewrite(other, lambda header, _: header.update(classes=["red", "green", "blue"]))
    result = frostbox("compare", trained[0] / "run", other, shapes_voc)
    assert result.status == 1
    assert "knows the classes blue, green, red and" in result.err
    assert "red, green, blue" in result.err


def test_thresholds_found_on_val_are_stored_and_used_by_predict(
    trained, evaluated, shapes_voc, frostbox
):
    run = trained[0] / "run"
    detector = package.Detector.load(run)
    stored = detector.settings.selection
    assert stored == trained[1].settings.selection
    assert stored.class_thresholds is not None
    best = evaluated[1]["best_f1_per_class"]
    for name, threshold in zip(("blue", "green", "red"), stored.class_thresholds, strict=True):
        assert threshold == pytest.approx(best[name]["threshold"], abs=0.02)  # cache and photos
    # What a training of seconds finds differs from processor to processor: any photo will do.
    photos = sorted(shapes_voc.glob("VOCdevkit/VOC2012/JPEGImages/*.jpg"))
    assert photos
    for photo in photos:
        everything = detector.predict(photo, threshold=0.0)
        chosen = np.array(stored.class_thresholds)[everything.labels] <= everything.scores
        if 0 < chosen.sum() < len(everything):
            break
    assert 0 < chosen.sum() < len(everything)
    by_default = detector.predict(photo)
    assert np.array_equal(by_default.scores, everything.scores[chosen])
    assert np.array_equal(by_default.boxes, everything.boxes[chosen])
    [typed] = json.loads(frostbox("predict", run, photo, "--json", "-").out)
    assert typed["detections"] == by_default.to_dicts()
    [pinned] = json.loads(frostbox("predict", run, photo, "--threshold", 0.01, "--json", "-").out)
    assert len(pinned["detections"]) == int((everything.scores >= 0.01).sum())


def test_predict_calibrated_shows_the_same_boxes_with_scaled_scores(trained, shapes_voc, frostbox):
    run, temperature = trained[0] / "run", trained[1].settings.selection.temperature
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_050.jpg"
    [raw] = json.loads(frostbox("predict", run, photo, "--json", "-").out)
    [scaled] = json.loads(frostbox("predict", run, photo, "--calibrated", "--json", "-").out)
    assert [d["box"] for d in scaled["detections"]] == [d["box"] for d in raw["detections"]]
    assert [d["score"] for d in scaled["detections"]] == pytest.approx(
        scale([d["score"] for d in raw["detections"]], temperature), abs=1e-3
    )
    fitted = json.loads((run / "summary.json").read_text())["calibration"]
    assert fitted["temperature"] == temperature
    assert 0 <= fitted["ece_after"] <= 1


def test_another_score_goes_without_what_was_fitted(trained, shapes_voc, frostbox):
    detector = package.Detector.load(trained[0] / "run")
    fitted = detector.settings.selection
    assert detector.configured("product").settings.selection == fitted
    selection = detector.configured("objectness").settings.selection
    assert selection.class_thresholds is None
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_050.jpg"
    refused = frostbox(
        "predict", trained[0] / "run", photo, "--score", "objectness", "--calibrated", "--json", "-"
    )
    assert refused.status == 1
    assert "no temperature was fitted" in refused.err


def test_a_file_of_format_version_1_still_predicts_and_evaluates(
    trained, shapes_voc, frostbox, tmp_path
):
    old = tmp_path / "best.safetensors"
    shutil.copy(trained[0] / "run" / "best.safetensors", old)

    def to_version_1(header, _):
        header["format_version"] = 1
        for name in ("class_thresholds", "temperature", "calibrated"):
            del header["selection"][name]
        del header["training"]["calibration"]

    rewrite(old, to_version_1)
    detector = package.Detector.load(old)
    assert detector.settings.selection == Selection()
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_050.jpg"
    assert detector.predict(photo).scores.min() >= 0.2
    result = frostbox(
        "evaluate", old, shapes_voc, "--json", "-", "--report", tmp_path / "r.html",
        "--bootstrap", 0,
    )  # fmt: skip
    assert result.status == 0
    assert json.loads(result.out)["ap50"] > 0.5
    refused = frostbox("predict", old, photo, "--calibrated", "--json", "-")
    assert refused.status == 1
    assert "no temperature was fitted" in refused.err


def test_a_broken_photo_is_counted_and_does_not_stop_a_comparison(trained, frostbox, tmp_path):
    root = write_shapes(tmp_path / "VOC2012", train=4, val=6)
    run, file = trained[0] / "run", tmp_path / "p.json"
    frostbox("evaluate", run, root, "--save-predictions", file, "--bootstrap", 0)
    (root / "JPEGImages" / "shape_004.jpg").write_bytes(b"")
    (root / "JPEGImages" / "shape_005.jpg").unlink()
    result = frostbox("evaluate", run, root, "--bootstrap", 0)
    assert "4 images; 1 without photo left out; 1 unreadable left out" in result.out
    # The file has detections of both, so their images count.
    numbers = json.loads(frostbox("evaluate", file, root, "--json", "-", "--bootstrap", 0).out)
    assert (numbers["images"], numbers["missing_photos"], numbers["skipped_photos"]) == (6, 0, 0)
    result = frostbox("compare", file, run, root, "--bootstrap", 20, "--json", "-")
    assert result.status == 0
    numbers = json.loads(result.out)
    assert (numbers["images"], numbers["images_left_out"]) == (4, 2)
    assert numbers["ap50"]["mean"]["difference"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("photos", [True, False])
def test_a_detector_that_finds_nothing_and_data_with_nothing(
    objects, photos, tiny_voc, frostbox, tmp_path
):
    root = tiny_voc(
        {"1": [("dog", (5, 6, 30, 35))] if objects else [], "2": []},
        splits={"train": ["1"], "val": ["1", "2"]},
        photos=photos,
    )
    file, page = tmp_path / "none.json", tmp_path / "r.html"
    file.write_text("[]")
    options = ("--bootstrap", 20, "--classes", "cat,dog")
    command = ("evaluate", file, root, *options, "--report", page)
    result = frostbox(*command, "--json", "-")
    assert result.status == 0
    numbers = json.loads(result.out)
    assert {numbers[key] for key in NULLS} == {0 if objects else None}
    assert (numbers["images"], numbers["missing_photos"], numbers["skipped_photos"]) == (2, 0, 0)
    assert numbers["ece"] is None
    assert set(numbers["ap50_per_class"].values()) == ({0, None} if objects else {None})
    assert page.stat().st_size > 10_000
    shown = frostbox(*command)
    assert shown.status == 0
    assert "2 images" in shown.out
    both = frostbox("compare", file, file, root, *options)
    assert both.status == 0


@pytest.mark.parametrize("head", ["grid", "single"])
def test_an_untrained_model_on_photos_without_objects(head, frostbox, tmp_path):
    root = write_shapes(tmp_path / "VOC2012", train=2, val=3)
    for source in (root / "Annotations").iterdir():
        source.write_text(xml_annotation(source.stem, [], (64, 64)))
    model = make(head, (64, 64)).save(tmp_path / "model.safetensors")
    result = frostbox(
        "evaluate", model, root, "--bootstrap", 10, "--json", "-", "--report", tmp_path / "r.html"
    )
    assert result.status == 0
    numbers = json.loads(result.out)
    assert {numbers[key] for key in NULLS} == {None}
    assert numbers["ap50_per_class"] == {"red": None, "green": None, "blue": None}
    assert "accuracy" not in numbers
    assert frostbox("evaluate", model, root).status == 0


def test_names_that_look_like_markup_are_printed_as_they_are(frostbox, tmp_path):
    root, names = tmp_path / "VOC2012", ("[/red]", "[bold]", ":dog:", "<script>")
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    objects = [(n.replace("<", "&lt;"), (5, 5, 40, 30)) for n in names]
    (root / "Annotations" / "1.xml").write_text(xml_annotation("1", objects))
    (root / "ImageSets" / "Main" / "val.txt").write_text("1\n")
    Image.new("RGB", (60, 40)).save(root / "JPEGImages" / "1.jpg")
    file = tmp_path / "[bold]p.json"
    file.write_text(
        json.dumps(
            [
                {"image_id": 1, "category_name": n, "bbox": [4, 4, 36, 26], "score": 0.9}
                for n in names
            ]
        )
    )
    page = tmp_path / "r.html"
    evaluated = frostbox("evaluate", file, root, "--bootstrap", 5, "--report", page)
    compared = frostbox("compare", file, file, root, "--bootstrap", 5)
    for result in (evaluated, compared):
        assert result.status == 0
        assert all(name in result.out for name in names)
    assert f"A {file}" in compared.out.replace("\n", "")
    assert page.read_text().count("<script") == 2


def test_a_photo_annotated_without_its_exif_is_shown_as_it_was_annotated(frostbox, tmp_path):
    from frostbox.inference import judge

    root = write_shapes(tmp_path / "VOC2012", train=2, val=2, size=64)
    photo = root / "JPEGImages" / "shape_002.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 64)).save(photo, exif=exif)
    source = root / "Annotations" / "shape_002.xml"
    source.write_text(xml_annotation("shape_002", [("red", (1, 1, 70, 20))], (80, 64)))
    file = tmp_path / "p.json"
    file.write_text("[]")
    dataset = judge(file, root).dataset
    assert [image.exif for image in dataset.images] == [False, True]
    source.write_text(xml_annotation("shape_002", [("red", (1, 1, 30, 20))], (40, 32)))
    refused = frostbox("evaluate", file, root)
    assert refused.status == 1
    assert "size differs between photo and annotation" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{tmp}/missing.json", "{data}"], "missing.json does not exist"),
        (
            ["evaluate", "{file}", "{data}", "--nms", "0.4"],
            "--nms, --suppression, --score, --engine and --precision need",
        ),
        (
            ["evaluate", "{file}", "{data}", "--score", "product"],
            "--nms, --suppression, --score, --engine and --precision need",
        ),
        (["evaluate", "{file}", "{data}", "--save-predictions", "{file}"], "would be overwritten"),
        (["evaluate", "{run}", "{data}", "--save-predictions", "{tmp}/p.txt"], "end in .json"),
        (["evaluate", "{run}", "{data}", "--report", "{tmp}"], "is a folder: give the name of"),
        (["evaluate", "{run}", "{data}", "--report", "{tmp}/x/r.html"], "x does not exist"),
        (["evaluate", "{run}", "{data}", "--json", "{tmp}/x/e.json"], "x does not exist"),
        (["evaluate", "{run}", "{data}", "--json", "{tmp}"], "is a folder"),
        (["evaluate", "{run}", "{data}", "--classes", "red,green,blue"], "leave --classes out"),
        (["evaluate", "{file}", "{data}", "--engine", "torch"], "holds finished detections"),
        (["evaluate", "{run}", "{data}", "--engine", "fast"], "fast"),
        (["evaluate", "{run}", "{data}", "--precision", "16"], "precision '16' is unknown"),
        (["evaluate", "{bad}", "{data}"], "bad.json, entry 0: score is 7"),
        (["compare", "{run}", "{tmp}/missing", "{data}"], "does not exist"),
        (["compare", "{file}", "{bad}", "{data}"], "bad.json, entry 0: score is 7"),
    ],
)
def test_bad_input_ends_with_one_sentence(
    arguments, message, evaluated, trained, shapes_voc, frostbox, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluation, "predict_photos", None)  # it is said before the work
    bad = tmp_path / "bad.json"
    bad.write_text(
        '[{"image_id": "shape_050", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 7}]'
    )
    file = tmp_path / "p.json"
    shutil.copy(evaluated[0] / "p.json", file)
    values = {
        "run": trained[0] / "run", "data": shapes_voc, "tmp": tmp_path, "file": file, "bad": bad,
    }  # fmt: skip
    result = frostbox(*(a.format(**values) for a in arguments))
    assert result.status == 1
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert file.read_bytes() == (evaluated[0] / "p.json").read_bytes()
