"""Who starts the processes of a run: torchrun, SLURM or Kubernetes has, or Lightning Fabric does.

Fabric connects them too. What they do then is distributed.py's.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from frostbox.errors import RankError, SettingsError, one_line

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

_SERVICE = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_BY_HAND = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHER = "lightning.fabric.strategies.launchers.subprocess_script"


@dataclass(frozen=True)
class Launched:
    """What one process knows of those that were started with it.

    Attributes:
        rank: of this process; size: of all, local_size: of this machine.
        children: that were started here.
        environment: by which Lightning finds its processes again.
    """

    rank: int
    size: int
    local_size: int
    children: list[subprocess.Popen[bytes]]
    environment: ClusterEnvironment


def environment() -> ClusterEnvironment | None:
    """Who started this process as one of several; None when Fabric is to, or has."""
    from lightning.fabric.plugins.environments.kubeflow import KubeflowEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if "SLURM_NTASKS" in os.environ and SLURMEnvironment.detect():
        try:
            return SLURMEnvironment()
        except RuntimeError as error:
            raise SettingsError(one_line(error)) from error
    if all(name in os.environ for name in _SERVICE) and "LOCAL_RANK" not in os.environ:
        return KubeflowEnvironment()
    return None


def layout(
    environment: ClusterEnvironment | None, devices: int | None, nodes: int | None
) -> tuple[int, int]:
    """Processes a machine, and machines. Raises SettingsError where they do not fit."""
    for name, count in (("devices", devices), ("nodes", nodes)):
        if count is not None and count < 1:
            raise SettingsError(f"{name} is {count}: give 1 or more")
    if environment is None:
        lacking = [name for name in _BY_HAND if name not in os.environ]
        if nodes is not None and nodes > 1 and lacking:
            raise SettingsError(
                f"{nodes} machines were asked for, and nothing says which they are: start the "
                f"command by torchrun or srun on each, or set {', '.join(lacking)}"
            )
        return devices or 1, nodes or 1
    size = environment.world_size()
    local = devices or _local_size(size, nodes)
    machines = nodes or -(-size // local)
    if local * machines != size:
        raise SettingsError(
            f"{size} processes were started, and {local} on each of {machines} machines were asked "
            "for: leave out devices and nodes, or give those that were started"
        )
    return local, machines


def _local_size(size: int, nodes: int | None) -> int:
    """Processes a machine, by the variables of who started them."""
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        if name in os.environ:
            return int(os.environ[name])
    return size // nodes if nodes else 1


def connect(
    environment: ClusterEnvironment | None,
    devices: int,
    nodes: int,
    device: str,
    backend: str,
    timeout: timedelta,
) -> Launched:
    """Start what is not started, and connect all; see distributed.open_ranks.

    Raises:
        SettingsError: more devices than there are, or a program that cannot be started again.
        RankError: a process does not come.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    _check(devices, device)
    if environment is None and devices > 1 and "LOCAL_RANK" not in os.environ:
        _check_program()
        # Else a lost rank 0 is a page of C++ frames in those that are started, before a sentence.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # But not what it says when it ends all processes because one was killed.
    logging.getLogger(_LAUNCHER).setLevel(logging.INFO)
    strategy = DDPStrategy(
        cluster_environment=environment, process_group_backend=backend, timeout=timeout
    )
    try:
        fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, strategy=strategy)
    except (ValueError, RuntimeError, MisconfigurationException) as error:  # in Fabric's words
        raise SettingsError(one_line(error)) from error
    try:
        fabric.launch()
    except ValueError as error:
        raise SettingsError(one_line(error)) from error
    except RuntimeError as error:
        raise RankError(f"the {devices * nodes} processes of this run {lost(error)}") from error
    children = getattr(fabric.strategy.launcher, "procs", [])
    known = strategy.cluster_environment
    assert known is not None  # as Fabric has connected by it
    return Launched(fabric.global_rank, fabric.world_size, devices, children, known)


def lost(error: Exception) -> str:
    """What processes that do not find each other are told."""
    return (
        f"do not find each other ({one_line(error)[:200]}); see that all were started, that "
        "MASTER_ADDR and MASTER_PORT are of the first, and that GLOO_SOCKET_IFNAME names the "
        "network between them where there are several"
    )


def _check(devices: int, device: str) -> None:
    if device == "mps":
        raise SettingsError("there is one mps device: leave --devices out, or choose --device cpu")
    if device == "cuda" and devices > torch.cuda.device_count():
        raise SettingsError(
            f"devices is {devices} and this machine has {torch.cuda.device_count()} CUDA devices: "
            "give at most so many"
        )
    if not dist.is_available():
        raise SettingsError("this PyTorch is built without torch.distributed: leave --devices out")


def _check_program() -> None:
    """Raise SettingsError where this program cannot be started again for the other processes."""
    main = sys.modules["__main__"]
    again = getattr(main, "__spec__", None) is not None or Path(sys.argv[0]).is_file()
    if hasattr(sys, "ps1") or "ipykernel" in sys.modules or not again:
        raise SettingsError(
            "work on several devices starts this program again for each: write it into a file and "
            "run that, or use the command `frostbox` (a notebook cannot)"
        )
