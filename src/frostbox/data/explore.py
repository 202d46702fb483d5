"""The numbers that describe a data set, from its annotations alone; plots are in `draw.py`."""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from frostbox.data.annotations import DetectionSet

BINS = 10
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)
# From four times as high as wide, through square, to four times as wide as high.
_ASPECT_EDGES = (0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1, 3 / 2, 2, 3, 4)


class Histogram(TypedDict):
    """`edges` has one value more than `counts`; the last bin includes its upper edge."""

    edges: list[float]
    counts: list[int]


class Distribution(TypedDict):
    """A histogram with the quantiles, keyed by per cent; empty when there is nothing to count."""

    histogram: Histogram
    quantiles: dict[str, float]


class Statistics(TypedDict):
    """What `explore` returns; plain Python values that JSON can hold.

    `width_histogram` and `height_histogram` count images and share their edges. `boxes_per_image`
    maps a number of boxes to the number of images that have it. `relative_box_sizes` are square
    roots of box area over image area, in [0, 1]; `aspect_ratios` are width over height of boxes.
    """

    name: str
    split: str
    classes: list[str]
    classes_from: str
    images: int
    images_without_objects: int
    objects: int
    difficult: int
    truncated: int
    occluded: int
    missing_photos: int
    missing_photo_ids: list[str]
    objects_per_class: dict[str, int]
    difficult_per_class: dict[str, int]
    images_per_class: dict[str, int]
    boxes_per_image: dict[str, int]
    mean_boxes_per_image: float
    width_histogram: Histogram
    height_histogram: Histogram
    relative_box_sizes: Distribution
    aspect_ratios: Distribution


def explore(dataset: DetectionSet) -> Statistics:
    """Count what a split holds.

    All images of the list count, with or without photo, and all objects, difficult ones included.

    Args:
        dataset: the split.

    Returns:
        The counts; classes in label order, a class without objects with 0.
    """
    images = dataset.images
    pairs = [(image, obj) for image in images for obj in image.objects]
    sizes = np.array([(image.width, image.height) for image in images], dtype=float).reshape(-1, 2)
    boxes = np.array([obj.box for _, obj in pairs], dtype=float).reshape(-1, 4)
    areas = np.array([image.width * image.height for image, _ in pairs], dtype=float)
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    per_class = Counter(obj.name for _, obj in pairs)
    difficult = Counter(obj.name for _, obj in pairs if obj.difficult)
    with_class = Counter(name for image in images for name in {obj.name for obj in image.objects})
    per_image = Counter(len(image.objects) for image in images)
    width_histogram, height_histogram = _joint_histograms(sizes[:, 0], sizes[:, 1])
    return Statistics(
        name=dataset.name,
        split=dataset.split,
        classes=list(dataset.classes),
        classes_from=dataset.classes_from,
        images=len(images),
        images_without_objects=per_image[0],
        objects=len(pairs),
        difficult=difficult.total(),
        truncated=sum(obj.truncated for _, obj in pairs),
        occluded=sum(obj.occluded for _, obj in pairs),
        missing_photos=len(dataset.missing_photos),
        missing_photo_ids=list(dataset.missing_photos),
        objects_per_class={name: per_class[name] for name in dataset.classes},
        difficult_per_class={name: difficult[name] for name in dataset.classes},
        images_per_class={name: with_class[name] for name in dataset.classes},
        boxes_per_image={str(number): per_image[number] for number in sorted(per_image)},
        mean_boxes_per_image=len(pairs) / len(images) if images else 0.0,
        width_histogram=width_histogram,
        height_histogram=height_histogram,
        relative_box_sizes=_distribution(
            np.sqrt(widths * heights / areas), np.linspace(0.0, 1.0, BINS + 1)
        ),
        aspect_ratios=_distribution(widths / heights, _aspect_edges(widths / heights)),
    )


def _joint_histograms(
    widths: NDArray[np.float64], heights: NDArray[np.float64]
) -> tuple[Histogram, Histogram]:
    """Both on one set of equal bins over the joint minimum and maximum."""
    edges = np.histogram_bin_edges(np.concatenate((widths, heights)), bins=BINS)
    return _histogram(widths, edges), _histogram(heights, edges)


def _aspect_edges(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fixed edges, closed by the largest ratio there is."""
    highest = max(float(ratios.max(initial=0.0)), 2 * _ASPECT_EDGES[-1])
    return np.array([*_ASPECT_EDGES, highest])


def _distribution(values: NDArray[np.float64], edges: NDArray[np.float64]) -> Distribution:
    quantiles = np.percentile(values, _QUANTILES).tolist() if values.size else []
    named = {str(q): value for q, value in zip(_QUANTILES, quantiles, strict=bool(quantiles))}
    return {"histogram": _histogram(values, edges), "quantiles": named}


def _histogram(values: NDArray[np.float64], edges: NDArray[np.float64]) -> Histogram:
    counts, _ = np.histogram(values, bins=edges)
    # Equal bins come as 188.79999999999998; nobody wants to read, or compare, that.
    return {"edges": np.round(edges, 6).tolist(), "counts": counts.tolist()}
