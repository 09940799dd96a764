"""What readers do with annotations that cannot be right: mend or leave out, count, say so once; or stop.

Letters: N boxes; K kinds of repairs; I images.
"""

import os
import secrets
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cv.datasets.errors import DataError


class DataWarning(UserWarning):
    """Annotations were mended or left out."""


class Repairs:
    """Counts what a reader mended or left out, by kind.

    Args:
        strict: stop at the first instead.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def note(self, kind: str, where: str) -> None:
        """One case: a kind in a few words, such as "empty box left out", and the file and object it is in."""
        if self.strict:
            raise DataError(f"{where}: {kind} (strict)")
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.first.setdefault(kind, where)

    def tell(self, source: object) -> None:
        """One warning for all cases so far; `source` names what was read. Nothing where there were none."""
        if self.counts:
            cases = "; ".join(f"{count} x {kind} (first: {self.first[kind]})" for kind, count in self.counts.items())
            warnings.warn(f"{source}: {cases}", DataWarning, stacklevel=3)


class SampleRepairs:
    """Counts what is mended or left out while samples are read, by kind, and tells of each kind once.

    Its notes lie in shared memory: loader processes, however they are started, and the process that started them see
    the same.

    Args:
        source: what is read, for the warning.
        root: what `lightning-cv data check` takes, for the warning.
        kinds: all that may be noted, each in a few words.
        images: of the data set.
        strict: stop at the first instead.
    """

    def __init__(self, source: object, root: str | Path, kinds: Sequence[str], images: int, strict: bool) -> None:
        self.strict = strict
        self._source, self._root, self._kinds = str(source), str(root), tuple(kinds)
        self._noted = _shared_flags(len(self._kinds), images)  # (K, I)
        self._told = _shared_flags(len(self._kinds))  # (K,)
        self._claim = Path(tempfile.gettempdir()) / f"lightning_cv-{secrets.token_hex(8)}"

    @property
    def counts(self) -> dict[str, int]:
        """Images with a repair of each kind that occurred, among those that any process has read so far."""
        totals = self._noted.sum(dim=1).tolist()  # K
        return {kind: total for kind, total in zip(self._kinds, totals, strict=True) if total}

    def note(self, index: int, kind: str, where: str) -> None:
        """A repair in the image at a position; warns where the kind is met for the first time."""
        if self.strict:
            raise DataError(f"{where}: {kind} (strict)")
        row = self._kinds.index(kind)
        self._noted[row, index] = 1  # no two processes write different things here
        if self._is_first(row):
            warnings.warn(
                f"{self._source}: {kind} (first: {where}); further ones are counted silently, "
                f"`lightning-cv data check {self._root}` finds them all",
                DataWarning,
                stacklevel=3,
            )

    def _is_first(self, row: int) -> bool:
        """Whether no process has told of a kind; a file that only one process can make decides between two at once."""
        if self._told[row]:
            return False
        claim = self._claim.with_name(f"{self._claim.name}-{row}")
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL, 0o600))
        except OSError:  # another process tells at this moment
            return False
        try:
            first = not self._told[row]
            self._told[row] = 1
        finally:
            claim.unlink()
        return first


def _shared_flags(*shape: int) -> Tensor:
    flags = torch.zeros(shape, dtype=torch.uint8)
    return flags.share_memory_()  # type: ignore[no-any-return, no-untyped-call]  # torch leaves it unannotated


def mend_boxes(
    boxes: NDArray[np.float64], sizes: NDArray[np.float64], where: Callable[[int], str], repairs: Repairs
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes inside their pictures with the corners in order, float32 (M, 4), and the rows (M,) they were in.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2, far edge excluded, whatever the file says.
        sizes: (N, 2) width and height of each box's picture; infinite where unknown.
        where: file and object of a row, for messages; called for bad rows only.
        repairs: is told of corners that were swapped, boxes cut to the picture, and those left out because they are
            empty or no numbers.
    """
    corners = boxes.reshape(-1, 2, 2)
    known = np.isfinite(corners).all(axis=(1, 2))
    low, high = corners.min(axis=1), corners.max(axis=1)  # (N, 2)
    limit = sizes.reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        low_cut, high_cut = np.clip(low, 0, limit), np.clip(high, 0, limit)
        filled = known & (high_cut > low_cut).all(axis=1)
        swapped = filled & (low != corners[:, 0]).any(axis=1)
        cut = filled & ((low_cut != low) | (high_cut != high)).any(axis=1)
    for rows, kind in (
        (~known, "box with coordinates that are no numbers left out"),
        (known & ~filled, "box without area in the picture left out"),
        (swapped, "swapped corners put in order"),
        (cut, "box cut to the picture"),
    ):
        for row in np.flatnonzero(rows).tolist():
            repairs.note(kind, where(row))
    kept = np.flatnonzero(filled)
    return np.concatenate([low_cut[kept], high_cut[kept]], axis=1).astype(np.float32), kept
