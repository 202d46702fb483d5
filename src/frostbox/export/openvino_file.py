"""The OpenVINO file: the same net and selection as in ONNX, with OpenVINO's own resize before it.

OpenVINO computes with bfloat16 where a CPU can, unless it is told otherwise. The resize is
therefore no product of matrices here, as in onnx_parts.py, but Interpolate on uint8, which has
Pillow's filter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from frostbox.export import onnx_file
from frostbox.export.onnx_parts import DENSE, FRAME
from frostbox.export.plan import INPUT, KEY, OUTPUTS, Plan


def net(between: Any) -> Any:
    """The net in OpenVINO, from ONNX, with batch norms folded into convolutions."""
    from openvino import Core
    from openvino._offline_transformations import apply_moc_transformations

    model = Core().read_model(between.SerializeToString())
    apply_moc_transformations(model, cf=False)
    return model


def whole(plan: Plan, between: Any, known: str) -> Any:
    """The whole model, with its metadata.

    Args:
        between: what `net` returned, or the same quantised; it stays as it is.
        known: see plan.metadata.
    """
    from openvino import Model

    images, pictures, frame = _before(plan)
    between = between.clone()
    last = after(plan)
    _connect(between.inputs[0], pictures)
    dense = [result.input_value(0) for result in between.get_results()]
    for name, value in zip((*DENSE, FRAME), (*dense, frame), strict=True):
        _connect(last.input(name), value)
    model = Model(last.get_results(), [images], "detector")
    for name, output in zip(OUTPUTS, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    model.set_rt_info(known, [KEY])
    model.validate_nodes_and_infer_types()
    return model


def after(plan: Plan) -> Any:
    """What comes after the net; of equal scores the first counts, as ONNX has it anyway."""
    from openvino import Core
    from openvino import opset13 as ops

    model = Core().read_model(onnx_file.dense_part(plan).SerializeToString())
    for op in model.get_ordered_ops():
        if op.get_type_name() == "TopK":
            stable = ops.topk(
                op.input_value(0), op.input_value(1), 1, "max", "value", "i64", stable=True
            )
            for old, new in zip(op.outputs(), stable.outputs(), strict=True):
                _connect(old, new)
    return model


def _connect(parameter: Any, value: Any) -> None:
    """Have what reads an input read a value instead."""
    for target in list(parameter.get_target_inputs()):
        target.replace_source_output(value)


def _before(plan: Plan) -> tuple[Any, Any, Any]:
    """Parameter of uint8 images (B, H, W, 3), what the net sees, and the frame; see onnx_parts."""
    from openvino import opset13 as ops

    (width, height), crop = plan.size, plan.resize == "crop"
    images = ops.parameter([-1, -1, -1, 3], dtype=np.uint8, name=INPUT)
    images.output(0).get_tensor().set_names({INPUT})
    shape = ops.shape_of(images, "i64")
    rows, columns = (ops.gather(shape, _ints([k]), _ints(0)) for k in (1, 2))
    x = _side(plan.resize, columns, rows, width, height)
    y = _side(plan.resize, rows, columns, height, width)
    moved = ops.transpose(images, _ints([0, 3, 1, 2]))
    if not crop:
        sizes = ops.concat([y[0], x[0]], 0)
        moved = ops.interpolate(moved, sizes, "bilinear_pillow", "sizes", axes=_ints([2, 3]))
    if plan.resize != "shrink":
        shown = []
        for axis, side, (inner, offset) in ((2, height, y), (3, width, x)):
            place = ops.subtract(_ints(np.arange(side)), offset)
            last = ops.subtract(inner, _ints([1]))
            near = ops.minimum(ops.maximum(place, _ints([0])), last)
            moved = ops.gather(moved, near, _ints(axis))
            shown.append(ops.equal(near, place))
        inside = ops.logical_and(ops.unsqueeze(shown[0], _ints(1)), shown[1])
        moved = ops.select(inside, moved, ops.constant(np.uint8(plan.fill)))
    pictures = ops.convert(moved, "f32")
    (inner_x, left), (inner_y, top) = x, y
    values = [ops.convert(v, "f32") for v in (columns, rows, inner_x, inner_y, left, top)]
    w, h, inner_w, inner_h, ox, oy = values
    scales = [ops.divide(inner_w, w), ops.divide(inner_h, h)]
    return images, pictures.output(0), ops.concat([*scales, ox, oy, w, h], 0).output(0)


def _side(mode: str, length: Any, other: Any, side: int, other_side: int) -> tuple[Any, Any]:
    """What a side of the images becomes in pixels and where that starts; see onnx_parts._Axis."""
    from openvino import opset13 as ops

    two = _ints([2])
    if mode == "shrink":
        return _ints([side]), _ints([0])
    if mode == "crop":
        more = ops.subtract(length, _ints([side]))
        cut_off, padded = (ops.maximum(v, _ints([0])) for v in (more, ops.negative(more)))
        half = ops.divide(cut_off, two)
        odd = ops.multiply(ops.mod(cut_off, two), ops.mod(half, two))
        return length, ops.subtract(ops.divide(padded, two), ops.add(half, odd))
    double = ops.multiply(other, two)
    halves = ops.add(ops.multiply(length, _ints([2 * other_side])), other)
    up = ops.divide(halves, double)
    tie = ops.convert(ops.equal(ops.mod(halves, double), _ints([0])), "i64")
    even = ops.subtract(up, ops.multiply(tie, ops.mod(up, two)))
    inner = ops.maximum(ops.minimum(even, _ints([side])), _ints([1]))
    return inner, ops.divide(ops.subtract(_ints([side]), inner), two)


def _ints(value: Any) -> Any:
    from openvino import opset13 as ops

    return ops.constant(np.asarray(value, dtype=np.int64))


def write(model: Any, path: Path, *, halved: bool) -> None:
    """Write PATH and, beside it, its weights as .bin; as float16 where asked for."""
    import openvino

    openvino.save_model(model, str(path), compress_to_fp16=halved)


def weights_of(path: Path) -> Path:
    """The file of weights that belongs to an .xml."""
    return path.with_suffix(".bin")
