"""The lock of a folder: one process at a time works in it."""

import fcntl
from pathlib import Path
from typing import IO

from lightning_cv.errors import UserError

LOCK = ".lock"


class RunLock:
    """Held while a process works in a folder; the system lets go of it however the process ends.

    Args:
        folder: of a run or another long work; it exists. A file `.lock` stays in it.

    Raises:
        UserError: on entering, where another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._file: IO[str] | None = None

    def __enter__(self) -> "RunLock":
        self._file = self.path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"another process is at work in {self.path.parent}") from None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in a folder."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
