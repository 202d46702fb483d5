"""`frostbox export` as a user types it, and its files without frostbox."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import frostbox as package
from frostbox import export as exporting
from frostbox.detector import Detector
from frostbox.errors import ExportError, SettingsError
from frostbox.export import export, onnx_file
from frostbox.export.runtime import Exported
from frostbox.selection import Selection
from tests.tiny import CLASSES, THRESHOLDS, tiny

pytest.importorskip("onnxscript")
GUIDE = Path(package.__file__).parents[2] / "docs" / "export.md"
FILES = {"onnx": "detector.onnx", "openvino": "detector.xml", "torch": "detector.pt2"}
# As if they were not installed.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
"""
UNUSED = "\nassert not {blocked!r} & {{name.split('.')[0] for name in sys.modules}}\n"


@pytest.fixture(scope="module")
def photos(shapes_voc):
    return sorted((shapes_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir())[:6]


@pytest.fixture(scope="module")
def exported(trained, photos):
    """The trained detector's file for ONNX, and the detector."""
    folder, _ = trained
    done = export(folder / "run", "onnx", images=photos)
    return done, Detector.load(folder / "run")


def example(runtime):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    return next(block for block in blocks if f"import {runtime}\n" in block)


def run_example(code, folder, photo, blocked, python=sys.executable):
    (folder / "photo.jpg").write_bytes(photo.read_bytes())
    code = BLOCKED.format(blocked=blocked) + code + UNUSED.format(blocked=blocked)
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ran = subprocess.run(
        [python, "-c", code], cwd=folder, env=clean, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def assert_printed(out, detections):
    printed = [re.fullmatch(r"(\w+) ([\d.]+) \[(.*)\]", line) for line in out.splitlines()]
    assert len(printed) == len(detections) > 0
    for found, name, score, box in zip(
        printed, detections.names, detections.scores, detections.boxes, strict=True
    ):
        assert found is not None
        assert found[1] == name
        assert float(found[2]) == pytest.approx(score, abs=0.02)
        assert np.fromstring(found[3], sep=" ") == pytest.approx(box, abs=0.5)


def test_the_file_finds_what_pytorch_finds_and_says_what_it_is(exported, photos):
    done, detector = exported
    assert done.files[0].name == "detector.onnx"
    assert done.difference.detections >= len(photos)
    assert not done.difference.missing + done.difference.extra + done.difference.labels
    file = Exported(done.files[0])
    known = file.metadata
    assert known["format_version"] == 1
    assert known["classes"] == list(detector.settings.classes)
    assert known["selection"] == json.loads(json.dumps(detector.settings.selection.to_dict()))
    assert known["preprocessing"]["size"] == [160, 160]
    assert known["precision"] == "32"


@pytest.mark.parametrize("blocked", [{"torch", "torchvision", "frostbox", "timm"}])
def test_the_guides_lines_for_onnx_run_without_torch_and_frostbox(
    exported, photos, tmp_path, blocked
):
    done, detector = exported
    (tmp_path / "detector.onnx").write_bytes(done.files[0].read_bytes())
    out = run_example(example("onnxruntime"), tmp_path, photos[0], blocked)
    assert_printed(out, detector.predict(photos[0]))


def test_the_command_prints_the_differences_and_writes_json(
    frostbox, exported, trained, photos, tmp_path, monkeypatch
):
    folder, _ = trained
    # The net of the fixture again: its conversion is what takes long.
    known = {}

    def cached(detector, plan, *, flip):
        known["asked"] = True
        import onnx

        model = onnx.load(exported[0].files[0])
        nodes = [n for n in model.graph.node if not n.name.startswith(("before/", "after/"))]
        weights = [
            t for t in model.graph.initializer if not t.name.startswith(("before/", "after/"))
        ]
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(weights)
        return model

    monkeypatch.setattr(onnx_file, "net", cached)
    target = tmp_path / "half.onnx"
    result = frostbox(
        "export", folder / "run", "--format", "onnx", "--precision", "16", "--out", target,
        "--images", photos[0].parent, "--json", tmp_path / "done.json", "--threshold", 0.3,
    )  # fmt: skip
    assert result.status == 0
    assert known["asked"]
    assert "compared with PyTorch on 65 pictures" in result.out
    assert re.search(r"boxes: at most [\d.]+ px apart", result.out)
    assert "labels: 0 differ" in result.out
    assert f"written {target}" in result.err
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["bytes"] < 0.6 * exported[0].files[0].stat().st_size
    assert Exported(target).metadata["selection"]["threshold"] == 0.3
    assert Exported(target).metadata["precision"] == "16"


def test_a_mismatch_fails_the_command_and_leaves_no_file(
    frostbox, trained, photos, tmp_path, monkeypatch
):
    folder, _ = trained

    def shifted(detector, plan, *, flip):
        """A net that puts one box a twentieth of the picture too far right."""
        import onnx

        kinds = onnx.TensorProto
        w, h = plan.size
        reference = detector.predict(photos[0])
        box = reference.boxes[:1] / np.float32(reference.image_size * 2) + np.float32([0.05, 0] * 2)
        scores = np.zeros((1, 1, len(plan.classes)), np.float32)
        scores[0, 0, reference.labels[0]] = reference.scores[0]
        constants = [
            onnx.numpy_helper.from_array(np.repeat(box[None], plan.candidates, 1), "box"),
            onnx.numpy_helper.from_array(np.repeat(scores, plan.candidates, 1), "score"),
        ]
        graph = onnx.helper.make_graph(
            [
                onnx.helper.make_node("ReduceMax", ["pictures", "axes"], ["top"], keepdims=0),
                onnx.helper.make_node("Mul", ["top", "zero"], ["nothing"]),
                onnx.helper.make_node("Reshape", ["nothing", "shape"], ["blank"]),
                onnx.helper.make_node("Add", ["box", "blank"], ["dense_boxes"]),
                onnx.helper.make_node("Add", ["score", "blank"], ["dense_scores"]),
            ],
            "net",
            [onnx.helper.make_tensor_value_info("pictures", kinds.FLOAT, ["b", 3, h, w])],
            [],
            [
                *constants,
                onnx.numpy_helper.from_array(np.float32(0), "zero"),
                onnx.numpy_helper.from_array(np.int64([1, 2, 3]), "axes"),
                onnx.numpy_helper.from_array(np.int64([-1, 1, 1]), "shape"),
            ],
        )
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])

    monkeypatch.setattr(onnx_file, "net", shifted)
    result = frostbox(
        "export", folder / "run", "--format", "onnx", "--out", tmp_path / "a.onnx", "--images",
        photos[0],
    )  # fmt: skip
    assert result.status == 1
    assert "the exported file does not find what PyTorch finds in 1 pictures" in result.err
    assert "no file was left" in result.err
    assert not list(tmp_path.glob("*.onnx"))
    assert not list(tmp_path.glob(".export*"))


