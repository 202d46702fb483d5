"""A net executed by PyTorch."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor

from frostbox.errors import BackboneError
from frostbox.features.engine_contract import PRECISION_NAMES, Done, checked, failure_line, parts
from frostbox.features.pictures import Pictures

logger = logging.getLogger("frostbox")


class TorchEngine:
    """PyTorch, channels-last, on any device; eager or compiled."""

    def __init__(
        self,
        pictures: Pictures,
        size: tuple[int, int],
        batch_size: int | None,
        *,
        device: str,
        bf16: bool,
        reason: str,
        compiled: bool = False,
    ) -> None:
        self.kind = "compile" if compiled else "torch"
        self.precision = "bf16" if bf16 else "32"
        self.device = torch.device(device)
        self.batch_size = batch_size or (16 if self.device.type == "cpu" else 64)
        self._size = size
        self.reason = reason
        net = copy.deepcopy(pictures).to(self.device)
        self._net = net.to(memory_format=torch.channels_last)
        self._run = torch.compile(self._net, dynamic=False) if compiled else self._net
        if compiled:
            self._try(pictures.name)

    @property
    def name(self) -> str:
        """See Engine."""
        return (
            f"PyTorch {torch.__version__}, {'compiled' if self.kind == 'compile' else 'eager'}, "
            f"channels-last, {PRECISION_NAMES[self.precision]} on {self.device}"
        )

    def describe(self) -> str:
        """See Engine."""
        return f"{self.name} ({self.reason})"

    def _try(self, name: str) -> None:
        """Compile now, and say what is missing."""
        width, height = self._size
        try:
            self.run(torch.zeros(1, 3, height, width, dtype=torch.uint8))
        except Exception as error:  # dynamo's, inductor's and the compiler's share no base
            raise BackboneError(
                f"torch.compile fails with {name} here ({failure_line(error)}); it needs a C++ "
                "compiler on a CPU and Triton on CUDA; choose engine openvino or torch"
            ) from error

    @torch.inference_mode()
    def run(self, images: Tensor) -> list[Tensor]:
        """See Engine."""
        pictures = checked(images, self._size).permute(0, 2, 3, 1)
        while True:
            try:
                return self._of_all(pictures)
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
            # Here the error holds the net's tensors no more.
            torch.cuda.empty_cache()
            self.batch_size //= 2
            logger.warning(
                "the memory of %s is not enough for batches of %d pictures: %d from now on",
                self.device, 2 * self.batch_size, self.batch_size,
            )  # fmt: skip

    def _of_all(self, pictures: Tensor) -> list[Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            results = [
                [feature.cpu() for feature in self._of(part.to(self.device))]
                for part in parts(pictures, self.batch_size)
            ]
        return [torch.cat(same).contiguous() for same in zip(*results, strict=True)]

    def _of(self, pictures: Tensor) -> tuple[Tensor, ...]:
        count = len(pictures)
        if self.kind == "compile" and count < self.batch_size:
            # One size of batches, so that nothing is compiled again.
            rest = pictures.new_zeros(self.batch_size - count, *pictures.shape[1:])
            return tuple(m[:count] for m in self._run(torch.cat((pictures, rest))))
        maps: tuple[Tensor, ...] = self._run(pictures)
        return maps

    def submit(self, images: Tensor, done: Done) -> None:
        """See Engine."""
        done(self.run(images))

    def wait(self) -> None:
        """Nothing is left to wait for: `submit` has run to the end."""
