"""Trials as processes of this machine, each pinned to a GPU or to cores of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lightning_cv import interrupts
from lightning_cv.errors import UserError
from lightning_cv.sweeps.command import can_be_asked_to_stop
from lightning_cv.sweeps.launcher import Ended, Handle, Job
from lightning_cv.sweeps.processes import end_group, reference, set_up_child


class Place(NamedTuple):
    """What one trial at a time may use."""

    gpu: str | None
    cores: tuple[int, ...]


class LocalLauncher:
    """A trial is a process group, which gets SIGTERM, and SIGKILL when it has not ended after `patience_s`.

    Args:
        jobs: trials at once.
        gpus: what CUDA_VISIBLE_DEVICES may name, shared out one a trial; None for trials on cores.
        patience_s: seconds that a trial has to save in.
    """

    def __init__(self, jobs: int, gpus: Sequence[str] | None = None, patience_s: float = 30.0) -> None:
        self.places = places(jobs, gpus, _cores())
        self.patience_s = patience_s
        self._free = list(range(jobs))

    @property
    def room(self) -> int:
        """Places that are free."""
        return len(self._free)

    def references(self, count: int) -> list[str]:
        """None: trials are asked to end when their launcher dies."""
        return [""] * count

    def start(self, jobs: Sequence[Job], references: Sequence[str] = ()) -> list[Handle]:
        """Start a process group for each."""
        return [self._start(job) for job in jobs]

    def recover(self, told: str) -> Handle | None:
        """End what a dead launcher's trial has left running on this machine."""
        end_group(told, self.patience_s)
        return None

    def _start(self, job: Job) -> Handle:
        number = self._free.pop(0)
        place = self.places[number]
        # in a job of SLURM, a trial that is stopped must not send all of the sweep back into the queue
        environment = os.environ | {interrupts.NO_REQUEUE: "1"} | job.environment
        if place.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = place.gpu
        try:
            with job.log.open("ab") as log:
                process = subprocess.Popen(
                    job.command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                    preexec_fn=set_up_child(place.cores),  # this process has one thread
                )
        except OSError as error:
            self._free.append(number)
            raise UserError(f"cannot start {job.command[0]}: {error.strerror}") from error
        return _LocalTrial(process, number, self, can_be_asked_to_stop(job.command))

    def free(self, number: int) -> None:
        """Give a place back."""
        self._free.append(number)
        self._free.sort()


class _LocalTrial:
    def __init__(
        self, process: "subprocess.Popen[bytes]", place: int, launcher: LocalLauncher, tells_of_stops: bool
    ) -> None:
        self._process, self._place, self._launcher = process, place, launcher
        self._tells_of_stops = tells_of_stops
        self._reference = reference(process.pid)
        self._deadline: float | None = None

    @property
    def node(self) -> str:
        return socket.gethostname()

    @property
    def reference(self) -> str:
        return self._reference

    def poll(self) -> Ended | None:
        status = self._process.poll()
        if status is None:
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._signal(signal.SIGKILL)
            return None
        if self._deadline is not None or status:
            self._signal(signal.SIGKILL)  # what it has started and left behind
        self._launcher.free(self._place)
        told = f"exit status {status}" if status >= 0 else f"ended by {signal.Signals(-status).name}"
        if self._deadline is not None:
            return Ended("interrupted", f"stopped, {told}")
        if status == interrupts.STATUS and self._tells_of_stops:
            return Ended("interrupted", "asked to stop by somebody else")
        return Ended("failed" if status else "finished", told if status else "")

    def stop(self, now: bool = False) -> None:
        if now:
            self._deadline = time.monotonic()
            self._signal(signal.SIGKILL)
        elif self._deadline is None:
            self._deadline = time.monotonic() + self._launcher.patience_s
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def places(jobs: int, gpus: Sequence[str] | None, cores: Sequence[int]) -> list[Place]:
    """A place for each job: GPUs in turn, else the cores in equal shares, the same ones in turn where there are fewer.

    >>> places(2, None, [0, 1, 2, 3, 4])
    [Place(gpu=None, cores=(0, 1)), Place(gpu=None, cores=(2, 3))]
    """
    if gpus:
        return [Place(gpus[index % len(gpus)], ()) for index in range(jobs)]
    share = len(cores) // jobs
    if share:
        return [Place(None, tuple(cores[index * share : (index + 1) * share])) for index in range(jobs)]
    return [Place(None, (cores[index % len(cores)],) if cores else ()) for index in range(jobs)]


def visible_gpus() -> list[str]:
    """GPUs that trials may use: those of CUDA_VISIBLE_DEVICES, else all that the driver lists, asked without CUDA."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one for one in named.split(",") if one.strip() and one.strip() != "-1"]
    listed = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index in range(len(list(listed.iterdir())))] if listed.is_dir() else []


def refuse_missing_program(command: Sequence[str], path: str, where: str) -> None:
    """Raise where a command's program is not there to be started."""
    if shutil.which(command[0], path=path) is None:
        raise UserError(f"{where}: command: no program {command[0]} on the path")


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
