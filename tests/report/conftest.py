"""Pages in the real Chromium of tests/conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from frostbox.data.sample import write_sample
from frostbox.report import write_evaluation_report
from tests.report.reports import evaluation_report

OpenPage = Callable[..., Page]


def wait_for_charts(page: Page) -> None:
    """Charts are drawn when their room has been measured, a moment after they are made."""
    expect(page.locator(".plot:empty")).to_have_count(0)


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens a file as a person would; any message, error or request beyond disk fails the test."""
    trouble: list[str] = []
    contexts = []

    def requested(url: str) -> None:
        if not url.startswith(("file:", "data:")):
            trouble.append(f"request: {url}")

    def show(path: Path, *, width: int = 1200, scheme: str = "light") -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("request", lambda request: requested(request.url))
        page.goto(path.as_uri())
        wait_for_charts(page)
        return page

    yield show
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in data set, small."""
    return write_sample(
        tmp_path_factory.mktemp("sample") / "SAMPLE", train=8, val=0, size=(200, 160), workers=1
    )


@pytest.fixture(scope="session")
def evaluation_page(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up evaluation on the built-in pictures."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_evaluation_report(evaluation_report(sample), path)
