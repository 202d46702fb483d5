"""Three machines: namespaces of the network, each with an address of its own, behind one bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from frostbox.features.cache import FeatureCache
from tests.features.conftest import write_photos
from tests.features.ranks import HURRY, await_file, files, finished, one_process

pytestmark = pytest.mark.slow

PORT = "29511"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """Hosts 0 to 2 with the addresses 10.213.0.1 to 3; the bridge lies in a namespace too."""

    def __init__(self) -> None:
        self.names = [f"frostbox-{os.getpid()}-{k}" for k in range(3)]
        self.bridge = f"frostbox-{os.getpid()}-bridge"

    def build(self) -> None:
        for name in (self.bridge, *self.names):
            ip("netns", "add", name)
        ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", self.bridge, "link", "set", "br0", "up")
        for k, name in enumerate(self.names):
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{k}",
               "netns", self.bridge)  # fmt: skip
            ip("-n", self.bridge, "link", "set", f"port{k}", "master", "br0", "up")
            ip("-n", name, "address", "add", f"10.213.0.{k + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")

    def pull_the_plug(self, k: int) -> None:
        """From now on nobody hears of a host, not even that its connections close."""
        ip("-n", self.bridge, "link", "set", f"port{k}", "down")

    def remove(self) -> None:
        for name in (self.bridge, *self.names):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def command(self, k: int) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.names[k])

    def variables(self, k: int) -> dict[str, str]:
        return {
            "MASTER_ADDR": "10.213.0.1", "MASTER_PORT": PORT, "NODE_RANK": str(k),
            "GLOO_SOCKET_IFNAME": "eth0",
        }  # fmt: skip


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("the command ip (iproute2), which makes network namespaces, is not here")
    made = Hosts()
    try:
        made.build()
    except subprocess.CalledProcessError as error:
        made.remove()
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
    yield made
    made.remove()


def test_one_of_three_machines_is_lost_and_the_others_finish(hosts, start, tmp_path):
    photos, out, reached = tmp_path / "photos", tmp_path / "out", tmp_path / "reached"
    write_photos(photos, 14)
    # Seven shards: machine 2 has shards 2 and 5, and is lost in the second of them.
    job = {"photos": [str(photos), 14], "out": str(out)}
    job["pause"] = {"rank": 2, "photo": "photo10", "reached": str(reached)}
    asked = {"devices": 1, "nodes": 3, "silence": 10, "jobs": [job]}
    running = [start(asked, hosts.command(k), **hosts.variables(k)) for k in range(3)]
    await_file(reached, *running)
    for shard in (0, 1, 2, 3, 4, 6):
        await_file(out / f"shard-0000{shard}.safetensors.json", *running)
    hosts.pull_the_plug(2)
    os.killpg(running[2].pid, signal.SIGKILL)
    first, second = (process.communicate(timeout=HURRY)[1] for process in running[:2])
    assert [process.returncode for process in running[:2]] == [1, 1]
    assert "rank 2 was not heard of for 10 seconds; see to its machine" in first
    assert "rank 2 was not heard of for 10 seconds" in second
    assert not FeatureCache.complete(out)
    kept = {path.name: path.stat().st_ino for path in out.glob("*.safetensors")}
    assert len(kept) == 6

    del job["pause"]
    asked = {"devices": 1, "nodes": 2, "jobs": [job]}
    running = [start(asked, hosts.command(k), **hosts.variables(k)) for k in range(2)]
    said = [entry for process in running for entry in finished(process)]
    assert [entry["images"] for entry in said] == [14, 14]
    assert said[0]["progress"][0] == [12, 14]
    one_process(photos, 14, tmp_path / "alone")
    assert files(out) == files(tmp_path / "alone")
    assert {name: (out / name).stat().st_ino for name in kept} == kept
