"""Features of a frozen backbone: executed (engine), written (extract) and read again (cache)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostbox.features.cache import CacheRequest, FeatureCache
    from frostbox.features.classic import extract_save_features
    from frostbox.features.engine import create_engine

__all__ = [
    "CacheRequest",
    "FeatureCache",
    "create_engine",
    "extract_save_features",
]

# Loaded on first use: importing this package must not import torch.
_HOME = {
    "CacheRequest": "cache",
    "FeatureCache": "cache",
    "create_engine": "engine",
    "extract_save_features": "classic",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
