"""The command: what it says, refuses, and how it ends; and a few seconds of load."""

from __future__ import annotations

import importlib.util
import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from frostbox import cli
from frostbox.errors import SettingsError
from frostbox.serve import server as serving
from frostbox.serve.examples import find_examples
from frostbox.serve.limits import Limits
from tests.serve.conftest import picture

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def said_by(monkeypatch, capsys, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["frostbox", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_a_port_in_use_is_one_sentence(monkeypatch, capsys, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = said_by(monkeypatch, capsys, model, "--port", port)
    assert said.startswith(f"error: port {port} of 127.0.0.1 is in use: stop the other program")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "192.0.2.1"], "an address of this machine"),
        (["--max-body", 0], "--max-body is 0"),
        (["--queue", 0], "--queue is 0"),
        (["--threshold", 2, "--port", 0], "threshold is 2.0"),
        (["--examples", "nothing.png", "--port", 0], "nothing.png does not exist"),
    ],
)
def test_bad_options_are_one_sentence(monkeypatch, capsys, model, options, words) -> None:
    said = said_by(monkeypatch, capsys, model, *options)
    assert words in said
    assert said.count("error:") == 1


def test_a_model_that_is_missing(monkeypatch, capsys, tmp_path: Path) -> None:
    assert "does not exist" in said_by(monkeypatch, capsys, tmp_path / "none", "--port", 0)


def test_the_extra_is_named_where_a_package_is_missing(monkeypatch, capsys, model: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        serving.importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name)
    )
    said = said_by(monkeypatch, capsys, model)
    assert said == "error: frostbox serve needs gradio: run pip install 'frostbox[serve]'"


def test_all_addresses_bring_a_warning(monkeypatch, tmp_path: Path) -> None:
    opened: list[str] = []

    class Server:
        def run(self, sockets) -> None:
            opened.append(sockets[0].getsockname()[0])

    monkeypatch.setattr(serving, "build", lambda *_: None)
    monkeypatch.setattr(serving, "http_server", lambda _: Server())
    lines: list[str] = []
    serving.serve(tmp_path, serving.ServeSettings(host="0.0.0.0", port=0), lines.append)
    assert lines[1].startswith("warning: whoever reaches this machine")
    lines.clear()
    serving.serve(tmp_path, serving.ServeSettings(port=0), lines.append)
    assert len(lines) == 1
    assert opened == ["0.0.0.0", "127.0.0.1"]


def test_examples(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture((100, 50)))
    limits = Limits()
    (given,) = find_examples(tmp_path / "best.safetensors", (), [str(tmp_path)], limits)
    assert (given.name, given.media_type) == ("a.png", "image/png")
    drawn = find_examples(tmp_path, ("dog", "zebra"), (), limits)
    assert [each.name for each in drawn] == [f"drawing-{k}.jpg" for k in (1, 2, 3)]
    assert find_examples(tmp_path, ("zebra",), (), limits) == []
    with pytest.raises(SettingsError, match=r"a\.png is no example.*100 x 50"):
        find_examples(tmp_path, (), [str(tmp_path)], Limits(max_pixels=99))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_no_uploads(monkeypatch, number: signal.Signals) -> None:
    """uvicorn raises the signal that stopped it again, after its own handlers are gone."""
    folders: list[Path] = []

    class Stopped:
        def run(self, sockets) -> None:
            (folders[0] / "photo.jpg").write_bytes(b"a person's")
            signal.raise_signal(number)

    monkeypatch.setattr(
        serving, "build", lambda _model, _settings, uploads: folders.append(uploads)
    )
    monkeypatch.setattr(serving, "http_server", lambda _: Stopped())
    # As where a shell starts it in the background; pytest's own would end a failing test as well.
    before = signal.signal(number, signal.SIG_IGN)
    try:
        lines: list[str] = []
        serving.serve("model", serving.ServeSettings(port=0), lines.append)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert lines[-1] == "stopped"
    assert not folders[0].exists()


def test_uploads_of_servers_that_were_killed_are_removed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("dead", "alive"):
        (tmp_path / f"frostbox-uploads-{name}" / "pictures").mkdir(parents=True)
        (tmp_path / f"frostbox-uploads-{name}" / "pictures" / "photo.jpg").write_bytes(b"a face")
        (tmp_path / f"frostbox-uploads-{name}" / "lock").touch()
    # What another user of this machine may lay there is not opened.
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "lock").touch()
    (tmp_path / "frostbox-uploads-link").symlink_to(tmp_path / "thesis")
    with FileLock(tmp_path / "frostbox-uploads-alive" / "lock"), serving._room_for_uploads() as own:
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {
            "frostbox-uploads-alive", "frostbox-uploads-link", "thesis", own.parent.name
        }  # fmt: skip
        assert not any(own.iterdir())
    assert (tmp_path / "thesis" / "lock").exists()
    assert not own.parent.exists()


@pytest.mark.slow
def test_load_and_a_graceful_end(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(_BENCHMARKS))
    import serve_load

    process, port = serve_load.start(model, "--engine", "torch", "--queue", "3", "--batch", "2")
    try:
        bodies = [picture((320, 240), "JPEG", seed) for seed in range(4)]
        serve_load.drive(port, bodies, 8, 1, process.pid)
        load = serve_load.drive(port, bodies, 8, 3, process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(120)
    assert status == 0
    assert set(load.statuses) == {"200", "503"}
    assert load.statuses["200"] > 5
    assert max(load.memory) < 1.1 * load.memory[0]
