"""The model card that every training leaves."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

import frostbox as package
from frostbox.card import card
from frostbox.selection import Selection
from frostbox.settings import TrainSettings


@pytest.fixture(scope="module")
def known(trained):
    """Summary, settings and selection of a run."""
    run = trained[0] / "run"
    settings = TrainSettings.create(TrainSettings.read(run / "settings.json"))
    return json.loads((run / "summary.json").read_text()), settings, trained[1].settings.selection


def test_its_header_is_what_the_hub_reads(trained):
    read = ModelCard.load(trained[0] / "run" / "card.md", ignore_metadata_errors=False)
    data = read.data
    assert (data.library_name, data.pipeline_tag) == ("frostbox", "object-detection")
    assert data.license is None  # the user's to choose
    assert "\n# license:" in (trained[0] / "run" / "card.md").read_text()
    assert data.datasets is None  # of the hub, where the name may be anyone's
    assert data.metrics == ["mean_average_precision"]
    names = [r.metric_name for r in data.eval_results]
    assert names[0].startswith("AP50, all-point (VOC2010")
    summary = json.loads((trained[0] / "run" / "summary.json").read_text())
    measured = summary["evaluation"]
    for result, key in zip(
        data.eval_results,
        ("ap50", "ap50_11point", "coco_ap", "coco_ap50", "coco_ap75"),
        strict=True,
    ):
        assert result.metric_value == pytest.approx(measured[key], abs=1e-4)
        assert (result.dataset_name, result.dataset_split) == ("VOC2012", "val")


def test_numbers_stand_with_rule_and_interval(trained, known):
    text = (trained[0] / "run" / "card.md").read_text()
    measured = known[0]["evaluation"]
    low, high = measured["intervals"]["ap50"]
    row = next(line for line in text.splitlines() if line.startswith("| AP50, all-point |"))
    assert f"| {100 * measured['ap50']:.1f} | {100 * low:.1f} to {100 * high:.1f} |" in row
    assert "IoU 0.5" in row
    assert "200 resamples" in text
    for name in ("blue", "green", "red"):
        assert f"| {name} | {measured['objects_per_class'][name]} |" in text
    assert "They also chose the best weights" in text


def test_data_settings_machine_and_limits_are_told(trained, known):
    text = (trained[0] / "run" / "card.md").read_text()
    summary = known[0]
    assert "| train | 48 |" in text
    assert "| val | 16 |" in text
    assert f"| red | {summary['data']['splits'][0]['objects_per_class']['red']} |" in text
    assert "| input | 160 x 160 pixels, shrink; 2 views of an image |" in text
    assert "40 epochs, kept the weights of epoch" in text
    assert summary["environment"]["torch"] in text
    for said in ("It knows only the classes above", "Fewer than 50 objects to learn from",
                 "expected calibration error", "AP50 by size of the object"):  # fmt: skip
        assert said in text
    assert "marked difficult" not in text  # none is
    summary["data"]["splits"][0]["difficult"] = 3
    for learns, said in ((True, "were learned from"), (False, "were not learned from")):
        settings = replace(known[1], fit=replace(known[1].fit, difficult=learns))
        assert f"Objects marked difficult {said}" in card(summary, settings, known[2])


def test_a_class_that_was_never_seen_is_called_so(known):
    summary = json.loads(json.dumps(known[0]))
    learned = summary["data"]["splits"][0]["objects_per_class"]
    assert "No object to learn from" not in card(summary, known[1], known[2])
    learned.update(red=0, blue=3, green=99)
    text = card(summary, known[1], known[2])
    assert "- No object to learn from, so it will not find: red.\n" in text
    assert "- Fewer than 50 objects to learn from: blue.\n" in text


def test_without_val_it_says_that_nothing_was_measured(shapes_voc, tmp_path):
    run = tmp_path / "run"
    package.train(
        shapes_voc, head="grid", size=(64, 64), epochs=1, val_split="none", views=1, out=run,
        cache=tmp_path / "cache", logger="none",
    )  # fmt: skip
    text = (run / "card.md").read_text()
    assert "Nothing was measured" in text
    header = yaml.safe_load(text.split("---")[1])
    assert "model-index" not in header
    assert "metrics" not in header
    assert "no temperature was fitted" in text
    assert "score 0.2" in text
    assert "AP50" not in text
    assert not (run / "events").exists()
    ModelCard.load(run / "card.md", ignore_metadata_errors=False)


def test_names_of_classes_and_data_are_no_markup(known):
    summary, settings, selection = json.loads(json.dumps(known[0])), known[1], known[2]
    evil = "<img src=x>|*b*\n---"
    text = json.dumps(summary).replace('"red"', json.dumps(evil))
    summary = json.loads(text)
    summary["data"]["name"] = "a: [b]\n---\n# c"
    written = card(summary, settings, selection)
    header = yaml.safe_load(written.split("---\n")[1])
    assert header["model-index"][0]["results"][0]["dataset"]["type"] == "a-b-c"
    assert header["model-index"][0]["results"][0]["dataset"]["name"] == "a: [b] --- # c"
    page = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(
        written.split("\n---\n", 1)[1]
    )
    assert "<img" not in page
    assert "&lt;img src=x&gt;|*b* ---</td>" in page
    assert page.count("<h1>") == 1


def test_a_class_without_objects_and_figures_that_are_not_there(known):
    summary = json.loads(json.dumps(known[0]))
    measured = summary["evaluation"]
    measured["ap50_per_class"]["red"] = measured["ap50_11point_per_class"]["red"] = None
    measured["objects_per_class"]["red"] = 0
    measured["best_f1_per_class"]["red"] = None
    measured["intervals"]["ap50_per_class"]["red"] = [None, None]
    measured["coco"]["ap_small"] = None
    text = card(summary, known[1], known[2])
    assert "| red | 0 | - |  |" in text
    for key in ("ap50", "ap50_11point", "coco_ap", "coco_ap50", "coco_ap75"):
        measured[key] = None
    measured["intervals"] = None
    header = yaml.safe_load(card(summary, known[1], Selection()).split("---\n")[1])
    assert "model-index" not in header


def test_the_detector_knows_its_numbers_and_not_the_folder_of_its_data(trained, shapes_voc):
    training = package.Detector.load(trained[0] / "run").settings.training
    assert training["evaluation"]["intervals"]["ap50"]
    assert "suspected_labels" not in training["evaluation"]
    assert str(shapes_voc) not in json.dumps(training)
