"""Both pages in a real Chromium: what a person clicks, types and sees."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from frostbox.data.explore import explore
from frostbox.data.voc import read_voc
from frostbox.report import write_evaluation_report, write_explore_report
from frostbox.report.contract import EvaluationReport, Finding
from frostbox.report.explore import explore_report
from tests.report.conftest import OpenPage, wait_for_charts
from tests.report.reports import EVIL, EVIL_FILE, evaluation_report

FINDINGS: list[Finding] = [
    {"severity": severity, "kind": "box", "file": f"{k}{EVIL_FILE}", "field": "bndbox",
     "message": EVIL, "remedy": "mend it"}
    for k, severity in enumerate(["breaks training", "spoils", "spoils"])
]  # fmt: skip


@pytest.fixture(scope="session")
def explore_page(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = read_voc(sample, "train")
    path = tmp_path_factory.mktemp("page") / "explore.html"
    return write_explore_report(explore_report(dataset, explore(dataset), FINDINGS), path)


def first_column(page: Page, section: str) -> list[str]:
    return page.locator(f"#{section} tbody th").all_inner_texts()


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_all_sections_are_there(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page)
    wanted = [
        "Overview", "Classes", "Errors", "Confusion", "Scores", "Slices", "Gallery", "Training",
        "Facts",
    ]  # fmt: skip
    assert page.locator("main h2").all_inner_texts() == wanted
    assert page.locator("nav a").all_inner_texts() == wanted
    expect(page.locator("#overview .tile").first).to_contain_text("65.4")
    expect(page.locator("#overview .tile").first).to_contain_text("61.0 – 70.0")
    # The train and val loss share a plot; the accuracy, logged for val alone, has its own.
    assert page.locator("#training h3").all_inner_texts() == ["loss", "accuracy"]
    assert page.locator("#training .card").first.locator("path.line").count() == 2


def test_names_are_text_and_never_markup(
    open_page: OpenPage, evaluation_page: Path, explore_page: Path
) -> None:
    page = open_page(evaluation_page)
    expect(page.locator("h1")).to_have_text(f"A detector on {EVIL}")
    expect(page.locator("#classes tbody")).to_contain_text(EVIL)
    expect(page.locator("#gallery .id", has_text="onerror")).to_have_text(EVIL_FILE)
    page.locator(".shot", has_text="onerror").click()
    expect(page.locator(".boxname")).to_have_text(f"{EVIL} 0.90")
    other = open_page(explore_page)
    expect(other.locator("#findings tbody tr").first).to_contain_text(EVIL)
    for each in (page, other):
        assert each.evaluate("window.pwned") is None
        assert each.locator("main script, [onerror], img[src=x]").count() == 0


def test_the_table_of_classes_sorts(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page)
    by_ap = ["dog", "bird", EVIL, "cat"]
    assert first_column(page, "classes") == by_ap
    heading = page.locator("#classes thead th").nth(1)
    expect(heading).to_have_attribute("aria-sort", "descending")
    heading.locator("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    # A class without AP stays last in either direction.
    assert first_column(page, "classes") == [EVIL, "bird", "dog", "cat"]
    page.get_by_role("button", name="Class", exact=True).focus()
    page.keyboard.press("Enter")
    assert first_column(page, "classes") == [EVIL, "bird", "cat", "dog"]


def test_curves_follow_the_choice_of_classes(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page)
    strong = page.locator("#classes .line:not(.faint)[data-name]")
    expect(strong).to_have_count(3)  # best, middle and worst
    page.locator("#classes tbody button", has_text="dog").click()
    expect(strong).to_have_count(2)
    page.locator("#classes tbody button", has_text="cat").click()
    expect(page.locator("#classes .legend")).to_contain_text("cat")
    chart = page.locator("#classes svg.chart")
    chart.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_contain_text("Recall")
    expect(page.locator("#tip")).to_contain_text("100.0")
    # Nothing is read off beyond the recall that was reached.
    chart.hover(position={"x": chart.bounding_box()["width"] - 20, "y": 100})
    expect(page.locator("#tip")).to_contain_text("–")
    expect(page.locator("#tip")).not_to_contain_text("40.0")


def test_the_gallery_filters(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page)
    shots, status = page.locator(".shot"), page.locator("#gallery [role=status]")
    expect(status).to_have_text("7 of 7 pictures")
    page.locator("#gallery .chip", has_text="localisation").click()
    expect(shots).to_have_count(1)
    page.locator("#gallery .chip", has_text="all").click()
    page.get_by_label("Search").fill("onerror")
    expect(shots).to_have_count(1)
    page.get_by_label("Search").fill("no such thing")
    expect(status).to_contain_text("No picture fits")
    page.get_by_label("Search").fill("")
    page.locator("#gallery select").select_option(EVIL)
    expect(shots).to_have_count(1)


def test_errors_lead_to_their_examples(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page)
    page.locator("#errors button", has_text="classification").first.click()
    expect(page.locator("#gallery .chip", has_text="classification")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.locator(".shot")).to_have_count(1)


def test_boxes_are_switched_and_the_score_moves(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page)
    truth, found = page.locator(".shot .box.truth"), page.locator(".shot .box.prediction")
    expect(truth).to_have_count(7)
    expect(found).to_have_count(7)
    page.locator("#gallery > .card > .controls .truth-toggle").click()
    expect(truth).to_have_count(0)
    page.locator("#gallery > .card > .controls .prediction-toggle").click()
    expect(found).to_have_count(0)
    page.locator("#gallery > .card > .controls .truth-toggle").click()
    page.locator("#gallery > .card > .controls .prediction-toggle").click()
    slider = page.locator("#gallery > .card > .controls input[type=range]")
    slider.fill("0.92")
    # Only the hit of 0.95 is left; the object of the hit of 0.90 counts as missed now.
    expect(found).to_have_count(1)
    expect(page.locator(".shot .box.truth.missed")).to_have_count(6)
    expect(page.locator("#gallery .chip", has_text="missed").locator(".n")).to_have_text("6")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#gallery > .card > .controls output")).to_have_text("0.91")


def test_the_viewer_by_keyboard(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page)
    names = page.locator(".shot .id").all_inner_texts()
    page.locator(".shot").first.focus()
    page.keyboard.press("Enter")
    viewer = page.locator("dialog.viewer")
    expect(viewer).to_be_visible()
    expect(viewer.locator("h3")).to_have_text(names[0])
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("h3")).to_have_text(names[1])
    viewer.locator(".prediction-toggle").click()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    # What was switched in the viewer holds outside.
    expect(page.locator(".shot .box.prediction")).to_have_count(0)


def test_numbers_of_the_confusion_and_of_the_score_axis(
    open_page: OpenPage, evaluation_page: Path
) -> None:
    page = open_page(evaluation_page)
    cell = page.locator("#confusion tbody tr").nth(1).locator("td").nth(1)
    # The row of dog is 1, 5, 1, 1, 1.
    expect(cell).to_have_text("56")
    expect(cell).to_have_attribute("aria-label", "dog predicted as dog: 5 (55.6 % of the row)")
    page.get_by_role("button", name="Counts").click()
    expect(cell).to_have_text("5")
    bars = page.locator("#scores rect.bar.c1")
    heights = [float(bar.get_attribute("height")) for bar in bars.all()]
    page.get_by_role("button", name="Even").click()
    wait_for_charts(page)
    even = [float(bar.get_attribute("height")) for bar in bars.all()]
    assert even[1] < heights[1] / 5  # 20 beside 900


def test_dark_and_light(open_page: OpenPage, evaluation_page: Path) -> None:
    page = open_page(evaluation_page, scheme="light")
    light = background(page)
    page.get_by_role("button", name="Switch to dark").click()
    dark = background(page)
    assert dark != light
    page.reload()
    assert background(page) == dark
    assert background(open_page(evaluation_page, scheme="dark")) == dark


@pytest.mark.parametrize("width", [320, 375, 768])
def test_no_sideways_scroll_on_a_phone(
    open_page: OpenPage, evaluation_page: Path, explore_page: Path, width: int
) -> None:
    for path in (evaluation_page, explore_page):
        page = open_page(path, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.locator(".shot").first.click()
        expect(page.locator("dialog.viewer")).to_be_visible()
        assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width


def test_every_control_has_a_name(
    open_page: OpenPage, evaluation_page: Path, explore_page: Path
) -> None:
    for path in (evaluation_page, explore_page):
        page = open_page(path)
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, select, input, svg[role=img], section')]"
            ".filter(n => !(n.textContent.trim() || n.getAttribute('aria-label')"
            " || n.getAttribute('aria-labelledby'))).map(n => n.outerHTML.slice(0, 80))"
        )
        assert nameless == []
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(n => n.id)")
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_contrast(open_page: OpenPage, evaluation_page: Path, theme: str) -> None:
    page = open_page(evaluation_page, scheme=theme)
    ratios = page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const probe = document.body.appendChild(document.createElement("i"));
          const light = (name) => {
            probe.style.color = `var(${name})`;
            const rgb = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((v) => {
              const c = v / 255;
              return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
          };
          const ratio = (a, b) => {
            const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
            return (high + 0.05) / (low + 0.05);
          };
          const pairs = [["--ink", "--page"], ["--soft", "--page"], ["--soft", "--surface"],
            ["--accent", "--accent-wash"], ["--c2", "--surface"], ["--c5", "--surface"]];
          return Object.fromEntries(pairs.map(([a, b]) => [`${a} on ${b}`, ratio(a, b)]));
        }"""
    )
    # WCAG 2.2, 1.4.3: at least 4.5 to 1 for text.
    assert {name: value for name, value in ratios.items() if value < 4.5} == {}