def test_what_cannot_be_exported_is_refused_with_a_sentence(frostbox, trained, tmp_path):
    folder, _ = trained

    def refused(*options):
        result = frostbox("export", folder / "run", "--out", tmp_path / "a.onnx", *options)
        assert result.status == 1
        assert not list(tmp_path.iterdir())
        return result.err

    assert "format 'tflite' is unknown: choose one of onnx" in refused("--format", "tflite")
    assert "precision '8' is unknown" in refused("--format", "onnx", "--precision", "8")
    assert "does not end in .xml" in refused("--format", "openvino")
    assert "give the data set with --data" in refused("--format", "onnx", "--precision", "int8")
    assert "a torch program keeps float32" in refused("--format", "torch", "--precision", "16")
    soft = refused("--format", "onnx", "--suppression", "soft-linear")
    assert "suppression soft-linear cannot be part of a graph: choose one of nms" in soft
    with pytest.raises(SettingsError, match="resize none"):
        export(tiny("grid", "none"), "onnx", out=tmp_path / "a.onnx")


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(SettingsError, match=r"needs the package onnx: run pip install 'frostbox\["):
        export(tiny("grid"), "onnx", out=tmp_path / "a.onnx")


@pytest.fixture(scope="module")
def noise():
    """Pictures of odd sizes."""
    rng = np.random.default_rng(0)
    sizes = ((70, 50), (96, 64), (31, 200), (333, 64))
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]


