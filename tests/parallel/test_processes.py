import types

import jax
import numpy as np
import pytest
from jax._src.clusters import cloud_tpu_cluster

from retroguide_jax.commands import train
from retroguide_jax.errors import UserError
from retroguide_jax.parallel import processes

SLURM_TASK = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
}
VARIABLES = (
    *SLURM_TASK,
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "TPU_PROCESS_ADDRESSES_PATH",
    "TPU_PROCESS_ADDRESSES",
    "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_NUM_SLICES",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def joined(monkeypatch):
    """The arguments of every jax.distributed.initialize, which does nothing."""
    calls = []

    def initialize(*args, heartbeat_timeout_seconds):
        assert heartbeat_timeout_seconds <= 60
        calls.append(args)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return calls


@pytest.fixture
def tpu_vm(monkeypatch):
    """A machine with TPU chips; the dict is what its metadata server answers, 404 for the rest."""
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    # JAX sets this where it sees no chips, as on the machine of these tests.
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
    metadata = {}
    monkeypatch.setattr(
        cloud_tpu_cluster,
        "get_metadata",
        lambda key: (metadata[key], 200) if key in metadata else ("", 404),
    )
    return metadata


def set_variables(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_one_process_is_left_alone(joined):
    processes.join_processes()
    assert joined == []
    assert processes.is_writer()
    rows = np.array(["a", "bc"])
    assert processes.gather_rows(rows) is rows
    with processes.writer_first("block"):
        pass


def test_a_job_by_hand_is_joined(joined, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    processes.join_processes()
    assert joined == [("host:1", 2, 1)]


def test_the_tasks_of_a_slurm_step_are_joined(joined, monkeypatch):
    set_variables(monkeypatch, SLURM_TASK)
    processes.join_processes()
    assert joined == [()]


@pytest.mark.parametrize(
    ("change", "removed"),
    [
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),  # an interactive shell
        ({}, "SLURM_STEP_NUM_TASKS"),
        ({}, "SLURM_STEP_NODELIST"),  # a batch script without srun
        ({"JAX_NUM_PROCESSES": "1"}, None),
    ],
)
def test_a_slurm_process_that_is_one_of_one_is_left_alone(joined, monkeypatch, change, removed):
    set_variables(monkeypatch, {k: v for k, v in SLURM_TASK.items() if k != removed} | change)
    processes.join_processes()
    assert joined == []


@pytest.mark.parametrize(
    ("variables", "is_joined"),
    [
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_PROCESS_ADDRESSES": "a:8476,b:8476"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_PROCESS_ADDRESSES": "local"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_NUM_PROCESSES": "1"}, False),
    ],
)
def test_the_workers_of_gke_are_joined(joined, tpu_vm, monkeypatch, variables, is_joined):
    set_variables(monkeypatch, variables)
    processes.join_processes()
    assert joined == ([()] if is_joined else [])


def test_gke_without_chips_is_no_cluster(joined, monkeypatch):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    processes.join_processes()
    assert joined == []


@pytest.mark.parametrize(
    ("endpoints", "slices", "is_joined"),
    [
        ("10.0.0.1,10.0.0.2", 1, True),
        ("w0:x:10.0.0.1,w1:x:10.0.0.2", 1, True),
        ("10.0.0.1", 2, True),
        ("10.0.0.1", 1, False),
    ],
)
def test_the_workers_of_a_tpu_vm_are_joined(joined, tpu_vm, endpoints, slices, is_joined):
    tpu_vm["agent-worker-number"] = "0"
    tpu_vm["worker-network-endpoints"] = endpoints
    tpu_vm["tpu-env"] = f"MEGASCALE_NUM_SLICES: '{slices}'"
    processes.join_processes()
    assert joined == ([()] if is_joined else [])


def test_a_machine_with_chips_that_is_no_tpu_vm_is_left_alone(joined, tpu_vm):
    processes.join_processes()
    assert joined == []


def test_a_metadata_server_out_of_reach_is_an_error(joined, tpu_vm, monkeypatch):
    def fail(key):
        raise ConnectionError(f"no route for {key}")

    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", fail)
    with pytest.raises(UserError, match="no route for .*set JAX_NUM_PROCESSES=1 to run alone"):
        processes.join_processes()
    assert joined == []


def test_a_cluster_that_cannot_be_joined_is_an_error(monkeypatch):
    def fail(**options):
        raise RuntimeError("must be called before any JAX calls\nand more")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    set_variables(monkeypatch, SLURM_TASK)
    with pytest.raises(UserError, match="before any JAX calls; set JAX_NUM_PROCESSES=1"):
        processes.join_processes()


@pytest.mark.parametrize(("number", "process"), [("", "0"), ("2", ""), ("two", "0"), ("2", "-1")])
def test_half_a_description_of_the_job_is_an_error(monkeypatch, number, process):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", number)
    monkeypatch.setenv("JAX_PROCESS_ID", process)
    with pytest.raises(UserError, match="set JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        processes.join_processes()


def test_a_process_that_is_not_of_the_job_is_an_error(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "2")
    with pytest.raises(UserError, match="cannot join"):
        processes.join_processes()


def test_training_joins_before_anything_else(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="set JAX_NUM_PROCESSES"):
        train.run(types.SimpleNamespace(config=None, workdir="w", data_dir=None, hang_after=0))
