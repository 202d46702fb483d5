"""push and pull, over real HTTP to a stand-in of the hub, in a process of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import frostbox as package
from frostbox.errors import SettingsError
from frostbox.hub import address, check_repo
from tests.hub.server import StandIn
from tests.integration.conftest import Finished

ROOT = Path(__file__).parents[2]


class Driver:
    """Commands as a user with a token types them, HF_ENDPOINT set to the stand-in."""

    def __init__(self, endpoint: str, home: Path, **env: str) -> None:
        known = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.driver"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**known, "HF_ENDPOINT": endpoint, "HF_HOME": str(home),
                 "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **env},
        )  # fmt: skip

    def ask(self, **asked: object) -> Finished:
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return Finished(**json.loads(self.process.stdout.readline()))

    def __call__(self, *arguments: object, token: str | None = "hf_writer") -> Finished:
        env = {"HF_TOKEN": token} if token else {}
        return self.ask(argv=[str(a) for a in arguments], env=env)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def hub():
    server = StandIn()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def driver(hub, tmp_path_factory):
    process = Driver(hub.url, tmp_path_factory.mktemp("hf"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def pushed(hub, driver, trained):
    """anna/shapes with a detector."""
    done = driver("push", trained[0] / "run", "anna/shapes", "--message", "the first")
    assert done.status == 0, done.err
    return done


def detector_bytes(trained) -> bytes:
    return (trained[0] / "run" / "best.safetensors").read_bytes()


def test_push_sends_what_a_detector_needs_and_nothing_else(hub, pushed, trained):
    files = hub.repositories["anna/shapes"].files
    assert set(files) == {
        ".gitattributes", "README.md", "best.safetensors", "metrics.csv", "settings.json",
    }  # fmt: skip
    assert files["best.safetensors"] == detector_bytes(trained)
    assert hub.repositories["anna/shapes"].messages[-1] == "the first"
    assert not hub.repositories["anna/shapes"].private
    assert f"pushed to {hub.url}/anna/shapes" in pushed.out
    card = files["README.md"].decode()
    assert 'frostbox.Detector.load("hf://anna/shapes")' in card
    assert "USER/REPO" not in card


def test_nothing_that_is_pushed_names_a_folder_of_this_machine(hub, pushed, trained, shapes_voc):
    for content in hub.repositories["anna/shapes"].files.values():
        for folder in (trained[0], shapes_voc, Path.home() / "x"):
            assert str(folder.parent).encode() not in content


def test_settings_are_pushed_without_paths(driver, trained, hub, tmp_path):
    run = shutil.copytree(trained[0] / "run", tmp_path / "run")
    values = json.loads((run / "settings.json").read_text())
    values |= {"start": "/home/anna/secret/best.safetensors", "weights": "/home/anna/w.pth"}
    (run / "settings.json").write_text(json.dumps(values))
    assert driver("push", run / "best.safetensors", "anna/settings", "--private").status == 0
    stored = json.loads(hub.repositories["anna/settings"].files["settings.json"])
    assert (stored["start"], stored["weights"]) == ("best.safetensors", "w.pth")
    assert hub.repositories["anna/settings"].private


def test_pull_gives_the_folder_of_a_run(driver, pushed, trained, tmp_path, hub):
    done = driver("pull", "anna/shapes", "--out", tmp_path / "got", token=None)
    assert done.status == 0, done.err
    assert f"detector: {tmp_path / 'got' / 'best.safetensors'}" in done.out
    assert "left on the hub" not in done.err
    names = {p.name for p in (tmp_path / "got").iterdir()}
    assert names == {"best.safetensors", "card.md", "settings.json", "metrics.csv"}
    assert (tmp_path / "got/best.safetensors").read_bytes() == detector_bytes(trained)
    assert package.Detector.load(tmp_path / "got").settings.classes == ("blue", "green", "red")
    again = driver("pull", "anna/shapes", "--out", tmp_path / "got")
    assert again.status == 1
    assert "is not an empty folder: give another one with --out" in again.err


def test_a_file_that_has_not_changed_is_not_fetched_again(driver, pushed, tmp_path, hub):
    driver("pull", "anna/shapes", "--out", tmp_path / "a")
    before = hub.count("GET", "/cdn/")
    assert driver("pull", "anna/shapes", "--out", tmp_path / "b").status == 0
    assert hub.count("GET", "/cdn/") == before
    assert (tmp_path / "b/best.safetensors").exists()


def test_what_the_card_says_runs(driver, pushed, hub, shapes_voc, tmp_path, monkeypatch):
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_000.jpg"
    card = hub.repositories["anna/shapes"].files["README.md"].decode()
    shell, python = (re.search(rf"```{k}\n(.*?)```", card, re.S)[1] for k in ("bash", "python"))
    install, command = shell.strip().splitlines()
    assert install == "pip install frostbox"
    arguments = command.replace("photo.jpg", str(photo)).replace("found", str(tmp_path / "found"))
    done = driver(*arguments.split()[1:], token=None)
    assert done.status == 0, done.err
    assert (tmp_path / "found" / "shape_000.jpg").exists()
    done = driver.ask(code=python.replace("photo.jpg", str(photo)))
    assert done.status == 0
    assert done.out.startswith("[[")


def test_a_detector_on_the_hub_is_a_model_for_other_commands_too(driver, pushed, shapes_voc):
    done = driver("evaluate", "hf://anna/shapes@main", shapes_voc, "--bootstrap", 0, "--json", "-")
    assert done.status == 0, done.err
    assert json.loads(done.out)["ap50"] > 0.5


def test_a_revision_is_pulled(driver, trained, hub, tmp_path):
    first = hub.add("anna/versions", {"best.safetensors": detector_bytes(trained)})
    sha = first.branches["main"]
    first.commit({**first.files, "best.safetensors": b"worse"}, "second")
    done = driver("pull", "anna/versions", "--revision", sha, "--out", tmp_path / "got")
    assert done.status == 0, done.err
    for arguments in (("--revision", "nope"), ()):
        done = driver("pull", "anna/versions", *arguments, "--out", tmp_path / "other")
        assert done.status == 1
        assert not (tmp_path / "other").exists()
    assert "anna/versions holds no detector that can be used" in done.err
    assert "no revision 'nope'" in driver(
        "pull", "anna/versions", "--revision", "nope", "--out", tmp_path / "other"
    ).err  # fmt: skip


def test_only_known_files_are_fetched_and_none_leads_out(driver, trained, hub, tmp_path):
    hub.add("ben/odd", {
        "best.safetensors": detector_bytes(trained), "model.pkl": b"\x80\x04",
        "../../evil.txt": b"x", "/etc/evil": b"x", "thaw/last.ckpt": b"x", "README.md": b"# odd",
    })  # fmt: skip
    done = driver("pull", "ben/odd", "--out", tmp_path / "deep" / "got")
    assert done.status == 0, done.err
    assert "frostbox does not know them: ../../evil.txt, /etc/evil, model.pkl" in done.err
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {"deep/got/best.safetensors", "deep/got/card.md"}
    assert not hub.count("GET", "ben/odd/resolve/main/model.pkl")
    assert not any("pkl" in path for _, path, _ in hub.log)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pytorch_model.bin": b"x"}, "holds no best.safetensors: it is no detector of frostbox"),
        ({"best.safetensors": b"\x80\x04 a pickle"}, "cannot be read as a safetensors file"),
        ({"best.safetensors": None, "metrics.csv": b"x" * 17_000_000}, "has 17,000,000 bytes"),
    ],
)
def test_what_is_no_detector_is_not_left_behind(driver, trained, hub, tmp_path, files, said):
    content = {k: detector_bytes(trained) if v is None else v for k, v in files.items()}
    hub.add("ben/broken", content)
    done = driver("pull", "ben/broken", "--out", tmp_path / "got")
    assert done.status == 1
    assert said in done.err
    assert done.err.count("error:") == 1
    assert not (tmp_path / "got").exists()


def test_push_again_is_a_commit_more(driver, pushed, hub, trained):
    before = len(hub.repositories["anna/shapes"].commits)
    uploads = hub.count("PUT", "/cdn/")
    assert driver("push", trained[0] / "run", "anna/shapes").status == 0
    assert len(hub.repositories["anna/shapes"].commits) == before + 1
    assert hub.count("PUT", "/cdn/") == uploads  # the blob is there


def test_a_private_push_to_a_public_repository_is_refused(driver, pushed, hub, trained):
    before = len(hub.repositories["anna/shapes"].commits)
    done = driver("push", trained[0] / "run", "anna/shapes", "--private")
    assert done.status == 1
    assert "is public, so --private would not hold" in done.err
    assert len(hub.repositories["anna/shapes"].commits) == before


def test_another_kind_of_model_is_not_written_over(driver, trained, hub):
    hub.add("anna/bert", {"pytorch_model.bin": b"x", "README.md": b"# bert"})
    done = driver("push", trained[0] / "run", "anna/bert")
    assert done.status == 1
    assert "anna/bert holds something else (pytorch_model.bin)" in done.err
    assert hub.repositories["anna/bert"].files["README.md"] == b"# bert"


def test_who_may_not_push_is_told_why(driver, trained, hub):
    run = trained[0] / "run"
    none = driver("push", run, "anna/new", token=None)
    assert "there is no token to push with" in none.err
    assert "hf auth login" in none.err
    wrong = driver("push", run, "anna/new", token="hf_expired")
    assert "the token is not valid (Invalid credentials" in wrong.err
    for token in ("hf_reader", "hf_other"):
        refused = driver("push", run, "anna/new", token=token)
        assert "the token may not do that" in refused.err
        assert "permission to write" in refused.err
    reader = driver("push", run, "anna/shapes", token="hf_reader")
    assert "the token may not do that" in reader.err
    for done in (none, wrong, refused, reader):
        assert done.status == 1
        assert done.err.count("error:") == 1
        assert "hf_" not in done.err  # the token
    assert "anna/new" not in hub.repositories


def test_what_may_not_be_seen_is_told(driver, trained, hub, tmp_path):
    hub.add("anna/hidden", {"best.safetensors": detector_bytes(trained)}, private=True)
    hub.add("anna/gated", {"best.safetensors": detector_bytes(trained)})
    hub.gated.add("anna/gated")
    for repo, token in (("anna/hidden", None), ("anna/hidden", "hf_other"), ("anna/no", None)):
        done = driver("pull", repo, "--out", tmp_path / "got", token=token)
        assert done.status == 1
        assert f"cannot pull {repo}: {hub.url} has no such model, or it is private" in done.err
        assert "hf://" not in driver("predict", f"hf://{repo}", "x.jpg", token=token).out
    done = driver("pull", "anna/gated", "--out", tmp_path / "got")
    assert f"access must be asked for on {hub.url}/anna/gated" in done.err
    assert driver("pull", "anna/hidden", "--out", tmp_path / "got").status == 0
    missing = driver("predict", "hf://anna/bert2", "x.jpg")
    assert (missing.status, "has no such model" in missing.err) == (1, True)


def test_a_card_that_the_hub_refuses(driver, trained, tmp_path):
    run = shutil.copytree(trained[0] / "run", tmp_path / "run")
    text = (run / "card.md").read_text()
    (run / "card.md").write_text(text.replace("library_name", "license: [mit]\nlibrary_name", 1))
    done = driver("push", run, "anna/licence")
    assert (done.status, '"license" is not valid; mend the header' in done.err) == (1, True)
    (run / "card.md").unlink()
    done = driver("push", run, "anna/licence")
    assert "card.md does not exist: training writes this model card" in done.err
    done = driver("push", tmp_path, "anna/licence")
    assert "best.safetensors does not exist" in done.err


@pytest.mark.slow
def test_a_hub_that_is_down_or_far_away(driver, pushed, hub, trained, shapes_voc, tmp_path):
    photo = shapes_voc / "VOCdevkit/VOC2012/JPEGImages/shape_000.jpg"
    predict = ("predict", "hf://anna/shapes", photo, "--out", tmp_path / "found")
    assert driver(*predict).status == 0
    hub.down = True
    try:
        done = driver("pull", "anna/shapes", "--out", tmp_path / "got")
        assert done.status == 1
        assert "the hub is busy or down" in done.err
        assert driver(*predict).status == 0  # the file is in the cache
    finally:
        hub.down = False
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    other = Driver(nobody, tmp_path / "hf")
    try:
        for arguments in (
            ("pull", "anna/shapes", "--out", tmp_path / "got"),
            ("push", trained[0] / "run", "anna/shapes"),
            ("predict", "hf://anna/shapes", "x.jpg"),
        ):
            done = other(*arguments)
            assert done.status == 1
            assert f"{nobody} cannot be reached" in done.err
            assert done.err.count("error:") == 1
    finally:
        other.close()


@pytest.mark.parametrize("name", ["birds", "a/b/c", "anna/../x", "anna/", "an na/x", "--/x", ""])
def test_what_is_no_repository(name):
    with pytest.raises(SettingsError, match="is no repository: give USER/NAME"):
        check_repo(name)


def test_addresses():
    assert address("hf://anna/birds") == address(Path("hf://anna/birds")) == ("anna/birds", None)
    assert address("hf://anna/birds@v1.0") == ("anna/birds", "v1.0")
    assert address(Path("hf://anna/birds@refs/pr/1")) == ("anna/birds", "refs/pr/1")
    assert address("runs/first") is None
    assert address("anna/birds") is None
    for wrong in ("hf://birds", "hf://a/b/c", "hf://anna/birds@"):
        with pytest.raises(SettingsError):
            address(wrong)
