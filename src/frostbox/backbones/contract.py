"""What every backbone is: frozen, with strides, channels and preprocessing known before any run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from frostbox.errors import BackboneError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A frozen feature extractor: normalised images in, feature maps out, finest first.

    Frozen means: eval mode whatever `train()` is asked for, no gradients, batch-norm statistics
    untouched. A `state_dict` loaded into it changes `weights_hash` with it.

    Attributes:
        name: what `create` was asked for, aliases resolved.
        strides: input pixels for one cell of each map, finest first, such as (8, 16, 32).
        channels: channels of each map, in the same order.
        mean, std: of each of the 3 channels, for images in [0, 1].
        weights: what was loaded: a package, an enum member, "random:SEED" or a file name.
        thawed: whether they have been trained further since.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        name: str,
        strides: Sequence[int],
        channels: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        weights: str,
    ) -> None:
        super().__init__()
        self.body = body
        self.name = name
        self.strides = tuple(strides)
        self.channels = tuple(channels)
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.weights = weights
        self.thawed = False
        self._hash: str | None = None
        self._map_sizes: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: batch-norm statistics of a frozen backbone must not drift."""
        return super().train(False)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As nn.Module's; the hash of the weights follows what was loaded."""
        self._hash = None
        return super().load_state_dict(*args, **kwargs)

    def retrained(self) -> None:
        """Note that the weights were changed in place."""
        self.thawed, self._hash = True, None

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            images: (B, 3, H, W) float, normalised with `mean` and `std` (see `normalise`).

        Returns:
            One (B, C, h, w) float map per stride, finest first.
        """
        return list(self.body(images))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) images as float32, with the backbone's mean and standard deviation."""
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1) * 255
        return (images.float() - mean) / std

    @property
    def weights_hash(self) -> str:
        """sha256, in hex, of names, shapes and values of all weights of this cut of the net."""
        if self._hash is None:
            digest = hashlib.sha256()
            for key, tensor in self.body.state_dict().items():
                # The counter of batches is no weight: it changes nothing that the net computes.
                if not key.endswith("num_batches_tracked"):
                    value = tensor.detach().cpu().contiguous()
                    digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
                    digest.update(value.flatten().view(torch.uint8).numpy())
            self._hash = digest.hexdigest()
        return self._hash

    @torch.inference_mode()
    def map_sizes(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """(height, width) of each map for images of `size` (width, height), by running it once."""
        if size not in self._map_sizes:
            width, height = size
            weight = next(self.parameters())
            image = torch.zeros(1, 3, height, width, device=weight.device, dtype=weight.dtype)
            try:
                maps = self(image)
            except RuntimeError as error:
                raise BackboneError(
                    f"{self.name} cannot run on images of {width} x {height} pixels ({error}); "
                    "choose a larger size"
                ) from error
            self._map_sizes[size] = tuple((int(m.shape[2]), int(m.shape[3])) for m in maps)
        return self._map_sizes[size]


def require_strides(name: str, strides: Sequence[int], available: Mapping[int, object]) -> None:
    """Raise BackboneError, naming the strides that a net has, when one asked for is missing."""
    missing = [stride for stride in strides if stride not in available]
    if missing:
        raise BackboneError(
            f"{name} has no feature map of stride {listed(missing)}; it has "
            f"{listed(sorted(available)) or 'none'}"
        )


def listed(values: Sequence[int]) -> str:
    """8, 16, 32."""
    return ", ".join(str(value) for value in values)
