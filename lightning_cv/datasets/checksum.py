"""What a data set is, in 16 hex digits: two runs that show the same digits trained or were tested on the same data."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from lightning_cv.datasets.errors import DataError

DIGITS = 16


def checksum_of_files(paths: Iterable[Path]) -> str:
    """Of the names, the order and the contents of files; the folder they lie in has no part in it.

    A file counts under its own name and that of its folder, so that `VOC2007/Main/val.txt` anywhere is the same.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})") from None
        total.update(f"{path.parent.name}/{path.name}\n".encode() + content)
    return total.hexdigest()[:DIGITS]


def checksum_of_names(root: Path, paths: Iterable[Path]) -> str:
    """Of the places below `root` and the sizes of files too many to be read."""
    lines = "".join(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()[:DIGITS]


def checksum_of_tensors(tensors: Iterable[Tensor]) -> str:
    """Of the shapes, types and values of tensors, one after the other."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.contiguous().cpu().numpy().tobytes())
    return total.hexdigest()[:DIGITS]