def check(detector, kind, noise, tmp_path, monkeypatch, **options):
    """Export and compare on noise: an untrained net shows every grey level, and noise has many."""
    if detector.head_name == "pyramid":  # of hundreds of scores that are nearly equal
        options["nms"] = {**options.get("nms", {}), "nms": None}
    monkeypatch.setattr("frostbox.export._drawn", lambda: noise)
    done = export(detector, kind, out=tmp_path / FILES[kind], **options)
    assert done.difference.detections > 0
    assert done.difference.scores < 5e-3
    return Exported(done.files[0])


def test_a_torch_program_takes_batches_of_any_size(noise, tmp_path, monkeypatch):
    detector = tiny("grid", "letterbox")
    file = check(detector, "torch", noise, tmp_path, monkeypatch)
    assert file.classes == CLASSES
    for count in (1, 3):
        found = file.predict(np.stack([noise[0]] * count))
        wanted = detector.predict(noise[0])
        assert len(found) == count
        for one in found:
            assert np.array_equal(one.labels, wanted.labels)
            assert one.boxes == pytest.approx(wanted.boxes, abs=0.01)


def test_a_picture_in_which_nothing_is_found_proves_nothing(noise, tmp_path, monkeypatch):
    monkeypatch.setattr("frostbox.export._drawn", lambda: noise)
    detector = tiny("grid", selection=Selection(threshold=0.9))
    objectness = detector.head.classification[-1].requires_grad_(False)
    objectness.weight.zero_()
    objectness.bias.fill_(-20)
    with pytest.raises(ExportError, match="down to score 0.02: nothing was compared"):
        export(detector, "torch", out=tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_what_comes_from_the_hub_is_exported_here(monkeypatch):
    def fetched(path):
        raise AssertionError("a file among the hub's own")

    monkeypatch.setattr(exporting, "detector_file", fetched)
    assert exporting._target("hf://anna/birds", "onnx", "16", None) == Path("detector-16.onnx")


# --- slow --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    ("head", "resize"),
    [*((head, "shrink") for head in THRESHOLDS), ("anchors", "crop"), ("anchors", "letterbox")],
)
def test_every_head_in_every_format(head, kind, resize, noise, tmp_path, monkeypatch):
    check(tiny(head, resize), kind, noise, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino", "torch"])  # OpenVINO's comes from ONNX
@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("pyramid", {"bins": 4}),
        ("pyramid", {"strides": [8, 16, 32, 64]}),
        ("grid", {"score": "objectness"}),
        ("single", {"pooled": True}),
        ("anchors", {"kmeans": 0}),
    ],
)
def test_settings_of_heads(head, options, kind, noise, tmp_path, monkeypatch):
    selection = Selection(threshold=THRESHOLDS[head], flip=True, suppression="agnostic")
    detector = tiny(head, selection=selection, **options)
    check(detector, kind, noise, tmp_path, monkeypatch, nms={"flip": True})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_the_guides_other_examples(trained, photos, tmp_path, kind):
    folder, _ = trained
    detector = Detector.load(folder / "run")
    export(folder / "run", kind, images=photos, out=tmp_path / FILES[kind])
    blocked = {"frostbox", "timm"} | ({"torch", "torchvision"} if kind == "openvino" else set())
    out = run_example(example(kind), tmp_path, photos[0], blocked)
    assert_printed(out, detector.predict(photos[0]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_int8_keeps_its_ap(trained, shapes_voc, photos, tmp_path, kind):
    folder, _ = trained
    done = export(
        folder / "run", kind, precision="int8", data=shapes_voc, images=photos,
        out=tmp_path / FILES[kind],
    )  # fmt: skip
    ap = {name: row["ap50"] for name, row in done.figures.items()}
    assert ap["PyTorch"] > 0.5
    assert ap["file"] > ap["PyTorch"] - 0.05
    assert done.to_json()["bytes"] < 0.6 * Path(folder / "run/best.safetensors").stat().st_size


@pytest.mark.slow
def test_the_guides_lines_run_where_nothing_else_is_installed(exported, photos, tmp_path):
    done, detector = exported
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "pillow"], check=True
    )
    (tmp_path / "detector.onnx").write_bytes(done.files[0].read_bytes())
    out = run_example(example("onnxruntime"), tmp_path, photos[0], {"torch"}, str(python))
    assert_printed(out, detector.predict(photos[0]))
