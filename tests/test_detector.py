"""The detector file, and prediction from every kind of input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from frostbox import backbones
from frostbox.data import photos
from frostbox.detections import Detections
from frostbox.detector import Detector
from frostbox.errors import CheckpointError, DataError, NotFoundError, SettingsError
from frostbox.heads import FeatureSpec, create_head, head_class
from frostbox.selection import Selection, Settings

CLASSES = ("red", "green", "blue")


def make(head="grid", size=(96, 64), resize="shrink", weights="auto") -> Detector:
    torch.manual_seed(0)
    backbone = backbones.create("efficientnet_lite0", (32,), weights)
    spec = FeatureSpec((32,), backbone.channels, backbone.map_sizes(size))
    settings = Settings(CLASSES, size, resize, Selection(threshold=0.001), {"epochs": 3})
    return Detector(backbone, create_head(head, spec, 3), head, settings)


@pytest.fixture(scope="module")
def detector():
    return make()


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


def assert_same(a: Detections, b: Detections):
    # The last bits of a sum depend on how many pictures are computed at a time.
    assert a.boxes == pytest.approx(b.boxes, abs=1e-3)
    assert a.scores == pytest.approx(b.scores, abs=1e-5)
    assert np.array_equal(a.labels, b.labels)
    assert a.image_size == b.image_size


def test_every_kind_of_picture_gives_the_same(detector, picture):
    path, pixels = picture
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    reference = detector.predict(path)
    assert len(reference)
    assert reference.image_size == (120, 90)
    for source in (str(path), Image.open(path), pixels, tensor, tensor.float() / 255):
        assert_same(detector.predict(source), reference)


def test_a_list_gives_a_list_in_order_and_a_batch_counts_as_a_list(detector, picture):
    path, pixels = picture
    other = np.flip(pixels, 1).copy()
    found = detector.predict([path, other, path])
    assert [type(f) for f in found] == [Detections] * 3
    assert_same(found[0], found[2])
    assert_same(found[1], detector.predict(other))
    batch = torch.from_numpy(np.stack([pixels, other])).permute(0, 3, 1, 2)
    assert len(detector.predict(batch)) == 2
    assert detector.predict([]) == []


def test_many_pictures_by_the_fast_engine_agree_with_one_by_one(detector):
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (70, 80 + k, 3), dtype=np.uint8) for k in range(20)]
    for many, one in zip(
        detector.predict(pictures), (detector.predict(p) for p in pictures), strict=True
    ):
        assert many.image_size == one.image_size
        top = slice(0, 3)
        assert many.scores[top] == pytest.approx(one.scores[top], abs=5e-3)


@pytest.mark.parametrize("resize", ["shrink", "crop", "letterbox", "none"])
def test_a_large_jpeg_decoded_in_part_gives_what_the_whole_one_gives(resize, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "_LARGE_FILE", 1)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((1202, 901), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    detector = make(resize=resize)
    part, geometry = detector.to_input(tmp_path / "large.jpg")
    whole, same = detector.to_input(Image.open(tmp_path / "large.jpg"))
    assert geometry == same
    assert geometry.original == (1202, 901)
    assert part.shape == whole.shape
    difference = (part.float() - whole.float()).abs()
    assert difference.mean() < 2
    assert (difference > 0).any() == (resize in ("shrink", "letterbox"))
    assert (whole.float() - whole.flip(2).float()).abs().mean() > 20  # it would show
    assert detector.predict(tmp_path / "large.jpg").image_size == (1202, 901)


def test_a_prepared_detector_runs_its_engine_for_one_picture_too(detector, picture):
    path, _ = picture
    before = detector.predict(path)
    prepared = make().prepare("openvino")
    ran = []
    run = prepared._prepared.run
    prepared._prepared.run = lambda images: (ran.append(len(images)), run(images))[1]
    after = prepared.predict(path)
    assert ran == [1]
    assert_same(after, before)
    for kind in ("torch", "openvino"):
        rough = make().prepare(kind, precision="bf16").predict(path)
        assert rough.scores[:3] == pytest.approx(before.scores[:3], abs=0.05)
    # Engines made from other weights are not used any more.
    for change in (lambda d: d.to(torch.float32), lambda d: d.load_state_dict(d.state_dict())):
        prepared = make().prepare("openvino")
        change(prepared)
        assert prepared._prepared is None
    with pytest.raises(SettingsError, match="pictures of any size"):
        make(resize="none").prepare()


@pytest.mark.parametrize("head", ["single", "grid", "anchors", "pyramid"])
def test_every_head_is_compiled_with_its_backbone(head):
    torch.manual_seed(0)
    strides = head_class(head).strides
    backbone = backbones.create("efficientnet_lite0", strides)
    spec = FeatureSpec(strides, backbone.channels, backbone.map_sizes((96, 64)))
    detector = Detector(backbone, create_head(head, spec, 3), head, Settings(CLASSES, (96, 64)))
    pictures = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8)

    def run(prepared):
        return prepared.run(pictures, prepared._engine_for(len(pictures)))

    eager = run(detector)
    dense = detector.head.decode(eager)[0]
    compiled = run(detector.prepare("openvino", latency=False))
    assert list(compiled) == list(eager)
    for name, expected in eager.items():
        torch.testing.assert_close(compiled[name], expected, rtol=1e-3, atol=1e-3)
    for kind in ("openvino", "torch"):
        rough = run(detector.prepare(kind, precision="bf16"))
        # In shares of the picture.
        assert (detector.head.decode(rough)[0] - dense).abs().mean() < 0.01


@pytest.mark.parametrize("resize", ["shrink", "crop", "letterbox", "none"])
def test_boxes_are_pixels_of_the_original_whatever_the_resize(resize, picture):
    path, _ = picture
    found = make(resize=resize).predict(path, threshold=0.0)
    assert len(found)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 0::2] <= 120).all()
    assert (found.boxes[:, 1::2] <= 90).all()
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_selection_can_be_changed_for_a_call_and_for_good(detector, picture):
    path, _ = picture
    all_of_them = detector.predict(path, threshold=0.0, nms=None)
    assert len(all_of_them) == 2 * 3 * 3  # every cell with every class
    assert len(detector.predict(path, threshold=0.0, max_detections=2)) == 2
    assert len(detector.predict(path, threshold=1.0)) == 0
    with pytest.raises(SettingsError, match="threshold is 2"):
        detector.predict(path, threshold=2)
    changed = make().configured(score="objectness", threshold=0.5)
    assert changed.settings.selection.threshold == 0.5
    with pytest.raises(SettingsError, match="the single head has no choice of score"):
        make("single", (64, 64)).configured(score="objectness")


def test_what_is_no_picture_is_refused(detector, tmp_path):
    with pytest.raises(NotFoundError, match="nowhere.jpg does not exist"):
        detector.predict(tmp_path / "nowhere.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match="empty.jpg is empty"):
        detector.predict(tmp_path / "empty.jpg")
    with pytest.raises(SettingsError, match="float64 .* is no image"):
        detector.predict(np.zeros((4, 4, 3)))
    with pytest.raises(SettingsError, match="is no image"):
        detector.predict([3])


@pytest.mark.parametrize(("head", "size"), [("grid", (96, 64)), ("single", (64, 64))])
def test_saved_and_loaded_it_predicts_the_same(head, size, picture, tmp_path):
    original = make(head, size)
    path = original.save(tmp_path / "best.safetensors")
    for place in (path, tmp_path, str(path)):
        loaded = Detector.load(place)
        assert_same(loaded.predict(picture[0]), original.predict(picture[0]))
    assert loaded.settings == original.settings
    assert loaded.head.settings == original.head.settings
    assert loaded.backbone.weights == original.backbone.weights
    assert loaded.backbone.weights_hash == original.backbone.weights_hash


def test_the_file_holds_its_backbone_and_the_head_only_file_its_hash(picture, tmp_path):
    random = make(weights="random:7")
    whole = random.save(tmp_path / "whole.safetensors")
    part = random.save(tmp_path / "part.safetensors", head_only=True)
    assert part.stat().st_size < whole.stat().st_size / 2
    for path in (whole, part):
        assert_same(Detector.load(path).predict(picture[0]), random.predict(picture[0]))
    with safe_open(part, framework="pt") as file:
        assert not [name for name in file.keys() if name.startswith("backbone.")]  # noqa: SIM118


def rewrite(path, change):
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["frostbox"])
    change(header, tensors)
    save_file(tensors, path, metadata={"frostbox": json.dumps(header)})


def test_unusable_files_are_named_with_the_reason(detector, tmp_path):
    good = detector.save(tmp_path / "good.safetensors", head_only=True)
    bad = tmp_path / "bad.safetensors"

    def refused(match, change):
        shutil.copy(good, bad)
        rewrite(bad, change)
        with pytest.raises(CheckpointError, match=match):
            Detector.load(bad)

    refused("version 99.*upgrade frostbox", lambda h, t: h.update(format_version=99))
    refused(
        "other weights of efficientnet_lite0", lambda h, t: h["backbone"].update(weights_hash="0")
    )
    refused("does not fit.*Missing key", lambda h, t: t.popitem())
    refused("format_version", lambda h, t: h.update(format_version=0))
    refused(
        "has a pyramid head of format version 3",
        lambda h, t: h.update(format_version=3, head={"name": "pyramid"}),
    )
    refused("lacks or garbles 'preprocessing'", lambda h, t: h.pop("preprocessing"))
    sizes = "size is .*must be width and height, each of 1 to 16384 pixels"
    for size in ([224, 224, 3], [224], [224, 0], [1e9, 224], [10**9, 224], [True, 224]):
        refused(sizes, lambda h, t, size=size: h["preprocessing"].update(size=size))
    refused("resize is 'wide'", lambda h, t: h["preprocessing"].update(resize="wide"))
    refused(
        "2 values for 3 classes", lambda h, t: h["selection"].update(class_thresholds=[0.1, 0.2])
    )
    refused("nms is 7", lambda h, t: h["selection"].update(nms=7))
    refused("lacks or garbles", lambda h, t: h.update(selection=[1]))
    refused("lacks or garbles", lambda h, t: h.update(head=3))
    refused("unknown head 'nose'", lambda h, t: h["head"].update(name="nose"))
    names = list(detector.settings.classes)
    for odd in ("do\x1b[2Jg", "dog\ncat"):
        refused("control character", lambda h, t, odd=odd: h.update(classes=[odd, *names[1:]]))
    refused("twice", lambda h, t: h.update(classes=[names[0]] * len(names)))
    refused("classes is 'abc'", lambda h, t: h.update(classes="abc"))
    refused("weights in another", lambda h, t: h["backbone"].update(weights="../other.pth"))
    with pytest.raises(NotFoundError, match="does not exist"):
        Detector.load(tmp_path / "nothing")
    bad.write_bytes(good.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="cannot be read as a safetensors file"):
        Detector.load(bad)
    save_file({"x": torch.zeros(1)}, bad)
    with pytest.raises(CheckpointError, match="not a frostbox detector"):
        Detector.load(bad)


def test_detections_to_other_forms(picture):
    found = Detections.create(
        [[10, 20, 30, 60], [0, 0, 5, 5]], [0.25, 0.75], [2, 0], CLASSES, (120, 90)
    )
    assert found.names == ["red", "blue"]
    assert found.to_dicts()[1] == {
        "box": [10.0, 20.0, 30.0, 60.0], "score": 0.25, "label": 2, "name": "blue",
    }  # fmt: skip
    assert found.to_coco(17)[1] == {
        "image_id": 17, "category_id": 3, "category_name": "blue",
        "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.25,
    }  # fmt: skip
    assert len(found.above(0.5)) == 1
    other = found.to_supervision()
    assert other.xyxy.tolist() == found.boxes.tolist()
    assert other.data["class_name"].tolist() == found.names
    drawn = found.draw(Image.open(picture[0]).convert("RGB"))
    assert drawn.size == (120, 90)
    assert not np.array_equal(np.asarray(drawn), picture[1])
    with pytest.raises(ValueError, match="must have the same length"):
        Detections.create([[0, 0, 1, 1]], [], [0], CLASSES, (1, 1))
