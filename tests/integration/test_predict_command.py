"""The predict command on everything that it takes, into everything that it writes."""

from __future__ import annotations

import csv
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from frostbox.convert import FORMATS
from frostbox.data.formats import load
from frostbox.detector import Detector
from tests.films import noise, read_film, write_film
from tests.test_fetch import picture_bytes, server  # noqa: F401
from tests.test_inputs import Piped


@pytest.fixture(scope="module")
def film(shapes_voc, tmp_path_factory):
    """Twenty frames of 160 x 120 with a photo that was learned."""
    photo = Image.open(shapes_voc / "VOCdevkit" / "VOC2012" / "JPEGImages" / "shape_003.jpg")
    picture = np.asarray(photo.convert("RGB").resize((160, 120)))
    return write_film(tmp_path_factory.mktemp("film") / "clip.mp4", [picture] * 20, rate=12)


@pytest.fixture
def photos(shapes_voc):
    return shapes_voc / "VOCdevkit" / "VOC2012" / "JPEGImages"


def test_a_video_comes_out_annotated(trained, film, frostbox, tmp_path):
    run = trained[0] / "run"
    result = frostbox("predict", run, film, "--out", tmp_path / "o", "--json", tmp_path / "f.json")
    assert result.status == 0, result.err
    assert "20 frames in" in result.err
    assert "frames/s" in result.err
    assert f"written {tmp_path / 'o' / 'clip.mp4'}" in result.err
    entries = json.loads((tmp_path / "f.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(20))
    assert entries[6]["time"] == 0.5
    assert {entry["image"] for entry in entries} == {str(film)}
    pictures, times, rate = read_film(tmp_path / "o" / "clip.mp4")
    assert (len(pictures), rate, pictures[0].shape) == (20, 12, (120, 160, 3))
    assert times[6] == pytest.approx(0.5)
    original = read_film(film)[0]
    changed = np.abs(pictures[10].astype(int) - original[10]).max(axis=2) > 80
    assert 100 < changed.sum() < changed.size / 2  # frames are drawn

    # Frame by frame, it is what is found in the picture.
    first = Detector.load(run).predict(original[0])
    assert [f["box"] for f in entries[0]["detections"]] == [
        pytest.approx(f["box"], abs=0.5) for f in first.to_dicts()
    ]


def test_objects_of_a_video_keep_their_numbers(trained, film, frostbox):
    pytest.importorskip("trackers", exc_type=ImportError)  # opencv-python needs libGL
    result = frostbox("predict", trained[0] / "run", film, "--track", "--json", "-")
    assert result.status == 0, result.err
    entries = json.loads(result.out)
    numbered = [
        {(f["name"], f["track"]) for f in entry["detections"] if f["track"] is not None}
        for entry in entries
    ]
    assert not numbered[0]  # a track takes two frames
    assert numbered[2]
    assert all(frame == numbered[2] for frame in numbered[2:])
    assert len({track for _, track in numbered[2]}) == len(entries[2]["detections"])


def test_a_video_that_breaks_off_keeps_what_was_done(trained, film, frostbox, tmp_path):
    cut = write_film(tmp_path / "cut.mp4", noise(20))
    content = cut.read_bytes()
    cut.write_bytes(content[: len(content) * 6 // 10])
    options = ("--out", tmp_path / "o", "--json", tmp_path / "f.json")
    result = frostbox("predict", trained[0] / "run", cut, *options)
    entries = json.loads((tmp_path / "f.json").read_text())
    assert result.status == 1
    assert f"error: {cut} breaks off after {len(entries)} frames" in result.err
    assert "what was found until there is kept" in result.err
    assert "Traceback" not in result.err
    assert 3 < len(entries) < 20
    assert len(read_film(tmp_path / "o" / "cut.mp4")[0]) == len(entries)
    # Beside others it is named, and the others are done.
    (tmp_path / "text.mp4").write_text("no video")
    result = frostbox(
        "predict", trained[0] / "run", tmp_path / "text.mp4", film, "--max-frames", 2, *options
    )
    assert result.status == 0
    assert "text.mp4 cannot be opened as a video" in result.err
    assert len(json.loads((tmp_path / "f.json").read_text())) == 2


def test_pictures_by_http_and_through_stdin(trained, frostbox, server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sys, "stdin", Piped(picture_bytes()))
    run, url = trained[0] / "run", f"{server}/red.png"
    result = frostbox("predict", run, url, "-", f"{server}/page", "--out", tmp_path, "--json", "-")
    assert result.status == 0, result.err
    first, second = json.loads(result.out)
    assert (first["image"], second["image"]) == (url, "stdin")
    assert first["detections"] == second["detections"]
    assert (first["width"], first["height"]) == (60, 40)
    assert f"left out: {server}/page is no picture: the server sent text/html" in result.err
    assert sorted(p.name for p in tmp_path.glob("*.jpg")) == ["red.jpg", "stdin.jpg"]
    alone = frostbox("predict", run, f"{server}/gone", "--json", "-")
    assert (alone.status, alone.out) == (1, "")
    assert "cannot be fetched: the server answers 404" in alone.err


def test_where_there_is_no_camera_one_sentence_says_it(trained, frostbox):
    result = frostbox("predict", trained[0] / "run", "96", "--json", "-")
    assert (result.status, result.out) == (1, "")
    assert "error: camera 96 cannot be opened" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photo}", "--track"], "--track numbers the objects of videos"),
        (["{photo}", "--save-as", "docx"], "choose one of voc, coco, yolo, csv"),
        (["{film}", "--save-as", "voc"], "leave videos and cameras out, or take csv"),
        (["{film}", "--max-frames", "0"], "max_frames is 0"),
        (["{photo}", "--save-as", "yolo", "--out", "{full}"], "is not an empty folder"),
        (["{film}", "--out", "{beside}"], "would be overwritten"),
    ],
)
def test_what_does_not_go_together_is_said(
    trained, film, photos, frostbox, tmp_path, arguments, message
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    words = {
        "photo": photos / "shape_000.jpg", "film": film, "beside": film.parent,
        "full": tmp_path / "full",
    }  # fmt: skip
    result = frostbox("predict", trained[0] / "run", *(a.format(**words) for a in arguments))
    assert result.status == 1
    assert message in result.err


@pytest.mark.parametrize("form", FORMATS)
def test_predictions_are_a_data_set_that_can_be_corrected(
    trained, photos, frostbox, tmp_path, form
):
    mine = tmp_path / "mine"
    mine.mkdir()
    for k in range(48, 60):
        shutil.copy(photos / f"shape_{k:03d}.jpg", mine)
    out = tmp_path / "labels"
    result = frostbox(
        "predict", trained[0] / "run", mine, "--save-as", form, "--out", out,
        "--json", tmp_path / "f.json",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert "12 photos with" in result.err
    entries = {e["image"]: e for e in json.loads((tmp_path / "f.json").read_text())}
    dataset = load(out, "train")
    assert set(dataset.classes) == {"red", "green", "blue"}
    assert len(dataset) == 12
    for image in dataset.images:
        entry = entries[str(mine / f"{image.image_id}.jpg")]
        assert [o.name for o in image.objects] == [f["name"] for f in entry["detections"]]
        boxes = [f["box"] for f in entry["detections"]]
        tolerance = 0.51 if form == "voc" else 0.02
        assert [list(o.box) for o in image.objects] == [
            pytest.approx(box, abs=tolerance) for box in boxes
        ]
        assert image.photo.read_bytes() == (mine / image.photo.name).read_bytes()


def test_what_was_predicted_and_corrected_is_trained_on(trained, photos, frostbox, tmp_path):
    """The loop of the guide: predict, correct in a labelling tool, train again."""
    labels = tmp_path / "labels"
    command = ("predict", trained[0] / "run", photos, "--save-as", "voc", "--out", labels)
    assert frostbox(*command).status == 0
    xml = labels / "Annotations" / "shape_000.xml"
    corrected = xml.read_text().replace("<name>red</name>", "<name>blue</name>")
    xml.write_text(corrected)  # as LabelImg does
    result = frostbox(
        "train", labels, "--head", "grid", "--size", 160, "--epochs", 2, "--out", tmp_path / "run",
        "--cache", tmp_path / "cache", "--start", trained[0] / "run",
    )  # fmt: skip
    assert result.status == 0, result.err
    again = Detector.load(tmp_path / "run")
    assert set(again.settings.classes) == {"red", "green", "blue"}


def test_csv_has_a_line_a_detection(trained, film, photos, frostbox, tmp_path):
    result = frostbox(
        "predict", trained[0] / "run", photos / "shape_000.jpg", film, "--max-frames", 4,
        "--save-as", "csv", "--out", tmp_path / "o", "--json", "-",
    )  # fmt: skip
    assert result.status == 0, result.err
    with (tmp_path / "o" / "detections.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    entries = json.loads(result.out)
    flat = [(entry, found) for entry in entries for found in entry["detections"]]
    assert len(lines) == len(flat) >= 5
    for line, (entry, found) in zip(lines, flat, strict=True):
        assert (line["image"], line["name"]) == (entry["image"], found["name"])
        assert line["frame"] == str(entry.get("frame", ""))
        assert [float(line[k]) for k in ("xmin", "ymin", "xmax", "ymax")] == found["box"]
        assert float(line["score"]) == found["score"]
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["detections.csv"]


def test_tiles_find_what_is_too_small_in_the_whole(trained, photos, frostbox, tmp_path):
    """One photo, at the size that the network sees, in a picture 64 times as large."""
    picture = np.full((1280, 1280, 3), 125, dtype=np.uint8)
    photo = Image.open(photos / "shape_003.jpg").convert("RGB").resize((160, 160))
    picture[520:680, 640:800] = np.asarray(photo)
    Image.fromarray(picture).save(tmp_path / "large.png")
    command = ("predict", trained[0] / "run", tmp_path / "large.png", "--json", "-")
    [plain] = json.loads(frostbox(*command).out)
    [tiled] = json.loads(frostbox(*command, "--tiles").out)

    def inside(entry) -> set[str]:
        boxes = [(f["name"], f["box"]) for f in entry["detections"]]
        return {n for n, b in boxes if b[0] > 620 and b[1] > 500 and b[2] < 820 and b[3] < 700}

    assert not inside(plain)
    assert inside(tiled)
