"""The file that is written: whole, safe, and as short as it can be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from frostbox.report.html import embed_json, thin_curve, write_evaluation_report
from tests.report.reports import EVIL, EVIL_FILE, evaluation_report


def data_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return found[1]


def test_data_survives_its_element(evaluation_page: Path) -> None:
    data = data_of(evaluation_page)
    assert not set("<>&") & set(data)
    report = json.loads(data)
    assert report["classes"][0]["name"] == EVIL
    assert EVIL_FILE in [image["image_id"] for image in report["gallery"]]


def test_nothing_is_loaded_from_anywhere(evaluation_page: Path) -> None:
    text = evaluation_page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name of XML, not a place


@pytest.mark.parametrize("value", ["</script>", "<!--<script>", "a & b", "\u2028"])
def test_embedded_text_comes_back(value: str) -> None:
    text = embed_json({"x": value})
    assert json.loads(text) == {"x": value}
    assert "<" not in text
    assert "\u2028" not in text


def test_what_is_no_number_is_refused(sample: Path, tmp_path: Path) -> None:
    report = evaluation_report(sample)
    report["headline"][0]["value"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_evaluation_report(report, tmp_path / "page.html")


def test_a_long_curve_is_thinned_along_its_envelope() -> None:
    rng = np.random.default_rng(0)
    hit = rng.random(5000) < np.linspace(0.9, 0.1, 5000)
    recall, precision = np.cumsum(hit) / hit.sum(), np.cumsum(hit) / np.arange(1, 5001)
    thin = thin_curve({"recall": recall.tolist(), "precision": precision.tolist()})
    assert len(thin["recall"]) == len(thin["precision"]) <= 200
    assert thin["recall"][0] == pytest.approx(recall[0], abs=1e-5)
    assert thin["recall"][-1] == 1
    assert thin["recall"] == sorted(thin["recall"])

    def area(r: list[float], p: list[float]) -> float:
        envelope = np.maximum.accumulate(np.array(p)[::-1])[::-1]
        return float(np.sum(np.diff(r, prepend=0) * envelope))

    exact = area(recall.tolist(), precision.tolist())
    assert area(thin["recall"], thin["precision"]) == pytest.approx(exact, abs=0.01)


def test_a_short_curve_stays() -> None:
    curve = {"recall": [0.0, 0.25, 0.5], "precision": [1.0, 0.5, 0.33333]}
    assert thin_curve(curve) == curve
    assert thin_curve({"recall": [], "precision": []}) == {"recall": [], "precision": []}
