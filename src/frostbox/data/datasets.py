"""The classic data sets: a photo and its target, one at a time, straight from the files.

They follow the Pascal VOC practical: raw integer boxes, four kinds of target. frostbox's own
training goes through `targets.targets` and the feature cache instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from frostbox.data.annotations import DetectionSet, ImageAnnotation
from frostbox.data.named import kept_in
from frostbox.data.photos import check_photo_sizes, read_image
from frostbox.data.targets import (
    ClassicObject,
    encode_objects,
    filter_largest,
    preprocess_target,
    target_to_tensor,
    targets_to_grid_cell_tensor,
)
from frostbox.data.transforms import MODES, Geometry, apply_image, geometry
from frostbox.data.voc import load, read_annotation
from frostbox.errors import SettingsError

logger = logging.getLogger("frostbox")

TARGET_MODES = ("orig", "preprocessed", "largest_bbox", "all_bbox")


def make_trainval_dataset(
    dataset_dir: str | Path,
    image_transform_params: Mapping[str, Any],
    transform: Callable[[Image.Image], Any] | None,
    target_transform_params: Mapping[str, Any],
    download: bool = False,
) -> tuple[ClassicDataset, ClassicDataset]:
    """The training and the validation set of a folder in VOC layout.

    Args:
        dataset_dir: the parent of VOCdevkit/VOC2012, or any folder in VOC layout: a year folder,
            its VOCdevkit, or the parent of that.
        image_transform_params: `{'image_mode': 'none'}`, or 'shrink' (squeeze), 'crop' (centre) or
            'letterbox' (scale evenly and pad) with
            `'output_image_size': {'width': w, 'height': h}` in pixels.
        transform: called with each PIL image after that; None gives the PIL image itself.
        target_transform_params: `{'target_mode': mode}`, where mode is 'orig' (the XML as nested
            dictionary of strings), 'preprocessed' (numbers as int, flags as bool),
            'largest_bbox' (`target_to_tensor` of the largest object) or 'all_bbox' with
            `'num_cells': n` (`targets_to_grid_cell_tensor`). The last two may repeat
            `'image_transform_params'`.
        download: whether to fetch VOC2012 into `dataset_dir` first, unless it is there.

    Returns:
        `(train_dataset, valid_dataset)`, each item `(image, target)`. Photos that a list names and
        the folder lacks are left out with a warning, as are for 'largest_bbox' the images that
        keep no box after the image transform; 'all_bbox' keeps those, empty.

    Raises:
        SettingsError: a key or value of the two dictionaries that is not known.
        NotFoundError: no such folder or list, or the download failed.
        DataError: annotations or photos that cannot be used, or no photo for the training set.
    """
    image_mode, size = _image_settings(image_transform_params, "image_transform_params")
    target_mode, num_cells = _target_settings(target_transform_params, image_transform_params)
    folder = Path(dataset_dir).expanduser()
    if download:
        kept_in("voc2012", folder)
    voc2012 = folder / "VOCdevkit" / "VOC2012"
    root = voc2012 if voc2012.is_dir() else folder
    train = load(root, "train", require_photos=True)
    valid = load(root, "val", classes=train.classes)
    settings = (image_mode, size, transform, target_mode, num_cells)
    return ClassicDataset(train, *settings), ClassicDataset(valid, *settings)


class ClassicDataset(Dataset[tuple[Any, Any]]):
    """One split as pairs of image and target; made by `make_trainval_dataset`."""

    def __init__(
        self,
        annotations: DetectionSet,
        image_mode: str,
        size: tuple[int, int] | None,
        transform: Callable[[Image.Image], Any] | None,
        target_mode: str,
        num_cells: int,
    ) -> None:
        """Keep the images that can be items; compare photo sizes with annotations.

        Args:
            annotations: the split.
            image_mode: one of `transforms.MODES`.
            size: (width, height) of the output in pixels; None for mode "none".
            transform: called with each PIL image; None for none.
            target_mode: one of `TARGET_MODES`.
            num_cells: rows and columns of the grid; read for "all_bbox" only.

        Raises:
            DataError: a photo of another size than its annotation says.
        """
        self.classes = list(annotations.classes)
        self._image_mode = image_mode
        self._size = size
        self._transform = transform
        self._target_mode = target_mode
        self._num_cells = num_cells
        images = check_photo_sizes(annotations.subset(annotations.photos)).images
        if target_mode == "largest_bbox":
            kept = tuple(image for image in images if self._objects(image))
            if len(kept) < len(images):
                logger.warning(
                    "%s of the %s images of %s %s keep no box after the image transform and are "
                    "left out.",
                    len(images) - len(kept), len(images), annotations.name, annotations.split,
                )  # fmt: skip
            images = kept
        self.images: tuple[ImageAnnotation, ...] = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = self.images[index]
        assert image.photo is not None
        pixels = read_image(image.photo, exif=image.exif).permute(1, 2, 0).contiguous().numpy()
        picture = apply_image(Image.fromarray(pixels), self._geometry(image))
        target = self._target(image)
        return (picture if self._transform is None else self._transform(picture)), target

    def _geometry(self, image: ImageAnnotation) -> Geometry:
        return geometry(self._image_mode, (image.width, image.height), self._size)

    def _objects(self, image: ImageAnnotation) -> list[ClassicObject]:
        tree = preprocess_target(read_annotation(image.source))
        return encode_objects(tree, self.classes, self._geometry(image))

    def _target(self, image: ImageAnnotation) -> dict[str, Any]:
        if self._target_mode == "orig":
            return read_annotation(image.source)
        if self._target_mode == "preprocessed":
            return preprocess_target(read_annotation(image.source))
        if self._target_mode == "largest_bbox":
            return target_to_tensor(filter_largest(self._objects(image)))
        return targets_to_grid_cell_tensor(self._objects(image), self._num_cells)


def _image_settings(params: Mapping[str, Any], where: str) -> tuple[str, tuple[int, int] | None]:
    """The mode and the output size (width, height)."""
    _check_keys(params, {"image_mode", "output_image_size"}, where)
    mode = params.get("image_mode")
    if mode not in MODES:
        raise SettingsError(f"{where}['image_mode'] is {mode!r}; choose one of {', '.join(MODES)}.")
    if mode == "none":
        return mode, None
    size = params.get("output_image_size")
    if not isinstance(size, Mapping) or set(size) != {"width", "height"}:
        raise SettingsError(
            f"{where}['output_image_size'] is {size!r}; image_mode {mode!r} needs "
            "{'width': w, 'height': h}."
        )
    for side in ("width", "height"):
        _check_count(size[side], f"{where}['output_image_size'][{side!r}]", "pixels")
    return mode, (size["width"], size["height"])


def _target_settings(params: Mapping[str, Any], image_params: Mapping[str, Any]) -> tuple[str, int]:
    """The target mode and the number of cells (0 where there is no grid)."""
    where = "target_transform_params"
    _check_keys(params, {"target_mode", "num_cells", "image_transform_params"}, where)
    mode = params.get("target_mode")
    if mode not in TARGET_MODES:
        raise SettingsError(
            f"{where}['target_mode'] is {mode!r}; choose one of {', '.join(TARGET_MODES)}."
        )
    own = params.get("image_transform_params")
    if own is not None:
        name = f"{where}['image_transform_params']"
        if _image_settings(own, name) != _image_settings(image_params, "image_transform_params"):
            raise SettingsError(
                f"{name} is {dict(own)!r} and image_transform_params is {dict(image_params)!r}; "
                "boxes fit the image only when both are the same."
            )
    if mode != "all_bbox":
        return mode, 0
    _check_count(params.get("num_cells"), f"{where}['num_cells']", "cells")
    return mode, params["num_cells"]


def _check_keys(params: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(params) - known)
    if unknown:
        raise SettingsError(
            f"{where} has the unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}."
        )


def _check_count(value: Any, where: str, unit: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SettingsError(f"{where} is {value!r}; give a whole number of {unit}, at least 1.")
