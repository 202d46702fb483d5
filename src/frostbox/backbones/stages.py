"""The last stages of a backbone, cut off so that they can be trained.

A stage is what lies between one feature map and the next coarser one; the first lies between the
photo and the finest map. A cache of the maps up to a boundary is all that the stages above it need,
so those can be trained without running the frozen part again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from frostbox.backbones.contract import Backbone
from frostbox.errors import BackboneError, SettingsError


class Stages(nn.Module):
    """The last `count` stages, sharing their weights with the backbone they come from.

    What is trained are convolutions and linear layers. Batch norm is frozen, statistics and
    weights (as torchvision's FrozenBatchNorm2d), and on a CPU so are depthwise filters: they hold
    2 % of the weights of such a net, and their gradients would take more than half of the time.

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

    def thaw(self, depthwise: bool = False) -> Self:
        """Let the weights learn, but those of norms.

        Args:
            depthwise: those of depthwise convolutions too.
        """
        for module in self.modules():
            kept = isinstance(module, _NORMS) or (not depthwise and _depthwise(module))
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


class _Convolution(nn.Module):
    """A convolution with the frozen batch norm that follows it folded into its weights.

    Exact, because that norm is linear: y = scale (w * x) + (bias - scale mean) with
    scale = weight / sqrt(variance + eps). The maps are passed over once instead of twice, there and
    back.

    A strided depthwise convolution in bfloat16 on a CPU is computed at every place and thinned out:
    measured there for 672 channels at 20 x 20, there and back, the gradient of a strided one's
    input alone takes 255 ms, one in float32 46 ms with its copies, and this 10 ms.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
        from timm.layers import get_same_padding  # type: ignore[attr-defined]
        from timm.layers.conv2d_same import Conv2dSame

        super().__init__()
        self.conv, self.norm = conv, norm
        self._same = get_same_padding if isinstance(conv, Conv2dSame) else None
        half = tuple(size // 2 for size in conv.kernel_size)
        self._thinned = (
            _depthwise(conv)
            and max(conv.stride) > 1
            and all(size % 2 for size in conv.kernel_size)
            and set(conv.dilation) == {1}
            and (self._same is not None or (conv.padding == half and conv.padding_mode == "zeros"))
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        weight, bias = conv.weight, conv.bias
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight = weight * scale[:, None, None, None]
            bias = norm.bias + scale * ((0 if bias is None else bias) - norm.running_mean)
        half = [size // 2 for size in conv.kernel_size]
        around = [(h, h) for h in half]  # zeros before the first row and column and after the last
        if self._same is not None:
            sides = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True)
            whole = [self._same(*side) for side in sides]
            around = [(w // 2, w - w // 2) for w in whole]
        if self._thinned and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            every = F.conv2d(x, weight, bias, 1, half, 1, conv.groups)
            first = [h - before for h, (before, _) in zip(half, around, strict=True)]
            thinned: Tensor = _Thinned.apply(every, first, conv.stride)  # type: ignore[no-untyped-call]
            return thinned
        if self._same is not None:
            x = F.pad(x, [*around[1], *around[0]])
        y: Tensor = conv._conv_forward(x, weight, bias)
        return y


class _Thinned(torch.autograd.Function):
    """Every so many rows and columns of a map, beginning with `first`; channels last both ways."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Sequence[int], strides: Sequence[int]) -> Tensor:
        ctx.places = tuple(slice(f, None, s) for f, s in zip(first, strides, strict=True))
        ctx.shape = x.shape
        return x[(..., *ctx.places)].contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        whole = torch.empty(
            ctx.shape, dtype=gradient.dtype, memory_format=torch.channels_last
        ).zero_()
        whole[(..., *ctx.places)] = gradient
        return whole, None, None


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
    _fold(module, part)
    return module


def _fold(module: fx.GraphModule, part: fx.Graph) -> None:
    """Put a `_Convolution` in the place of every convolution, with its norm where it has one."""
    from timm.layers import BatchNormAct2d  # type: ignore[attr-defined]
    from timm.layers.conv2d_same import Conv2dSame

    calls = Counter(str(node.target) for node in part.nodes if node.op == "call_module")

    def called(node: fx.Node, *kinds: type[nn.Module]) -> nn.Module | None:
        """The module of exactly one of these types that this node, and no other, calls."""
        if node.op != "call_module" or calls[str(node.target)] > 1:
            return None
        inner = module.get_submodule(str(node.target))
        return inner if type(inner) in kinds else None

    for node in list(part.nodes):
        conv = called(node, nn.Conv2d, Conv2dSame)
        if not isinstance(conv, nn.Conv2d):
            continue
        norm = None
        if len(node.users) == 1:
            (after,) = node.users
            found = called(after, nn.BatchNorm2d, BatchNormAct2d)
            if isinstance(found, nn.BatchNorm2d) and found.affine and found.track_running_stats:
                norm = found
                # timm's norms are followed by their own activation.
                module.set_submodule(str(after.target), getattr(norm, "act", nn.Identity()))
        module.set_submodule(str(node.target), _Convolution(conv, norm))
