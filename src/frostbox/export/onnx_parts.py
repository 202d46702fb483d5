"""The ONNX graph around the net: resizing before it, selection and pixels after it.

Operators of opset 18. The resize is written as two matrix products: Resize with `antialias` is not
the same filter in every version of every runtime (onnxruntime 1.32: up to 17 grey levels off),
products are. Their weights are those of Pillow's and torchvision's antialiased bilinear filter,
computed in the graph from the height and width at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from frostbox.export.plan import INPUT, OUTPUTS, Plan

OPSET = 18
PICTURES, FRAME = "pictures", "frame"
"""Between the parts: what the net sees, float32 (B, 3, h, w) of whole numbers from 0 to 255, and
float32 (sx, sy, ox, oy, W, H): scale, offset, and the size of the images."""
LARGEST, MOST_BITS = 2**15 - 0.5, 22
"""Of a weight of the resize in 16 bits, see `_normalised`."""
DENSE = ("dense_boxes", "dense_scores")


class Graph:
    """Nodes and constants under construction; every node's name starts with the part's.

    `g.Add(a, b)` appends a node and returns the name of its output. Operands may be numbers and
    arrays: they become constants, Python's ints int64 and floats float32.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: ArrayLike, *, double: bool = False) -> str:
        """The name of a new constant; floats are float32 unless `double`."""
        from onnx import numpy_helper

        array = np.asarray(value)
        if array.dtype == np.float64 and not double:
            array = array.astype(np.float32)
        name = f"{self.part}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *operands: Any, out: str | None = None, **attributes: Any) -> Any:
        """Append a node; the name of its output, or a tuple of two for TopK."""
        from onnx import helper

        names = [o if isinstance(o, str) else self.const(o) for o in operands]
        stem = f"{self.part}/{kind.lower()}_{len(self.nodes)}"
        outputs = [f"{stem}.0", f"{stem}.1"] if kind == "TopK" else [out or f"{stem}.0"]
        self.nodes.append(helper.make_node(kind, names, outputs, name=stem, **attributes))
        return tuple(outputs) if kind == "TopK" else outputs[0]

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        if not kind[0].isupper():
            raise AttributeError(kind)
        return lambda *operands, **attributes: self.add(kind, *operands, **attributes)

    def floats(self, value: str) -> str:
        """A value as float32."""
        return str(self.Cast(value, to=1))

    def doubles(self, value: str | ArrayLike) -> str:
        """A value, or a new constant, as float64."""
        if isinstance(value, str):
            return str(self.Cast(value, to=11))
        return self.const(np.asarray(value, dtype=np.float64), double=True)

    def ints(self, value: str) -> str:
        """A value as int64."""
        return str(self.Cast(value, to=7))


def before(plan: Plan) -> Graph:
    """From uint8 images (B, H, W, 3) to what the net sees, and the frame."""
    g = Graph("before")
    (width, height), shape = plan.size, g.Shape(INPUT)
    rows, columns = (g.Slice(shape, [k], [k + 1]) for k in (1, 2))
    x = _Axis(g, plan.resize, columns, rows, width, height)
    y = _Axis(g, plan.resize, rows, columns, height, width)
    resized = _vertical(g, y, _horizontal(g, x))
    if plan.resize == "shrink":
        g.Identity(resized, out=PICTURES)
    else:
        shown = g.And(g.Unsqueeze(y.shown(), [1]), x.shown())
        g.Where(shown, resized, float(plan.fill), out=PICTURES)
    sizes = (g.floats(columns), g.floats(rows))
    g.Concat(x.scale, y.scale, g.floats(x.offset), g.floats(y.offset), *sizes, axis=0, out=FRAME)
    return g


