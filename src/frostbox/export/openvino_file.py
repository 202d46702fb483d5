"""The OpenVINO file: the parts of the ONNX file, read by OpenVINO, around the net.

OpenVINO's own antialiased resize (Interpolate in Pillow's mode) was tried instead of the matrix
products: twenty times as slow, and it kept 50 MB for every size of image that it had seen. Of equal
scores OpenVINO takes any: its TopK that takes the first one needs 0.3 s an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frostbox.export import onnx_file
from frostbox.export.onnx_parts import DENSE, FRAME
from frostbox.export.plan import KEY, OUTPUTS, Plan
from frostbox.openvino_core import openvino_core


def net(between: Any) -> Any:
    """The net in OpenVINO, from ONNX, with batch norms folded into convolutions."""
    from openvino._offline_transformations import apply_moc_transformations

    model = openvino_core().read_model(between.SerializeToString())
    apply_moc_transformations(model, cf=False)
    return model


def whole(plan: Plan, between: Any, known: str) -> Any:
    """The whole model, with its metadata.

    Args:
        between: what `net` returned, or the same quantised; it stays as it is.
        known: see plan.metadata.
    """
    from openvino import Model

    first, last = (
        openvino_core().read_model(part(plan).SerializeToString())
        for part in (onnx_file.first_part, onnx_file.last_part)
    )
    between = between.clone()
    pictures, frame = (result.input_value(0) for result in first.get_results())
    _connect(between.inputs[0], pictures)
    dense = [result.input_value(0) for result in between.get_results()]
    for name, value in zip((*DENSE, FRAME), (*dense, frame), strict=True):
        _connect(last.input(name), value)
    model = Model(last.get_results(), first.get_parameters(), "detector")
    for name, output in zip(OUTPUTS, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    model.set_rt_info(known, [KEY])
    model.validate_nodes_and_infer_types()
    return model


def _connect(parameter: Any, value: Any) -> None:
    """Have what reads an input read a value instead."""
    for target in list(parameter.get_target_inputs()):
        target.replace_source_output(value)


def write(model: Any, path: Path, *, halved: bool) -> None:
    """Write PATH and, beside it, its weights as .bin; as float16 where asked for."""
    import openvino

    openvino.save_model(model, str(path), compress_to_fp16=halved)


def weights_of(path: Path) -> Path:
    """The file of weights that belongs to an .xml."""
    return path.with_suffix(".bin")
