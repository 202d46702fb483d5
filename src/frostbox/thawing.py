"""Thawing: train the last stages of the backbone with the head, from a cache or from photos.

Stages above a boundary need only the cached maps up to it, whatever the cache was made for. When
all stages learn there is nothing to cache: photos are decoded in every epoch, each time in a view
of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from frostbox.backbones import Backbone
from frostbox.backbones.stages import Stages
from frostbox.data.annotations import DetectionSet
from frostbox.data.targets import targets
from frostbox.data.views import View, endless_view
from frostbox.errors import SettingsError
from frostbox.features.cache import FeatureCache
from frostbox.features.index import canvas
from frostbox.features.shards import load_views
from frostbox.heads import Head
from frostbox.sampling import Row
from frostbox.steps import Batch
from frostbox.threads import helping_threads
from frostbox.training import CachedViews, Samples

NONE, ALL = "none", "all"
_MOST_DRAWS = 1 << 30
_DECODERS = 4  # threads of this process


def stage_count(thaw: str, available: int) -> int:
    """How many stages "none", "all" or a number stand for.

    Raises:
        SettingsError: none of these, or more than there are.
    """
    if thaw == NONE:
        return 0
    if thaw == ALL:
        return available
    if not thaw.isdecimal() or not 1 <= int(thaw) <= available:
        raise SettingsError(
            f"thaw is '{thaw}': give none, all, or a number of stages from 1 to {available} (one a "
            f"feature map that the head reads; {available} is all of them, from the photo on)"
        )
    return int(thaw)


class PhotoViews(Samples):
    """Photos as uint8 pictures and the targets in their view, drawn anew in every epoch.

    Rows are (image, draw): the draw decides the view, so a resumed run sees the same pictures.

    Attributes:
        ids: of the images. views: how many draws there are; 1 for the photo as it is.
        objects: how many objects each image has.
    """

    decodes = True

    def __init__(
        self,
        dataset: DetectionSet,
        cache: FeatureCache,
        backbone: Backbone,
        head: Head,
        *,
        difficult: bool = True,
        drawn: bool = True,
    ) -> None:
        known = {image.image_id: image for image in dataset.photos}
        self._images = [known[image_id] for image_id in cache.ids]
        self.ids, self._sizes = cache.ids, cache.original_sizes
        request = cache.index.request
        self._dataset, self._head = dataset, head
        self._size, self._mode = request.size, request.mode
        self._fill = canvas(backbone)
        self._difficult, self._drawn = difficult, drawn
        self.views = _MOST_DRAWS if drawn else 1
        self.objects = [
            sum(not o.crowd and (difficult or not o.difficult) for o in image.objects)
            for image in self._images
        ]

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, rows: Sequence[Row]) -> Batch:
        """[uint8 (B, 3, H, W)] and the encoded targets.

        Photos are decoded in threads; in one of several processes, one after the other.
        """
        if get_worker_info() is not None:
            loaded = [self._load(row) for row in rows]
        else:
            with helping_threads(_DECODERS, "decode") as pool:
                loaded = list(pool.map(self._load, rows))
        pictures, found = zip(*loaded, strict=True)
        return [torch.stack(pictures)], self._head.encode(found)

    def _load(self, row: Row) -> tuple[Tensor, dict[str, Tensor]]:
        number, draw = row
        image = self._images[number]
        view = View("original")
        if self._drawn:
            view = endless_view(draw, self._fill, mosaics=not self._head.whole)
        _, (picture,) = load_views(image, self._mode, self._size, [view], self._images)
        parts = []
        shown = (number, *view.partners(image.image_id, len(self._images)))
        for part, k in enumerate(shown):
            place = view.geometry(image.image_id, self._mode, self._sizes[k], self._size, part)
            known = self._images[k]
            parts.append(targets(known, self._dataset, place, difficult=self._difficult))
        return picture, {name: torch.cat([found[name] for found in parts]) for name in parts[0]}


def samples(
    cache: FeatureCache,
    dataset: DetectionSet,
    backbone: Backbone,
    head: Head,
    stages: Stages | None,
    *,
    difficult: bool = True,
    drawn: bool = True,
) -> Samples:
    """What the head, or the stages below it, learn from: maps of the cache, or its photos.

    Args:
        stages: to be trained; None for the head alone.
        drawn: of photos, whether each is seen in a view of its own.
    """
    if stages is None or stages.reads:
        strides = stages.reads if stages is not None else None
        return CachedViews(cache, dataset, head, difficult=difficult, strides=strides)
    return PhotoViews(dataset, cache, backbone, head, difficult=difficult, drawn=drawn)
