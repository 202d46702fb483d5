"""The course: its pages run on the built-in data and on VOC, and the site is built from them."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
COURSE = ROOT / "docs" / "course"
PAGES = sorted(path.stem for path in COURSE.glob("[0-9]*.py"))
TRAIN = ("05", "06", "07", "08", "09", "10", "11", "12")
"""Pages that train, or need a detector that another page trains: they take longer."""


@pytest.fixture(scope="module")
def helper():
    """The course's helper as the pages import it."""
    sys.path.insert(0, str(COURSE))
    import helper

    yield helper
    sys.path.remove(str(COURSE))
    del sys.modules["helper"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def photographed(tmp_path_factory):
    return tmp_path_factory.mktemp("photographed")


def run(page, helper, work, monkeypatch):
    monkeypatch.setattr(helper, "WORK", work)
    runpy.run_path(str(COURSE / f"{page}.py"), run_name="__main__")


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p.startswith(TRAIN) else ()) for p in PAGES],
)
def test_page(page, helper, drawn, monkeypatch, capsys):
    monkeypatch.delenv("VOCDEVKIT", raising=False)
    run(page, helper, drawn, monkeypatch)
    out = capsys.readouterr().out
    pictures = list((drawn / "pictures").glob(f"{page}-*.png"))
    assert pictures
    assert len(pictures) == out.count("picture: ")
    for picture in pictures:
        with Image.open(picture) as opened:
            assert opened.width >= 700


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_on_voc(page, helper, photographed, monkeypatch, voc2007, voc2012):
    run(page, helper, photographed, monkeypatch)
    lists = photographed / "photos" / "ImageSets" / "Main"
    assert len((lists / "train.txt").read_text().split()) == 400


def test_a_page_that_is_needed_runs_first_and_shows_nothing(helper, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(helper, "WORK", tmp_path)
    monkeypatch.setattr(helper, "HERE", tmp_path)
    (tmp_path / "99_needed.py").write_text(
        "from helper import WORK, show\n"
        "from PIL import Image\n"
        "show(Image.new('RGB', (9, 9)))\n"
        "(WORK / '99_needed').mkdir()\n"
        "(WORK / '99_needed' / 'best.safetensors').touch()\n"
    )
    assert helper.trained("99_needed") == tmp_path / "99_needed"
    assert capsys.readouterr().out.startswith("running 99_needed.py first")
    assert not (tmp_path / "pictures").exists()
    assert helper.trained("99_needed") == tmp_path / "99_needed"
    assert capsys.readouterr().out == ""


def test_pages_lead_to_one_another():
    for page, following in pairwise(PAGES):
        text = (COURSE / f"{page}.py").read_text(encoding="utf-8")
        assert f":doc:`{following}`" in text.split("# %%")[-1], page
        assert len(text.splitlines()) < 250, page


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    # A copy: the pages that sphinx-gallery makes lie beside their sources.
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "docs", copy / "docs", ignore=shutil.ignore_patterns("lessons"))
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    site = tmp_path / "site"
    finished = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", copy / "docs", site],
        capture_output=True,
        text=True,
        env={**os.environ, "VOCDEVKIT": "/nowhere"},
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert {path.stem for path in (site / "lessons").glob("[0-9]*.html")} == set(PAGES)
    for page in PAGES:
        html = (site / "lessons" / f"{page}.html").read_text(encoding="utf-8")
        assert re.search(r'<img src="\.\./_images/', html), page
        assert "frostbox-course-" not in html, page
    for name in ("index", "usage", "results", "boxes", "architecture", "api/frostbox"):
        assert (site / f"{name}.html").is_file(), name
