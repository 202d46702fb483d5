"""Any timm model by its name, as timm's own `features_only` net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from torch import nn

from frostbox.backbones.contract import IMAGENET_MEAN, IMAGENET_STD, Backbone, require_strides
from frostbox.backbones.weights import (
    OFFLINE,
    fits,
    load_weights,
    random_seed,
    read_state,
    require_hub,
    short_timeout,
)
from frostbox.errors import BackboneError


def build_timm(name: str, strides: tuple[int, ...], weights: str) -> Backbone:
    """The backbone; `weights` is "auto", "random:SEED" (seeded by the caller) or a file."""
    auto = weights == "auto"
    label = weights
    if auto:
        cfg = timm.get_pretrained_cfg(name)
        if cfg is None or not cfg.has_weights:
            raise BackboneError(f"timm has no pretrained weights for {name}; {OFFLINE}")
        label = f"timm/{cfg.architecture}.{cfg.tag}" if cfg.tag else f"timm/{cfg.architecture}"
        require_hub(name, cfg.hf_hub_id)
    state = None if auto or random_seed(weights) is not None else read_state(weights)
    with short_timeout():
        try:
            body, channels = timm_features(name, name, strides, pretrained=auto)
        except OSError as error:
            raise BackboneError(
                f"the weights {label} could not be fetched ({error}); {OFFLINE}"
            ) from error
    if state is not None:
        if not fits(body, state):
            # timm renames modules when it wraps a net for features: let it do the loading.
            full = create_model(name, pretrained=False)
            head = tuple(f"{part}." for part in _as_tuple(full.pretrained_cfg.get("classifier")))
            kept = {key: value for key, value in state.items() if not key.startswith(head)}
            load_weights(full, kept, name, weights, optional=head)
            overlay = {"state_dict": kept}
            body, _ = timm_features(name, name, strides, pretrained=True, overlay=overlay)
        else:
            load_weights(body, state, name, weights)
        label = Path(weights).name
    cfg_values = timm.get_pretrained_cfg(name)
    return Backbone(
        body,
        name=name,
        strides=strides,
        channels=channels,
        mean=cfg_values.mean if cfg_values else IMAGENET_MEAN,
        std=cfg_values.std if cfg_values else IMAGENET_STD,
        weights=label,
    )


def create_model(name: str, **options: Any) -> Any:
    """timm's `create_model`, whose nets carry more than nn.Module declares."""
    return timm.create_model(name, **options)


def timm_features(
    name: str,
    timm_name: str,
    strides: tuple[int, ...],
    *,
    pretrained: bool = False,
    overlay: dict[str, Any] | None = None,
) -> tuple[nn.Module, tuple[int, ...]]:
    """The `features_only` net of timm with the maps of the given strides, and their channels."""
    try:
        every = create_model(timm_name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise BackboneError(
            f"timm cannot give feature maps of {name} ({error}); choose another model"
        ) from error
    # Of several maps with one stride (a ViT has only such) the deepest is the one to learn from.
    index = {int(stride): k for k, stride in enumerate(every.feature_info.reduction())}
    require_strides(name, strides, index)
    indices = tuple(every.feature_info.out_indices[index[stride]] for stride in strides)
    body = create_model(
        timm_name,
        pretrained=pretrained,
        features_only=True,
        out_indices=indices,
        **({"pretrained_cfg_overlay": overlay} if overlay else {}),
    )
    return body, tuple(body.feature_info.channels())


def _as_tuple(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
