"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write in, which takes the place of `path` at the end; after an error what was there before stays."""
    handle, scratch = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            os.fchmod(handle, 0o644)  # a temporary file is its owner's alone
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink()
        raise
