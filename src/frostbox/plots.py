"""The plots of a data set: matplotlib figures that never open a window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from frostbox.data.explore import Statistics

_BAR, _SECOND_BAR = "#4363d8", "#f58231"


def explore_plots(stats: Statistics, out: str | Path) -> list[Path]:
    """Write the plots of what `explore` counted.

    Args:
        stats: what `explore` returned.
        out: folder, made when missing.

    Returns:
        Paths of the PNG files: objects per class, image sizes, boxes per image, box shapes.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    where = f"{stats['name']} {stats['split']}"
    figures = {
        "objects_per_class": _plot_classes(stats, where),
        "image_sizes": _plot_image_sizes(stats, where),
        "boxes_per_image": _plot_boxes_per_image(stats, where),
        "box_shapes": _plot_box_shapes(stats, where),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=150)
    return paths


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = list(np.ravel(figure.subplots(1, columns)))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=9)
    return figure, axes


def _plot_classes(stats: Statistics, where: str) -> Figure:
    counts = sorted(stats["objects_per_class"].items(), key=lambda item: item[1])
    figure, (ax,) = _figure(8, max(2.5, 0.28 * len(counts) + 1))
    names = [name for name, _ in counts]
    totals = np.array([count for _, count in counts])
    hard = np.array([stats["difficult_per_class"][name] for name in names])
    ax.barh(names, totals - hard, color=_BAR, label="not difficult")
    ax.barh(names, hard, left=totals - hard, color=_SECOND_BAR, label="difficult")
    for row, total in enumerate(totals):
        ax.annotate(
            f"{total}", (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    ax.grid(axis="x", alpha=0.3)
    ax.set_xlabel("objects")
    ax.set_title(f"{where}: {stats['objects']} objects in {stats['images']} images", loc="left")
    ax.legend(frameon=False, loc="lower right")
    return figure


def _plot_image_sizes(stats: Statistics, where: str) -> Figure:
    figure, (ax,) = _figure(8, 4)
    edges = np.array(stats["width_histogram"]["edges"])
    bar = np.diff(edges) * 0.45
    ax.bar(edges[:-1], stats["width_histogram"]["counts"], bar, align="edge", color=_BAR,
           label="width")  # fmt: skip
    ax.bar(edges[:-1] + bar, stats["height_histogram"]["counts"], bar, align="edge",
           color=_SECOND_BAR, label="height")  # fmt: skip
    ax.set_xticks(edges, [f"{edge:g}" for edge in edges])
    ax.grid(axis="y", alpha=0.3)
    ax.set(xlabel="pixels", ylabel="images")
    ax.set_title(f"{where}: width and height of the images", loc="left")
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the bars
    return figure


def _plot_boxes_per_image(stats: Statistics, where: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, (ax,) = _figure(8, 4)
    numbers = {int(number): count for number, count in stats["boxes_per_image"].items()}
    ax.bar(list(numbers), list(numbers.values()), color=_BAR)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", alpha=0.3)
    ax.set(xlabel="objects in the image", ylabel="images")
    ax.set_title(f"{where}: {stats['mean_boxes_per_image']:.2f} objects an image", loc="left")
    return figure


def _plot_box_shapes(stats: Statistics, where: str) -> Figure:
    figure, axes = _figure(10, 4, columns=2)
    parts = (
        ("relative_box_sizes", "square root of box area / image area"),
        ("aspect_ratios", "width / height"),
    )
    for ax, (key, label) in zip(axes, parts, strict=True):
        histogram = (
            stats["relative_box_sizes"] if key == "relative_box_sizes" else stats["aspect_ratios"]
        )["histogram"]
        # Bins of unequal width get bars of equal width, with the edges written between them.
        places = np.arange(len(histogram["counts"]))
        ax.bar(places, histogram["counts"], 0.9, align="edge", color=_BAR)
        ax.set_xticks(np.arange(len(histogram["edges"])) - 0.05)
        ax.set_xticklabels([f"{edge:.2g}" for edge in histogram["edges"]])
        ax.grid(axis="y", alpha=0.3)
        ax.set(xlabel=label, ylabel="objects")
    axes[0].set_title(f"{where}: size and shape of the boxes", loc="left")
    return figure
