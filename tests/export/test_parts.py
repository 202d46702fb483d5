"""The parts of a graph around the net, in each runtime, against what frostbox itself does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostbox.data.transforms import apply_image, geometry
from frostbox.export import onnx_file
from frostbox.export.plan import Plan
from frostbox.export.torch_file import Program, _Axis
from frostbox.openvino_core import openvino_core
from frostbox.selection import Selection
from tests.tiny import tiny

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZE = (96, 64)
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
MODES = ("shrink", "crop", "letterbox")
sides = st.integers(1, 300) | st.sampled_from([64, 96, 128, 192])
PLAN = Plan(
    classes=("a", "b", "c"), size=SIZE, resize="shrink", fill=0, thresholds=(0.3,) * 3,
    temperature=None, nms=0.5, agnostic=False, candidates=60, detections=10,
)  # fmt: skip


def plan_of(mode):
    return replace(PLAN, resize=mode, fill=114 if mode == "letterbox" else 0)


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


@pytest.fixture(scope="module", params=MODES)
def resizers(request):
    """The mode, and functions from images to what the net sees and the frame."""
    mode, plan = request.param, plan_of(request.param)
    model = onnx_file.first_part(plan)
    by_onnx = session(model)
    read = openvino_core().read_model(model.SerializeToString())
    by_openvino = openvino_core().compile_model(read, "CPU", EXACT)
    program = Program(tiny("grid", mode, SIZE), plan, flip=False)

    def in_torch(images):
        h, w = images.shape[1:3]
        x, y = _Axis(mode, w, h, *SIZE), _Axis(mode, h, w, *SIZE[::-1])
        pixels = program.resized(torch.from_numpy(images), x, y)
        return pixels.numpy(), [x.inner / w, y.inner / h, x.offset, y.offset, w, h]

    return mode, {
        "onnx": lambda images: by_onnx.run(None, {"images": images}),
        "openvino": lambda images: list(by_openvino(images).values()),
        "torch": in_torch,
    }


@settings(max_examples=20)
@given(width=sides, height=sides, count=st.integers(1, 3), seed=st.integers(0, 99))
def test_pictures_of_any_size_are_resized_as_frostbox_does(resizers, width, height, count, seed):
    mode, ways = resizers
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    g = geometry(mode, (width, height), SIZE)
    wanted = np.stack(
        [apply_image(torch.from_numpy(i).permute(2, 0, 1), g).numpy().astype(int) for i in images]
    )
    for name, way in ways.items():
        pixels, frame = way(images)
        assert frame == pytest.approx([*g.scale, *g.offset, width, height]), name
        off = np.abs(pixels - wanted)
        assert off.max() <= 1, name  # a grey level, by rounding
        assert (off > 0).mean() < 0.001, name


def test_a_half_is_rounded_to_even_as_python_does(resizers):
    mode, ways = resizers
    for width, height in ((128, 427), (64, 43), (192, 1), (192, 3), (97, 65), (94, 61)):
        g = geometry(mode, (width, height), SIZE)
        for way in ways.values():
            frame = way(np.zeros((1, height, width, 3), np.uint8))[1]
            assert frame[:4] == pytest.approx([*g.scale, *g.offset])


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_costs_grey_levels_and_no_places(mode):
    """What OpenVINO computes with by default on some CPUs knows no number of pixels above 256."""
    plan = plan_of(mode)
    read = openvino_core().read_model(onnx_file.first_part(plan).SerializeToString())
    run = openvino_core().compile_model(read, "CPU")
    y, x = np.mgrid[:427, :640]
    image = np.stack((x * 255 // 640, y * 255 // 427, (x // 40 + y // 40) % 2 * 200), -1)
    image = image.astype(np.uint8)
    wanted = apply_image(torch.from_numpy(image).permute(2, 0, 1), geometry(mode, (640, 427), SIZE))
    pixels, _ = run(image[None]).values()
    off = np.abs(pixels[0] - wanted.numpy().astype(int))
    assert off.mean() < 1.5
    assert off.max() < 16


# --- selection ---------------------------------------------------------------------------

FRAME_VALUES = np.float32([1, 1, 0, 0, *SIZE])
SELECTIONS = {
    "nms": Selection(threshold=0.3, max_detections=10),
    "many": Selection(threshold=0.0, nms=0.7, max_detections=300),
    "agnostic": Selection(threshold=0.3, suppression="agnostic"),
    "none": Selection(threshold=0.5, nms=None, max_detections=7),
    "classes": Selection(class_thresholds=(0.2, 0.9, 0.5)),
    "calibrated": Selection(threshold=0.3, temperature=0.5, calibrated=True),
    "calibrated classes": Selection(
        class_thresholds=(0.2, 0.9, 0.5), temperature=2.0, calibrated=True
    ),
}
DENSE = 20


@pytest.fixture(scope="module", params=SELECTIONS)
def selectors(request):
    """A selection, and functions from dense boxes and scores to what a file gives."""
    selection = SELECTIONS[request.param]
    detector = tiny("grid", size=SIZE)
    plan = Plan.create(detector, selection)
    count = min(3 * DENSE, selection.max_detections)
    plan = replace(plan, candidates=3 * DENSE, detections=count)
    model = onnx_file.last_part(plan)
    by_onnx = session(model)
    read = openvino_core().read_model(model.SerializeToString())
    by_openvino = openvino_core().compile_model(read, "CPU", EXACT)
    program = Program(detector, plan, flip=False)
    x, y = _Axis("shrink", *SIZE, *SIZE), _Axis("shrink", *SIZE[::-1], *SIZE[::-1])

    def in_torch(boxes, scores):
        found = program.selected(torch.from_numpy(boxes), torch.from_numpy(scores), x, y)
        return [v.numpy() for v in found]

    return selection, {
        "onnx": lambda b, s: by_onnx.run(
            None, {"dense_boxes": b, "dense_scores": s, "frame": FRAME_VALUES}
        ),
        "openvino": lambda b, s: list(by_openvino([b, s, FRAME_VALUES]).values()),
        "torch": in_torch,
    }


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 3), coarse=st.booleans())
def test_detections_are_chosen_as_the_selection_does(selectors, seed, count, coarse):
    selection, ways = selectors
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (count, DENSE, 2))
    boxes = np.concatenate((low, low + rng.uniform(0, 0.4, low.shape)), -1).astype(np.float32)
    scores = rng.uniform(0, 1, (count, DENSE, 3)).astype(np.float32)
    if coarse:  # equal scores: the first dense box comes first
        scores = np.round(scores, 1)
    for name, way in ways.items():
        if coarse and name == "openvino":
            continue  # takes any of equal scores
        found = way(boxes, scores)
        for k in range(count):
            kept, score, label = selection.choose(
                torch.from_numpy(boxes[k]), torch.from_numpy(scores[k])
            )
            n = int(found[3][k])
            assert n == len(kept), name
            assert np.array_equal(found[2][k, :n], label), name
            assert found[1][k, :n] == pytest.approx(score.numpy(), abs=1e-4), name
            pixels = kept.numpy() * np.float32(SIZE * 2)
            assert found[0][k, :n] == pytest.approx(pixels, abs=1e-3), name
            assert (found[2][k, n:] == -1).all(), name
            assert not found[1][k, n:].any(), name


def test_nothing_found_in_a_batch_is_no_error(selectors):
    _, ways = selectors
    for way in ways.values():
        found = way(np.zeros((2, DENSE, 4), np.float32), np.full((2, DENSE, 3), -1, np.float32))
        assert found[3].tolist() == [0, 0]
