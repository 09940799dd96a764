"""Trials as jobs of SLURM, submitted as arrays by submitit.

A job runs the trial's command and ends with its exit status; how it stands is what `squeue` says. Neither accounting
(sacct) nor submitit's own results, signals and time-out counter are used: a run of ours that is asked to stop saves
and requeues its job itself, as often as it makes progress (docs/adr/0019).

A job is known by its number, or, before anybody has heard that, by what stands in the jobs' comment and its place among
them: `sweep-1f0c.../3`. With this, which is in the trial's file before sbatch is called, a job is found whose launcher
died, or did not get sbatch's answer.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_cv import interrupts
from lightning_cv.errors import UserError
from lightning_cv.sweeps.cluster import Cluster
from lightning_cv.sweeps.command import can_be_asked_to_stop
from lightning_cv.sweeps.folder import writing
from lightning_cv.sweeps.launcher import Ended, Handle, Job, NotTaken

_LOOK_S = 2.0
"""Seconds between two questions to SLURM, whose controller has many users."""
_MAY_RETURN_S = 30.0
"""Seconds after which a job that the system ended is not put back into the queue by SLURM any more."""
_MAY_APPEAR_S = 150.0
"""Seconds in which sbatch may still hand in jobs, by itself, that nobody has seen: it tries for two minutes."""
_OURS, _SUBMISSIONS = "sweep-", 5
_PASSING = re.compile(
    r"timed out|unable to contact|temporarily un|zero bytes|connection (refused|reset)|in standby|not connected"
    r"|unexpected message",
    re.IGNORECASE,
)
"""What sbatch says where the controller is away or busy: it may have taken the jobs nevertheless."""
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
        most: trials in the queue at once, no more than the cluster's `queue`.

    Raises:
        UserError: SLURM's commands or submitit are missing, or the partition does not exist.
    """

    def __init__(self, cluster: Cluster, folder: Path, name: str, most: int | None = None) -> None:
        refuse_cluster(cluster)
        self.cluster, self.folder, self.name = cluster, folder.absolute() / "slurm", name
        self.most = min(cluster.queue, most or cluster.queue)
        self._queue: dict[str, Standing] = {}
        self._numbers: dict[str, str] = {}  # of jobs that are known by their comment
        self._unanswered = 0  # submissions in a row
        self._asked = -_LOOK_S
        self._silent = False  # the controller is away: jobs go on without it
        self._at_work: set[str] = set()

    @property
    def room(self) -> int:
        """How many more may wait."""
        return max(0, self.most - len(self._at_work))

    def references(self, count: int) -> list[str]:
        """A comment that no other jobs have, and the jobs' places."""
        comment = _OURS + secrets.token_hex(8)
        return [f"{comment}/{place}" for place in range(count)]

    def start(self, jobs: Sequence[Job], references: Sequence[str]) -> list[Handle]:
        """Submit them, several as one array; without an answer they are looked for, and submitted again if not there.

        Raises:
            NotTaken: SLURM refuses them.
            UserError: it did not answer to several submissions, or the folder cannot be written.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError  # an extra of the package
        from submitit.slurm.slurm import SlurmExecutor

        executor = SlurmExecutor(self.folder)
        comment = references[0].partition("/")[0]
        executor.update_parameters(job_name=self.name, comment=comment, **self.cluster.parameters())
        self._asked = -_LOOK_S
        try:
            with writing(self.folder):
                found = [job.job_id for job in executor.map_array(run_job, jobs)]
            self._unanswered = 0
        except (FailedJobError, FailedSubmissionError) as error:  # refused, or an answer that says nothing
            said = str(error).strip()
            self._unanswered += 1
            if isinstance(error, FailedJobError) and not _PASSING.search(said):
                raise NotTaken(f"SLURM does not take the jobs: {said}") from error
            if self._unanswered == _SUBMISSIONS:
                raise UserError(f"SLURM does not answer to {_SUBMISSIONS} submissions: {said}") from error
            print("SLURM gave no answer: waiting to see whether it has the jobs", file=sys.stderr, flush=True)
            found = list(references)
        return [self._handle(one, can_be_asked_to_stop(job.command)) for one, job in zip(found, jobs, strict=True)]

    def recover(self, reference: str) -> Handle | None:
        """The job, if SLURM has it still: waiting, running, just ended, or perhaps not shown yet."""
        known = _is_submission(reference) or self.standing(reference) is not None
        return self._handle(reference) if known else None

    def number(self, reference: str) -> str | None:
        """Number of a job; None as long as it is known by its comment only."""
        return self._numbers.get(reference) if _is_submission(reference) else reference

    def is_complete(self, job: str) -> bool:
        """Whether a job has what it needs to run, which submitit gives to it after its submission."""
        return (self.folder / f"{job}_submitted.pkl").exists()

    def forget(self, reference: str) -> None:
        """A job has ended: its place in the queue is free."""
        self._at_work.discard(reference)

    def standing(self, reference: str) -> Standing | None:
        """How a job stands by what SLURM said last, at most `_LOOK_S` ago; None where it knows no such job."""
        if time.monotonic() - self._asked >= _LOOK_S:
            done = _ask("squeue", "--me", "-h", "-a", "-r", "-t", "all", "-o", "%i|%T|%N|%k")
            self._silent = done.returncode != 0
            if not self._silent:
                lines = [line.split("|", 3) for line in done.stdout.splitlines() if line.count("|") >= 3]
                self._queue = {number: Standing(state, node) for number, state, node, _ in lines}
                self._numbers |= {
                    f"{comment}/{number.partition('_')[2] or 0}": number
                    for number, _, _, comment in lines
                    if comment.startswith(_OURS)
                }
            self._asked = time.monotonic()
        number = self.number(reference)
        known = self._queue.get(number) if number else None
        return _UNKNOWN if known is None and self._silent else known

    def _handle(self, reference: str, tells_of_stops: bool = True) -> Handle:
        self._at_work.add(reference)
        return _SlurmTrial(reference, self, tells_of_stops)


class _SlurmTrial:
    def __init__(self, reference: str, launcher: SlurmLauncher, tells_of_stops: bool) -> None:
        self._known_by, self._launcher, self._tells_of_stops = reference, launcher, tells_of_stops
        self._job = None if _is_submission(reference) else reference
        self._node, self._gone_since = "", 0.0
        self._wanted = self._complete = True

    @property
    def node(self) -> str:
        return self._node

    @property
    def reference(self) -> str:
        return self._job or self._known_by

    def poll(self) -> Ended | None:
        standing = self._launcher.standing(self._known_by)
        if self._job is None:
            self._find()
        ended = Ended("interrupted", "SLURM knows it no more") if standing is None else _outcome(standing.state)
        if standing is not None and standing.node:
            self._node = standing.node
        if ended is None:
            self._gone_since = 0.0
            return None
        if standing is None or standing.state in _SYSTEM:  # it may come back
            self._gone_since = self._gone_since or time.monotonic()
            if time.monotonic() - self._gone_since < (_MAY_RETURN_S if self._job else _MAY_APPEAR_S):
                return None
        if not self._complete:
            ended = Ended("interrupted", "its submission was cut short")
        elif self._job and standing is not None and standing.state == "FAILED":
            status = exit_status(self._job)
            asked = status == interrupts.STATUS and self._tells_of_stops
            ended = Ended("interrupted" if asked else "failed", f"exit status {status}")
        self._launcher.forget(self._known_by)
        return ended

    def stop(self, now: bool = False) -> None:
        self._wanted = False
        if now and self._job:
            _ask("scancel", "--signal=KILL", self._job)
        if self._job:
            _ask("scancel", self._job)

    def _find(self) -> None:
        """Look whether SLURM has the job by now; end one that nobody wants any more, or that never got its task."""
        self._job = self._launcher.number(self._known_by)
        if self._job is not None:
            self._complete = self._launcher.is_complete(self._job)
            if not (self._wanted and self._complete):
                self.stop()


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


def _is_submission(reference: str) -> bool:
    """Whether a job is known by its comment and its place."""
    return reference.startswith(_OURS)


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
