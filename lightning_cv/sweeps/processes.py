"""Processes by more than their number: a number is given again, a number with a starting time is not."""

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

_SIGNAL_AT_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of Linux's prctl
_PROC = Path("/proc")
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@cache
def machine() -> str:
    """What tells this machine, as processes see it, from others: host, boot, and name space of process numbers."""
    told = [socket.gethostname()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        told.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(told)


def reference(pid: int) -> str:
    """A process's number and when it began, with the machine: `123 456789 host boot pid:[4026531836]`."""
    return f"{pid} {_began(pid) or 0} {machine()}"


def is_alive(told: str) -> bool:
    """Whether the process of a reference runs, on this machine."""
    pid, began, where = _parts(told)
    return where == machine() and pid > 0 and _began(pid) == began


def end_group(told: str, patience_s: float) -> None:
    """End the group of the process of a reference, with time to save; nothing where it is not of this machine."""
    pid, _, _ = _parts(told)
    if not is_alive(told):
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while is_alive(told) and time.monotonic() < deadline:
        time.sleep(0.05)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    while is_alive(told):
        time.sleep(0.01)


def set_up_child(cores: tuple[int, ...]) -> Callable[[], None]:
    """What a child does between fork and exec: it keeps to its cores, and is asked to end when its parent dies."""
    parent = os.getpid()

    def set_up() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)  # it died in between
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)

    return set_up


def _parts(told: str) -> tuple[int, int, str]:
    pid, _, rest = told.partition(" ")
    began, _, where = rest.partition(" ")
    return (int(pid), int(began), where) if pid.isdigit() and began.isdigit() else (0, 0, where)


def _began(pid: int) -> int | None:
    """When a process began, in clock ticks since the system did; None for one that is no more or a zombie."""
    if not (_PROC / "self").is_dir():
        return 0 if _exists(pid) else None
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in ("Z", "X") else int(rest[18])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
