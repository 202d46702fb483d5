"""int8: NNCF's post-training quantisation of the net, calibrated on pictures of the data set.

Only what lies between the first and the last convolution is quantised: the stem sees whole
pictures, and the decoding behind the last one computes coordinates, of which int8 would know a few
hundred.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PICTURES = 300
"""So many, at most, are looked at for the range of every value."""
_WEIGHTED = {"Convolution", "GroupConvolution", "MatMul", "Conv", "Gemm"}


@dataclass(frozen=True)
class _Node:
    name: str
    kind: str
    weighted: bool
    sources: tuple[str, ...]
    constant: bool = False


def quantised(model: Any, pictures: Sequence[NDArray[np.float32]]) -> Any:
    """An int8 model of a net in ONNX or OpenVINO.

    Args:
        pictures: float32 (1, 3, h, w) from 0 to 255, as the net sees them.
    """
    os.environ.setdefault("NNCF_CI", "1")  # no usage statistics over the network
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        QuantizationParameters,
    )

    logging.getLogger("nncf").setLevel(logging.ERROR)
    onnx = hasattr(model, "graph")
    name = model.graph.input[0].name if onnx else None
    data = nncf.Dataset(pictures, (lambda x: {name: x}) if onnx else None)
    nodes = _onnx_nodes(model) if onnx else _openvino_nodes(model)
    # onnxruntime has one scale for all channels of an activation.
    whole = QuantizationParameters(per_channel=False) if onnx else None
    advanced = AdvancedQuantizationParameters(activations_quantization_params=whole)
    with contextlib.redirect_stdout(sys.stderr):  # progress bars
        return nncf.quantize(
            model,
            data,
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False,
            advanced_parameters=advanced,
            ignored_scope=nncf.IgnoredScope(names=_outside(nodes), validate=False),
        )


def _outside(nodes: Sequence[_Node]) -> list[str]:
    """The names of the first weighted layer and of all that no weighted layer comes after.

    Args:
        nodes: sources before those that read them.
    """
    by_name = {node.name: node for node in nodes}
    before: set[str] = set()
    for node in reversed(nodes):
        if node.weighted or node.name in before:
            before.update(node.sources)
    first = next(node.name for node in nodes if node.weighted)
    return [
        name
        for name, node in by_name.items()
        if not node.constant and (name == first or not (node.weighted or name in before))
    ]


def _openvino_nodes(model: Any) -> list[_Node]:
    skipped = ("Parameter", "Result", "Constant")
    found = []
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        sources = [value.get_node() for value in op.input_values()]
        found.append(
            _Node(
                op.get_friendly_name(),
                kind,
                kind in _WEIGHTED and _is_matrix(_shape(sources[1])),
                tuple(s.get_friendly_name() for s in sources),
                kind in skipped,
            )
        )
    return found


def _shape(op: Any) -> tuple[int, ...]:
    """Of an output; empty where it is not known."""
    shape = op.get_output_partial_shape(0)
    return tuple(shape.to_shape()) if shape.is_static else ()


def _onnx_nodes(model: Any) -> list[_Node]:
    shapes: Mapping[str, Iterable[int]] = {t.name: t.dims for t in model.graph.initializer}
    made = {output: node.name for node in model.graph.node for output in node.output}
    return [
        _Node(
            node.name,
            node.op_type,
            node.op_type in _WEIGHTED and _is_matrix(tuple(shapes.get(node.input[1], ()))),
            tuple(made[name] for name in node.input if name in made),
        )
        for node in model.graph.node
    ]


def _is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether an operand holds the weights of a layer: those of a sum over bins are a vector."""
    return sum(side > 1 for side in shape) > 1 or len(shape) > 2
