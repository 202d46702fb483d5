"""The HTTP interface: answers, refusals, limits; and what cannot be read through it."""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from frostbox import Detector
from frostbox.serve import guard as guarding
from frostbox.serve.service import Service
from tests.serve.conftest import CLASSES, LIMITS, Running, picture


def answered(running: Running, body: bytes, query: str = "", **options) -> dict:
    answer = running.client.post(f"/predict{query}", content=body, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_finds_what_the_detector_finds(running: Running, tmp_path: Path) -> None:
    body = picture(form="JPEG")
    (tmp_path / "photo.jpg").write_bytes(body)
    expected = Detector.load(running.model).predict(tmp_path / "photo.jpg", threshold=0.1)
    found = answered(running, body, "?threshold=0.1")
    assert (found["width"], found["height"]) == (240, 160) == expected.image_size
    assert len(found["detections"]) == len(expected) > 2
    for got, wanted in zip(found["detections"], expected.to_dicts(), strict=True):
        assert got["box"] == pytest.approx(wanted["box"], abs=0.05)
        assert got["score"] == pytest.approx(wanted["score"], abs=1e-3)
        assert (got["label"], got["name"]) == (wanted["label"], wanted["name"])


def test_a_form_is_as_good_as_a_body(running: Running) -> None:
    body = picture()
    answer = running.client.post("/predict", files={"image": ("a.png", body, "image/png")})
    assert answer.json() == answered(running, body)


def test_thresholds(running: Running) -> None:
    own = answered(running, picture())["detections"]
    assert all(each["label"] != 1 for each in own)  # its own threshold is 1
    low = answered(running, picture(), "?threshold=0.05")["detections"]
    assert len(low) > len(own)
    assert len(answered(running, picture(), "?threshold=0.05&max_detections=2")["detections"]) == 2
    assert answered(running, picture(), "?threshold=1")["detections"] == []


def test_a_turned_photo_counts_upright(running: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = answered(running, picture((240, 160), "JPEG", exif=exif))
    assert (found["width"], found["height"]) == (160, 240)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no picture"),
        (b"hello", 415, "no picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", 415, "send BMP"),
        (picture(form="JPEG")[:3000], 400, "truncated"),
        (picture()[:300], 400, "cannot be decoded"),
        (picture((2001, 2000), "WEBP", quality=1), 413, "2001 x 2000 pixels"),
        (b"\xff" * 3_000_001, 413, "3 MB"),
        (b"\xff" * 9_000_000, 413, "3 MB"),
    ],
    ids=["empty", "text", "eps", "jpeg", "png", "pixels", "bytes", "many-bytes"],
)
def test_what_is_refused(running: Running, body: bytes, status: int, words: str) -> None:
    answer = running.client.post("/predict", content=body)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert str(Path("/tmp")) not in answer.text
    assert running.guard.held == 0


