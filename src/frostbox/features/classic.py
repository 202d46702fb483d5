"""The classic path: the features and targets of a whole data set in one file for a TensorDataset.

It holds everything in memory and serves small data sets and teaching; the cache (extract.py,
cache.py) serves everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frostbox.errors import DataError


def extract_save_features(
    loader: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    model: nn.Module,
    device: str | torch.device,
    filename: str | Path,
) -> None:
    """Run a model over a loader and save its features with all targets as one dictionary.

    The file is `{"features": float32 (N, C, h, w), ...}` with every key of the targets, whose
    tensors have N as their first dimension too: `labels` of one object an image (N,), `bboxes`
    (N, 4), or on a grid of n x n cells `bboxes` (N, 4, n, n), `has_obj` and `labels` (N, n, n).
    Read it with `torch.load(filename, weights_only=True)`.

    Args:
        loader: gives (images, targets) batches: images float (B, 3, H, W) as the model wants them,
            targets a dictionary of tensors with B as their first dimension.
        model: any module that returns a map or a list of maps, of which the last is taken. It runs
            in eval mode and is left in the mode it was in.
        device: where the model runs; it stays there.
        filename: replaced when it exists, and only once everything is computed.

    Raises:
        DataError: the loader is empty, or targets are not a dictionary of tensors with B rows.
    """
    features: list[Tensor] = []
    targets: dict[str, list[Tensor]] = {}
    training = model.training
    model.to(device).eval()
    try:
        with torch.no_grad():
            for images, batch in loader:
                _check_targets(batch, len(images), targets if features else None)
                output = model(images.to(device))
                last = output if isinstance(output, Tensor) else list(output)[-1]
                features.append(last.float().cpu())
                for key, value in batch.items():
                    targets.setdefault(key, []).append(_one_row_an_image(value))
    finally:
        model.train(training)
    if not features:
        raise DataError("the loader gave no batch; features need at least one image")
    path = Path(filename)
    partial = path.with_name(f"{path.name}.tmp")
    saved = {"features": torch.cat(features), **{k: torch.cat(v) for k, v in targets.items()}}
    torch.save(saved, partial)
    partial.replace(path)


def _one_row_an_image(value: Tensor) -> Tensor:
    """(B, 1) as (B,): a label an image is an index, not a list of one. B = 1 stays a dimension."""
    value = value.detach().cpu()
    value = value.squeeze(1) if value.dim() == 2 and value.shape[1] == 1 else value
    return value.float() if value.is_floating_point() else value


def _check_targets(batch: Any, count: int, before: Mapping[str, list[Tensor]] | None) -> None:
    if not isinstance(batch, Mapping) or not all(isinstance(v, Tensor) for v in batch.values()):
        raise DataError(
            f"the loader's targets are {type(batch).__name__}, not a dictionary of tensors; choose "
            "target_mode 'largest_bbox' or 'all_bbox' with tensors as targets"
        )
    if "features" in batch:
        raise DataError("the loader's targets have a key 'features', which the file needs itself")
    for key, value in batch.items():
        if value.dim() == 0 or len(value) != count:
            raise DataError(
                f"the targets' {key!r} has shape {tuple(value.shape)} for {count} images; its "
                "first dimension must be the image"
            )
    if before is not None and set(batch) != set(before):
        raise DataError(
            f"targets have keys {sorted(batch)} after {sorted(before)} in the batch before; every "
            "batch needs the same"
        )
