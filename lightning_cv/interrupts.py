"""Being asked to stop: signals that only leave a note, which the training loop reads when it can save.

Light on purpose: the command line listens before it imports anything heavy.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""People and launchers send TERM; SLURM sends USR1 or USR2 ahead of a time limit, whichever the job names."""

STATUS = 75
"""Exit status of a run that was interrupted and can go on: EX_TEMPFAIL of sysexits.h, "try again later"."""

NO_REQUEUE = "LIGHTNING_CV_NO_REQUEUE"
"""Environment variable: set to anything, a run that was interrupted does not put its job back into SLURM's queue."""


class Interrupted(Exception):
    """Ends a run that was asked to stop. `status` is the process's exit status."""

    def __init__(self, message: str, status: int = STATUS) -> None:
        super().__init__(message)
        self.status = status


class _Note:
    received: signal.Signals | None = None


def listen() -> None:
    """From now on the signals leave a note and do nothing else. In another thread than the main one nothing changes."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _take_note)


@contextmanager
def listening() -> Iterator[None]:
    """Listen, then leave the handlers and the note as they were."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if all(handler is not _take_note for handler in before.values()):
            forget()


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that are started within do not get the signals, for as long as they live.

    SLURM signals all that a job has started: also W&B's service, without which the run could not end as it should.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """In a worker process: only the parent's own SIGTERM ends it, as at the end of a loader.

    What is sent to all processes of a run is for those that save, and they need their workers until then.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a signal that is ignored cannot be waited for
    if not hasattr(signal, "sigwaitinfo"):  # macOS: no way to ask who sent it
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def received() -> signal.Signals | None:
    """The first signal that came, None where none did."""
    return _Note.received


def forget() -> None:
    """Tear up the note."""
    _Note.received = None


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _take_note(number: int, _: FrameType | None) -> None:
    _Note.received = _Note.received or signal.Signals(number)