def test_a_picture_of_many_pixels_is_not_decoded(running: Running) -> None:
    """A PNG of a few bytes whose header promises 400 megapixels."""
    header = bytearray(picture((8, 8)))
    header[16:24] = (20_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    answer = running.client.post("/predict", content=bytes(header))
    assert answer.status_code == 413


def test_bad_parameters_and_forms(running: Running) -> None:
    post = running.client.post
    assert post("/predict?threshold=2", content=picture()).status_code == 422
    assert post("/predict?max_detections=0", content=picture()).status_code == 422
    assert "no file" in post("/predict", files={"a": (None, b"text")}).json()["detail"]
    broken = {"content-type": "multipart/form-data"}
    assert post("/predict", content=b"x", headers=broken).status_code == 400
    assert running.client.get("/predict").status_code == 405


def test_openapi_describes_it(running: Running) -> None:
    described = running.client.get("/openapi.json").json()
    post = described["paths"]["/predict"]["post"]
    assert {"image/jpeg", "multipart/form-data"} <= set(post["requestBody"]["content"])
    assert [p["name"] for p in post["parameters"]] == ["threshold", "max_detections"]
    assert {"200", "400", "413", "415", "503"} <= set(post["responses"])
    assert "Retry-After" in post["responses"]["503"]["headers"]
    assert "box" in described["components"]["schemas"]["Detection"]["properties"]
    # FastAPI's page of documentation would load scripts from elsewhere.
    assert running.client.get("/docs").status_code == 404


def test_model_and_health(running: Running) -> None:
    said = running.client.get("/model").json()
    assert said["name"] == running.model.parent.name
    assert said["classes"] == list(CLASSES)
    assert said["class_thresholds"] == [0.15, 1.0, 0.15]
    assert said["examples"] == ["one.png"]
    with Image.open(io.BytesIO(running.client.get("/examples/0").content)) as example:
        assert example.size == (120, 90)
    assert running.client.get("/examples/1").status_code == 404
    assert running.client.get("/health").json() == {"status": "ok", "queue": 0}


def figures(running: Running) -> dict[str, float]:
    text = running.client.get("/metrics").text
    return {
        sample.name + "".join(f" {value}" for key, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics(running: Running) -> None:
    running.client.post("/predict", content=b"hello")
    before = figures(running)
    answered(running, picture())
    running.client.post("/predict", content=b"hello")
    after = figures(running)
    grown = {name for name in after if after[name] > before.get(name, 0)}
    assert {
        "frostbox_requests_total 200", "frostbox_requests_total 415", "frostbox_batch_size_count",
        "frostbox_request_seconds_count", "frostbox_batch_seconds_count",
    } <= grown  # fmt: skip
    assert after["frostbox_requests_total 200"] == before["frostbox_requests_total 200"] + 1
    assert after["frostbox_batch_size_bucket 4.0"] == after["frostbox_batch_size_count"]
    assert after["frostbox_queue_length"] == after["frostbox_body_bytes"] == 0
    assert after["process_resident_memory_bytes"] > 1e6


def test_a_full_queue_answers_at_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Service, "inside", property(lambda self: LIMITS.queue))
        answer = running.client.post("/predict", content=picture())
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "wait already" in answer.json()["detail"]
        patch.setattr(running.guard, "held", LIMITS.held_bytes)
        answer = running.client.post("/predict", content=picture())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert running.guard.held == LIMITS.held_bytes
    answered(running, picture())


def test_slow_clients_hold_nobody_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "_IDLE", 1.0)
    slow = []
    for sent in (
        b"",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 99,
    ):
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", running.port), timeout=10)
            connection.sendall(sent)
            slow.append(connection)
    started = time.perf_counter()
    answered(running, picture())
    assert time.perf_counter() - started < 5
    with slow[-1].makefile("rb") as stream:
        answer = stream.read().decode()
    assert answer.startswith("HTTP/1.1 408")
    assert "did not arrive in time" in answer
    for connection in slow:
        connection.close()
    answered(running, picture())
    for _ in range(100):
        if running.guard.held == 0:
            break
        time.sleep(0.05)
    assert running.guard.held == 0


def raw(running: Running, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    """A request with its path as it stands: no client tidies it up."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.putrequest(method, path, skip_accept_encoding=True)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_no_file_of_the_server_can_be_read(running: Running, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    (running.uploads / "link.txt").symlink_to(secret)
    inside = str(running.uploads)
    up = "/".join([".."] * 20)
    names = [
        str(secret), f"{inside}/{up}{secret}", f"{inside}/link.txt",
        f"{inside}/%2e%2e/%2e%2e{secret}", quote(str(running.model)),
        f"file://{secret}", f"/{secret}", f"%2e%2e{secret}", f"{up}{secret}", f"{secret}%00.png",
        "http://127.0.0.1:1/", f"http://127.0.0.1:{running.port}/health", "https://example.com/a",
    ]  # fmt: skip
    prefixes = (
        "/gradio_api/file=", "/file=", "/gradio_api/file/", "/file/", "/static/", "/assets/",
        "/gradio_api/proxy=", "/gradio_api/stream/", "/examples/", "/",
    )  # fmt: skip
    for prefix in prefixes:
        for name in names:
            status, body = raw(running, prefix + name)
            assert status in (400, 404), (prefix, name, status)
            assert b"SECRET" not in body
            assert b"safetensors" not in body


@pytest.mark.parametrize("path", ["queue/join", "call/predict", "run/predict", "api/predict",
                                  "component_server", "cancel", "vibe-edit"])  # fmt: skip
def test_nothing_of_gradio_can_be_called(running: Running, path: str) -> None:
    assert raw(running, f"/gradio_api/{path}", "POST", b"{}")[0] == 404


def test_uploads_are_kept_apart_and_bounded(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upload(body: bytes, name: str):
        return running.client.post("/gradio_api/upload", files={"files": (name, body)})

    path = upload(b"<script>1</script>", "../../a.html").json()[0]
    assert Path(path).resolve().is_relative_to(running.uploads.resolve())
    answer = running.client.get(f"/gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert upload(b"x" * 3_000_001, "large.png").status_code == 413
    monkeypatch.setattr(guarding, "_UPLOADED", 0)
    full = upload(b"x", "b.png")
    assert (full.status_code, full.headers["Retry-After"]) == (503, "30")


def test_the_page_names_no_other_machine(running: Running) -> None:
    page = running.client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(
        r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"'](https?:)?//", page.text
    )
    assert loaded == []
