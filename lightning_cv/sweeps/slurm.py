"""Trials as jobs of SLURM, submitted as arrays by submitit.

A job runs the trial's command and ends with its exit status; how it stands is what `squeue` says. Neither accounting
(sacct) nor submitit's own results, signals and time-out counter are used: a run of ours that is asked to stop saves
and requeues its job itself, as often as it makes progress (docs/adr/0019).
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_cv import interrupts
from lightning_cv.errors import UserError
from lightning_cv.sweeps.cluster import Cluster
from lightning_cv.sweeps.command import can_be_asked_to_stop
from lightning_cv.sweeps.launcher import Ended, Handle, Job

_LOOK_S = 2.0
"""Seconds between two questions to SLURM, whose controller has many users."""
_MAY_RETURN_S = 30.0
"""Seconds after which a job that the system ended is not put back into the queue by SLURM any more."""
_SYSTEM = {
    "PREEMPTED": "pre-empted",
    "NODE_FAIL": "its node was lost",
    "BOOT_FAIL": "its node did not start",
    "REVOKED": "revoked",
}
_FAULTS = {"TIMEOUT": "time limit", "OUT_OF_MEMORY": "out of memory", "DEADLINE": "deadline"}


class Standing(NamedTuple):
    """How a job stands."""

    state: str
    node: str


_UNKNOWN = Standing("UNKNOWN", "")


class SlurmLauncher:
    """A trial is a job, most of them in arrays of which `cluster.parallelism` run at once.

    Args:
        cluster: what a trial gets.
        folder: of the sweep; job scripts and their output go to its `slurm`.
        name: of the jobs.
        most: trials in the queue at once.

    Raises:
        UserError: SLURM's commands or submitit are missing, or the partition does not exist.
    """

    def __init__(self, cluster: Cluster, folder: Path, name: str, most: int = 1000) -> None:
        refuse_cluster(cluster)
        self.cluster, self.folder, self.name, self.most = cluster, folder.absolute() / "slurm", name, most
        self._queue: dict[str, Standing] = {}
        self._asked = -_LOOK_S
        self._silent = False  # the controller is away: jobs go on without it
        self._at_work: set[str] = set()

    @property
    def room(self) -> int:
        """How many more may wait."""
        return max(0, self.most - len(self._at_work))

    def start(self, jobs: Sequence[Job]) -> list[Handle]:
        """Submit them, several as one array."""
        from submitit.core.utils import FailedJobError  # an extra of the package
        from submitit.slurm.slurm import SlurmExecutor

        executor = SlurmExecutor(self.folder)
        executor.update_parameters(job_name=self.name, **self.cluster.parameters())
        try:
            submitted = executor.map_array(run_job, jobs)
        except FailedJobError as error:
            raise UserError(f"SLURM does not take the jobs: {str(error).strip()}") from error
        self._asked = -_LOOK_S
        return [
            self._handle(one.job_id, can_be_asked_to_stop(job.command))
            for one, job in zip(submitted, jobs, strict=True)
        ]

    def recover(self, reference: str) -> Handle | None:
        """The job, if SLURM has it still, waiting or running."""
        standing = self.standing(reference)
        return None if standing is None or _outcome(standing.state) is not None else self._handle(reference)

    def standing(self, job: str) -> Standing | None:
        """How a job stands by what SLURM said last, at most `_LOOK_S` ago; None where it knows no such job."""
        if time.monotonic() - self._asked >= _LOOK_S:
            done = _ask("squeue", "--me", "-h", "-a", "-r", "-t", "all", "-o", "%i|%T|%N")
            self._silent = done.returncode != 0
            if not self._silent:
                lines = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 2]
                self._queue = {number: Standing(state, node) for number, state, node in lines}
            self._asked = time.monotonic()
        return self._queue.get(job, _UNKNOWN if self._silent else None)

    def _handle(self, job: str, tells_of_stops: bool = True) -> Handle:
        self._at_work.add(job)
        return _SlurmTrial(job, self.standing, self._at_work.discard, tells_of_stops)


class _SlurmTrial:
    def __init__(
        self,
        job: str,
        standing: Callable[[str], Standing | None],
        over: Callable[[str], object],
        tells_of_stops: bool,
    ) -> None:
        self._job, self._standing, self._over, self._tells_of_stops = job, standing, over, tells_of_stops
        self._node, self._gone_since = "", 0.0

    @property
    def node(self) -> str:
        return self._node

    @property
    def reference(self) -> str:
        return self._job

    def poll(self) -> Ended | None:
        standing = self._standing(self._job)
        ended = Ended("interrupted", "SLURM knows it no more") if standing is None else _outcome(standing.state)
        if standing is not None and standing.node:
            self._node = standing.node
        if ended is None:
            self._gone_since = 0.0
            return None
        if standing is None or standing.state in _SYSTEM:  # it may come back
            self._gone_since = self._gone_since or time.monotonic()
            if time.monotonic() - self._gone_since < _MAY_RETURN_S:
                return None
        if standing is not None and standing.state == "FAILED":
            status = exit_status(self._job)
            asked = status == interrupts.STATUS and self._tells_of_stops
            ended = Ended("interrupted" if asked else "failed", f"exit status {status}")
        self._over(self._job)
        return ended

    def stop(self, now: bool = False) -> None:
        if now:
            _ask("scancel", "--signal=KILL", self._job)
        _ask("scancel", self._job)


def run_job(job: Job) -> None:
    """In the cluster's job: run the trial, end as it ended. Never comes back to submitit.

    Signals reach the trial without help, for SLURM sends them to all that a job has started.
    """
    for number in interrupts.SIGNALS:
        signal.signal(number, _hear)
    with job.log.open("ab") as log:
        try:
            status = subprocess.run(
                job.command,
                env=os.environ | job.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            ).returncode
        except OSError as error:
            log.write(f"cannot start {job.command[0]}: {error.strerror}\n".encode())
            status = 127
    os._exit(status if status >= 0 else 128 - status)


def exit_status(job: str) -> int:
    """Exit status of a job that has failed; 1 where SLURM does not say."""
    found = re.search(r"\bExitCode=(\d+):", _ask("scontrol", "show", "job", "-o", job).stdout)
    return int(found[1]) if found else 1


def refuse_cluster(cluster: Cluster) -> None:
    """Raise UserError where jobs cannot be submitted from here."""
    missing = [program for program in ("sbatch", "squeue", "scancel", "scontrol") if shutil.which(program) is None]
    if missing:
        raise UserError(
            f"--launcher slurm: no {missing[0]} on this machine; start the sweep where jobs are submitted from, "
            "as on a login node"
        )
    try:
        import submitit  # noqa: F401  # an extra of the package
    except ImportError:
        raise UserError("--launcher slurm needs submitit: pip install 'lightning-cv[slurm]'") from None
    known = _ask("sinfo", "-h", "-a", "-o", "%R")  # hidden ones too: they may be asked for
    if known.returncode:
        raise UserError(f"SLURM does not answer: {known.stderr.strip()}")
    partitions = sorted(set(known.stdout.split()))
    for asked in cluster.partition.split(",") if cluster.partition else ():  # as sbatch takes several
        if asked not in partitions:
            raise UserError(f"{cluster.source}: partition: no {asked}; there are {', '.join(partitions)}")


def _outcome(state: str) -> Ended | None:
    """How a job in this state has ended; None where it waits, runs, or is on its way from one to the other."""
    if state == "COMPLETED":
        return Ended("finished", "")
    if state == "CANCELLED":
        return Ended("interrupted", "cancelled")
    if state in _SYSTEM:
        return Ended("interrupted", _SYSTEM[state])
    if state == "FAILED" or state in _FAULTS:
        return Ended("failed", _FAULTS.get(state, ""))
    return None


def _hear(*_: object) -> None:
    """A handler that does nothing, which a command does not inherit, as it would inherit that signals are ignored."""


def _ask(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", "no answer within a minute")
