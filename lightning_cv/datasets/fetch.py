"""Public data sets, fetched from their official archives and put in their place only when they are whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning_cv.datasets import sources
from lightning_cv.datasets.download import download
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.meter import megabytes
from lightning_cv.datasets.sources import FETCHABLE, DataSet, Part
from lightning_cv.datasets.unpack import unpack

__all__ = ["FETCHABLE", "fetch", "missing_parts"]

_RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")


def fetch(name: str, root: str | Path, parts: Sequence[str] = (), agreed: bool = False) -> Path:
    """The folder of a data set below the data root; what is missing of it is fetched, what is there is never touched.

    Archives are fetched into `root/.fetch-NAME`, where a later call goes on after an interruption, verified, unpacked
    there, and renamed into their places. Of several processes only the first fetches: the others return at once.

    Args:
        name: one of `FETCHABLE`.
        root: data root.
        parts: of data sets that have several, such as "val" of COCO; all where there are none.
        agreed: the licence of a data set that asks for it was agreed to.
    """
    source = sources.data_set(name)
    folder = Path(root) / source.folder
    if not missing_parts(source, root, parts) or not _is_first_process():
        return folder
    if source.asks and not agreed:
        raise DataError(
            f"no {source.title} in {folder}, and its licence must be agreed to before it is fetched: "
            f"run `lightning-cv data get {name} --root {root}`"
        )
    with _workshop(Path(root), name) as workshop:
        missing = missing_parts(source, root, parts)  # again: another process may have been at work
        _check_space(Path(root), source, missing, workshop)
        for part in missing:
            _fetch_part(part, workshop, Path(root))
    return folder


def missing_parts(source: DataSet, root: str | Path, parts: Sequence[str] = ()) -> list[Part]:
    """The parts, of those asked for, that are not all there; optional ones count only if asked for or not alone.

    A folder that is there but lacks some of what its archive holds is an error: it may be somebody's own.
    """
    missing = [part for part in source.chosen(parts) if part.lacks(Path(root))]
    for part in missing:
        _refuse_a_piece(part, Path(root))
    return [] if not parts and all(part.optional for part in missing) else missing


def _refuse_a_piece(part: Part, root: Path) -> None:
    lacks = part.lacks(root)
    for place in part.places:
        inside = [path.removeprefix(f"{place}/") for path in lacks if path.startswith(f"{place}/")]
        if inside and sources.is_there(root / place):
            names = " and ".join(archive.name for archive in part.archives)
            raise DataError(
                f"{root / place} is there but lacks {', '.join(inside)}: move it away, so that {names} can be fetched "
                "in its place, or complete it; nothing was fetched. As it is, it can be read without `download`"
            )


def _fetch_part(part: Part, workshop: Path, root: Path) -> None:
    for archive in part.archives:
        download(archive.urls, workshop / archive.name, archive.checksum, archive.size)
    scratch = workshop / "unpacked"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        for archive in part.archives:
            unpack(workshop / archive.name, scratch)
        for inner in part.inner:
            unpack(scratch / inner, (scratch / inner).parent)
            (scratch / inner).unlink()
        try:
            for place, inside in part.places.items():
                _put(scratch / inside, root / place, part)
        except DataError:
            _remove(part, workshop)
            raise
        _remove(part, workshop)  # not before all is in place: what was interrupted need not be fetched again
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _remove(part: Part, workshop: Path) -> None:
    for archive in part.archives:
        (workshop / archive.name).unlink()


def _put(found: Path, place: Path, part: Part) -> None:
    """Renames what was unpacked; what is there already stays."""
    if sources.is_there(place):
        return
    if not found.exists():
        names = ", ".join(archive.name for archive in part.archives)
        raise DataError(f"{names} did not hold {found.name}: nothing was put in {place}")
    place.parent.mkdir(parents=True, exist_ok=True)
    os.rename(found, place)


@contextmanager
def _workshop(root: Path, name: str) -> Iterator[Path]:
    """The folder in which a data set is fetched, for one process at a time; goes with its last archive."""
    fresh = not root.exists()
    folder = root / f".fetch-{name}"
    lock = _locked(folder)
    try:
        yield folder
    finally:
        (folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or the next process is in it
            folder.rmdir()
            if fresh:
                root.rmdir()
        os.close(lock)


def _locked(folder: Path) -> int:
    """A locked file of the folder, as a descriptor; waits for the process that has it."""
    path = folder / "lock"
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except (FileNotFoundError, FileExistsError):  # the process before is done and removed the folder since
            if folder.is_file():
                raise
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # of a file that the process before removed


def _check_space(root: Path, source: DataSet, parts: Sequence[Part], workshop: Path) -> None:
    """An error unless the largest part's archives and everything unpacked fit on the disk."""
    if not parts:
        return
    arrived = sum(file.stat().st_size for file in workshop.iterdir() if file.is_file())
    packed = max(part.packed for part in parts)
    unpacked = sum(part.unpacked for part in parts)
    needed, free = packed + unpacked - arrived, shutil.disk_usage(root).free
    if needed > free:
        raise DataError(
            f"{root}: {source.title} needs {megabytes(packed)} for an archive and {megabytes(unpacked)} unpacked, "
            f"{megabytes(free)} are free: nothing was fetched"
        )


def _is_first_process() -> bool:
    return all(os.environ.get(rank, "0") in ("", "0") for rank in _RANKS)
