"""The ONNX file: the net as torch.onnx writes it, between the two parts of onnx_parts.py."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frostbox.detector import Detector
from frostbox.export.onnx_parts import DENSE, FRAME, OPSET, PICTURES, Graph, after, before
from frostbox.export.plan import INPUT, KEY, OUTPUTS, Dense, Plan

_SMALL = 64  # numbers; a constant of fewer stays float32 in a float16 file


def net(detector: Detector, plan: Plan, *, flip: bool) -> Any:
    """The ONNX model from `PICTURES` to `DENSE`; the batch is dynamic."""
    width, height = plan.size
    module = copy.deepcopy(Dense(detector, flip=flip)).cpu().float().eval()
    example = torch.zeros(2, 3, height, width)
    log = logging.getLogger("torch.onnx")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # notes on tracing; the file is compared afterwards
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[PICTURES],
                output_names=list(DENSE),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    finally:
        log.setLevel(level)
    assert program is not None
    return program.model_proto


def first_part(plan: Plan) -> Any:
    """What comes before the net, as a model of its own."""
    pictures, _, _, frame = _between(plan)
    return _part(before(plan), [_images()], [pictures, frame])


def last_part(plan: Plan) -> Any:
    """What comes after the net, as a model of its own."""
    _, boxes, scores, frame = _between(plan)
    return _part(after(plan), [boxes, scores, frame], _outputs(plan))


def _part(graph: Graph, inputs: list[Any], outputs: list[Any]) -> Any:
    from onnx import helper

    made = helper.make_graph(graph.nodes, graph.part, inputs, outputs, graph.constants)
    return _model(made)


def _images() -> Any:
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["batch", "height", "width", 3]
    return helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape)


def whole(plan: Plan, between: Any, known: str) -> Any:
    """The whole model, with its metadata.

    Args:
        between: what `net` returned, or the same with other weights.
        known: see plan.metadata.
    """
    from onnx import helper

    first, last = before(plan), after(plan)
    graph = helper.make_graph(
        [*first.nodes, *between.graph.node, *last.nodes],
        "detector",
        [_images()],
        _outputs(plan),
        [*first.constants, *between.graph.initializer, *last.constants],
    )
    model = _model(graph, between)
    helper.set_model_props(model, {KEY: known})
    return model


def _model(graph: Any, like: Any = None) -> Any:
    from onnx import helper

    from frostbox._version import __version__

    opsets = {"": OPSET}
    functions = []
    if like is not None:
        # What quantises may need more than the parts.
        opsets |= {o.domain: o.version for o in like.opset_import}
        functions = list(like.functions)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()],
        functions=functions,
        ir_version=10,
        producer_name="frostbox",
        producer_version=__version__,
    )


def _between(plan: Plan) -> tuple[Any, ...]:
    """The values between the parts: pictures, dense boxes, dense scores, frame."""
    from onnx import TensorProto, helper

    width, height = plan.size
    shapes: dict[str, list[str | int | None]] = {
        PICTURES: ["batch", 3, height, width],
        DENSE[0]: ["batch", "dense", 4],
        DENSE[1]: ["batch", "dense", len(plan.classes)],
        FRAME: [6],
    }
    return tuple(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )


def _outputs(plan: Plan) -> list[Any]:
    from onnx import TensorProto, helper

    n = plan.detections
    shapes: list[list[str | int | None]] = [["batch", n, 4], ["batch", n], ["batch", n], ["batch"]]
    types = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT64)
    return [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in zip(OUTPUTS, types, shapes, strict=True)
    ]


def halved(model: Any) -> Any:
    """The same net with its weights stored as float16; they are computed with as float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts, kept = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < _SMALL:
            kept.append(tensor)
            continue
        name = f"{tensor.name}/float16"
        limit = float(np.finfo(np.float16).max)
        kept.append(numpy_helper.from_array(array.clip(-limit, limit).astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend([*casts, *nodes])
    return model


def write(model: Any, path: Path) -> None:
    """Check the model and write it as one file."""
    import onnx

    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