class _Axis:
    """One side of the images and of the net's input. Values of the graph, of shape (1,).

    Attributes:
        length: of the image in pixels, int64; side: of the input.
        inner: what the length becomes, int64; offset: where that starts, int64.
        scale: inner / length, float32.
        unit: a pixel of the image, in which whole numbers give every place and weight of the
            resize: exactly, and also where a runtime computes with few bits; reach: of the filter,
            to either side.
    """

    def __init__(
        self, g: Graph, mode: str, length: str, other: str, side: int, other_side: int
    ) -> None:
        self.g, self.length, self.side = g, length, side
        if mode == "shrink":
            self.inner, self.offset = g.const([side]), g.const([0])
        elif mode == "crop":
            # transforms.py: padding rounds down, cropping half to even.
            more = g.Sub(length, [side])
            half = g.Div(g.Max(more, [0]), [2])
            odd = g.Mod(g.Max(more, [0]), [2])
            cut = g.Add(half, g.Mul(odd, g.Mod(half, [2])))
            padding = g.Div(g.Max(g.Neg(more), [0]), [2])
            self.inner, self.offset = length, g.Sub(padding, cut)
        else:
            even = _rounded(g, g.Mul(length, [other_side]), other)
            self.inner = g.Max(g.Min(even, [side]), [1])
            self.offset = g.Div(g.Sub([side], self.inner), [2])
        self.scale = g.Div(g.floats(self.inner), g.floats(length))
        self.unit = g.Mul(self.inner, [2])
        self.reach = g.Mul(g.Max(length, self.inner), [2])

    def centres(self) -> str:
        """(side,): where the pixels of the input lie in the image."""
        g = self.g
        odd = g.Sub(2 * np.arange(self.side) + 1, g.Mul(self.offset, [2]))
        return str(g.Mul(odd, self.length))

    def weights(self, centres: str, pixels: str) -> str:
        """Of pixels of the image, by their numbers: a triangle around each centre, not normalised.

        The two broadcast against each other.
        """
        g = self.g
        away = g.Abs(g.Sub(g.Mul(g.Add(g.Mul(pixels, [2]), [1]), self.inner), centres))
        return str(g.Max(g.Sub(self.reach, away), [0]))

    def shown(self) -> str:
        """(side,): whether pixels of the input show the image."""
        g, pixels = self.g, np.arange(self.side)
        end = g.Add(self.offset, self.inner)
        return str(g.And(g.GreaterOrEqual(pixels, self.offset), g.Less(pixels, end)))


def _rounded(g: Graph, numerator: str, denominator: str) -> str:
    """The quotient of whole numbers, rounded half to even as Python's round does."""
    twice, double = g.Mul(numerator, [2]), g.Mul(denominator, [2])
    up = g.Div(g.Add(twice, denominator), double)
    tie = g.ints(g.Equal(g.Mod(g.Add(twice, denominator), double), [0]))
    return str(g.Sub(up, g.Mul(tie, g.Mod(up, [2]))))


def _block(side: int) -> int:
    """Columns that are computed together: those of a block need only a part of the image."""
    return next((b for b in (32, 24, 16, 40, 20) if side % b == 0), side)


def _horizontal(g: Graph, x: _Axis) -> str:
    """The images with the input's width: float32 (B, 3, H, width), rounded."""
    size = _block(x.side)
    centres = g.Reshape(x.centres(), [-1, size])
    # Rounded towards zero, hence some pixels more than are needed.
    before = g.Sub(g.Slice(centres, [0], [1], [1]), x.reach)
    first = g.Sub(g.Div(before, x.unit), [1])
    wide = g.Add(g.Mul(x.length, [2 * (size - 1)]), g.Mul(x.reach, [2]))
    count = g.Squeeze(g.Add(g.Div(wide, x.unit), [4]))
    pixels = g.Add(first, g.Range(0, count, 1))  # (blocks, count)
    near = g.Min(g.Max(pixels, [0]), g.Sub(x.length, [1]))
    inside = g.ints(g.Equal(near, pixels))
    weights = x.weights(g.Unsqueeze(centres, [1]), g.Unsqueeze(pixels, [2]))
    shown = g.Reshape(g.ints(x.shown()), [-1, 1, size])
    weights = g.Mul(weights, g.Mul(g.Unsqueeze(inside, [2]), shown))
    weights = _normalised(g, weights, 1)
    columns = g.Gather(INPUT, near, axis=2)  # (B, H, blocks, count, 3)
    columns = g.floats(g.Transpose(columns, perm=[0, 4, 2, 1, 3]))
    found = g.Transpose(_whole(g, g.MatMul(columns, weights)), perm=[0, 1, 3, 2, 4])
    return str(g.Reshape(found, [0, 0, 0, x.side]))


def _vertical(g: Graph, y: _Axis, images: str) -> str:
    """Those with the input's height too: float32 (B, 3, height, width), rounded."""
    pixels = g.Range(0, g.Squeeze(y.length), 1)
    shown = g.Unsqueeze(g.ints(y.shown()), [1])
    weights = g.Mul(y.weights(g.Unsqueeze(y.centres(), [1]), pixels), shown)
    return _whole(g, g.MatMul(_normalised(g, weights, 1), images))


