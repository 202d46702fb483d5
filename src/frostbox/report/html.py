"""From a report's dictionary to one HTML file that needs nothing else, not even a network.

Other people's names (classes, files, messages) reach the page as JSON in an inert element and are
set as text by the script. A content security policy admits this page's own script and style by
their hashes and nothing else, so that markup in a name stays text and no address is ever asked.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from frostbox._version import __version__
from frostbox.report.contract import Curve, EvaluationReport, ExploreReport

_CURVE_POINTS = 200
_STYLES = ("page.css", "parts.css")
_SHARED = ("dom.js", "axes.js", "charts.js", "tables.js", "viewer.js", "gallery.js")


def write_evaluation_report(report: EvaluationReport, path: Path) -> Path:
    """Write the page of an evaluation; long precision-recall curves are thinned to 200 points.

    Args:
        report: see `contract.EvaluationReport`.
        path: the HTML file; its folder is made when missing.

    Returns:
        path.

    Raises:
        ValueError: a number that is NaN or infinite.
    """
    classes = [{**row, "curve": thin_curve(row["curve"])} for row in report["classes"]]
    return _write({**report, "classes": classes}, "evaluation.js", path)


def write_explore_report(report: ExploreReport, path: Path) -> Path:
    """Write the page of a data set.

    Args:
        report: see `contract.ExploreReport`.
        path: the HTML file; its folder is made when missing.

    Returns:
        path.

    Raises:
        ValueError: a number that is NaN or infinite.
    """
    return _write(dict(report), "explore.js", path)


def thin_curve(curve: Curve, points: int = _CURVE_POINTS) -> Curve:
    """At most `points` points, even in recall, with the first and the last.

    Of the points between two kept recalls the one of highest precision is kept: the eye follows
    the envelope, which AP measures. Values are rounded to 5 digits.
    """
    recall, precision = np.asarray(curve["recall"]), np.asarray(curve["precision"])
    if len(recall) > points:
        inner = np.linspace(recall[0], recall[-1], points - 1)
        bins = np.digitize(recall[1:-1], inner[1:-1])
        order = np.lexsort((-precision[1:-1], bins))
        first = np.flatnonzero(np.diff(bins[order], prepend=-1))
        keep = np.concatenate(([0], np.sort(order[first] + 1), [len(recall) - 1]))
        recall, precision = recall[keep], precision[keep]
    return {"recall": recall.round(5).tolist(), "precision": precision.round(5).tolist()}


def _write(report: Mapping[str, Any], script: str, path: Path) -> Path:
    page = Template(_read("page.html"))
    style = "".join(_read(name) for name in _STYLES)
    code = "".join(_read(name) for name in (*_SHARED, script, "page.js"))
    code = f'(() => {{\n"use strict";\n{code}}})();\n'
    text = page.substitute(
        title=html.escape(report["title"]),
        version=__version__,
        style=style,
        style_hash=_hash(style),
        script=code,
        script_hash=_hash(code),
        data=embed_json(report),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def embed_json(value: Any) -> str:
    """JSON that is safe inside a script element: it can neither end nor comment out the element.

    Raises:
        ValueError: a number that is NaN or infinite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    """The source expression of an inline element in a content security policy (CSP level 3)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")
