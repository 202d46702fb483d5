"""What engines execute: a net from uint8 pictures to feature maps, or to a head's raw outputs."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from frostbox.backbones import Backbone
    from frostbox.heads import Head, Raw


class Pictures(nn.Module, ABC):
    """A net from pictures to maps, or to whatever else: what an engine executes.

    Attributes:
        name: for messages.
    """

    name: str

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Tensors with as many rows as there are pictures.

        Args:
            images: uint8 (B, H, W, 3).
        """


class FeaturePictures(Pictures):
    """Normalisation, backbone, conversion to float16."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone, self.name = backbone, backbone.name

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See Pictures."""
        maps = self.backbone(self.backbone.normalise(images.permute(0, 3, 1, 2)))
        return tuple(feature.half() for feature in maps)


class RawPictures(Pictures):
    """Normalisation, backbone and head: the values of the head's raw outputs, in their order."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.name = f"{backbone.name} with its head"

    def raw(self, images: Tensor) -> Raw:
        """The head's raw outputs for uint8 (B, H, W, 3)."""
        maps = self.backbone(self.backbone.normalise(images.permute(0, 3, 1, 2)))
        found: Raw = self.head(maps)
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See Pictures."""
        found = self.raw(images).values()
        return tuple(v.float() if v.is_floating_point() else v for v in found)


def openvino_model(pictures: Pictures, size: tuple[int, int], batch_size: int) -> Any:
    """The OpenVINO model of a net, for a fixed batch of uint8 NHWC pictures.

    Goes straight to OpenVINO's front end for PyTorch: `openvino.convert_model` does the same and
    sends usage statistics over the network.
    """
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    width, height = size
    net = copy.deepcopy(pictures).cpu().float().eval()
    example = torch.zeros(batch_size, height, width, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # PyTorch's notes on tracing; the result is tested
        trace: Any = torch.jit.trace
        traced = trace(net, example, check_trace=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # named: the front end holds no reference
        model = frontend.convert(frontend.load(decoder))
    model.inputs[0].get_node().set_element_type(Type.u8)
    model.inputs[0].get_node().set_partial_shape(PartialShape(list(example.shape)))
    model.validate_nodes_and_infer_types()
    return model
