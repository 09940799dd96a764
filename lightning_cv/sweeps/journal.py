"""The lock of the search's journal: one whose holder died is taken over, and what a cut write left is put right."""

import logging
import os
from pathlib import Path

from optuna.storages.journal import JournalFileSymlinkLock

STALE_S = 30

logging.getLogger(JournalFileSymlinkLock.__module__).setLevel(logging.WARNING)  # says what it waits for, and takes over


class JournalLock(JournalFileSymlinkLock):
    """Optuna's lock, a link beside the journal that only one process can make.

    A launcher that is killed in a write leaves it behind: after `STALE_S` without a change the next one takes it.

    Args:
        journal: the file that is written to by its holder alone.
    """

    def __init__(self, journal: Path) -> None:
        # absolute: from the link's own folder a relative path leads nowhere, and Optuna would wait for ever
        super().__init__(str(journal.absolute()), STALE_S)
        self.journal = journal.absolute()

    def acquire(self) -> bool:
        """Wait for the lock, then cut off a line without an end: the next one would be written behind it, in it."""
        super().acquire()
        try:
            cut_unfinished_line(self.journal)
        except BaseException:
            self.release()
            raise
        return True


def cut_unfinished_line(path: Path) -> None:
    """Make a file end with a whole line, as it did before a write that a kill or a full disk cut short."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read() in (b"", b"\n"):
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
