#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One node, or several: a process on each, which find each other by what SLURM tells them.
#
#   sbatch --nodes=2 --export=ALL,WORKDIR=gs://BUCKET/RUN docs/cloud/slurm.sh
#
# Before the first job, where there is network: uv sync --extra cuda --extra gcs (or --extra s3).
# Needs: an account and a partition where your site asks for them (sbatch --account=... --partition=...).
#SBATCH --job-name=cnnjax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
# Two minutes before the time limit the processes are asked to stop: they save, send, and end with 143.
#SBATCH --signal=TERM@120
# After preemption, or a node's failure, SLURM starts the job again; so does this script after the time limit.
#SBATCH --requeue
#SBATCH --open-mode=append

set -uo pipefail

: "${WORKDIR:?give --export=ALL,WORKDIR=gs://BUCKET/RUN (or s3://, or a folder that all nodes share)}"
CONFIG="${CONFIG:-experiments/resnet_cifar10.py:20}"
cd "${SLURM_SUBMIT_DIR:?submit this script with sbatch}" || exit 2

srun --kill-on-bad-exit=1 uv run --no-sync run.py --config="$CONFIG" --workdir="$WORKDIR"
code=$?

if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
