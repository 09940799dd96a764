"""The search's journal and its lock: one whose holder died is taken over, and what a cut write left is put right."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

STALE_S = 30

logging.getLogger(JournalFileOpenLock.__module__).setLevel(logging.WARNING)  # says what it waits for, and takes over


class JournalLock(JournalFileOpenLock):
    """Optuna's lock, a file beside the journal that only one process can make, as the claims are.

    A launcher that is killed in a write leaves it behind: after `STALE_S` the next one takes it. Not Optuna's default,
    a link: where that leads nowhere, from a folder named relative to another or moved, Optuna waits for ever.

    Args:
        journal: the file that is written to by its holder alone.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal), STALE_S)
        self.journal = journal

    def acquire(self) -> bool:
        """Wait for the lock, then cut off a line without an end: the next one would be written behind it, in it."""
        super().acquire()
        try:
            cut_unfinished_line(self.journal)
        except BaseException:
            self.release()
            raise
        return True


class Journal(JournalFileBackend):
    """Optuna's file of lines, handed to the system as the trials' states are, not forced to the disk line by line.

    Optuna waits for the disk after each of a trial's five lines or more, tens of milliseconds a trial. Where a machine
    goes down, the search forgets what it learnt in the last seconds, and what is cut is put right as above; other
    launchers, also of other machines, see a line as soon as the lock is free.

    Args:
        journal: the file, made if it is not there.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._held = journal, JournalLock(journal)
        super().__init__(str(journal), self._held)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:  # Any: JSON
        """Write lines, under the lock."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._held.acquire()
        try:
            with self._journal.open("ab") as file:
                file.write(lines.encode())
        finally:
            self._held.release()


def cut_unfinished_line(path: Path) -> None:
    """Make a file end with a whole line, as it did before a write that a kill or a full disk cut short."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read() in (b"", b"\n"):
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
