"""Sphinx's settings for the site: the guide, the course (run while the site is built), the API.

    make docs

The course's scripts are run by sphinx-gallery; a script that fails fails the build, and so does
every warning.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).parent.resolve()
sys.path[:0] = [str(HERE / "course"), str(HERE)]
# Data and detectors of the course are made anew for every build: the site shows what the code does.
WORK = tempfile.mkdtemp(prefix="frostbox-course-")
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
os.environ["FROSTBOX_COURSE"] = WORK
os.environ.pop("VOCDEVKIT", None)  # the site shows drawn scenes, never VOC's photos
warnings.filterwarnings("ignore", category=DeprecationWarning)
warnings.filterwarnings("ignore", category=FutureWarning)

from sphinx.application import Sphinx

from frostbox import __version__

project = "frostbox"
author = "the frostbox authors"
project_copyright = "the frostbox authors, Apache-2.0"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["course", "lessons/sg_execution_times.rst"]
default_role = "code"
highlight_language = "none"  # what is not Python says nothing of itself: commands, listings
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

# --- the course ---------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "course",
    "gallery_dirs": "lessons",
    "filename_pattern": r"/\d\d_",
    "ignore_pattern": r"helper\.py",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("gallery",),
    "reset_modules": (),
    "run_stale_examples": True,
    "abort_on_example_error": True,
    "capture_repr": (),
    "doc_module": ("frostbox",),
    "remove_config_comments": True,
    "download_all_examples": False,
    "notebook_extensions": set(),
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "thumbnail_size": (480, 320),
}

# --- the API ------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("Source", "Raw", "Encoded", "Targets")}
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
maximum_signature_line_length = 88

# --- how it looks -------------------------------------------------------------------------------

html_theme = "furo"
html_title = "frostbox"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
copybutton_prompt_text = "$ "


def setup(app: Sphinx) -> None:
    """What Sphinx and its extensions leave to be mended."""

    def tidy(app: Sphinx, name: str, content: list[str]) -> None:
        # A reader's folder, where a page prints this build's.
        content[0] = content[0].replace(WORK, "~/.cache/frostbox/course")

    def keep_together(
        app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
    ) -> None:
        # "precision, recall: ..." would be read as a `recall` of the type `precision,`.
        several = re.compile(r"^:(ivar|param) (\w+(?:, \w+)+):")
        lines[:] = [several.sub(_with_slashes, line) for line in lines]

    app.connect("source-read", tidy)
    app.connect("autodoc-process-docstring", keep_together, priority=600)  # after napoleon


def _with_slashes(found: re.Match[str]) -> str:
    return f":{found[1]} {found[2].replace(', ', '/')}:"
