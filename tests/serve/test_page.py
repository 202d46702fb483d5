"""The page in a real Chromium: what a person does, and that nothing leaves this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.report.reports import EVIL
from tests.serve.conftest import Running, picture

expect.set_options(timeout=30_000)  # a busy machine takes its time to predict


class Visit:
    """A page and all addresses that it asked."""

    def __init__(self, page: Page) -> None:
        self.page, self.asked = page, []
        page.on("request", lambda request: self.asked.append(request.url))

    @property
    def predictions(self) -> int:
        return sum("/predict" in url for url in self.asked)

    @property
    def rows(self) -> list[list[str]]:
        lines = self.page.locator("#viewer tbody tr")
        return [line.locator("td").all_inner_texts() for line in lines.all()]

    def upload(self, body: bytes, name: str) -> None:
        file = {"name": name, "mimeType": "image/png", "buffer": body}
        self.page.locator("#picture input[type=file]").first.set_input_files(files=[file])
        expect(self.page.locator("#viewer canvas")).to_be_visible()

    def threshold(self, value: float) -> None:
        self.page.locator("#threshold input[type=number]").fill(str(value))
        expect(self.page.locator("#viewer .status")).to_contain_text(f"score of {value:.2f}")


@pytest.fixture
def visit(running: Running, chromium: Browser) -> Iterator[Callable[..., Visit]]:
    trouble: list[str] = []
    contexts = []

    def complained(kind: str, text: str) -> None:
        # What the server refuses is an error to the browser, and a sentence on the page.
        if kind == "error" and not text.startswith("Failed to load resource"):
            trouble.append(text)

    def show(width: int = 1200) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, accept_downloads=True,
            permissions=["camera"], reduced_motion="reduce",
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("console", lambda message: complained(message.type, message.text))
        visited = Visit(page)
        page.goto(running.address)
        expect(page.locator("#about h1")).to_contain_text("What ")
        return visited

    yield show
    for context in contexts:
        context.close()
    assert trouble == []


def test_a_picture_its_boxes_and_the_threshold(
    visit: Callable[..., Visit], running: Running, tmp_path: Path
) -> None:
    seen = visit()
    page, body = seen.page, picture((200, 150))
    seen.upload(body, "my photo.png")
    found = running.client.post("/predict?threshold=0.05", content=body).json()["detections"]
    own = [each for each in found if each["score"] >= 0.15 and each["label"] != 1]
    status = page.locator("#viewer .status")
    expect(status).to_contain_text("each class's own threshold")
    assert [row[1] for row in seen.rows] == [f"{each['score']:.2f}" for each in own]

    # Another threshold: other boxes, without asking the server again.
    asked = seen.predictions
    counts, pictures = [], set()
    scores = sorted(each["score"] for each in found)
    middle = round((scores[0] + scores[-1]) / 2, 2)
    for value in (0.06, middle, 0.99):
        seen.threshold(value)
        counts.append(len(seen.rows))
        pictures.add(page.locator("#viewer canvas").evaluate("c => c.toDataURL()"))
    assert counts == [sum(each["score"] >= t for each in found) for t in (0.06, middle, 0.99)]
    assert counts[0] > counts[1] > counts[2] == 0
    assert len(pictures) == 3
    page.locator("#viewer .own input").check()
    expect(status).to_contain_text("each class's own threshold")
    assert seen.predictions == asked == 1

    seen.threshold(0.06)
    shown = [each for each in found if each["score"] >= 0.06]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON").click()
    assert saved.value.suggested_filename == "my photo.json"
    written = json.loads(Path(saved.value.path()).read_text())
    assert written == {"image": "my photo.png", "width": 200, "height": 150, "detections": shown}
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download picture").click()
    assert saved.value.suggested_filename == "my photo-found.jpg"
    with Image.open(saved.value.path()) as image:
        assert image.size == (200, 150)

    # Everything came from this server, and no function of Gradio was called.
    assert all(url.startswith((running.address, "blob:", "data:")) for url in seen.asked)
    assert not any("/queue/" in url or "/call/" in url for url in seen.asked)


def test_names_are_text_and_never_markup(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.upload(picture((200, 150)), "<img src=x onerror='window.pwned=5'>.png")
    seen.threshold(0.06)
    names = {row[0] for row in seen.rows}
    assert EVIL in names
    expect(seen.page.locator("#about h1")).to_have_text(
        "What <img src=x onerror='window.pwned=4'> finds"
    )
    assert seen.page.evaluate("window.pwned") is None
    assert seen.page.locator("img[src=x], #viewer script").count() == 0


def test_examples_camera_and_a_broken_picture_on_a_phone(visit: Callable[..., Visit]) -> None:
    seen = visit(width=375)
    page = seen.page
    page.locator("#examples button").click()
    canvas = page.locator("#viewer canvas")
    expect(canvas).to_be_in_viewport()
    assert canvas.evaluate("c => [c.width, c.height]") == [120, 90]
    assert seen.rows
    assert page.evaluate("document.documentElement.scrollWidth") <= 375

    file = {"name": "a.png", "mimeType": "image/png", "buffer": picture()[:300]}
    page.locator("#picture input[type=file]").first.set_input_files(files=[file])
    status = page.locator("#viewer .status")
    expect(status).to_contain_text("The picture cannot be decoded")
    expect(canvas).to_be_hidden()
    page.get_by_role("button", name="Remove Image").click()
    expect(status).to_contain_text("Choose a picture")

    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_role("button", name="Click to Access Webcam").click()
    # Gradio takes a photo of a camera that shows nothing yet, which is none.
    page.wait_for_function("document.querySelector('#picture video')?.videoWidth > 0")
    page.wait_for_timeout(1000)
    page.get_by_label("capture photo").click()
    expect(canvas).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
