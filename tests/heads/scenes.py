"""Feature maps and targets for the tests of heads."""

from __future__ import annotations

import torch
from torch import Tensor

from frostbox.heads import FeatureSpec

SPEC = FeatureSpec((8, 16, 32), (6, 8, 10), ((8, 12), (4, 6), (2, 3)))


def maps(batch: int = 2, seed: int = 0) -> list[Tensor]:
    """Random maps of SPEC."""
    g = torch.Generator().manual_seed(seed)
    shapes = zip(SPEC.channels, SPEC.sizes, strict=True)
    return [torch.randn(batch, c, *s, generator=g) for c, s in shapes]


def target(*objects: tuple[float, ...]) -> dict[str, Tensor]:
    """(cx, cy, w, h, label) ... as the targets of one image."""
    return {
        "boxes": torch.tensor([o[:4] for o in objects], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([int(o[4]) for o in objects], dtype=torch.int64),
        "difficult": torch.zeros(len(objects), dtype=torch.bool),
    }
