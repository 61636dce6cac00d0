# SPDX-License-Identifier: Apache-2.0
"""The files of docs/cloud, as far as they can be checked without a cloud."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

CLOUD = Path(__file__).parents[1] / "docs/cloud"
SKY = sorted(path for path in CLOUD.glob("*.yaml") if not path.name.startswith("jobset"))
# https://cloud.google.com/tpu/docs/runtimes
RUNTIMES = {"v5litepod": "v2-alpha-tpuv5-lite", "v6e": "v2-alpha-tpuv6e"}
BUCKETS = {"gcp": "gcs", "aws": "s3"}


def read(name: str) -> Any:
    return yaml.safe_load((CLOUD / name).read_text())


def flags(text: str) -> set[str]:
    """The flags that a script or a list of arguments gives to run.py."""
    return set(re.findall(r"--([a-z_]+)=", text.partition("run.py")[2] or text))


def known_flags() -> set[str]:
    told = subprocess.run(
        [sys.executable, "run.py", "train", "--help"], cwd=CLOUD.parents[1], check=True, capture_output=True, text=True
    )
    return set(re.findall(r"--([a-z_]+)", told.stdout))


@pytest.mark.parametrize("path", SKY, ids=lambda path: path.stem)
def test_sky_tasks_ask_for_spot_machines_and_install_what_they_use(path: Path):
    task = yaml.safe_load(path.read_text())
    resources = task["resources"]
    assert resources["use_spot"] is True and resources["job_recovery"]["max_restarts_on_errors"] > 0
    assert task["workdir"] == "." and task["envs"]["WORKDIR"] is None, "who launches it must name the bucket"
    clouds = [each["infra"] for each in resources.get("any_of", [resources])]
    extras = set(re.findall(r"--extra (\w+)", task["setup"]))
    kind = re.fullmatch(r"tpu-(v5litepod|v6e)-(\d+)|H100:(\d)", resources["accelerators"])
    assert kind
    if kind[1]:
        assert extras == {"tpu", "gcs"} and clouds == ["gcp"] and task["num_nodes"] == 1
        assert resources["accelerator_args"] == {"runtime_version": RUNTIMES[kind[1]], "tpu_vm": True}
        assert (int(kind[2]) > 8) == path.stem.endswith("pod")
    else:
        assert extras == {"cuda", *(BUCKETS[cloud] for cloud in clouds)}
    given = flags(task["run"])
    assert given >= {"config", "workdir"}
    assert (given >= {"coordinator", "num_processes", "process_id"}) == (task["num_nodes"] > 1)
    assert path.name in path.read_text().splitlines()[2], "the command in its head launches this file"
    for script in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=task[script], text=True, check=True)


def test_there_is_a_sky_task_for_each_kind_of_machine():
    names = {path.stem for path in SKY}
    assert names == {"tpu_v5e", "tpu_v5e_pod", "tpu_v6e", "tpu_v6e_pod", "gpu", "gpu_node", "gpu_nodes"}


def test_sky_reads_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With SkyPilot installed, which is no dependency: it refuses misspelt keys and wrong types."""
    monkeypatch.setenv("HOME", str(tmp_path))
    sky = pytest.importorskip("sky")
    for path in SKY:
        task = sky.Task.from_yaml_config(yaml.safe_load(path.read_text()), env_overrides=[("WORKDIR", "gs://b/r")])
        assert task.envs["WORKDIR"] == "gs://b/r"


def test_the_slurm_script_is_a_script_and_is_started_again(tmp_path: Path):
    script = CLOUD / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", script.read_text(), re.MULTILINE))
    assert "requeue" in options and options["ntasks-per-node"] == "1" and options["signal"].startswith("TERM@")
    # What the script does with the ways in which a run ends, with stand-ins for SLURM's commands.
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\nexit ${{{name.upper()}_CODE:-0}}\n'
        )
        (tmp_path / name).chmod(0o755)
    for code, requeued in ((0, False), (143, True), (1, False)):
        (tmp_path / "calls").write_text("")
        environment = {
            "PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7",
            "WORKDIR": "gs://b/r", "SRUN_CODE": str(code),
        }  # fmt: skip
        done = subprocess.run(["bash", str(script)], check=False, env=environment, capture_output=True)
        calls = (tmp_path / "calls").read_text()
        assert done.returncode == code and "--workdir=gs://b/r" in calls
        assert ("scontrol requeue 7" in calls) == requeued
    del environment["WORKDIR"]
    done = subprocess.run(["bash", str(script)], check=False, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "WORKDIR=gs://BUCKET/RUN" in done.stderr


def test_the_jobset_starts_a_process_on_each_host_of_the_slice():
    jobset = read("jobset_tpu.yaml")
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0 and policy["rules"][0]["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    hosts = rows * columns // container["resources"]["limits"]["google.com/tpu"]
    assert job["completions"] == job["parallelism"] == hosts and job["completionMode"] == "Indexed"
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert job["podFailurePolicy"]["rules"][0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert flags(" ".join(container["args"])) == {"config", "workdir"}


def test_the_flags_and_configs_that_are_given_exist():
    known = known_flags()
    scripts = [yaml.safe_load(path.read_text())["run"] for path in SKY] + [(CLOUD / "slurm.sh").read_text()]
    for script in scripts:
        assert flags(script) <= known, script
    text = "".join(path.read_text() for path in CLOUD.iterdir())
    for name in set(re.findall(r"experiments/\w+\.py", text)) - {"experiments/FILE.py"}:
        assert (CLOUD.parents[1] / name).is_file(), name
