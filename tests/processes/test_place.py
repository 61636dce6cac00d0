# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from cnnjax.errors import UsageError
from cnnjax.processes import find_place
from cnnjax.processes import place as place_module
from cnnjax.processes.place import first_host

SLURM = {
    "SLURM_JOB_ID": "4100",
    "SLURM_STEP_NODELIST": "gpu[003-004,9]",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
LAUNCHER = {"OMPI_MCA_orte_hnp_uri": "8192.0;tcp://10.96.0.1,10.148.0.1:34911"}
JAX = {"JAX_COORDINATOR_ADDRESS": "a:7", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


def found(environ, coordinator=None, num_processes=None, process_id=None) -> Any:
    place = find_place(coordinator, num_processes, process_id, environ)
    return place and tuple(place)


def test_without_a_word_a_process_is_by_itself():
    for environ in ({}, {"JOB_COMPLETION_INDEX": "3"}, SLURM | {"SLURM_NTASKS": "1"}, {"OMPI_COMM_WORLD_SIZE": "1"}):
        assert found(environ) is None
    assert found({}, None, 1, None) is None and found(SLURM, None, 1, None) is None  # the flag has the last word


def test_schedulers_are_understood():
    assert found({}, "a:7", 2, 1) == ("a:7", 2, 1, None, "the flags")
    assert found({}, "[::1]", 2, 0)[0] == "[::1]:8476"
    assert found(JAX) == ("a:7", 2, 1, None, "JAX_* in the environment")
    assert found(SLURM) == ("gpu003:61444", 3, 2, None, "SLURM")
    assert found(SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)"})[3] == 1  # each its own GPU
    assert found(SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2", "CUDA_VISIBLE_DEVICES": "0"})[3] is None  # it was given one
    assert found(OPEN_MPI | LAUNCHER) == ("10.96.0.1:61442", 4, 3, 1, "Open MPI")
    assert found(OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"})[0] == "127.0.0.1:8476"


def test_kubernetes_names_process_0_by_its_own_name(monkeypatch):
    monkeypatch.setattr(place_module.socket, "getfqdn", lambda: "train-workers-0-2.train.ns.svc.cluster.local")
    environ = {"JOB_COMPLETION_INDEX": "2", "JAX_NUM_PROCESSES": "4"}
    first = "train-workers-0-0.train.ns.svc.cluster.local:8476"
    assert found(environ) == (first, 4, 2, None, "Kubernetes")
    assert found(environ | {"JAX_COORDINATOR_ADDRESS": "there:1"})[0] == "there:1"


def test_a_slice_of_tpus_is_asked(monkeypatch):
    from jax._src.clusters import cloud_tpu_cluster

    monkeypatch.setattr(place_module.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost,other")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    monkeypatch.setattr(cloud_tpu_cluster, "get_tpu_env_value", lambda name: None)  # one slice
    assert found({}) == ("localhost:8482", 2, 1, None, "Cloud TPU")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    assert found({}) is None and found({"JAX_PLATFORMS": "cpu"}) is None


def test_flags_take_the_place_of_the_environment():
    assert found(SLURM, "b:1", None, None) == ("b:1", 3, 2, None, "SLURM")
    assert found(JAX, "b:1", 3, 2)[:3] == ("b:1", 3, 2)


@pytest.mark.parametrize(
    ("environ", "flags", "told"),
    [
        ({}, ("a:7", None, None), "--num_processes and --process_id is missing"),
        ({}, (None, 2, 0), "--coordinator is missing"),
        (OPEN_MPI, (None, None, None), r"told by Open MPI\) --coordinator is missing"),
        ({"JAX_NUM_PROCESSES": "2"}, (None, None, None), "--coordinator and --process_id is missing"),
        ({}, ("a:7", 2, 2), "counted from 0"),
        ({}, ("a:7", 0, 0), "counted from 0"),
        ({}, ("a:7", 1, 1), "counted from 0"),
        ({}, ("a:port", 2, 1), "is no HOST:PORT"),
        ({}, (":7", 2, 1), "is no HOST:PORT"),
        (
            JAX | {"JAX_PROCESS_ID": "first"},
            (None, None, None),
            "JAX_PROCESS_ID='first' in the environment",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_told(environ, flags, told):
    with pytest.raises(UsageError, match=told):
        found(environ, *flags)


def test_the_first_host_of_a_list():
    lists = {"node001": "node001", "a,b": "a", "n[007]": "n007", "n[001-3],x": "n001", "gpu[01,04]-ib": "gpu01-ib"}
    assert {nodes: first_host(nodes) for nodes in lists} == lists
