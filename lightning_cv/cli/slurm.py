"""A run as a job of SLURM: who its processes are, where they meet, and the job put back into the queue.

Requeueing belongs to this module alone (docs/adr/0019): Lightning's own is switched off, submitit's is not used.
"""

import math
import os
import re
import shutil
import socket
import subprocess
import warnings
from typing import NamedTuple

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lightning_cv.cli.run_folder import restarts
from lightning_cv.errors import UserError
from lightning_cv.interrupts import NO_REQUEUE

_BY_HAND = ("bash", "interactive")
"""Names of jobs in which somebody types commands, as Lightning sees it."""


def environment() -> ClusterEnvironment | None:
    """How Lightning is to see the job that this process belongs to; None leaves it to Lightning.

    Several tasks of one step are the run's processes, without Lightning's requeueing. A single task, or the batch
    script itself, starts its processes as it would on any machine.
    """
    warnings.filterwarnings("ignore", r"The `srun` command is available")  # which is no reason to use it
    if not _is_job() or TorchElasticEnvironment.detect():
        return None
    if _tasks() == 1 or not _in_step():
        return LightningEnvironment()
    if "MASTER_ADDR" not in os.environ and (address := _first_address()):
        os.environ["MASTER_ADDR"] = address
    return SLURMEnvironment(auto_requeue=False)


def fitting_devices(devices: int | str | list[int], num_nodes: int) -> int | str | list[int]:
    """The devices a process's trainer gets: those asked for, "auto" being as many as SLURM started processes a node.

    Raises:
        UserError: SLURM started another number of processes than the settings need. Lightning would wait for those
            that are missing, or train with those it knows of.
    """
    tasks = _tasks()
    if tasks == 1 or not _is_job() or TorchElasticEnvironment.detect() or SLURMEnvironment.job_name() in _BY_HAND:
        return devices
    if not _in_step():
        raise UserError(
            f"the job has {tasks} tasks, but this process is the only one: start it with srun, or ask for one task"
        )
    nodes = int(os.environ.get("SLURM_NNODES", "1"))
    if nodes != num_nodes:
        raise UserError(f"SLURM started this on {nodes} node(s), trainer.num_nodes is {num_nodes}: make them equal")
    per_node = tasks // nodes
    if devices in ("auto", "-1", -1):
        return per_node
    asked = len(devices) if isinstance(devices, list) else int(devices)
    if asked != per_node:
        raise UserError(
            f"SLURM started {per_node} process(es) a node, trainer.devices is {asked}: "
            "--ntasks-per-node of the job and --trainer.devices have to be equal"
        )
    return devices


class Requeueing(NamedTuple):
    """Whether the job will come back, and what to tell the user of it; nothing where there is no job."""

    done: bool
    words: str = ""


def requeue(made_steps: bool) -> Requeueing:
    """Put this job back into the queue, if that is wanted and makes sense.

    Not where the user said `--no-requeue`, nor a job that is being cancelled, nor one that was restarted and made no
    step since: its time limit is too short, it would come back for ever.
    """
    if not _is_job() or NO_REQUEUE in os.environ:
        return Requeueing(False)
    job = os.environ["SLURM_JOB_ID"]
    facts = job_facts(job)
    if facts.get("BatchFlag") != "1" or facts.get("Requeue") != "1":
        return Requeueing(False, f"job {job} may not be requeued")
    if facts.get("JobState") != "RUNNING" and not _is_over_time(facts):
        return Requeueing(False, f"job {job} was cancelled, or is being requeued already")
    if not made_steps and restarts() > 0:
        return Requeueing(False, f"job {job} made no step since its last start and is not requeued: give it more time")
    done = _scontrol("requeue", job)
    if done.returncode > 0:  # negative: the requeue itself ended the command, which belongs to the job
        return Requeueing(False, f"job {job} cannot be requeued: {done.stderr.strip()}")
    return Requeueing(True, f"job {job} is requeued and will go on")


def job_facts(job: str) -> dict[str, str]:
    """What `scontrol show job` says of a job, by its keys; empty where SLURM does not answer."""
    return dict(re.findall(r"(\S+?)=(\S*)", _scontrol("show", "job", "-o", job).stdout))


def seconds(clock: str) -> float:
    """A time as SLURM prints it; infinite for "UNLIMITED" and what is none.

    >>> seconds("1-02:00:05")
    93605.0
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", clock)
    if found is None:
        return math.inf
    days, hours, minutes, rest = (float(number or 0) for number in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _is_over_time(facts: dict[str, str]) -> bool:
    return seconds(facts.get("RunTime", "0:00:00")) >= seconds(facts.get("TimeLimit", ""))


def _is_job() -> bool:
    return "SLURM_JOB_ID" in os.environ


def _in_step() -> bool:
    return "SLURM_STEP_ID" in os.environ and SLURMEnvironment.job_name() not in _BY_HAND


def _tasks() -> int:
    return int(os.environ.get("SLURM_NTASKS", "1"))


def _first_address() -> str | None:
    """Address of the job's first node by SLURM's book, where the node's name alone does not lead to it."""
    first = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_NODELIST", ""))
    if not first:
        return None
    try:
        socket.gethostbyname(first)
    except OSError:
        found = re.search(r"NodeAddr=(\S+)", _scontrol("show", "node", "-o", first).stdout)
        return found[1] if found else None
    return None


def _scontrol(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["scontrol", *arguments]
    if shutil.which("scontrol") is None:
        return subprocess.CompletedProcess(command, 127, "", "there is no scontrol here")
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", "SLURM does not answer")
