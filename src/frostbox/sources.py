"""What `predict` takes as a picture -> pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frostbox.data.annotations import ImageAnnotation
from frostbox.data.photos import read_enough, rgb_array
from frostbox.errors import NotFoundError, SettingsError

Source = str | Path | Image.Image | NDArray[np.uint8] | Tensor | ImageAnnotation


def pixels(
    source: Source, share: Callable[[tuple[int, int]], float] = lambda _: 1.0
) -> tuple[Tensor, tuple[int, int]]:
    """Any accepted picture as uint8 (3, H, W), RGB, and its (width, height).

    Args:
        share: of the sides that is enough, given (width, height): a photo may then come with fewer
            pixels, see photos.read_enough.

    Raises:
        NotFoundError, DataError: a path that does not exist or cannot be decoded.
        SettingsError: no picture.
    """
    if isinstance(source, ImageAnnotation):
        if source.photo is None:
            raise NotFoundError(f"{source.image_id} has no photo: there is nothing to predict on")
        return read_enough(source.photo, source.exif, share)
    if isinstance(source, (str, Path)):
        return read_enough(source, True, share)
    picture = _given(source)
    return picture, (int(picture.shape[2]), int(picture.shape[1]))


def _given(source: Image.Image | NDArray[np.uint8] | Tensor) -> Tensor:
    """A picture that is in memory already."""
    if isinstance(source, Image.Image):
        return torch.from_numpy(rgb_array(source, "the PIL image")).permute(2, 0, 1)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3):
            raise SettingsError(
                f"an array of {source.dtype} {source.shape} is no image: "
                "give uint8 of shape (height, width, 3), RGB"
            )
        return torch.from_numpy(np.array(Image.fromarray(source).convert("RGB"))).permute(2, 0, 1)
    if isinstance(source, Tensor) and source.ndim == 3 and source.shape[0] == 3:
        if source.dtype == torch.uint8:
            return source.cpu()
        if source.is_floating_point():
            return (source.cpu().float() * 255).round().clamp(0, 255).to(torch.uint8)
    what = f"{source.dtype} {tuple(source.shape)}" if isinstance(source, Tensor) else repr(source)
    raise SettingsError(
        f"{what} is no image: give a path, a PIL image, a uint8 array (height, width, 3), or a "
        "tensor (3, height, width) of uint8 or of floats in [0, 1]"
    )
