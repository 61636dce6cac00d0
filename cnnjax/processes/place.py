# SPDX-License-Identifier: Apache-2.0
"""Which of several processes this one is: from flags, or from what a scheduler says in the environment.

Known are JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID, SLURM, Open MPI, an indexed job of
Kubernetes (JobSet) and Cloud TPUs. A flag takes the place of what the environment says.
"""

import importlib.util
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from cnnjax.errors import UsageError

PORT = 8476  # where only a host is told
_HIGH_PORTS = 61440  # jobs of SLURM and Open MPI take one of the 4,096 ports from here, by their number, as JAX does
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


class Place(NamedTuple):
    """One process among several.

    Attributes:
      coordinator: "HOST:PORT" of process 0.
      num_processes: all of them.
      process_id: this one, from 0.
      local_device: the only GPU of its host that this process takes; None: all that it sees.
      source: who said so.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device: int | None
    source: str


class _Found(NamedTuple):
    """What is known of a place; None: not told."""

    source: str
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device: int | None = None


def find_place(
    coordinator: str | None, num_processes: int | None, process_id: int | None, environ: Mapping[str, str]
) -> Place | None:
    """The place of this process; None when it trains by itself.

    Args:
      coordinator: the flag --coordinator, "HOST:PORT" or "HOST".
      num_processes: the flag --num_processes; 1 means by itself, whatever the environment says.
      process_id: the flag --process_id.
      environ: `os.environ`.

    Raises:
      UsageError: a part is missing, no number, or contradicts another.
    """
    if num_processes == 1 and not process_id:
        return None
    found = _detect(environ)
    by_flags = (coordinator, num_processes, process_id) != (None, None, None)
    if not by_flags and (found is None or found.num_processes == 1):
        return None
    found = found or _Found("the flags")
    flags = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    found = found._replace(**{name: value for name, value in flags.items() if value is not None})
    missing = [name for name in flags if getattr(found, name) is None]
    if missing:
        told = " and ".join(f"--{name}" for name in missing)
        raise UsageError(
            f"of several processes (told by {found.source}) {told} is missing; give --coordinator=HOST:PORT, "
            "--num_processes=N and --process_id=I to each, or --num_processes=1 to train in one process"
        )
    assert found.coordinator is not None and found.num_processes is not None and found.process_id is not None
    if found.num_processes < 1 or not 0 <= found.process_id < found.num_processes:
        raise UsageError(
            f"--process_id={found.process_id} of --num_processes={found.num_processes} (told by {found.source}): "
            "processes are counted from 0; give the last one the number of processes - 1"
        )
    if found.num_processes == 1:
        return None
    address = _with_port(found.coordinator)
    return Place(address, found.num_processes, found.process_id, found.local_device, found.source)


def _with_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):  # "[::1]" has colons and no port
        return f"{address}:{PORT}"
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator={address} is no HOST:PORT, such as 10.0.0.1:{PORT}")
    return address


def _detect(environ: Mapping[str, str]) -> _Found | None:
    """What the environment says: what is meant for JAX first, and what it leaves open from the scheduler."""
    scheduler = _slurm(environ) or _open_mpi(environ) or _kubernetes(environ)
    number, process_id = _number(environ, "JAX_NUM_PROCESSES"), _number(environ, "JAX_PROCESS_ID")
    address = environ.get("JAX_COORDINATOR_ADDRESS")
    told = {"coordinator": address, "num_processes": number, "process_id": process_id}
    told = {name: value for name, value in told.items() if value is not None}
    if told:
        return (scheduler or _Found("JAX_* in the environment"))._replace(**told)
    return scheduler or _cloud_tpu(environ)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise UsageError(f"{name}={text!r} in the environment is no number; unset it or give one")
    return int(text)


def _slurm(environ: Mapping[str, str]) -> _Found | None:
    if not all(name in environ for name in _SLURM) or _number(environ, "SLURM_NTASKS") == 1:
        return None
    port = environ.get("JAX_COORDINATOR_PORT") or _HIGH_PORTS + (_number(environ, "SLURM_JOB_ID") or 0) % 4096
    several = environ.get("SLURM_STEP_TASKS_PER_NODE", environ.get("SLURM_TASKS_PER_NODE", "1")).split("(")[0] != "1"
    return _Found(
        "SLURM",
        f"{first_host(environ['SLURM_STEP_NODELIST'])}:{port}",
        _number(environ, "SLURM_NTASKS"),
        _number(environ, "SLURM_PROCID"),
        _own_device(environ, "SLURM_LOCALID") if several else None,
    )


def first_host(nodes: str) -> str:
    """The first host of a SLURM list: "node[003,007-9],other" begins with node003."""
    host = re.match(r"([^,\[]*)(?:\[(\w+)[^\]]*\]([^,\[]*))?", nodes)
    assert host is not None  # it matches anything
    return "".join(part or "" for part in host.groups())


def _own_device(environ: Mapping[str, str], name: str) -> int | None:
    """Of several processes on a host each takes the GPU of its number, unless it was given one already."""
    visible = environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return None if len(visible) == 1 and visible[0] else _number(environ, name)


def _open_mpi(environ: Mapping[str, str]) -> _Found | None:
    number = _number(environ, "OMPI_COMM_WORLD_SIZE")
    if number in (None, 1):
        return None
    together = _number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE")
    launcher = environ.get("OMPI_MCA_orte_hnp_uri", "")  # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911
    job = re.match(r"(\d+)\.", launcher)
    port = environ.get("JAX_COORDINATOR_PORT") or (_HIGH_PORTS + int(job[1]) // 4096 % 4096 if job else PORT)
    address = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", launcher)
    host = (address[1] or f"[{address[2]}]") if address else None
    if together == number:  # all on this host; from Open MPI 5 on nothing else tells where process 0 is
        host = "127.0.0.1"
    several = together is not None and together > 1
    return _Found(
        "Open MPI",
        f"{host}:{port}" if host else None,
        number,
        _number(environ, "OMPI_COMM_WORLD_RANK"),
        _own_device(environ, "OMPI_COMM_WORLD_LOCAL_RANK") if several else None,
    )


def _kubernetes(environ: Mapping[str, str]) -> _Found | None:
    """An indexed job's number is in its environment; it is one of several only where JAX_NUM_PROCESSES says so."""
    index = _number(environ, "JOB_COMPLETION_INDEX")
    if index is None or not {"JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS"} & environ.keys():
        return None
    # The host is called JOB-INDEX.SUBDOMAIN...; process 0 is JOB-0 there.
    host, dot, domain = socket.getfqdn().partition(".")
    known = dot and host.endswith(f"-{index}")
    first = f"{host.removesuffix(f'-{index}')}-0.{domain}:{PORT}" if known else None
    return _Found("Kubernetes", first, None, index)


def _cloud_tpu(environ: Mapping[str, str]) -> _Found | None:
    """Of a slice of several hosts, as JAX asks its machine; without TPUs nothing is asked."""
    wanted = environ.get("JAX_PLATFORMS", "")
    if (wanted and "tpu" not in wanted) or importlib.util.find_spec("libtpu") is None:
        return None
    from jax._src.clusters.cloud_tpu_cluster import GceTpuCluster, GkeTpuCluster

    for cluster in (GkeTpuCluster, GceTpuCluster):
        if cluster.is_env_present():
            number = cluster.get_process_count()
            if number == 1:
                return None
            address = cluster.get_coordinator_address(60, environ.get("JAX_COORDINATOR_PORT"))
            return _Found("Cloud TPU", address, number, cluster.get_process_id())
    return None