def test_parts_without_numbers_are_left_out(
    open_page: OpenPage, sample: Path, tmp_path: Path
) -> None:
    report: EvaluationReport = {
        **evaluation_report(sample),
        "confusion": None, "errors": [], "calibration": None, "scores": None, "by_size": [],
        "by_count": [], "training": None, "gallery": [], "intervals": None,
    }  # fmt: skip
    page = open_page(write_evaluation_report(report, tmp_path / "new" / "small.html"))
    assert page.locator("main h2").all_inner_texts() == ["Overview", "Classes", "Facts"]


def test_the_page_of_a_data_set(open_page: OpenPage, explore_page: Path, sample: Path) -> None:
    page = open_page(explore_page)
    stats = explore(read_voc(sample, "train"))
    assert page.locator("main h2").all_inner_texts() == [
        "Overview", "Findings", "Classes", "Sizes", "Together", "Places", "Anchors", "Gallery",
    ]  # fmt: skip
    expect(page.locator("#overview .tile").nth(1)).to_contain_text(str(stats["objects"]))
    rows = page.locator("#findings tbody tr")
    expect(rows).to_have_count(3)
    page.locator("#findings .chip", has_text="spoils").click()
    expect(rows).to_have_count(2)
    present = [name for name, number in stats["objects_per_class"].items() if number]
    assert page.locator("#places figcaption span:first-child").all_inner_texts() == [
        "all classes",
        *present,
    ]
    page.get_by_role("button", name="3", exact=True).click()
    expect(page.locator("#anchors rect.anchor")).to_have_count(3)
    expect(page.locator("#anchors tbody tr")).to_have_count(3)
    expect(page.locator(".shot")).to_have_count(8)
    assert page.locator(".shot .box.truth").count() == stats["objects"]
    page.locator("#gallery .truth-toggle").first.click()
    expect(page.locator(".shot .box")).to_have_count(0)


def test_an_empty_data_set_has_a_page(
    open_page: OpenPage, sample: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    dataset = read_voc(sample, "train").subset([])
    report = explore_report(dataset, explore(dataset), [])
    page = open_page(write_explore_report(report, tmp_path / "empty.html"))
    assert page.locator("main h2").all_inner_texts() == [
        "Overview", "Findings", "Classes", "Sizes",
    ]  # fmt: skip
    expect(page.locator("#findings")).to_contain_text("Nothing was found")
