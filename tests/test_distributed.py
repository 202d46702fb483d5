"""Who starts the processes of a run, by the variables that they set; nothing is started here."""

from __future__ import annotations

import logging
import os

import pytest

from frostbox import extraction, launching
from frostbox.distributed import ALONE, Ranks, open_ranks
from frostbox.errors import SettingsError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "RANK": "5",
    "LOCAL_RANK": "1", "GROUP_RANK": "2", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2",
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2", "SLURM_NODEID": "1", "SLURM_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "123456", "SLURM_JOB_NAME": "features",
}  # fmt: skip
KUBEFLOW = {"MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "RANK": "2", "WORLD_SIZE": "3"}
"""What a PyTorchJob sets in each pod."""


@pytest.fixture
def variables(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in {*TORCHRUN, "NODE_RANK"}:
            monkeypatch.delenv(name)

    def given(values: dict[str, str]) -> None:
        # Entry by entry: Lightning adds some that have to go with the test, too.
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    monkeypatch.setattr(os, "environ", os.environ.copy())
    return given


@pytest.mark.parametrize(
    ("given", "kind", "rank", "layout", "address", "port"),
    [
        (TORCHRUN, "TorchElasticEnvironment", 5, (2, 3), "10.0.0.1", 29500),
        (SLURM, "SLURMEnvironment", 6, (4, 2), "gpu07", 18456),
        (KUBEFLOW, "KubeflowEnvironment", 2, (1, 3), "job-master-0", 23456),
    ],
)
def test_who_started_it_and_where_the_first_is(given, kind, rank, layout, address, port, variables):
    variables(given)
    environment = launching.environment()
    assert type(environment).__name__ == kind
    assert environment.global_rank() == rank
    assert environment.creates_processes_externally
    assert (environment.main_address, environment.main_port) == (address, port)
    assert launching.layout(environment, None, None) == layout
    assert launching.layout(environment, *layout) == layout
    with pytest.raises(SettingsError, match="processes were started, and 7 on each of"):
        launching.layout(environment, 7, None)


def test_alone(variables):
    variables({})
    assert launching.environment() is None
    with open_ranks() as ranks:
        assert ranks is ALONE
    assert (ranks.main, ranks.rank, ranks.size, ranks.nodes) == (True, 0, 1, 1)
    assert ranks.tell(3) == 3
    assert ranks.broadcast("x") == "x"
    assert ranks.gather("x") == ["x"]
    assert ranks.share([1, 2, 3]) == [1, 2, 3]
    ranks.barrier()
    with ranks.main_first():
        assert ranks.main


def test_one_task_of_slurm_is_alone(variables):
    one = {
        "SLURM_NTASKS": "1",
        "SLURM_NNODES": "1",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS_PER_NODE": "1",
    }
    variables({**SLURM, **one})
    with open_ranks() as ranks:
        assert ranks is ALONE


def test_what_cannot_be_started(variables):
    variables({"MASTER_ADDR": "10.0.0.1"})

    def refused(match, **asked):
        with pytest.raises(SettingsError, match=match):
            open_ranks(**asked).__enter__()

    refused(r"torchrun or srun .* set NODE_RANK, MASTER_PORT$", devices=1, nodes=2)
    refused("devices is 0: give 1 or more", devices=0)
    variables({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "x"})
    refused("--ntasks-per-node=4")


def test_shards_go_round():
    ranks = [Ranks(k, 3, 1) for k in range(3)]
    assert [list(one.share(range(7))) for one in ranks] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [one.main for one in ranks] == [True, False, False]
    assert ranks[0].nodes == 3


def test_only_rank_0_warns_of_what_all_find(caplog):
    for rank in range(2):
        with extraction._warnings_of(Ranks(rank, 2, 1)):
            logging.getLogger("frostbox").warning("by rank %d", rank)
    logging.getLogger("frostbox").warning("behind it")
    assert caplog.messages == ["by rank 0", "behind it"]
