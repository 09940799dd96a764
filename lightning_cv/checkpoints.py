"""Checkpoints that a crash cannot spoil: written beside the old file, then put in its place in one step."""

import errno
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from lightning_cv.errors import TrainingWarning

_NO_SPACE = "no space left on the device"


class LoadedCheckpoint(NamedTuple):
    """A checkpoint file and what it holds; `skipped` are newer files that did not load, with the reason."""

    path: Path
    content: dict[str, Any]
    skipped: list[tuple[Path, str]]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file in the same folder, flushes it to the disk, then renames it over the target.

    Lightning's own writer stages in the system's temporary folder, which may be another file system: moving from there
    is a copy, and a kill during the copy leaves a broken checkpoint in place of a good one.
    """

    _warned = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`; on any failure the file that was there before is untouched."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        try:
            os.fchmod(descriptor, 0o644)  # a temporary file is its owner's alone
            with os.fdopen(descriptor, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException as error:
            full = _is_full(error, target.parent)  # asked before the half-written file makes room
            Path(temporary).unlink(missing_ok=True)
            if isinstance(error, OSError | RuntimeError):
                # torch reports a full disk as a RuntimeError of its zip writer
                kept = "the previous one is kept" if target.exists() else "nothing was written"
                raise OSError(
                    f"cannot write the checkpoint {target}: {_NO_SPACE if full else error}; {kept}"
                ) from error
            raise
        self._warn_if_little_is_left(target)

    def _warn_if_little_is_left(self, target: Path) -> None:
        """Say once that the disk has no room for two more: the old one stays until the new one is written."""
        size, free = target.stat().st_size, shutil.disk_usage(target.parent).free
        if free < 2 * size and not self._warned:
            self._warned = True
            text = f"{target} has {size / 1e6:.0f} MB, and {free / 1e6:.0f} MB are left on its disk: make room"
            warnings.warn(text, TrainingWarning, stacklevel=2)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, tensors on the CPU; nothing but plain data is unpickled.

    Raises:
        ValueError: the file is missing, truncated, or no checkpoint.
    """
    if not Path(path).is_file():
        raise ValueError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises a dozen types, from EOFError to UnpicklingError
        raise ValueError(f"{path} is not a checkpoint that loads: {_first_line(error)}") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"{path} holds no checkpoint: there is no 'state_dict' in it")
    return content


def refuse_incomplete(content: dict[str, Any], path: str | Path, *, to_train: bool) -> None:
    """Raise ValueError for a checkpoint that Lightning cannot use, or from which no training can go on."""
    if "pytorch-lightning_version" not in content:
        raise ValueError(f"{path} was not written by Lightning")
    if to_train and "optimizer_states" not in content:
        raise ValueError(
            f"{path} holds a net but no training to go on with, as an imported one: use `test` or `predict`"
        )


def newest_checkpoint(folder: Path) -> LoadedCheckpoint:
    """The checkpoint of `folder` with the most training in it; files that do not load are skipped and named.

    Raises:
        ValueError: none loads.
    """
    skipped: list[tuple[Path, str]] = []
    best: tuple[int, float, Path, dict[str, Any]] | None = None
    for path in sorted(folder.glob("*.ckpt")):
        try:
            content = load_checkpoint(path)
        except ValueError as error:
            skipped.append((path, str(error)))
            continue
        if missing := [key for key in ("global_step", "epoch") if not isinstance(content.get(key), int)]:
            skipped.append((path, f"{path} is not of a run: there is no {' and no '.join(missing)} in it"))
            continue
        progress = (content["global_step"], path.stat().st_mtime)
        if best is None or progress > best[:2]:
            best = (*progress, path, content)
    if best is None:
        broken = "".join(f"\n{reason}" for _, reason in skipped[:3])
        raise ValueError(f"no checkpoint in {folder} to go on from{broken}")
    return LoadedCheckpoint(best[2], best[3], skipped)


def clear_unfinished(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder; nobody may be writing there."""
    for part in folder.glob(".*.ckpt.*.part"):
        part.unlink(missing_ok=True)


def _is_full(error: BaseException, folder: Path) -> bool:
    """Whether a write failed for want of space: torch's zip writer hides the system's reason, then the disk tells."""
    reasons = (error, error.__cause__, error.__context__)
    if any(isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT) for reason in reasons):
        return True
    return isinstance(error, RuntimeError) and shutil.disk_usage(folder).free == 0


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
