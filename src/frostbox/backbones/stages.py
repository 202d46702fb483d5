"""The last stages of a backbone, cut off so that they can be trained.

A stage is what lies between one feature map and the next coarser one; the first lies between the
photo and the finest map. A cache of the maps up to a boundary is all that the stages above it need,
so those can be trained without running the frozen part again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, fx, nn

from frostbox.backbones.contract import Backbone
from frostbox.errors import BackboneError, SettingsError


class Stages(nn.Module):
    """The last `count` stages, sharing their weights with the backbone they come from.

    What is trained are dense convolutions and linear layers. Batch norm is frozen, statistics and
    weights (as torchvision's FrozenBatchNorm2d), and so are depthwise filters: they hold 2 % of
    the weights of such a net, and their gradients would take more than half of the time.

    Attributes:
        reads: the strides of the maps that `forward` takes, finest first; () for the photos.
    """

    def __init__(self, backbone: Backbone, count: int) -> None:
        super().__init__()
        most = len(backbone.strides)
        if not 1 <= count <= most:
            raise SettingsError(
                f"{backbone.name} has {most} stages here, one a feature map: thaw 1 to {most}, or "
                "all of them"
            )
        self.reads = backbone.strides[: most - count]
        self.parts = nn.ModuleList(_stages(backbone)[most - count :])
        self._normalise = backbone.normalise
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: batch-norm statistics must not drift."""
        return super().train(False)

    def thaw(self) -> Self:
        """Let the weights learn, but those of norms and depthwise convolutions."""
        for module in self.modules():
            kept = isinstance(module, _NORMS) or _depthwise(module)
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(not kept)
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def freeze(self) -> Self:
        """The weights as they are, without gradients."""
        return self.requires_grad_(False)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """All maps of the backbone.

        Args:
            maps: float (B, C, h, w), those of the strides in `reads`; where that is empty, one
                uint8 (B, 3, H, W) of photos.
        """
        photos = not self.reads
        result = [] if photos else list(maps)
        value = self._normalise(maps[0]) if photos else maps[-1]
        if photos:
            value = value.contiguous(memory_format=torch.channels_last)
        for part in self.parts:
            value = part(value)
            result.append(value)
        return result


_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels


class _Float32OnCpu(nn.Module):
    """A strided depthwise convolution in float32.

    Measured: 16 ms for the gradient of its input where bfloat16 takes 255 on a CPU that multiplies
    it; everything else of such a net is faster in bfloat16.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            value: Tensor = self.conv(x)
            return value
        with torch.autocast("cpu", enabled=False):
            value = self.conv(x.float())
        return value.to(x.dtype)


class _Tracer(fx.Tracer):
    """Like timm's: modules that choose by the size of their input stay whole, and norms do."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        from timm.layers import is_notrace_module  # type: ignore[attr-defined]

        whole = isinstance(m, _NORMS) or is_notrace_module(type(m))
        return whole or super().is_leaf_module(m, module_qualified_name)


def _stages(backbone: Backbone) -> list[fx.GraphModule]:
    """One module a map: from the map before it (or the normalised photo) to it."""
    try:
        graph = _Tracer().trace(backbone.body)
    except (fx.proxy.TraceError, TypeError, RuntimeError, AssertionError) as error:
        raise BackboneError(
            f"{backbone.name} cannot be cut into stages ({str(error).splitlines()[0]}); choose "
            "another backbone, or train without thawing"
        ) from error
    (image,) = (node for node in graph.nodes if node.op == "placeholder")
    (output,) = (node for node in graph.nodes if node.op == "output")
    maps = list(output.args[0])
    return [
        _between(backbone, graph, start, end)
        for start, end in zip([image, *maps], maps, strict=False)
    ]


def _between(backbone: Backbone, graph: fx.Graph, start: fx.Node, end: fx.Node) -> fx.GraphModule:
    """The part of a graph that computes `end` from `start` alone."""
    needed: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is start or node in needed:
            continue
        if node.op == "placeholder":
            raise BackboneError(
                f"{backbone.name} cannot be cut into stages: a coarser map needs more than the "
                "next finer one; train without thawing"
            )
        needed.add(node)
        waiting += node.all_input_nodes
    part = fx.Graph()
    copies = {start: part.placeholder("maps")}
    for node in graph.nodes:
        if node in needed:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(copies[end])
    module = fx.GraphModule(backbone.body, part)
    for node in part.nodes:
        inner = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(inner, nn.Conv2d) and _depthwise(inner) and max(inner.stride) > 1:
            module.set_submodule(str(node.target), _Float32OnCpu(inner))
    return module
