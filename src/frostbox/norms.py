"""Batch norm whose statistics are those of the whole batch, when several processes share one.

On CUDA that is PyTorch's SyncBatchNorm. That refuses a CPU, for which there is `SharedNorm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from frostbox import ranks

_Norm = nn.modules.batchnorm._BatchNorm


class SharedNorm(_Norm):
    """Batch norm over the parts of a batch that all processes have, as SyncBatchNorm.

    Every process must have some of the batch. Outside of a training, and for inputs of any number
    of dimensions, it is plain batch norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) of any float type, which comes out again."""
        if not (self.training and ranks.sharing()):
            return super().forward(input)
        weight, bias = self.weight, self.bias
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        if weight is None:
            weight, bias = x.new_ones(self.num_features), x.new_zeros(self.num_features)
        found, mean, var, number = _Shared.apply(x, weight, bias, self.eps)  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = self.momentum
            if momentum is None:
                momentum = 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * number / (number - 1).clamp(min=1), momentum)
        result: Tensor = found.to(input.dtype)
        return result


class _Shared(torch.autograd.Function):
    """Ioffe & Szegedy, ICML 2015, algorithm 1 and the gradients of section 3, summed over parts."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        size = x.new_tensor([x.numel() // x.shape[1]])
        sums = _summed(torch.cat((x.sum(dims), size)))
        mean, number = sums[:-1] / sums[-1], sums[-1]
        # Not from the sum of squares: what is far from 0 would lose its variance in rounding.
        centred = x - mean.view(shape)
        var = _summed(centred.square().sum(dims)) / number
        scale = torch.rsqrt(var + eps)
        normal = centred.mul_(scale.view(shape))
        ctx.save_for_backward(normal, weight, scale, number)
        ctx.mark_non_differentiable(mean, var, number)
        return normal * weight.view(shape) + bias.view(shape), mean, var, number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normal, weight, scale, number = ctx.saved_tensors
        dims = [d for d in range(above.ndim) if d != 1]
        shape = [1, -1] + [1] * (above.ndim - 2)
        of_bias, of_weight = above.sum(dims), (above * normal).sum(dims)
        total = _summed(torch.stack((of_bias, of_weight))) / number
        inner = above - total[0].view(shape) - normal * total[1].view(shape)
        # Those of the weights stay this part's: data-parallel training takes their mean itself.
        return inner * (weight * scale).view(shape), of_weight, of_bias, None


def _summed(values: Tensor) -> Tensor:
    dist.all_reduce(values)
    return values


@contextmanager
def shared_norms(module: nn.Module, device: str = "cpu") -> Iterator[None]:
    """Inside, the batch norms of `module` share their statistics, if there are several processes.

    At the end they are as they were, with what they learned.
    """
    if ranks.count() == 1:
        yield
        return
    usual = {n: m for n, m in module.named_modules() if isinstance(m, _Norm)}
    for name, norm in usual.items():
        module.set_submodule(name, _shared(norm, device == "cuda"))
    try:
        yield
    finally:
        for name, norm in usual.items():
            learned = module.get_submodule(name)
            norm.train(learned.training).load_state_dict(learned.state_dict())
            module.set_submodule(name, norm)


def _shared(norm: _Norm, cuda: bool) -> nn.Module:
    """One that shares, with copies of the parameters and statistics of `norm`."""
    kind = nn.SyncBatchNorm if cuda else SharedNorm
    made = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    assert norm.running_mean is not None
    made.to(norm.running_mean).load_state_dict(norm.state_dict())
    return made.train(norm.training)