def _normalised(g: Graph, weights: str, axis: int) -> str:
    """Weights that sum to 1 along an axis, as 16-bit numbers; where all are 0 nothing is shown.

    PyTorch resizes uint8 with weights of 16 bits, and they decide how halves are rounded. Of so few
    bits, sums are exact in float32.
    """
    total = g.Max(g.ReduceSum(weights, [axis], keepdims=1), [1])
    shares = g.Div(g.doubles(weights), g.doubles(total))
    room = g.Div(g.doubles(LARGEST), g.ReduceMax(shares, keepdims=0))
    bits = g.Div(g.Log(room), g.doubles(math.log(2)))
    unit = g.Pow(g.doubles(2), g.Min(g.Floor(bits), g.doubles(MOST_BITS)))
    whole = g.Floor(g.Add(g.Mul(shares, unit), g.doubles(0.5)))
    return g.floats(g.Div(whole, unit))


def _whole(g: Graph, values: str) -> str:
    """Rounded as a uint8 image is."""
    return str(g.Floor(g.Add(values, 0.5)))


def after(plan: Plan) -> Graph:
    """From dense boxes and scores to detections in pixels of the images."""
    g = Graph("after")
    boxes, scores = DENSE
    classes = len(plan.classes)
    reached = g.GreaterOrEqual(scores, list(plan.thresholds))
    flat = g.Reshape(g.Where(reached, scores, -1.0), [0, -1])
    best, index = g.TopK(flat, [plan.candidates], axis=1)
    labels, rows = g.Mod(index, classes), g.Div(index, classes)
    boxes = _rows(g, boxes, rows)
    # Whole numbers, so that equal scores keep their order: the best candidate has the highest.
    ranks = np.arange(plan.candidates, 0, -1, dtype=np.float32)
    rank = g.Where(g.GreaterOrEqual(best, 0.0), ranks, 0.0)
    if plan.nms is not None:
        rank = g.Mul(rank, _kept(g, plan, boxes, labels, rank))
    kept, place = g.TopK(rank, [plan.detections], axis=1)
    there = g.Greater(kept, 0.5)
    chosen = g.GatherElements(best, place, axis=1)
    if plan.temperature is not None:
        chosen = _calibrated(g, chosen, plan.temperature)
    sx, sy, ox, oy, w, h = (g.Slice(FRAME, [k], [k + 1]) for k in range(6))
    pixels = g.Mul(_rows(g, boxes, place), [float(side) for side in plan.size * 2])
    shift, scale = (g.Concat(a, b, a, b, axis=0) for a, b in ((ox, oy), (sx, sy)))
    pixels = g.Div(g.Sub(pixels, shift), scale)
    pixels = g.Min(g.Max(pixels, 0.0), g.Concat(w, h, w, h, axis=0))
    g.Where(g.Unsqueeze(there, [2]), pixels, 0.0, out=OUTPUTS[0])
    g.Where(there, chosen, 0.0, out=OUTPUTS[1])
    g.Where(there, g.GatherElements(labels, place, axis=1), -1, out=OUTPUTS[2])
    g.ReduceSum(g.ints(there), [1], keepdims=0, out=OUTPUTS[3])
    return g


def _rows(g: Graph, boxes: str, rows: str) -> str:
    """Some boxes of each image, by their places (B, n)."""
    return str(g.GatherND(boxes, g.Unsqueeze(rows, [2]), batch_dims=1))


def _kept(g: Graph, plan: Plan, boxes: str, labels: str, rank: str) -> str:
    """(B, candidates): 1 for what stays, 0 for what goes. Ranks of 0 are no candidates."""
    scores = g.Unsqueeze(rank, [1])
    if not plan.agnostic:
        own = np.arange(len(plan.classes))[None, :, None]
        scores = g.Where(g.Equal(g.Unsqueeze(labels, [1]), own), scores, 0.0)
    found = g.NonMaxSuppression(boxes, scores, [plan.candidates], [plan.nms], [0.5])
    where = g.Concat(g.Slice(found, [0], [1], [1]), g.Slice(found, [2], [3], [1]), axis=1)
    ones = g.Expand(1.0, g.Slice(g.Shape(found), [0], [1]))
    return str(g.ScatterND(g.Mul(rank, 0.0), where, ones))


def _calibrated(g: Graph, scores: str, temperature: float) -> str:
    """Scores with their logits divided by the temperature (metrics/calibration.py)."""
    inner = g.Min(g.Max(scores, 1e-6), 1 - 1e-6)
    logits = g.Sub(g.Log(inner), g.Log(g.Sub(1.0, inner)))
    return str(g.Sigmoid(g.Div(logits, float(temperature))))
