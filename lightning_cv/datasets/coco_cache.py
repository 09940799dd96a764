"""Packed annotations kept on disk, so that a large json is parsed once and then opened in a moment.

A cache is a folder of .npy files, which are mapped instead of read: pages that were touched are shared by all
processes. It counts as long as size and time of change of the json are those noted, else as long as its SHA-256 is.
It appears whole or not at all; a damaged one is made anew.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lightning_cv.datasets.coco_json import Arrays, Category, Content, Packed, parse_coco

LARGE = 8 << 20
"""Bytes from which on a json gets a cache; smaller ones are parsed each time."""

FORMAT = 2
"""Counts up when the arrays or the packing change: caches of another format are made anew."""

UNCHECKED = frozenset({"points"})
"""Arrays too large to be read through at each opening; of the others the checksum is compared."""

_META = "meta.json"
_Meta = dict[str, Any]  # json: format, stamp, sha256, files, and the fields of Packed that are no arrays


class MappedPacked(Packed):
    """A `Packed` that lies in a cache: pickled (for a loader that spawns its workers), only its folder travels."""

    folder: Path

    def __reduce__(self) -> tuple[Callable[[Path], Packed], tuple[Path]]:
        """Opened again where it is unpickled."""
        return reopen, (self.folder,)


def open_packed(path: Path, layout: str, pack: Callable[[Content, Path], Packed]) -> Packed:
    """The arrays of a json, from a cache if it is large; `layout` tells apart what different readers make of a file.

    The cache lies beside the json in `.lightning_cv`, else below `$XDG_CACHE_HOME/lightning_cv`; where nothing can be
    written, the json is parsed each time.
    """
    if path.stat().st_size < LARGE:
        return pack(parse_coco(path.read_bytes(), path), path)
    folders = cache_folders(path, layout)
    if found := _load_any(folders, path):
        return found
    with _alone(path):
        if found := _load_any(folders, path):  # another process packed it meanwhile
            return found
        stamp = _stamp(path)
        content, digest = _read(path)
        packed = pack(content, path)
        del content
        for folder in folders:
            with contextlib.suppress(OSError):
                _write(folder, packed, {"format": FORMAT, "stamp": stamp, "sha256": digest}, path)
                return _load(folder, path) or packed
        return packed


def cache_folders(path: Path, layout: str) -> list[Path]:
    """Where the cache of a json may lie, the better place first."""
    name = f"{path.name}.{layout}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return [path.parent / ".lightning_cv" / name, home / "lightning_cv" / f"{place}-{name}"]


def reopen(folder: Path) -> Packed:
    """What a cache folder holds, taken as it is."""
    meta = json.loads((folder / _META).read_text())
    return _opened(folder, meta)


def _load_any(folders: list[Path], path: Path) -> Packed | None:
    return next((found for folder in folders if (found := _load(folder, path))), None)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lets one process at a time pack a json: it takes seconds and gigabytes. Where it cannot be locked, all do."""
    with path.open("rb") as file:
        with contextlib.suppress(OSError):  # some network file systems lock only what is open for writing
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read(path: Path) -> tuple[Content, str]:
    text = path.read_bytes()
    return parse_coco(text, path), hashlib.sha256(text).hexdigest()


def _load(folder: Path, path: Path) -> Packed | None:
    """The arrays in a cache folder, or None where it is missing, damaged or of another state of the json."""
    try:
        meta = json.loads((folder / _META).read_text())
        if meta["format"] != FORMAT or not _is_current(meta, folder, path) or not _is_whole(meta, folder):
            return None
        packed = _opened(folder, meta)
        if json.loads((folder / _META).read_text()) != meta:
            return None  # another process has put its own in this place meanwhile
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return packed


def _opened(folder: Path, meta: _Meta) -> Packed:
    arrays: Arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in meta["files"]}
    categories = [Category(*entry) for entry in meta["categories"]]
    packed = MappedPacked(arrays, categories, meta["counts"], meta["first"])
    packed.folder = folder
    return packed


def _is_current(meta: _Meta, folder: Path, path: Path) -> bool:
    """Whether the cache is that of the json as it is now; a stamp that is merely old is put right."""
    stamp = _stamp(path)
    if meta["stamp"] == stamp:
        return True
    if meta["stamp"][0] != stamp[0] or meta["sha256"] != _digest(path):
        return False
    meta["stamp"] = stamp
    with contextlib.suppress(OSError):
        fresh = folder / f".{_META}.{os.getpid()}"
        fresh.write_text(json.dumps(meta))
        os.replace(fresh, folder / _META)
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(meta: _Meta, folder: Path) -> bool:
    for name, (size, checksum) in meta["files"].items():
        file = folder / f"{name}.npy"
        if file.stat().st_size != size or (name not in UNCHECKED and zlib.crc32(file.read_bytes()) != checksum):
            return False
    return True


def _write(folder: Path, packed: Packed, meta: _Meta, path: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        files: dict[str, tuple[int, int]] = {}
        for name, values in packed.arrays.items():
            file = scratch / f"{name}.npy"
            np.save(file, values, allow_pickle=False)
            files[name] = file.stat().st_size, 0 if name in UNCHECKED else zlib.crc32(file.read_bytes())
        record = {"categories": packed.categories, "counts": packed.counts, "first": packed.first}
        # the scratch folder's name makes the record unlike that of any other process
        record |= meta | {"files": files, "made_in": scratch.name}
        (scratch / _META).write_text(json.dumps(record))
        scratch.chmod(0o755)  # mkdtemp makes folders that only their owner reads
        _put(scratch, folder, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _put(scratch: Path, folder: Path, path: Path) -> None:
    """Renames the finished cache to its place, unless another process has put a good one there meanwhile."""
    for attempt in range(3):
        try:
            os.rename(scratch, folder)
        except OSError:
            if attempt == 2:
                raise
            if _load(folder, path):
                return
            old = scratch.with_name(f"{scratch.name}.old{attempt}")
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, old)
            shutil.rmtree(old, ignore_errors=True)
        else:
            return
