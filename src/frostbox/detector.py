"""Detector: backbone + head + selection. It predicts, and it is saved as one safetensors file.

The file holds the weights and, in its header, everything that a prediction depends on. It does
not know how the detector was trained.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from frostbox import backbones
from frostbox.checkpoint import detector_file, read_file, under, weights_origin, write_file
from frostbox.data.annotations import ImageAnnotation
from frostbox.data.transforms import Geometry, apply_image, enough, geometry
from frostbox.detections import Detections
from frostbox.errors import CheckpointError, FrostboxError, SettingsError, one_line
from frostbox.features.engine import create_engine
from frostbox.features.engine_contract import Engine
from frostbox.features.pictures import RawPictures
from frostbox.heads import FeatureSpec, Head, Raw, check_sizes, create_head, settings_of
from frostbox.selection import Selection, Settings
from frostbox.sources import Source, one_ahead, pixels, read_ahead

_LOG = logging.getLogger("frostbox")
_BATCH = 16
_LONG = 600  # characters of what PyTorch says of weights that do not fit
_FEW = 8  # below this many pictures, compiling a faster engine costs more than it saves


class Detector(nn.Module):
    """A trained detector.

    `predict` takes a path, PIL image, uint8 array (H, W, 3) RGB, tensor (3, H, W) uint8 or float
    in [0, 1], or a list of them.
    """

    def __init__(
        self, backbone: backbones.Backbone, head: Head, head_name: str, settings: Settings
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.head_name = backbone, head, head_name
        head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings = settings
        self._engine: Engine | None = None
        self._prepared: Engine | None = None
        self._raw_names: tuple[str, ...] = ()
        self.eval()

    # --- prediction ------------------------------------------------------------------------

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Dense boxes (B, A, 4) normalised xyxy and scores (B, A, K) of uint8 (B, 3, H, W)."""
        return self.decode(self.backbone(self.backbone.normalise(images)))

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The same from the backbone's feature maps, of any float type."""
        return self.head.decode(self.raw(maps))

    def raw(self, maps: Sequence[Tensor]) -> Raw:
        """The head's raw outputs for the backbone's feature maps, of any float type."""
        last = [m.float().contiguous(memory_format=torch.channels_last) for m in maps]
        return self.head(last)  # type: ignore[no-any-return]

    @overload
    def predict(self, images: Sequence[Source], **selection: Any) -> list[Detections]: ...

    @overload
    def predict(self, images: Source, **selection: Any) -> Detections: ...

    def predict(
        self, images: Source | Sequence[Source], **selection: Any
    ) -> Detections | list[Detections]:
        """Find objects. A list gives a list, anything else gives one `Detections`.

        Args:
            images: see the class. A 4-D tensor or array counts as a list.
            selection: `threshold`, `nms`, `suppression`, `flip`, `max_detections`, `calibrated` in
                place of the stored ones; without a threshold each class has its own where training
                measured one.

        Raises:
            NotFoundError, DataError: a path that does not exist or cannot be decoded.
            SettingsError: an argument that is no image, or a selection out of range.
        """
        single = isinstance(images, (str, Path, Image.Image, ImageAnnotation)) or (
            isinstance(images, (np.ndarray, Tensor)) and images.ndim <= 3
        )
        stream = self.predict_stream([images] if single else images, **selection)  # type: ignore[list-item, arg-type]
        found = [detections for _, detections in stream]
        return found[0] if single else found

    def predict_stream(
        self, images: Sequence[Source], *, skip: bool = False, **selection: Any
    ) -> Iterator[tuple[int, Detections]]:
        """Like `predict` of a list, one by one: photos are decoded in threads, ahead of use.

        Args:
            skip: leave out a picture that cannot be decoded, with a warning that names it.

        Yields:
            The position in `images`, and what was found there.
        """
        chosen = self.settings.selection.changed(**selection)
        for rows, raw, geometries in self.raw_stream(images, skip=skip, flip=chosen.flip):
            yield from zip(rows, self.select(raw, geometries, chosen), strict=True)

    @torch.inference_mode()
    def detections(
        self, maps: Sequence[Tensor], geometries: Sequence[Geometry], selection: Selection
    ) -> list[Detections]:
        """Detections of a batch of feature maps, in pixels of the original images."""
        return self.select(self.raw(maps), geometries, selection)

    @torch.inference_mode()
    def select(
        self, raw: Raw, geometries: Sequence[Geometry], selection: Selection
    ) -> list[Detections]:
        """Detections out of the head's raw outputs, in pixels of the original images.

        Args:
            raw: of B pictures; with `selection.flip` of 2 B, the second half mirrored.
            geometries: of the B pictures.
        """
        dense_boxes, dense_scores = (t.cpu() for t in self.head.decode(raw))
        if selection.flip:
            # A mirrored picture's boxes are more boxes of the picture.
            straight, mirrored = dense_boxes.chunk(2)
            mirrored = torch.stack(
                (1 - mirrored[..., 2], mirrored[..., 1], 1 - mirrored[..., 0], mirrored[..., 3]), -1
            )
            dense_boxes = torch.cat((straight, mirrored), 1)
            dense_scores = torch.cat(dense_scores.chunk(2), 1)
        found = []
        for boxes, scores, g in zip(dense_boxes, dense_scores, geometries, strict=True):
            kept, score, label = selection.choose(boxes, scores)
            pixels = g.invert(kept * kept.new_tensor(g.output * 2))
            width, height = g.original
            pixels[:, 0::2] = pixels[:, 0::2].clamp(0, width)
            pixels[:, 1::2] = pixels[:, 1::2].clamp(0, height)
            found.append(
                Detections.create(
                    pixels.numpy(), score.numpy(), label.numpy(), self.settings.classes, g.original
                )
            )
        return found

    def raw_stream(
        self, images: Sequence[Source], *, skip: bool = False, flip: bool = False
    ) -> Iterator[tuple[list[int], Raw, list[Geometry]]]:
        """Batches of the head's raw outputs, in order.

        Args:
            skip: leave out a picture that cannot be decoded, with a warning that names it.
            flip: those of the pictures are followed by those of the mirrored pictures.

        Yields:
            Positions in `images`, the raw outputs, and the geometry of each picture.

        Raises:
            DataError, NotFoundError: a picture that cannot be decoded; with `skip` when all cannot.
        """
        engine = self._engine_for(len(images) if self.settings.resize != "none" else 1)
        batches = self._raw_batches(images, engine, skip, flip)
        # OpenVINO's threads have the next batch while the caller is busy with boxes.
        ahead = engine is not None and engine.kind == "openvino" and len(images) > _BATCH
        yield from one_ahead(batches) if ahead else batches

    def _raw_batches(
        self, images: Sequence[Source], engine: Engine | None, skip: bool, flip: bool
    ) -> Iterator[tuple[list[int], Raw, list[Geometry]]]:
        for rows, ready in read_ahead(images, self.to_input, _BATCH, skip=skip):
            pictures, geometries = zip(*ready, strict=True)
            if self.settings.resize == "none":  # every picture has a size of its own
                for k, (picture, g) in zip(rows, ready, strict=True):
                    yield [k], self.run(_both(picture[None], flip), engine), [g]
            else:
                batch = _both(torch.stack(pictures), flip)
                yield rows, self.run(batch, engine), list(geometries)

    def prepare(self, engine: str = "auto", *, precision: str = "32", latency: bool = True) -> Self:
        """Compile backbone and head for the pictures that follow, also for a single one.

        A program that predicts one picture after the other, as a server does, calls it once: it
        takes seconds, and a picture then takes a fraction of the time. Without it eager PyTorch
        predicts a few pictures, and an engine made at the first call many. Weights are copied into
        the engine: what changes or moves them drops it. One thread at a time may predict.

        Args:
            engine: "auto", "openvino", "torch" or "compile", see features.create_engine. On CUDA
                and MPS only "compile", or another precision, differs from an unprepared detector.
            precision: "32", "bf16", or "auto": bf16 where the machine computes with it.
            latency: tune for one picture at a time instead of for many.

        Raises:
            SettingsError: pictures of any size (resize "none"), for which nothing can be compiled.
        """
        if self.settings.resize == "none":
            raise SettingsError(
                "this detector takes pictures of any size: an engine is compiled for one"
            )
        self._prepared = self._compiled(engine, precision, latency)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._engine = self._prepared = None  # `to` and the like change or move the weights
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """As of any module; engines made from other weights are dropped."""
        self._engine = self._prepared = None
        return super().load_state_dict(*args, **options)

    def _compiled(self, engine: str, precision: str, latency: bool) -> Engine:
        device = str(next(self.backbone.parameters()).device)
        pictures = RawPictures(self.backbone, self.head)
        width, height = self.settings.size
        black = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=device)
        self._raw_names = tuple(pictures.raw(black))
        return create_engine(
            engine, pictures, self.settings.size, device, precision=precision, latency=latency
        )

    def to_input(self, source: Source) -> tuple[Tensor, Geometry]:
        """A picture in the network's size, uint8 (3, h, w), and how it came there."""

        def seen(size: tuple[int, int]) -> Geometry:
            return geometry(self.settings.resize, size, self.settings.size)

        image, size = pixels(source, lambda size: enough([seen(size)]))
        return apply_image(image, seen(size), reduced=True), seen(size)

    def _engine_for(self, count: int) -> Engine | None:
        """What executes the net for so many pictures; None for PyTorch as it is."""
        cpu = next(self.backbone.parameters()).device.type == "cpu"
        if self._prepared is None and count >= _FEW and cpu:
            if self._engine is None:
                self._engine = self._compiled("auto", "32", latency=False)
            return self._engine
        return self._prepared

    @torch.inference_mode()
    def run(self, batch: Tensor, engine: Engine | None = None) -> Raw:
        """The head's raw outputs of uint8 (B, 3, h, w), by `engine` or what `prepare` made."""
        engine = engine or self._prepared
        device = next(self.backbone.parameters()).device
        if engine is not None:
            found = [t.to(device) for t in engine.run(batch)]
            return dict(zip(self._raw_names, found, strict=True))
        return self.raw(self.backbone(self.backbone.normalise(batch.to(device))))

    def configured(self, score: str | None = None, **selection: Any) -> Self:
        """The same detector with another selection, or another score where the head has a choice.

        Thresholds of classes and a temperature were fitted to the score that the head had: another
        one goes without them.

        Raises:
            SettingsError: the head has no such choice, or a value out of range.
        """
        if score is not None:
            choices = getattr(self.head, "SCORES", ())
            if score not in choices:
                raise SettingsError(
                    f"score is '{score}': the {self.head_name} head "
                    + (f"has {' and '.join(choices)}" if choices else "has no choice of score")
                )
            if score != self.head.settings.score:
                selection = {"class_thresholds": None, "temperature": None, **selection}
            self.head.settings = replace(self.head.settings, score=score)  # type: ignore[call-overload]
        chosen = self.settings.selection.changed(**selection)
        self.settings = replace(self.settings, selection=chosen)
        return self

    # --- files -----------------------------------------------------------------------------

    def save(self, path: str | Path, *, head_only: bool = False) -> Path:
        """Write one safetensors file that predicts alone.

        Args:
            head_only: leave the backbone's weights out; `load` then fetches them by name and
                refuses others than these.

        Raises:
            SettingsError: `head_only` for a thawed backbone, whose weights are nowhere else.
        """
        if head_only and self.backbone.thawed:
            raise SettingsError(
                "the backbone was thawed: its weights are in no package, so the detector's file "
                "must hold them; save it without head_only"
            )
        tensors = {f"head.{k}": v for k, v in self.head.state_dict().items()}
        if not head_only:
            tensors |= {f"backbone.{k}": v for k, v in self.backbone.state_dict().items()}
        s, b = self.settings, self.backbone
        header = {
            "backbone": {
                "name": b.name,
                "strides": b.strides,
                "weights": b.weights,
                "weights_hash": b.weights_hash,
                "thawed": b.thawed,
                "included": not head_only,
            },
            "head": {"name": self.head_name, "settings": settings_of(self.head)},
            **s.to_header(mean=b.mean, std=b.std),
        }
        return write_file(Path(path), header, tensors)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Self:
        """Read a detector: its file, the folder of a run, or hf://USER/REPO[@REVISION].

        Raises:
            NotFoundError: no such file. HubError: it cannot be had from the hub.
            CheckpointError: damaged, not a frostbox detector, of a newer format version, or made
                for other backbone weights than those at hand.
        """
        path = detector_file(Path(path))
        header, tensors = read_file(path)
        try:
            return cls._assemble(path, header, tensors).to(device)
        except SettingsError as error:
            raise CheckpointError(
                f"{path} is damaged: its header says that {error}; copy it again or train again"
            ) from error
        except FrostboxError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(
                f"{path} is damaged: its header lacks or garbles {one_line(error)[:_LONG]}; copy "
                "it again or train again"
            ) from error

    @classmethod
    def _assemble(cls, path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        settings = Settings.from_header(header)
        info, included = header["backbone"], header["backbone"]["included"]
        backbone = backbones.create(
            info["name"],
            info["strides"],
            "random" if included else weights_origin(info["weights"], path),
        )
        try:
            if included:
                backbone.load_state_dict(under(tensors, "backbone."))
                backbone.weights = info["weights"]
                backbone.thawed = info.get("thawed", False)
            maps = backbone.map_sizes(settings.size)
            spec = FeatureSpec(backbone.strides, backbone.channels, maps)
            what = header["head"]["name"], spec, len(settings.classes), header["head"]["settings"]
            weights = under(tensors, "head.")
            check_sizes(header["head"]["settings"])
            with torch.device("meta"):  # without memory: a header may ask for any amount of it
                create_head(*what).load_state_dict(weights, assign=True)
            head = create_head(*what)
            head.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} does not fit the {info['name']} backbone and {header['head']['name']} "
                f"head that its header names: {one_line(error)[:_LONG]}"
            ) from error
        if not included and backbone.weights_hash != info["weights_hash"]:
            raise CheckpointError(
                f"{path} holds the head only, made for other weights of {info['name']} than those "
                "installed here: install the backbone package of that time, or train again"
            )
        return cls(backbone, head, header["head"]["name"], settings)


def _both(pictures: Tensor, flip: bool) -> Tensor:
    return torch.cat((pictures, pictures.flip(3))) if flip else pictures
