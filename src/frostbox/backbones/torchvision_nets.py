"""Any torchvision classifier by its name, cut before its global pooling."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, fx, nn

from frostbox.backbones.contract import IMAGENET_MEAN, IMAGENET_STD, Backbone, require_strides
from frostbox.backbones.weights import OFFLINE, load_weights, random_seed, read_state, short_timeout
from frostbox.errors import BackboneError

# Where a classifier stops being a map: its first module or call outside the feature part.
_STOPS = {"avgpool", "adaptive_avg_pool2d", "mean", "flatten", "classifier", "fc", "head", "heads"}


class _Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of every node's tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = tuple(result.shape)
        return result


def build_torchvision(name: str, strides: tuple[int, ...], weights: str) -> Backbone:
    """The backbone; `weights` is "auto", a member of the net's enum, "random:SEED" or a file."""
    enum = torchvision.models.get_model_weights(name)
    member = enum["DEFAULT"] if weights == "auto" else enum.__members__.get(weights)
    label = f"{name}.{member.name}" if member is not None else weights
    with warnings.catch_warnings(), short_timeout():
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet's own, on its initialisation
        try:
            model = torchvision.models.get_model(name, weights=member)
        except OSError as error:
            raise BackboneError(
                f"the weights {label} could not be fetched ({error}); {OFFLINE}"
            ) from error
    body, channels = _cut_at_strides(name, model.eval(), strides)
    if member is None and random_seed(weights) is None:
        load_weights(body, read_state(weights), name, weights)
        label = Path(weights).name
    preset = (member or enum["DEFAULT"]).transforms()
    return Backbone(
        body,
        name=name,
        strides=strides,
        channels=channels,
        mean=getattr(preset, "mean", IMAGENET_MEAN),
        std=getattr(preset, "std", IMAGENET_STD),
        weights=label,
    )


@torch.inference_mode(False)
def _cut_at_strides(
    name: str, model: nn.Module, strides: tuple[int, ...]
) -> tuple[nn.Module, tuple[int, ...]]:
    """Cut a classifier before its global pooling, with one output a stride.

    A map is the last output of a block (two levels of module names) at its stride: the inside of
    a block, such as MobileNet's widened layers, belongs to no stride.
    """
    from torchvision.models.feature_extraction import NodePathTracer

    side = 256
    try:
        tracer = NodePathTracer()
        graph_module = fx.GraphModule(model, tracer.trace(model))
        shapes = _Shapes(graph_module)
        with torch.no_grad():
            shapes.run(torch.zeros(1, 3, side, side))
    except (AssertionError, RuntimeError, fx.proxy.TraceError) as error:
        raise BackboneError(
            f"{name} cannot be cut into feature maps ({str(error).splitlines()[0]}); choose a "
            "convolutional net"
        ) from error
    last_of_block: dict[str, fx.Node] = {}
    for node in graph_module.graph.nodes:
        path = tracer.node_to_qualname.get(node, node.name)
        if re.sub(r"_\d+$", "", path.split(".")[0]) in _STOPS:
            break
        if node.op not in ("placeholder", "output", "get_attr"):
            last_of_block[".".join(path.split(".")[:2])] = node
    found: dict[int, tuple[fx.Node, int]] = {}
    for node in last_of_block.values():
        shape = shapes.shapes.get(node.name, ())
        if len(shape) == 4 and shape[2] == shape[3] and shape[2] > 1:
            # Unpadded nets are a few cells short: 15 cells of 256 pixels are still stride 16.
            found[2 ** round(math.log2(side / shape[2]))] = (node, shape[1])
    found.pop(1, None)
    require_strides(name, strides, found)
    graph = graph_module.graph
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = ([found[stride][0] for stride in strides],)
    graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module, tuple(found[stride][1] for stride in strides)
