"""Which photos a cache was made from."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from frostbox.data.remote_sets import ahead, local_copy
from frostbox.errors import CacheError

if TYPE_CHECKING:
    from frostbox.data.annotations import DetectionSet

_EDGE = 4096  # bytes of a photo's head and tail that count


def fingerprint(dataset: DetectionSet) -> str:
    """blake2b, in hex, over id, file size, first and last 4 KB of every photo, in list order.

    Modification times do not count: a copied data set keeps its cache. Whether EXIF orientation is
    applied does count, because it changes the pixels.

    Raises:
        CacheError: a photo that was there when the data set was read is gone.
    """
    digest = hashlib.blake2b(digest_size=16)
    for image in ahead(dataset.photos, lambda image: image.photo):
        assert image.photo is not None
        try:
            with local_copy(image.photo) as path, open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                head = file.read(_EDGE)
                file.seek(max(0, size - _EDGE))
                tail = file.read(_EDGE)
        except OSError as error:
            raise CacheError(
                f"the photo {image.photo} cannot be read ({error.strerror or 'gone'}); put it "
                "back or take it off the list"
            ) from error
        digest.update(f"{image.image_id}\0{image.exif}\0{size}\0".encode())
        digest.update(head + tail)
    return digest.hexdigest()
