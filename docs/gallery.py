"""How sphinx-gallery gets the pictures that the course's pages show: from `helper.show`."""

from __future__ import annotations

from typing import Any

from sphinx_gallery.scrapers import figure_rst

import helper


def scraper(block: tuple, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save what a cell has shown; the reStructuredText that puts it below the cell."""
    paths = []
    for picture in helper.COLLECTED or []:
        paths.append(next(block_vars["image_path_iterator"]))
        picture.save(paths[-1], optimize=True)
    helper.COLLECTED = []
    return "".join(figure_rst([path], gallery_conf["src_dir"]) for path in paths)


def _get_sg_image_scraper() -> Any:
    """Called by sphinx-gallery before every cell is looked at."""
    if helper.COLLECTED is None:
        helper.COLLECTED = []
    return scraper
